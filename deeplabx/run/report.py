"""The report of a run or of an evaluation: what its folder holds, with the images of its data set."""

import re
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deeplabx.config import schema
from deeplabx.dataset.json_file import number
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.checkpoint_folder import read_json
from deeplabx.engine.metrics import Metrics
from deeplabx.engine.record.record import Record
from deeplabx.errors import CheckpointError, ConfigError, DataError, printable
from deeplabx.report.next_commands import evaluate_words, predict_words
from deeplabx.report.page import Cell
from deeplabx.report.run_page import Facts, write_run_page
from deeplabx.report.run_page.facts import History
from deeplabx.report.run_page.folder import RESULT, Files
from deeplabx.run import plugins
from deeplabx.run.evaluated_split import evaluated_split
from deeplabx.run.folder import extensions_of, newest_root
from deeplabx.run.paths import refuse_moved
from deeplabx.run.report_source import Change, Source, model_sha256, shell_words

REPORT = "report.html"
SCALES = "eval.scales=[0.5,0.75,1.0,1.25,1.5,1.75]"
PAUSE = 10.0  # seconds between two reports of a run that evaluates more often: one takes about 0.5 of a core
MOST_UNREADABLE = 1000  # lines of unreadable.txt


# --- written beside a run or an evaluation ------------------------------------------------------------------


def report_quietly(folder: Path, say: Callable[[str], None], **known: Any) -> bool:
    """Write the report of a run or an evaluation that matters more than its report: whatever goes wrong with
    it is one line. Whether it is written.
    """
    try:
        write_report(folder, **known)
    except Exception as error:  # noqa: BLE001 - see above
        words = printable((str(error).splitlines() or [type(error).__name__])[0], 300)
        say(f"{REPORT} could not be written: {words}; deeplabx report {folder} tries again")
        return False
    return True


class Reports:
    """The report of a run, made beside its training: after an evaluation where the last one is older than
    PAUSE, and at the end.

    later: runs a function beside the training. samples: the evaluated split.
    """

    def __init__(
        self,
        folder: Path,
        *,
        samples: ReadableSet,
        say: Callable[[str], None],
        later: Callable[[Callable[[], object]], None],
    ) -> None:
        self.folder, self.samples, self.say, self.later = folder, samples, say, later
        self.made = time.monotonic()  # when; of the first, when the run began

    def due(self, newest: tuple[int, Metrics] | None = None, *, finished: bool = False) -> None:
        """Make it soon. newest: step and metrics of an evaluation; finished: whether the run is."""
        if finished or time.monotonic() - self.made >= PAUSE:
            self.made = time.monotonic()
            known = {"samples": self.samples, "newest": newest, "finished": finished}
            self.later(partial(report_quietly, self.folder, self.say, **known))


def write_report(
    folder: Path,
    *,
    change: Change | None = None,
    samples: ReadableSet | None = None,
    newest: tuple[int, Metrics] | None = None,
    finished: bool = False,
) -> Path:
    """Write report.html into the folder of a run or of an evaluation.

    change: of its config, such as where the data set is. samples: the evaluated split, if it is open.
    newest: step and metrics of an evaluation that may not be in metrics.jsonl yet. finished: whether the run
    is, though its mark is not written yet. Raises CheckpointError for a folder of something else.
    """
    source = Source.of(folder, change=change)
    files = Files.read(folder)
    if newest is not None:
        add_newest(files.history, *newest)
    level, status = status_of(folder, files.history, source.config, finished=finished)
    record, config = files.record, source.config
    found, no_images = None, ""
    if record is not None:
        found, no_images = images_of(record, source, samples)
    seconds = number(files.cost.get("seconds"))
    facts = Facts(
        title=title_of(folder, config),
        words=words_of(folder, config, record),
        is_run=source.is_run,
        level=level,
        status=status,
        metrics=files.metrics,
        step=files.step,
        record=record,
        predictions=files.predictions,
        samples=found,
        no_images=no_images,
        history=files.history,
        alarms=files.alarms,
        unreadable=unreadable_of(folder, files.result.get("unreadable")),
        problems=[*source.problems, *files.problems],
        settings=settings_of(config),
        commands=commands_of(folder, source, files, finished=level == "good"),
        cost=files.cost,
        variants=files.variants,
        environment=files.environment if source.is_run else source.environment,
        origin=origin_of(folder, source, files.step),
        again=source.again,
        config=source.text,
        batch_size=config.trainer.batch_size if config is not None and source.is_run else None,
        seconds=seconds if source.is_run else None,
    )
    write_run_page(folder / REPORT, facts)
    return folder / REPORT


