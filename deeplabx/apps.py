"""One Hydra app per command: compose the config, check it, hand it to the command's module, and turn what
goes wrong into words and an exit code.
"""

import gc
import itertools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx import checks, composed, stored
from deeplabx import config as schema
from deeplabx.engine import cluster
from deeplabx.errors import (
    CheckpointError,
    ConfigError,
    DeeplabxError,
    DivergedError,
    PreemptedError,
    ResourceError,
    StoppedError,
    SweepError,
    printable,
    resource_error,
)
from deeplabx.explain import explained

MAX_HINT = 2  # lines
SOURCE = "a file or folder of weights, or a name that deeplabx weights list tells"
LAUNCHING = (
    "train",
    "resume",
    "extend",
    "eval",
    "predict",
)  # the commands that several processes run together


def run(command: str, arguments: list[str]) -> int:
    """Run `deeplabx command arguments...`; the exit code."""
    gc.disable()  # until a job begins: composing makes many small objects and drops none
    try:
        cluster.adopt_slurm(os.environ)
        if command in LAUNCHING and cluster.is_one_of_several(os.environ):
            run_with_others(command, arguments)
        elif cluster.is_follower(os.environ):
            pass  # the main process answers
        elif command == "list":
            print(listing(arguments))
        elif command == "doctor":
            print(examined(arguments))
        elif command == "weights_list":
            print(known_weights(arguments))
        else:
            run_hydra(command, arguments)
    except DeeplabxError as error:
        if cluster.is_follower(os.environ) and isinstance(
            error, StoppedError | PreemptedError | DivergedError
        ):
            return error.exit_code  # of all processes alike: the main one tells it
        return report(error)
    except KeyboardInterrupt:
        return report(StoppedError("interrupted"))
    except BrokenPipeError:  # who read what we print has seen enough, as in `deeplabx list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def report(error: DeeplabxError) -> int:
    hint = [printable(line) for line in error.hint.splitlines()]
    print("\n  ".join([f"deeplabx: {printable(error.message)}", *hint[:MAX_HINT]]), file=sys.stderr)
    return error.exit_code


def run_with_others(command: str, arguments: list[str]) -> None:
    """The same as one of the processes that torchrun or SLURM started: the main one composes, and tells the
    others what to do.
    """
    from deeplabx.engine import launch
    from deeplabx.engine.signals import end_with_parent

    end_with_parent()
    if cluster.is_follower(os.environ):
        gc.enable()
        try:
            launch.follow()
        except Exception as error:
            raise in_words(error, Path.cwd()) from error
        return
    try:
        if {"-m", "--multirun"} & set(arguments):
            raise ConfigError(
                "a sweep cannot be run by torchrun or srun",
                hint="deeplabx train -m trainer.devices=N runs each job in N processes",
            )
        run_hydra(command, arguments)
    except DeeplabxError:
        launch.dismiss(failed=True)
        raise
    launch.dismiss(failed=False)


# --- Hydra, one job or many ---------------------------------------------------------------------------------


def run_hydra(command: str, arguments: list[str]) -> None:
    """Compose and run one job, or many with -m. Raises the DeeplabxError of what went wrong."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises to us instead of printing
    schema.register_schemas(command)
    composed.compose_data_only()
    if command in ("resume", "extend"):
        refuse_unknown_run(command, arguments)
    refuse_flags(arguments)
    sys.argv = [sys.argv[0], *arguments]
    jobs = Jobs(TASKS[command])

    def run_task(config: DictConfig) -> float | None:
        return jobs.run(config)

    version = {}
    if hydra.__version__.startswith("1.3."):
        version = {"version_base": "1.3"}  # 1.3 asks for it, 1.4 deprecates it
        # 1.3 composes everything once only to read hydra.mode, and again to run: half of the time that an
        # error takes to be answered.
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]  # so that only -m means a sweep
    app = hydra.main(config_path=str(schema.conf_dir()), config_name=command, **version)(run_task)
    try:
        app()
    except (DeeplabxError, BrokenPipeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):  # its own are OSErrors too
            raise unwritable(error) from error
        # Jobs keep their own errors, so this one was raised while Hydra composed: its grammar lets builtin
        # errors through too.
        raise explained(error, command) from error
    jobs.finish()


def refuse_flags(arguments: list[str]) -> None:
    """Raise ConfigError for flags that Hydra's parser does not take, before it prints its usage."""

    def refuse(message: str) -> NoReturn:
        raise ConfigError(
            f"these options cannot be read: {message}",
            hint="as in deeplabx train --cfg job, or --config-dir FOLDER",
        )

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def unwritable(error: OSError) -> DeeplabxError:
    """What stopped Hydra on its way to the job, which is to make the folder of the run."""
    return resource_error(error) or ResourceError(
        f"{error.filename or 'the output folder'} cannot be made or read: {error.strerror or error}",
        hint="give a folder that can be written: hydra.run.dir=FOLDER (predict: out=FOLDER)",
    )


