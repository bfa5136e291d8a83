"""One Hydra app per command: compose the config, check it, hand it to the command's module, and turn what goes wrong into words and an exit code."""

import gc
import itertools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from deeplabx import checks, stored
from deeplabx import config as schema
from deeplabx.errors import CheckpointError, ConfigError, DeeplabxError, PreemptedError, StoppedError, SweepError, resource_error
from deeplabx.explain import explained


def run(command: str, arguments: list[str]) -> int:
    """Run `deeplabx command arguments...`; the exit code."""
    gc.disable()  # until a job begins: composing makes many small objects and drops none
    try:
        if command == "list":
            print(listing(arguments))
        else:
            run_hydra(command, arguments)
    except DeeplabxError as error:
        return report(error)
    except KeyboardInterrupt:
        return report(StoppedError("interrupted"))
    return 0


def report(error: DeeplabxError) -> int:
    print(f"deeplabx: {str(error).replace(chr(10), chr(10) + '  ')}", file=sys.stderr)
    return error.exit_code


# --- Hydra, one job or many --------------------------------------------------------------------------------------------------------


def run_hydra(command: str, arguments: list[str]) -> None:
    """Compose and run one job, or many with -m. Raises the DeeplabxError of what went wrong."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises to us instead of printing
    schema.register_schemas(command)
    if command == "resume":
        refuse_unknown_run(arguments)
    sys.argv = [sys.argv[0], *arguments]
    jobs = Jobs(TASKS[command])

    def run_task(config: DictConfig) -> float | None:
        return jobs.run(config)

    version = {}
    if hydra.__version__.startswith("1.3."):
        version = {"version_base": "1.3"}  # 1.3 asks for it, 1.4 deprecates it
        # 1.3 composes everything once only to read hydra.mode, and again to run: half of the time that an error takes to be answered.
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]  # so that only -m means a sweep
    app = hydra.main(config_path=str(schema.conf_dir()), config_name=command, **version)(run_task)
    try:
        app()
    except DeeplabxError:
        raise
    except Exception as error:
        # Jobs keep their own errors, so this one was raised while Hydra composed: its grammar lets builtin errors through too.
        raise explained(error, command) from error
    jobs.finish()


class Jobs:
    """The one job of a plain call, or the jobs of -m: each with its folder and outcome. A failing one stops no other."""

    def __init__(self, task: Callable[[DictConfig, Path], float | None]) -> None:
        self.task = task
        self.outcomes: list[dict[str, Any]] = []
        self.failures: list[DeeplabxError] = []
        self.sweep_folder: Path | None = None

    def run(self, config: DictConfig) -> float | None:
        """Run one job. Its failure is kept for `finish` (raised here, it would end a sweep); a sweeper sees it as nan."""
        gc.enable()
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        overrides = task_overrides()
        sweeping = settings.mode == RunMode.MULTIRUN
        if sweeping:
            self.sweep_folder = Path(settings.sweep.dir)
            print(f"job {settings.job.num}: {' '.join(overrides)}", flush=True)
        outcome: dict[str, Any] = {
            "job": settings.job.num if sweeping else 0,
            "overrides": overrides,
            "folder": folder.name,
            "status": "done",
        }
        self.outcomes.append(outcome)
        try:
            outcome["miou"] = self.task(config, folder)
        except Exception as error:  # noqa: BLE001 - kept, told and counted
            failure = in_words(error, folder)
            if sweeping and isinstance(failure, StoppedError | PreemptedError):
                raise KeyboardInterrupt from None  # means the whole sweep, and only KeyboardInterrupt passes through Hydra's launcher
            if sweeping:
                report(failure)
                (folder / "FAILED").write_text(f"{failure}\n")
            self.failures.append(failure)
            outcome.update(status="failed", miou=None, exit_code=failure.exit_code, error=str(failure))
            return math.nan
        finally:
            if not sweeping and folder != Path.cwd() and not any(folder.iterdir()):
                folder.rmdir()  # a run that never began leaves nothing
        return outcome["miou"]

    def finish(self) -> None:
        """Raise the job's failure; of a sweep, write and print the summary first, and raise SweepError."""
        if self.sweep_folder is None:
            for failure in self.failures:
                raise failure
            return
        path = self.sweep_folder / "sweep.json"
        path.write_text(json.dumps({"jobs": self.outcomes}, indent=2) + "\n")
        print(f"\n{len(self.outcomes)} jobs, summary in {path}")
        for outcome in self.outcomes:
            words = outcome["status"] if outcome["miou"] is None else f"mIoU {outcome['miou']:.4f}"
            print(f"  {outcome['job']:>3}  {words}  {' '.join(outcome['overrides'])}", flush=True)
        if self.failures:
            first = next(outcome for outcome in self.outcomes if outcome["status"] == "failed")
            raise SweepError(
                f"{len(self.failures)} of {len(self.outcomes)} jobs failed; the others are done",
                hint=f"job {first['job']} ({' '.join(first['overrides'])}): {first['error'].splitlines()[0]}",
            )