# --- status and title ---------------------------------------------------------------------------------------


def status_of(
    folder: Path, history: History, config: schema.TrainConfig | None, *, finished: bool
) -> tuple[str, str]:
    """Level and words of how far a run is."""
    steps = [int(number(line["step"]) or 0) for line in (*history.steps, *history.evaluations)]
    reached = f"step {max(steps, default=0):,}"
    if config is not None:
        reached += f" of {config.schedule.max_iters:,}"
    if finished or (folder / "DONE").is_file():
        return "good", f"finished, at {reached}"
    for name, level in (("FAILED", "error"), ("INTERRUPTED", "warning")):
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")[:1000].strip()
            first = text.splitlines()[0] if text else ""
            return level, f"{name.lower()}, at {reached}: {first}"
    return "note", f"running, at {reached} when this page was written; or it was killed since"


def add_newest(history: History, step: int, result: Metrics) -> None:
    if all(number(line["step"]) != step for line in history.evaluations):
        history.evaluations.append({"step": step, **result.to_plain()})


def title_of(folder: Path, config: schema.TrainConfig | None) -> str:
    if config is None:
        return folder.name
    return f"{config.model.name} on {config.backbone.name}, {config.dataset.name}"


def words_of(folder: Path, config: schema.TrainConfig | None, record: Record | None) -> str:
    parts = [folder.name]
    if record is not None:
        parts.append(f"evaluated on {record.split} of {record.dataset} with step {record.step:,}")
    elif config is not None:
        parts.append(f"{config.dataset.split} of {config.dataset.name}")
    return ": ".join(parts)


def unreadable_of(folder: Path, listed: Any) -> list[str]:
    """What could not be read, by unreadable.txt, else by the list in result.json."""
    path = folder / "unreadable.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    else:
        path, lines = folder / RESULT, [str(one) for one in listed] if isinstance(listed, list) else []
    more = [f"{len(lines) - MOST_UNREADABLE} more are in {path.name}"]
    return lines[:MOST_UNREADABLE] + (more if len(lines) > MOST_UNREADABLE else [])


# --- its images ---------------------------------------------------------------------------------------------


def images_of(record: Record, source: Source, samples: ReadableSet | None) -> tuple[ReadableSet | None, str]:
    """The evaluated split, whose unreadable images raise errors; or None, and why."""
    config, before = source.config, source.stored
    if config is None or before is None:
        return None, "the config is not known, and so the data set is not."
    try:
        if samples is None:
            refuse_moved(
                config.dataset,
                stored=before.dataset,
                source=source.folder,
                command=f"deeplabx report {source.folder}",
                newer_root=None if source.target is None else newest_root(source.target),
            )
        return evaluated_split(record, config.dataset, samples=samples), ""
    except (DataError, ConfigError) as error:
        return None, str(error).replace("\n", "; ")


# --- rows of tables -----------------------------------------------------------------------------------------


def settings_of(config: schema.TrainConfig | None) -> list[tuple[str, Cell]]:
    if config is None:
        return []
    own = config.eval
    found: list[tuple[str, Cell]] = [
        ("output stride", getattr(config.backbone, "output_stride", None)),
        ("scales", ", ".join(f"{scale:g}" for scale in own.scales)),
        ("flipped images too", own.flip),
        ("windows", "none: whole images" if own.window is None else str(own.window)),
    ]
    if own.crop is not None:
        found.append(("padded to", " x ".join(map(str, own.crop))))
    return [*found, *([("CRF iterations", own.crf_iterations)] if own.crf else [])]