class Jobs:
    """The one job of a plain call, or the jobs of -m: each with its folder and outcome. A failing one stops
    no other.
    """

    def __init__(self, task: Callable[[DictConfig, Path], float | None]) -> None:
        self.task = task
        self.outcomes: list[dict[str, Any]] = []
        self.failures: list[DeeplabxError] = []
        self.sweep_folder: Path | None = None

    def run(self, config: DictConfig) -> float | None:
        """Run one job. Its failure is kept for `finish` (raised here, it would end a sweep); a sweeper sees
        it as nan.
        """
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
        except BrokenPipeError:
            raise  # the reader of what we print is gone
        except Exception as error:  # noqa: BLE001 - kept, told and counted
            failure = in_words(error, folder)
            if sweeping and isinstance(failure, StoppedError | PreemptedError):
                # means the whole sweep, and only KeyboardInterrupt passes through Hydra's launcher
                raise KeyboardInterrupt from None
            if sweeping:
                report(failure)
                (folder / "FAILED").write_text(f"{failure}\n")
            self.failures.append(failure)
            outcome.update(status="failed", miou=None, exit_code=failure.exit_code, error=str(failure))
            return math.nan
        finally:
            if not sweeping and folder != Path.cwd() and folder.is_dir() and not any(folder.iterdir()):
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
    """Any error as one of ours. What is neither ours nor a lack of memory or disk is a bug, and its traceback
    goes to error.log.
    """
    ours = error if isinstance(error, DeeplabxError) else resource_error(error)
    if ours is not None:
        return ours
    log = folder / "error.log"
    where = f"the traceback is in {log}"
    try:
        log.write_text("".join(traceback.format_exception(error)))
    except OSError as unwritten:
        where = f"its traceback could not be written to {log}: {unwritten.strerror}"
    first_line = (str(error).splitlines() or [""])[0][:200]
    return DeeplabxError(f"a bug of ours: {type(error).__name__}: {first_line}", hint=where)


# --- the commands: only here does a composed config become plain dataclasses --------------------------------


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
    source = required(config, "input", "an image or a folder of images")
    from deeplabx.predict import predict

    predict(ckpt, Path(source), folder, change=typed_settings(config))


def resume(config: DictConfig, folder: Path) -> float | None:
    from deeplabx.resume import resume

    return resume(folder, change=typed_settings(config, training=True))


def extend(config: DictConfig, folder: Path) -> float | None:
    required(
        config,
        "schedule.max_iters",
        "how far the run is to go, as in deeplabx extend RUN schedule.max_iters=2000",
    )
    from deeplabx.resume import extend

    return extend(folder, max_iters=config.schedule.max_iters, change=typed_settings(config, training=True))


def show(config: DictConfig, folder: Path) -> None:
    plain = checks.checked(config)
    from deeplabx.show import show

    print(show(plain))


def data_fake(config: DictConfig, folder: Path) -> None:
    required(config, "out", "the folder to write, as in out=voc_fake")
    plain = checks.checked(config)
    from deeplabx.data import fake

    print(fake(plain))