def in_words(error: Exception, folder: Path) -> DeeplabxError:
    """Any error as one of ours. What is neither ours nor a lack of memory or disk is a bug, and its traceback goes to error.log."""
    ours = error if isinstance(error, DeeplabxError) else resource_error(error)
    if ours is not None:
        return ours
    log = folder / "error.log"
    log.write_text("".join(traceback.format_exception(error)))
    first_line = (str(error).splitlines() or [""])[0][:200]
    return DeeplabxError(f"a bug of ours: {type(error).__name__}: {first_line}", hint=f"the traceback is in {log}")


# --- the commands: only here does a composed config become plain dataclasses --------------------------------------------------------


def train(config: DictConfig, folder: Path) -> float | None:
    plain = checks.checked(config)
    from deeplabx.train import train

    return train(plain, folder, overrides=task_overrides())


def evaluate(config: DictConfig, folder: Path) -> float | None:
    ckpt = required(config, "ckpt", "a run folder or a checkpoint, as in ckpt=outputs/train/...")
    from deeplabx.evaluate import evaluate

    return evaluate(ckpt, folder, change=typed_settings(config))


def predict(config: DictConfig, folder: Path) -> None:
    ckpt = required(config, "ckpt", "a run folder or a checkpoint, as in ckpt=outputs/train/...")
    source = required(config, "input", "a picture or a folder of pictures")
    from deeplabx.predict import predict

    predict(ckpt, Path(source), folder, change=typed_settings(config))


def resume(config: DictConfig, folder: Path) -> float | None:
    from deeplabx.train import resume

    return resume(folder, change=typed_settings(config, training=True))


def show(config: DictConfig, folder: Path) -> None:
    plain = checks.checked(config)
    from deeplabx.show import show

    print(show(plain))


def data_fake(config: DictConfig, folder: Path) -> None:
    required(config, "out", "the folder to write, as in out=voc_fake")
    plain = checks.checked(config)
    from deeplabx.data import fake

    print(fake(plain))


TASKS: dict[str, Callable[[DictConfig, Path], float | None]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "resume": resume,
    "show": show,
    "data_fake": data_fake,
}


def task_overrides() -> list[str]:
    """What was typed, as typed: `${...}` in it is not resolved."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in overrides] if isinstance(overrides, list) else []


def required(config: DictConfig, key: str, meaning: str) -> str:
    if OmegaConf.is_missing(config, key):
        raise ConfigError(f"{key}= must be given: {meaning}")
    return str(config[key])


def typed_settings(config: DictConfig, *, training: bool = False) -> Callable[[Any], None]:
    """A function that copies what was typed onto a config read from a checkpoint, and checks the whole."""
    overrides = task_overrides()

    def change(base: Any) -> None:
        stored.replace_typed(base, config, overrides)
        checks.check(base, training=training)

    return change


def refuse_unknown_run(arguments: list[str]) -> None:
    """Before Hydra makes the folder it is told to run in."""
    for word in arguments:
        if word.startswith("run="):
            folder = Path(word[4:].strip("'").replace("\\'", "'"))
            if not (folder / "config.yaml").is_file():
                raise CheckpointError(
                    f"{folder} is not the folder of a run: it has no config.yaml", hint="give the folder that train printed"
                )
            return
    if not any(word.startswith("-") for word in arguments):
        raise ConfigError("resume needs the folder of a run", hint="deeplabx resume outputs/train/NAME/STAMP")


def listing(arguments: list[str]) -> str:
    """Every group with its options; of a group that is named, what each option is, and of backbones what they cost."""
    groups = [*schema.FAMILIES, "recipe"]
    for word in arguments:
        if word not in groups:
            raise ConfigError(f"{word} is not a group.{schema.nearest(word, groups)}", hint=f"the groups are {', '.join(groups)}")
    if not arguments:
        return "\n".join(f"{group:<10} {' '.join(schema.options(group))}" for group in groups)
    blocks = ["\n".join(described_options(group)) for group in arguments]
    if "backbone" in arguments:
        from deeplabx.show import backbone_table

        blocks.append(backbone_table())
    return "\n\n".join(blocks)


def described_options(group: str) -> list[str]:
    """Each option's name, and what the comments at the head of its YAML say."""
    options = schema.options(group)
    width = max(map(len, options))
    lines = []
    for option in options:
        head = itertools.takewhile(
            lambda line: line.startswith("# "), (schema.conf_dir() / group / f"{option}.yaml").read_text().splitlines()
        )
        said = [line[2:] for line in head if not line.startswith("# @")]  # the package line is for Hydra
        lines += [f"{name:<{width}}  {words}" for name, words in zip([option, *[""] * len(said)], said, strict=False)]
    return lines