def commands_of(folder: Path, source: Source, files: Files, *, finished: bool) -> list[tuple[str, str]]:
    """The next commands, with what each does. Those that need a checkpoint are left out where there is none
    yet.
    """
    here, given = shlex.quote(str(folder.resolve())), plugins.as_overrides()
    found = []
    trained = source.target is not None
    if source.is_run:
        trained = any((folder / "checkpoints").glob("step-*"))
        if trained and not finished:
            found.append(("Continue it", f"deeplabx resume {here}{given}"))
    if trained and source.target is not None:
        target = source.target.resolve()
        kept = [one for one in source.overrides if not re.match(r"eval\.(scales|flip)=", one)]
        settings = shell_words([*([] if source.is_run else kept), SCALES, "eval.flip=true"])
        scales = f"{evaluate_words(target)} {settings}{given}"
        found += [
            ("More scales, and flipped images too: slower, and usually better", scales),
            ("Class ids and overlays of your images", predict_words(target, plugins=given)),
        ]
        if not source.target.is_file():
            found.append(("A file for other programs", f"deeplabx export {shlex.quote(str(target))}{given}"))
    if files.record is not None:
        found.append(
            ("Is another run better, and how sure is that", f"deeplabx compare {here} OTHER_RUN{given}")
        )
        if trained and not files.variants:
            found.append(
                (
                    "What output stride 8, more scales and flips cost here, and what they gain",
                    f"deeplabx report {here} variants=true{given}",
                )
            )
    return found


def origin_of(folder: Path, source: Source, step: int | None) -> list[tuple[str, Cell]]:
    checkpoint = source.target
    if source.is_run:
        checkpoint = None if step is None else folder / "checkpoints" / f"step-{step:08d}"
    found: list[tuple[str, Cell]] = [("folder", folder.resolve())]
    if checkpoint is not None and checkpoint.exists():
        found.append(("checkpoint", checkpoint.resolve()))
        try:
            found.append(("sha256 of its weights", source.sha256 or model_sha256(checkpoint)))
            found += data_rows(checkpoint)
        except CheckpointError as error:
            found.append(("checkpoint", error.message))
    elif checkpoint is not None and not source.is_run:
        found.append(("checkpoint, gone now", checkpoint.resolve()))
        found.append(("sha256 of its weights", source.sha256))
    config = source.stored
    if config is not None:
        found += [
            ("started from", config.init_from or "no trained segmentation network"),
            ("backbone's weights", getattr(config.backbone, "weights", None)),
            ("dataset.root", config.dataset.root),
            ("seed", config.seed),
        ]
    found += plugin_rows(folder, source)
    try:
        for one in extensions_of(folder):
            found.append(("extended", f"at step {one['at_step']}, from {one['from']} to {one['to']} steps"))
    except CheckpointError as error:
        found.append(("extended", error.message))
    return [(name, value) for name, value in found if value is not None]


def data_rows(checkpoint: Path) -> list[tuple[str, Cell]]:
    """What the checkpoint says of its training data."""
    if not (checkpoint / "config.json").is_file():
        return []
    data = read_json(checkpoint / "config.json").get("data")
    found: list[tuple[str, Cell]] = []
    for name, words in (("training", "training images"), ("evaluated", "evaluated images")):
        one = data.get(name) if isinstance(data, dict) else None
        if isinstance(one, dict):
            sha256 = f", sha256 of their names {str(one.get('sha256'))[:12]}" if one.get("sha256") else ""
            found.append((words, f"{one.get('number')} of {one.get('split')}{sha256}"))
    return found


def plugin_rows(folder: Path, source: Source) -> list[tuple[str, Cell]]:
    environment: Any = source.environment
    if source.is_run and (folder / "environment.json").is_file():
        try:
            environment = read_json(folder / "environment.json")
        except CheckpointError:
            return []  # the page says that this file is damaged
    records = environment.get("plugins")
    if not isinstance(records, list):
        return []
    return [
        ("plug-in", f"{one.get('name')} {one.get('version') or str(one.get('sha256'))[:12]}")
        for one in records
        if isinstance(one, dict)
    ]