def weights_import(config: DictConfig, folder: Path) -> None:
    source = required(config, "source", SOURCE)
    out = required(config, "out", "the folder to write, as in out=imported")
    from deeplabx.import_weights import import_weights

    print(import_weights(source, Path(out), compose=training_config, typed=typed_of_training()))


def weights_verify(config: DictConfig, folder: Path) -> None:
    source = required(config, "source", SOURCE)
    from deeplabx.import_weights import verify_weights

    print(verify_weights(source, config.ckpt, compose=training_config, typed=typed_of_training()))


TASKS: dict[str, Callable[[DictConfig, Path], float | None]] = {
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "resume": resume,
    "extend": extend,
    "show": show,
    "data_fake": data_fake,
    "weights_import": weights_import,
    "weights_verify": weights_verify,
}


def task_overrides() -> list[str]:
    """What was typed, as typed: `${...}` in it is not resolved."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in overrides] if isinstance(overrides, list) else []


def required(config: DictConfig, key: str, meaning: str) -> str:
    try:
        value = OmegaConf.select(config, key, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {' '.join(str(error.msg or error).split())[:200]}") from None
    if value is None:  # not typed, or taken away with ~
        raise ConfigError(f"{key}= must be given: {meaning}")
    return str(value)


def typed_settings(config: DictConfig, *, training: bool = False) -> Callable[[Any], None]:
    """A function that copies what was typed onto a config read from a checkpoint, and checks the whole."""
    overrides = task_overrides()

    def change(base: Any) -> None:
        stored.replace_typed(base, config, overrides)
        checks.check(base, training=training)

    return change


def typed_of_training() -> list[str]:
    """Of what was typed to a command of weights, the settings that a training has too."""
    return [
        override
        for override in task_overrides()
        if override.partition("=")[0] not in ("source", "out", "ckpt")
    ]


def training_config(overrides: list[str]) -> schema.TrainConfig:
    """The config of the training that these settings would be typed to."""
    schema.register_schemas("train")
    try:
        config = hydra.compose("train", overrides=overrides)
    except Exception as error:
        raise explained(error, "train") from error
    return checks.checked(config)


def refuse_unknown_run(command: str, arguments: list[str]) -> None:
    """Before Hydra makes the folder it is told to run in."""
    for word in arguments:
        if word.startswith("run="):
            folder = Path(word[4:].strip("'").replace("\\'", "'"))
            if not os.path.isfile(folder / "config.yaml"):  # noqa: PTH113 - false, where pathlib raises: a name too long
                raise CheckpointError(
                    f"{folder} is not the folder of a run: it has no config.yaml",
                    hint="give the folder that train printed",
                )
            return
    if not any(word.startswith("-") for word in arguments):
        raise ConfigError(
            f"{command} needs the folder of a run", hint=f"deeplabx {command} outputs/train/NAME/STAMP"
        )


def examined(arguments: list[str]) -> str:
    if arguments:
        raise ConfigError(f"doctor takes no settings: {' '.join(arguments)}")
    from deeplabx.doctor import doctor

    return doctor()


def known_weights(arguments: list[str]) -> str:
    """The table of known weights, or all that is known of those that are named."""
    from deeplabx.weights import known

    return "\n\n".join(known.details(name) for name in arguments) if arguments else known.table()


def listing(arguments: list[str]) -> str:
    """Every group with its options; of a group that is named, what each option is, and of backbones what they
    cost.
    """
    groups = [*schema.FAMILIES, "recipe"]
    for word in arguments:
        if word not in groups:
            raise ConfigError(
                f"{word} is not a group.{schema.nearest(word, groups)}",
                hint=f"the groups are {', '.join(groups)}",
            )
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
            lambda line: line.startswith("# "),
            (schema.conf_dir() / group / f"{option}.yaml").read_text().splitlines(),
        )
        said = [line[2:] for line in head if not line.startswith("# @")]  # the package line is for Hydra
        lines += [
            f"{name:<{width}}  {words}"
            for name, words in zip([option, *[""] * len(said)], said, strict=False)
        ]
    return lines
