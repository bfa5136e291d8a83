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

STEP = "step"  # the value that all others are drawn over


class WandB(Tracker):
    """mode: offline or online. entity: whose project it is; None for the account's own."""

    name = "wandb"

    def __init__(self, *, project: str, mode: str, entity: str | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which sends errors to its makers
        self.package = needed("wandb", extra="wandb")
        self.project, self.mode, self.entity = project, mode, entity
        self.last: dict[str, int] = {}

    def begin(self, run: Run) -> None:
        """A run whose id is found in the run's folder where it is resumed. W&B adds what comes to what it
        has: a step that was recorded before is left out.
        """
        kept = read_record(run.folder, self.name)
        self.refuse_no_key()
        identity = kept.get("id") or secrets.token_hex(4)
        if "id" in kept:
            self.last = dict(run.recorded)
        try:
            settings = self.package.Settings(
                silent=True, console="off", save_code=False, disable_git=True, init_timeout=30
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
        except Exception as error:  # noqa: BLE001 - of W&B and of its service process
            raise ConfigError(
                f"tracker=wandb cannot record in mode {self.mode}: {in_a_line(error)}",
                hint="tracker.mode=offline writes files for `wandb sync`; tracker=none records nothing",
            ) from None
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
        if not self.is_known(step, next(iter(values), "")):
            self.run.log({STEP: step, **values})

    def is_known(self, step: int, name: str) -> bool:
        return step <= self.last.get(name.partition("/")[0], -1)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        if not self.is_known(step, "eval"):
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
