"""A run of several stages: each is a whole run in a folder of its own, and starts from the weights of the one
before. What is known of the staged run as a whole follows from its stages: see `settle`.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from deeplabx import __version__
from deeplabx.backbone.normalization import Normalization
from deeplabx.command.job import Watch
from deeplabx.command.quoting import in_quotes
from deeplabx.command.train import train
from deeplabx.config import schema, stages
from deeplabx.config.checks import check_stages
from deeplabx.config.fields import walk
from deeplabx.config.stages import Stage, named, stages_of
from deeplabx.dataset.check.same_classes import refuse_different_classes
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine import durable
from deeplabx.engine.checkpoint_folder import pointed
from deeplabx.engine.lock import locked
from deeplabx.engine.stage_folders import (
    RECORD,
    folder_of,
    is_staged,
    newest_stage,
    read_record,
    stage_folders,
)
from deeplabx.errors import (
    CheckpointError,
    ConfigError,
    PreemptedError,
    StoppedError,
    listed,
)
from deeplabx.model.contract import DeepLab
from deeplabx.process.distributed import resolve_device
from deeplabx.run import plugins
from deeplabx.run.build import (
    dataset_of,
    freeze,
    loss_of,
    model_of,
    optimizer_of,
    refuse_augment,
    schedule_of,
)
from deeplabx.run.class_weights import refuse_other_weights
from deeplabx.run.description import Change, options_of
from deeplabx.run.folder import (
    config_of,
    overrides_of,
    refuse_links_out,
    refuse_or_find_finished,
    write_config,
)
from deeplabx.run.paths import absolute, refuse_moved, with_absolute_paths
from deeplabx.run.resolve import resolved

MARKS = ("FAILED", "INTERRUPTED")
STOPS = (StoppedError, PreemptedError, KeyboardInterrupt, SystemExit)


class Part(NamedTuple):
    """A stage and its folder."""

    stage: Stage
    folder: Path

    @property
    def has_begun(self) -> bool:
        return (self.folder / "config.yaml").is_file()

    @property
    def has_checkpoints(self) -> bool:
        return any((self.folder / "checkpoints").glob("step-*"))

    @property
    def is_done(self) -> bool:
        return self.has_checkpoints and all((self.folder / one).is_file() for one in ("DONE", "result.json"))


# --- the commands -------------------------------------------------------------------------------------------


def train_all(
    config: schema.TrainConfig, folder: Path, *, overrides: list[str], watch: Watch | None = None
) -> float:
    """Train the stages of a config in `folder`, or the one run of a config that has none; the best mIoU, of
    the last stage.
    """
    if not config.stages:
        if is_staged(folder):
            raise ConfigError(
                f"{folder} holds a run of several stages", hint="set hydra.run.dir=FOLDER, or its stages"
            )
        return train(config, folder, overrides=overrides, watch=watch)
    if any((folder / "checkpoints").glob("step-*")):
        raise ConfigError(f"{folder} holds a run without stages", hint="set hydra.run.dir=FOLDER")
    parts = parts_of(config, folder)
    with locked(folder) as warning:
        if warning:
            print(warning, file=sys.stderr)
        if is_staged(folder):
            refuse_or_compare(config, parts, folder)
        return run_parts(parts, folder, config=config, overrides=overrides, watch=watch)


def resume_all(folder: Path, *, change: Change, watch: Watch | None = None) -> float:
    """Continue the staged run in `folder` where it was interrupted. change: of the config of each stage."""
    refuse_links_out(folder)
    config = stored_config(folder)
    parts: list[Part] = []
    for stage, place in parts_of(config, folder):
        own = config_of(place) if (place / "config.yaml").is_file() else stage.config
        changed = replace(change(own), resume=True)
        refuse_moved(
            changed.dataset,
            stored=own.dataset,
            source=folder / "config.yaml",
            command=f"deeplabx resume {folder}",
        )
        parts.append(Part(replace(stage, config=changed), place))
    with locked(folder) as warning:
        if warning:
            print(warning, file=sys.stderr)
        return run_parts(parts, folder, config=None, overrides=overrides_of(folder), watch=watch)


def in_last_stage(folder: Path, work: Callable[[Path], float]) -> float:
    """Call `work` with the folder of the last stage, which is trained further; in another run, with
    its own.
    """
    if not is_staged(folder):
        return work(folder)
    refuse_links_out(folder)
    parts = parts_of(stored_config(folder), folder)
    waiting = [part.stage.name for part in parts[:-1] if not part.is_done]
    if waiting or not parts[-1].has_checkpoints:
        raise ConfigError(
            f"{folder} has not reached its last stage, which is the one that is extended",
            hint=f"deeplabx resume {folder}{plugins.as_overrides()}",
        )
    with locked(folder):
        (folder / "DONE").unlink(missing_ok=True)
        with settled(parts, folder):
            return work(parts[-1].folder)


# --- what there is to do ------------------------------------------------------------------------------------


def parts_of(config: schema.TrainConfig, folder: Path) -> list[Part]:
    found = stages_of(config)
    return [Part(one, folder_of(folder, number, one.name)) for number, one in enumerate(found, start=1)]


def stored_config(folder: Path) -> schema.TrainConfig:
    """The config of a staged run. Raises CheckpointError, for a plug-in that is not loaded too."""
    record = read_record(folder)
    plugins.refuse_absent(record.get("plugins", []), source=folder)
    config = config_of(folder)
    if [*(config.stages or {})] != [one["name"] for one in record["stages"]]:
        raise CheckpointError(f"{folder}/config.yaml and {RECORD} name other stages")
    try:
        check_stages(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder}/config.yaml cannot be used: {error.message}") from None
    return config


def refuse_or_compare(config: schema.TrainConfig, parts: Sequence[Part], folder: Path) -> None:
    """Raise ConfigError for a folder whose stages have checkpoints without `resume`, and for other settings
    than those that it was started with.
    """
    if not any(any((place / "checkpoints").glob("step-*")) for place in stage_folders(folder)):
        return  # it never began, and is started again
    if not config.resume:
        raise ConfigError(
            f"{folder} already holds checkpoints",
            hint=f"deeplabx resume {folder} (or resume=true) continues it; or set hydra.run.dir=FOLDER",
        )
    before = parts_of(stored_config(folder), folder)
    names = [[part.stage.name for part in some] for some in (before, parts)]
    if names[0] != names[1]:
        raise ConfigError(
            f"this run was made with other stages: {', '.join(names[0])}, now {', '.join(names[1])}",
            hint="resume it with its own, or train in another folder",
        )
    for old, new in zip(before, parts, strict=True):
        values = [
            {key: value for key, value, _ in walk(with_absolute_paths(one.stage.config))}
            for one in (old, new)
        ]
        changed = [key for key in values[1] if values[0].get(key) != values[1][key]]
        changed = [key for key in changed if not schema.is_free_on_resume(key)]
        if changed:
            shown = ", ".join(f"{key} was {values[0].get(key)}, now {values[1][key]}" for key in changed[:3])
            raise ConfigError(
                f"stage {new.stage.name} was made with other settings: {shown}",
                hint="resume it with its own, or train in another folder",
            )


def refuse_unfit(parts: Sequence[Part]) -> None:
    """Raise an error where a stage cannot start from the one before it, or its data is not there: before the
    first step of the first, not hours later.
    """
    before: tuple[str, list[str], dict[str, torch.Size]] | None = None  # name, classes, shapes
    for stage, _ in parts:
        with named(stage.name):
            data = stage.config.dataset
            training, validation = (dataset_of(data, split=one) for one in (data.train_split, data.split))
            refuse_different_classes(training, validation)
            with torch.device("meta"):
                model = model_of(
                    stage.config, num_classes=len(training.classes), in_channels=training.channels
                )
            refuse_before_weights(stage.config, model, training)
            shapes = {
                key: value.shape
                for key, value in model.state_dict().items()
                if not key.endswith("num_batches_tracked")  # which frozen batch norms do not have
            }
            if before is not None:
                name, classes, others = before
                if classes != training.classes:
                    new = [one for one in training.classes if one not in classes] or training.classes
                    raise ConfigError(
                        f"its classes are not those of stage {name}: {listed(new)}",
                        hint="all stages of a run have the same classes",
                    )
                differing = [key for key in {**shapes, **others} if shapes.get(key) != others.get(key)]
                if differing:
                    raise ConfigError(
                        f"its network is not that of stage {name}: {listed(differing, 3)} differ",
                        hint="a stage changes what leaves the weights as they are, such as "
                        "backbone.output_stride and model.norm=frozen",
                    )
            before = stage.name, training.classes, shapes


def refuse_before_weights(config: schema.TrainConfig, model: DeepLab, training: ReadableSet) -> None:
    """Raise the errors that the run of a stage would have before its first step, but for those of weights. It
    is run last of all stages, perhaps days later. model: on the meta device; it is changed.
    """
    device = resolve_device(config.trainer.devices)
    config = resolved(config, images=len(training), device=device)
    channels = training.channels  # whose statistics the weights may bring
    refuse_augment(config, training, Normalization((0.0,) * channels, (1.0,) * channels))
    refuse_other_weights(config, training)
    schedule_of(config.schedule)
    loss_of(config.loss)
    freeze(config.trainer, model)
    optimizer_of(config, model.to_empty(device="cpu"))  # whose memory is not touched


# --- one after another --------------------------------------------------------------------------------------


def run_parts(
    parts: Sequence[Part],
    folder: Path,
    *,
    config: schema.TrainConfig | None,
    overrides: list[str],
    watch: Watch | None,
) -> float:
    """Train what is not done. config: of the whole run, to be written; None: it is there. watch: of the
    evaluations of the last stage.
    """
    if all(part.is_done for part in parts):
        settle(parts, folder)
        best = refuse_or_find_finished(parts[-1].folder, resume=True)
        assert best is not None, "the last stage is done"
        print(f"{folder} is finished, in {all_words(parts)}: best mIoU of the last one {best:.4f}")
        return best
    refuse_unfit([part for part in parts if not part.is_done])
    if config is not None:
        write_plan(config, parts, folder, overrides)
    for name in (*MARKS, "DONE"):
        (folder / name).unlink(missing_ok=True)
    best = -1.0
    with settled(parts, folder, is_new=config is not None):
        for number, (stage, place) in enumerate(parts):
            start = start_of(parts, number)
            own = replace(stage.config, init_from=start, resume=True)
            words = own_overrides(overrides, stage, start)
            place.mkdir(parents=True, exist_ok=True)
            last = number == len(parts) - 1
            with named(stage.name):
                best = train(own, place, overrides=words, watch=watch if last else None)
    done = "are" if len(parts) > 1 else "is"
    print(f"{all_words(parts)} {done} done: best mIoU of the last one {best:.4f}, in {folder}")
    return best


def all_words(parts: Sequence[Part]) -> str:
    return f"all {len(parts)} stages" if len(parts) > 1 else "its one stage"


def start_of(parts: Sequence[Part], number: int) -> str | None:
    """init_from of a stage: of the first its own, else a checkpoint of the stage before. A stage that has
    checkpoints does not read it again, and keeps what it was started with: its run may have been moved.
    """
    stage, place = parts[number]
    if parts[number].has_checkpoints and parts[number].has_begun:
        return config_of(place).init_from
    if number == 0:
        return stage.config.init_from
    before = parts[number - 1].folder
    found = pointed(before / "checkpoints", stage.start)
    if found is None:
        raise CheckpointError(f"{before} has no {stage.start} checkpoint", hint="restore it from a backup")
    return str(checkpoints.verified(found).path.absolute())


def own_overrides(overrides: Sequence[str], stage: Stage, start: str | None) -> list[str]:
    """The overrides of a run that does what the stage does."""
    drop = {*stage.differing, "stages", "init_from"}
    added: list[str] = ["stages=null"]
    if stage.changes.get("schedule.max_iters") is not None:
        drop, added = drop | {"trainer.epochs"}, [*added, "trainer.epochs=null"]
    elif stage.changes.get("trainer.epochs") is not None:
        drop |= {"schedule.max_iters"}
    keys = [one.lstrip("+~").partition("=")[0] for one in overrides]
    kept = [
        one
        for one, key in zip(overrides, keys, strict=True)
        if key not in drop and not key.startswith("stages.")
    ]
    changes = {key: value for key, value in stage.differing.items() if key != "init_from"}
    return [
        *kept,
        *added,
        *(f"{key}={as_written(value)}" for key, value in changes.items()),
        *([] if start is None else [f"init_from={in_quotes(start)}"]),
    ]


def as_written(value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_written, value)) + "]"
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z]\w*", value) else in_quotes(value)
    return json.dumps(value)  # null, true, false and numbers


# --- the folder of the whole --------------------------------------------------------------------------------


def write_plan(config: schema.TrainConfig, parts: Sequence[Part], folder: Path, overrides: list[str]) -> None:
    """Write what `resume` continues from, before the first stage begins."""
    whole = with_absolute_paths(replace(config, resume=False, accept_changed_images=False))
    paths = {key for key, _, field in walk(config) if field.metadata.get("path")}
    tables = {**(whole.stages or {})}
    for table in tables.values():
        for key, value in stages.leaves(table or {}, known={}):
            if key in paths and isinstance(value, str):
                stages.put(table, key, absolute(value))
    whole.stages = tables
    record = {
        "deeplabx": __version__,
        "plugins": plugins.needed(options_of(config)),
        "stages": [
            {"name": part.stage.name, "words": words_of(parts, number, overrides)}
            for number, part in enumerate(parts)
        ],
    }
    write_config(folder, whole)
    durable.replace(folder / "overrides.yaml", yaml.safe_dump(overrides))
    durable.replace(folder / RECORD, json.dumps(record, indent=2) + "\n")


def words_of(parts: Sequence[Part], number: int, overrides: Sequence[str]) -> list[str]:
    """What the log of a stage says of it."""
    stage = parts[number].stage
    own = " ".join(f"{key}={as_written(value)}" for key, value in stage.differing.items())
    words = [f"stage {number + 1} of {len(parts)}, {stage.name}: {own or 'no settings of its own'}"]
    if number:
        words.append(
            f"starts from the {stage.start} checkpoint of stage {parts[number - 1].stage.name}, at step 0, "
            "with a new optimizer and schedule"
        )
    for key in stage.changes:
        if stages.is_set_for_all(overrides, stage.name, key):
            words.append(
                f"{key} of the command line applies to every stage; "
                f"stages.{stage.name}.{key}=VALUE sets it in this one"
            )
    return words


@contextlib.contextmanager
def settled(parts: Sequence[Part], folder: Path, *, is_new: bool = False) -> Iterator[None]:
    """After the block, however it ends, `folder` says what has become of the stages. is_new: whether the run
    was just started: it leaves nothing if its first stage does not begin.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            settle(parts, folder)
            between = not any((folder / name).is_file() for name in (*MARKS, "DONE"))
            if between and any(part.has_begun for part in parts):
                name = "INTERRUPTED" if isinstance(error, STOPS) else "FAILED"
                durable.write_words(folder / name, f"{error}\n")
            elif between and is_new:
                clear(parts, folder)
        raise
    settle(parts, folder)


def settle(parts: Sequence[Part], folder: Path) -> None:
    """Make the marks and the result of a staged run those of its stages: the marks of the newest one, and
    DONE with the result of the last one where all are done.
    """
    newest = newest_stage(folder)
    for name in MARKS:
        if (newest / name).is_file():
            durable.replace(folder / name, (newest / name).read_text(encoding="utf-8", errors="replace"))
        else:
            (folder / name).unlink(missing_ok=True)
    if all(part.is_done for part in parts):
        result = (parts[-1].folder / "result.json").read_text(encoding="utf-8")
        durable.replace(folder / "result.json", result)
        (folder / "DONE").write_text("", encoding="utf-8")
    else:
        (folder / "DONE").unlink(missing_ok=True)


def clear(parts: Sequence[Part], folder: Path) -> None:
    """Remove what was written for a run whose first stage did not begin: it leaves nothing."""
    for name in (RECORD, "config.yaml", "overrides.yaml"):
        (folder / name).unlink(missing_ok=True)
    for place in (*(part.folder for part in parts), parts[0].folder.parent):
        with contextlib.suppress(OSError):  # it is not there, or not empty
            place.rmdir()
