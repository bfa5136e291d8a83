"""Evaluations that are read back from their folders, for `deeplabx compare`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplabx.config import schema, stored
from deeplabx.dataset.json_file import number, read_object
from deeplabx.engine.checkpoint_folder import EXPORTED as EXPORTED_KINDS
from deeplabx.engine.metrics import sha256_of
from deeplabx.engine.record.record import IMAGES, Record
from deeplabx.engine.stage_folders import newest_stage, run_of, stage_folders
from deeplabx.errors import CheckpointError, DataError, listed, printable, quoted
from deeplabx.report.compare.entries import EXPORTED, NUMBERS, Evaluated
from deeplabx.report.next_commands import resume_sweep_words
from deeplabx.report.run_page.folder import COST, EVALUATION, RESULT
from deeplabx.report.sweep_jobs import DONE, SUMMARY, read_jobs
from deeplabx.run.folder import read_yaml

CONFIG = "config.yaml"
MOST_BYTES = 16 << 20  # of a file that is read here
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
    if not (folder / SUMMARY).is_file():
        return [evaluation_of(newest_stage(folder))], []
    jobs = read_jobs(folder)
    finished = [folder / job["folder"] for job in jobs if job["status"] == DONE]
    if not finished:
        raise CheckpointError(f"{folder} is a sweep without a finished job", hint=resume_sweep_words(folder))
    left_out = [printable(job["folder"], 80) for job in jobs if job["status"] != DONE]
    words = (
        [f"{folder}: {len(left_out)} of {len(jobs)} jobs are not done and left out: {listed(left_out, 10)}"]
        if left_out
        else []
    )
    return [evaluation_of(newest_stage(one)) for one in finished], words


def hint_for(path: Path) -> str:
    """What to give in place of a file."""
    if path.name == SUMMARY:
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
    if result.get("confusion_sha256") != sha256_of(confusion):
        raise CheckpointError(
            f"{folder / RESULT} and {IMAGES} are not of the same evaluation: the run is still training, or a "
            "file was changed",
            hint=f"deeplabx eval {folder} makes an evaluation of its own",
        )
    settings, of_run = settings_of(folder, result)
    return Evaluated(folder, record, settings, cost_of(folder), of_run)


def settings_of(folder: Path, result: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The settings of an evaluation, and whether a run made it. Those of `deeplabx eval` are in its
    evaluation.json.
    """
    checkpoint = result.get("checkpoint")
    if checkpoint is None:
        path = folder / CONFIG
        if not path.is_file():
            return {"folder": str(folder)}, True
        own, run = stored_settings(path), run_of(folder)
        if run != folder and newest_stage(run) == folder:
            own = of_all_stages(own, stored_settings(run / CONFIG), folder)
        return {**without_counted(own), EXPORTED: None}, True
    settings: dict[str, Any] = {"checkpoint": str(checkpoint)[:500]}
    if (folder / EVALUATION).is_file():
        plain = table_of(folder / EVALUATION).get("config")
        settings = without_counted(flat(plain, source=folder / EVALUATION))
    name = str(checkpoint).rpartition("/")[2][:200]
    kind = EXPORTED_KINDS.get(Path(name).suffix)
    return {**settings, EXPORTED: None if kind is None else name}, False


def stored_settings(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{path} has more than {MOST_BYTES:,} bytes")
    return flat(read_yaml(path), source=path)


def of_all_stages(own: Mapping[str, Any], whole: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a staged run: those of its last stage, in `folder`, with what stages change under
    `stages`. own, whole: of that stage and of the run. The stage's own name the checkpoint that it started
    from, and not how that was trained.
    """
    stages = stage_folders(run_of(folder))
    prefix = f"stages.{folder.name.partition('-')[2]}."
    changed = [key.removeprefix(prefix) for key in whole if key.startswith(prefix)]
    kept = {key: value for key, value in own.items() if key not in (*changed, "init_from")}
    return {**whole, **kept, "stages": [one.name.partition("-")[2] for one in stages]}


def without_counted(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the class weights that class_balance counted: they differ from fold to fold."""

    def uncounted(part: Any) -> Any:
        counted = isinstance(part, dict) and part.get("class_balance") is not None
        return {**part, "class_weights": None} if counted else part

    found = dict(settings)
    if found.get("loss.class_balance") is not None:
        found["loss.class_weights"] = None
    if isinstance(found.get("loss.parts"), list):
        found["loss.parts"] = [uncounted(part) for part in found["loss.parts"]]
    return found


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
        if value is not None and (number(value) is None or not 0 <= value < 1e18):
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
