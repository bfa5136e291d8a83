"""Weights & Biases: files in the run's folder, which `wandb sync` uploads; or live, with mode=online."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deeplabx.errors import ConfigError, needed, printable
from deeplabx.tracker.contract import DONE, Run, Tracker, in_a_line
from deeplabx.tracker.png import png
from deeplabx.tracker.record_file import read_record, write_record
from deeplabx.tracker.wandb_file import logged

STEP = "step"  # the value that all others are drawn over
FLUSHED = 2.0  # seconds after which values are in the offline file; what a killed process loses


class WandB(Tracker):
    """mode: offline or online. entity: whose project it is; None for the account's own."""

    name = "wandb"

    def __init__(self, *, project: str, mode: str, entity: str | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which sends errors to its makers
        self.package = needed("wandb", extra="wandb")
        self.project, self.mode, self.entity = project, mode, entity

    def begin(self, run: Run) -> None:
        """A run whose id is found in the run's folder where it is resumed. Offline, each process writes a
        folder of its own.
        """
        kept = read_record(run.folder, self.name)
        self.refuse_no_key()
        identity = kept.get("id") or secrets.token_hex(4)
        if "id" in kept and self.mode == "offline":
            self.recorded = last_steps(run.folder, identity)
        try:
            settings = self.package.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                init_timeout=30,
                x_transaction_log_flush_interval=FLUSHED,
            )
            self.run = self.package.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                id=identity,
                resume="allow" if self.mode == "online" else None,
                name=printable(run.name),
                group=printable(run.group),
                dir=str(run.folder.absolute()),
                config=dict(run.config),
                reinit="create_new",
                settings=settings,
            )
            self.run.define_metric("*", step_metric=STEP)
            if self.mode == "online" and STEP in self.run.summary.keys():  # noqa: SIM118 - not a dict
                self.recorded = dict.fromkeys(("train", "eval"), int(self.run.summary[STEP]))
        except Exception as error:  # noqa: BLE001 - of W&B and of its service process
            raise ConfigError(
                f"tracker=wandb cannot record in mode {self.mode}: {in_a_line(error)}",
                hint="tracker.mode=offline writes files for `wandb sync`; tracker=none records nothing",
            ) from None
        self.files = Path(self.run.dir).parent
        remove_links_out(self.files)
        write_record(run.folder, self.name, {"id": identity})
        self.where = f"recorded by W&B as run {identity} of project {self.project}"
        if self.mode == "offline":
            self.where += f"; wandb sync {run.folder}/wandb/offline-run-*-{identity} uploads it"

    def refuse_no_key(self) -> None:
        """Raise ConfigError where W&B would ask for a key."""
        if self.mode == "online" and not self.package.login(prompt=False, verify=False):
            raise ConfigError(
                "tracker.mode=online, but nobody is logged in to W&B",
                hint="set WANDB_API_KEY, or type wandb login; tracker.mode=offline needs neither",
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({STEP: step, **values})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        if step > self.recorded.get("eval", -1):  # W&B would have both
            with tempfile.TemporaryDirectory() as folder:  # of an array, W&B makes a PNG ten times as slowly
                path = Path(folder, f"{name}.png")
                path.write_bytes(png(image))
                self.run.log({STEP: step, name: self.package.Image(str(path))})

    def text(self, name: str, words: str) -> None:
        """As a file of the run."""
        path = Path(self.run.dir, f"run-{name}")  # W&B has a config.yaml of its own
        path.write_text(words, encoding="utf-8", errors="backslashreplace")
        self.run.save(str(path), base_path=self.run.dir, policy="now")

    def summary(self, values: Mapping[str, float]) -> None:
        self.run.summary.update(dict(values))

    def end(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == DONE else 1)
        remove_links_out(self.files)


def last_steps(folder: Path, identity: str) -> dict[str, int]:
    """The last step in a run's offline files, of the training's values and of the evaluations'."""
    last: dict[str, int] = {}
    for path in folder.glob(f"wandb/offline-run-*-{identity}/*.wandb"):
        for values in logged(path):
            for part in {name.partition("/")[0] for name in values} & {"train", "eval"}:
                last[part] = max(int(values[STEP]), last.get(part, 0))
    return last


def remove_links_out(folder: Path) -> None:
    """Remove the link to a log of W&B's own below the user's home: with it, the run's folder would not be
    whole where it is moved to, and resuming a folder with links that lead out of it is refused.
    """
    home = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            path.unlink()
