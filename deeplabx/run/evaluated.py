"""Evaluations that are read back from their folders, for `deeplabx compare`."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from deeplabx.config import schema, stored
from deeplabx.dataset.json_file import read_object
from deeplabx.engine.checkpoint_folder import EXPORTED as EXPORTED_KINDS
from deeplabx.engine.record.record import IMAGES, Record
from deeplabx.errors import CheckpointError, DataError, quoted
from deeplabx.report.compare.entries import EXPORTED, NUMBERS, Evaluated
from deeplabx.run.evaluation import COST
from deeplabx.run.folder import read_yaml

SWEEP, RESULT, CONFIG = "sweep.json", "result.json", "config.yaml"
MOST_BYTES = 16 << 20  # of a file that is read here
MOST_JOBS = 10_000
# Settings that do not tell evaluations apart: none changes what a run learns.
IGNORED = (
    *schema.FREE_ON_RESUME,
    *("dataset.recommended.eval_crop", "model.recommended.output_stride"),
    *(f"dataset.recommended.{name}" for name in ("crop_size", "batch_size", "max_iters", "lr")),
)


def evaluations_of(folder: Path) -> tuple[list[Evaluated], list[str]]:
    """That of a run, that of `deeplabx eval`, or those of a sweep's finished jobs; and what is said of jobs
    that are left out.

    Raises CheckpointError for a folder without an evaluation, and for a damaged one.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise CheckpointError(
            f"{folder} {what}; a comparison takes folders",
            hint=hint_for(folder),
        )
    if not (folder / SWEEP).is_file():
        return [evaluation_of(folder)], []
    jobs = list(jobs_of(folder))
    finished = [one for one, status in jobs if status == "done"]
    if not finished:
        raise CheckpointError(
            f"{folder} is a sweep without a finished job", hint=f"deeplabx sweep resume {folder}"
        )
    left_out = [one.relative_to(folder).as_posix() for one, status in jobs if status != "done"]
    words = (
        [
            f"{folder}: {len(left_out)} of {len(jobs)} jobs are not finished and left out: "
            f"{', '.join(left_out[:10])}{', ...' if len(left_out) > 10 else ''}"
        ]
        if left_out
        else []
    )
    return [evaluation_of(one) for one in finished], words


def jobs_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """Folder and status of each job of a sweep."""
    path = folder / SWEEP
    jobs = table_of(path).get("jobs")
    if not isinstance(jobs, list) or len(jobs) > MOST_JOBS:
        raise CheckpointError(f"{path} is damaged: jobs is not a list of at most {MOST_JOBS:,} jobs")
    for job in jobs:
        name = job.get("folder") if isinstance(job, dict) else None
        if not is_inside(name) or not isinstance(job, dict):
            raise CheckpointError(f"{path} is damaged: {quoted(job)} names no folder inside the sweep's")
        yield folder / name, str(job.get("status"))


def is_inside(name: Any) -> TypeGuard[str]:
    """Whether a name is a path that leads into a folder."""
    if not isinstance(name, str) or "\0" in name or len(name) > 4096:
        return False
    path = Path(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def hint_for(path: Path) -> str:
    """What to give in place of a file."""
    if path.name == SWEEP:
        return f"type {path.parent}"
    if path.is_file() and path.suffix in EXPORTED_KINDS:
        return (
            f"deeplabx eval {path} dataset.root=PATH evaluates it; then compare the folder that this prints"
        )
    return "give folders of runs, of `deeplabx eval`, or of a sweep"


def evaluation_of(folder: Path) -> Evaluated:
    """The evaluation in a folder. Raises CheckpointError unless its files are there and of one evaluation."""
    if not (folder / IMAGES).is_file() or not (folder / RESULT).is_file():
        absent = IMAGES if not (folder / IMAGES).is_file() else RESULT
        ended = (folder / CONFIG).is_file()
        raise CheckpointError(
            f"{folder} has no {absent}: it holds no finished evaluation",
            hint=f"deeplabx eval {folder} makes one; then compare its folder"
            if ended
            else "give folders of runs, of `deeplabx eval`, or of a sweep",
        )
    record = Record.read(folder)
    result = table_of(folder / RESULT)
    confusion = record.counts.confusion()
    if not confusion.any():
        raise CheckpointError(f"{folder / IMAGES} counts no pixel", hint=f"deeplabx eval {folder}")
    if result.get("confusion_sha256") != hashlib.sha256(confusion.tobytes()).hexdigest():
        raise CheckpointError(
            f"{folder / RESULT} and {IMAGES} are not of the same evaluation: the run is still training, or a "
            "file was changed",
            hint=f"deeplabx eval {folder} makes an evaluation of its own",
        )
    settings, of_run = settings_of(folder, result)
    return Evaluated(folder, record, settings, cost_of(folder), of_run)


def settings_of(folder: Path, result: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The settings of an evaluation, and whether a run made it. Those of `deeplabx eval` are in its
    result.json.
    """
    checkpoint = result.get("checkpoint")
    if checkpoint is None:
        path = folder / CONFIG
        if not path.is_file():
            return {"folder": str(folder)}, True
        if path.stat().st_size > MOST_BYTES:
            raise CheckpointError(f"{path} has more than {MOST_BYTES:,} bytes")
        return {**flat(read_yaml(path), source=path), EXPORTED: None}, True
    settings = flat(result["config"], source=folder / RESULT) if "config" in result else {}
    settings = settings or {"checkpoint": str(checkpoint)[:500]}
    name = str(checkpoint).rpartition("/")[2][:200]
    kind = EXPORTED_KINDS.get(Path(name).suffix)
    return {**settings, EXPORTED: None if kind is None else name}, False


def flat(config: Any, *, source: Path) -> dict[str, Any]:
    """The values of a config by dotted key."""
    if not isinstance(config, dict) or not stored.is_small(config):
        raise CheckpointError(f"{source} holds no config of a run")
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{key}.{name}" if key else str(name), one) for name, one in value.items()]
        else:
            found[key] = value
    return found


def cost_of(folder: Path) -> dict[str, Any]:
    """What cost.json says; {} without one. Raises CheckpointError for what no evaluation writes."""
    path = folder / COST
    if not path.is_file():
        return {}
    found = table_of(path)
    for name in (*NUMBERS, "height", "width", "threads"):
        value = found.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value) and 0 <= value < 1e18):
            raise CheckpointError(f"{path} is damaged: {name}={quoted(value)}", hint="deeplabx eval RUN")
    if not isinstance(found.get("device", ""), str):
        raise CheckpointError(
            f"{path} is damaged: device={quoted(found['device'])}", hint="deeplabx eval RUN"
        )
    return found


def table_of(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, most_bytes=MOST_BYTES)
    except DataError as error:
        raise CheckpointError(error.message, hint=error.hint) from None
