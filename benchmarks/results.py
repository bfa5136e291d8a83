"""Results of our own: named experiments, and the tables of docs/results.md that are made of them.

    python -m benchmarks.results list
    python -m benchmarks.results run NAME... --camvid DIR --voc DIR --out DIR --minutes 60
    python -m benchmarks.results write --out DIR

`run` trains and evaluates what is missing and stops when the minutes are over: a training is saved, and the
next call continues it. `write` puts what is finished into benchmarks/results.json, and from there into the
tables. Experiments that need a GPU are run only where they are named.
"""

import argparse
import json
import math
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RECORDS, PAGE = ROOT / "benchmarks" / "results.json", ROOT / "docs" / "results.md"
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"
GRACE = 300  # seconds in which a training that was asked to stop saves itself
GOOGLE = "deeplabv3_mobilenetv2_voc_google"


class Entry(NamedTuple):
    """One row. words: overrides of `deeplabx train`; where `ckpt` is set, of `deeplabx eval`.

    ckpt: what is evaluated: weights, or the run of another entry and the same seed, as "run of NAME".
    """

    name: str
    words: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    ckpt: str | None = None
    published: float | None = None  # mIoU in percent of a paper, or of released weights


class Experiment(NamedTuple):
    """Rows of one table. words: overrides that all of them have. baseline: the entry that the others are
    compared with, in intervals over images and seeds.
    """

    name: str
    data: str | None  # camvid, voc, ...: whose folder is given to `run`; None: generated images
    words: tuple[str, ...]
    entries: tuple[Entry, ...]
    baseline: str | None = None
    gpu: bool = False


THREE_SCALES = ("backbone.output_stride=8", "eval.scales=[0.75,1.0,1.25]", "eval.flip=true")
# The settings of `+recipe=camvid_deeplabv3plus_mobilenetv2_google`, spelled out, so that these rows stay what
# they are when the recipe gets better.
CAMVID = (
    "dataset=camvid",
    "augment.scale_min=0.75",
    "optimizer=adamw",
    "optimizer.lr=1.5e-4",
    "schedule.warmup_iters=50",
    "trainer.head_lr_factor=10",
    "trainer.ema_decay=0.99",
    "trainer.freeze_stride=4",
    "trainer.freeze_backbone_norm=true",
    "eval.scales=1.5",
    "eval.flip=true",
)
SHORT = ("trainer.batch_size=4", "schedule.max_iters=300", "trainer.eval_every=300")
LONG = (
    "augment.crop_size=481",
    "trainer.freeze_stride=null",
    "trainer.freeze_backbone_norm=false",
    "trainer.unfold_norm=256",
    "trainer.ema_decay=0.998",
    "schedule.max_iters=2500",
    "schedule.warmup_iters=100",
)
BALANCED = ("loss.class_balance=enet", "loss.keep_priors=true")
WITH_LOVASZ = (
    "loss=composite",
    "loss.parts=[{name: cross_entropy, class_balance: enet, keep_priors: true},{name: lovasz, weight: 0.5}]",
)
UNFOLDED = ("trainer.unfold_norm=128", "trainer.freeze_backbone_norm=false")
TWO = (0, 1)
EXPERIMENTS = (
    Experiment(
        "first_run",
        None,
        (),
        (
            Entry("`trainer.precision=bf16`", ("trainer.precision=bf16",)),
            Entry("`trainer.precision=fp32`", ("trainer.precision=fp32",)),
        ),
    ),
    Experiment(
        "camvid_google",
        "camvid",
        ("+recipe=camvid_deeplabv3plus_mobilenetv2_google",),
        (Entry("the recipe", seeds=(0, 1, 2)),),
    ),
    Experiment(
        "camvid_short",
        "camvid",
        (*CAMVID, *SHORT, f"init_from={GOOGLE}"),
        (
            Entry("cross-entropy", BALANCED, seeds=TWO),
            Entry("without class balance", seeds=TWO),
            Entry("+ 0.5 `lovasz`", WITH_LOVASZ, seeds=TWO),
            Entry("`ohem`, the hardest quarter", ("loss=ohem", *BALANCED), seeds=TWO),
            Entry(
                "unfolded batch norms",
                (*BALANCED, *UNFOLDED),
                seeds=TWO,
            ),
            Entry("both", (*WITH_LOVASZ, *UNFOLDED), seeds=TWO),
            Entry("`schedule=step`", (*BALANCED, "schedule=step", "schedule.every=100"), seeds=TWO),
            Entry("`backbone.output_stride=8`", (*BALANCED, "backbone.output_stride=8"), seeds=TWO),
        ),
        baseline="cross-entropy",
    ),
    Experiment(
        "image_pooling",
        "camvid",
        ("model=deeplabv3", *CAMVID, *BALANCED, *SHORT, f"backbone.weights={GOOGLE}"),
        (
            Entry("without image pooling", ("model.image_pooling=none",), seeds=TWO),
            Entry("with image pooling", seeds=TWO),
        ),
        baseline="without image pooling",
    ),
    # These weights were trained on the images of this split too.
    Experiment(
        "voc_google",
        "voc",
        (),
        (
            Entry("output stride 16", ("dataset=voc",), ckpt=GOOGLE, published=75.32),
            Entry("output stride 8", ("dataset=voc", "backbone.output_stride=8"), ckpt=GOOGLE),
            Entry(
                "output stride 8, three scales and flip",
                ("dataset=voc", *THREE_SCALES),
                ckpt=GOOGLE,
                published=77.33,
            ),
        ),
    ),
    Experiment(
        "camvid_best",
        "camvid",
        ("+recipe=camvid_deeplabv3plus_resnet50_keras_gpu",),
        (
            Entry("Keras's ResNet-50"),
            Entry(
                "Google's MobileNetV2",
                (
                    "backbone=mobilenetv2",
                    "backbone.weights=null",
                    f"init_from={GOOGLE}",
                    "trainer.unfold_norm=256",
                    "optimizer.lr=2e-4",
                    "schedule.max_iters=6000",
                ),
            ),
        ),
        gpu=True,
    ),
    Experiment(
        "camvid_losses",
        "camvid",
        (*CAMVID, *LONG, f"init_from={GOOGLE}"),
        (
            Entry("cross-entropy", seeds=(0, 1, 2)),
            Entry("balanced, priors kept", BALANCED, seeds=(0, 1, 2)),
            *(
                Entry(f"`loss={name}`", (f"loss={name}",), seeds=(0, 1, 2))
                for name in ("ohem", "focal", "boundary", "rmi")
            ),
            *(
                Entry(
                    f"cross-entropy + `{name}`",
                    (
                        "loss=composite",
                        f"loss.parts=[{{name: cross_entropy}}, {{name: {name}, weight: 0.5}}]",
                    ),
                    seeds=(0, 1, 2),
                )
                for name in ("lovasz", "dice", "tversky")
            ),
        ),
        baseline="cross-entropy",
        gpu=True,
    ),
    Experiment(
        "voc_part",
        "voc",
        (
            "model=deeplabv3plus",
            "backbone=resnet50_keras",
            "backbone.weights=imagenet",
            "dataset=voc",
            "schedule.max_iters=3000",
            "trainer.eval_every=3000",
        ),
        (
            Entry("output stride 16", published=78.85),
            Entry(
                "output stride 8",
                ("backbone.output_stride=8",),
                ckpt="run of output stride 16",
                published=79.35,
            ),
            Entry(
                "output stride 8, three scales and flip",
                THREE_SCALES,
                ckpt="run of output stride 16",
                published=80.57,
            ),
        ),
        gpu=True,
    ),
)


# --- running ------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One training or evaluation."""

    experiment: Experiment
    entry: Entry
    seed: int

    def folder(self, out: Path) -> Path:
        name = re.sub(r"[^a-z0-9.=-]+", "_", self.entry.name.lower()).strip("_")
        return out / self.experiment.name / name / f"seed-{self.seed}"

    @property
    def words(self) -> list[str]:
        """The command, without what depends on the machine."""
        if self.entry.ckpt is None:
            return ["train", *self.experiment.words, *self.entry.words, f"seed={self.seed}"]
        return ["eval", f"ckpt={'RUN' if self.evaluated else self.entry.ckpt}", *self.entry.words]

    @property
    def evaluated(self) -> "Job | None":
        """The training whose run is evaluated."""
        _, of_run, name = (self.entry.ckpt or "").partition("run of ")
        return (
            next(self._replace(entry=one) for one in self.experiment.entries if one.name == name)
            if of_run
            else None
        )

    @property
    def command(self) -> str:
        root = [] if self.experiment.data is None else ["dataset.root=PATH"]
        return shlex.join(["deeplabx", *self.words, *root])


def jobs_of(experiment: Experiment) -> list[Job]:
    """Seed by seed, so that a budget that ends early leaves whole comparisons."""
    seeds = sorted({seed for entry in experiment.entries for seed in entry.seeds})
    return [
        Job(experiment, entry, seed) for seed in seeds for entry in experiment.entries if seed in entry.seeds
    ]


def is_finished(folder: Path) -> bool:
    return (folder / "result.json").is_file() and (folder / "experiment.json").is_file()


def commit() -> str:
    """The commit that is run; with + where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def machine(environment: dict[str, Any]) -> str:
    """What ran it: `2 cores, bf16` or `NVIDIA H100, bf16`."""
    if environment["device"] != "cpu":
        return f"{environment['device']}, {environment['precision']}"
    threads = environment["threads"]
    return f"{threads} CPU thread{'s' if threads > 1 else ''}, {environment['precision']}"


def run(job: Job, *, root: Path | None, out: Path, more: Sequence[str], until: float) -> bool:
    """Run a job to its end; False if the time was over before it. Exits where it fails."""
    folder = job.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    run = f"ckpt={job.evaluated.folder(out)}" if job.evaluated else ""
    words = [run if word == "ckpt=RUN" else word for word in job.words]
    words += [f"hydra.run.dir={folder}", *more]
    if root is not None:
        words.append(f"dataset.root={root.resolve()}")
    if job.entry.ckpt is None:
        words.append("resume=true")
    start = time.monotonic()
    log = folder.with_suffix(".log")
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "deeplabx", *words], stdout=file, stderr=file, cwd=out
        )
        try:
            code = process.wait(timeout=max(1.0, until - start))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=GRACE)
        except KeyboardInterrupt:
            process.wait(timeout=GRACE)
            raise
    spent(folder, time.monotonic() - start)
    if code in (75, 143, -signal.SIGTERM):
        return False
    if code:
        sys.exit(f"exit code {code}: {job.command}\n{log.read_text(encoding='utf-8')[-2000:]}")
    write_json(
        folder / "experiment.json",
        {
            "experiment": job.experiment.name,
            "entry": job.entry.name,
            "seed": job.seed,
            "command": job.command,
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
        },
    )
    return True


def spent(folder: Path, seconds: float) -> None:
    """Add to the seconds that a job has taken, over all calls."""
    path = folder.with_suffix(".seconds")
    before = float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0
    path.write_text(f"{before + seconds:.1f}\n", encoding="utf-8")


def run_all(arguments: argparse.Namespace) -> None:
    until = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    named = arguments.names or [one.name for one in EXPERIMENTS if not one.gpu]
    known = {one.name: one for one in EXPERIMENTS}
    for name in named:
        if name not in known:
            sys.exit(f"{name} is not an experiment: {', '.join(known)}")
    for job in [job for name in named for job in jobs_of(known[name])]:
        root = None if job.experiment.data is None else getattr(arguments, job.experiment.data)
        if job.experiment.data is not None and root is None:
            sys.exit(f"{job.experiment.name} needs --{job.experiment.data} DIR")
        if is_finished(job.folder(arguments.out)):
            continue
        if time.monotonic() >= until:
            print("the minutes are over; the same command continues")
            return
        print(f"{time.strftime('%H:%M')} {job.command}", flush=True)
        if not run(job, root=root, out=arguments.out.resolve(), more=arguments.set, until=until):
            print("the minutes are over; the same command continues")
            return


# --- records ------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record_of(job: Job, out: Path) -> dict[str, Any]:
    folder = job.folder(out)
    result = read_json(folder / "result.json")
    seconds = folder.with_suffix(".seconds")
    return {
        **read_json(folder / "experiment.json"),
        "published": job.entry.published,
        "machine": machine(read_json(folder / ("environment.json"))),
        "minutes": round(float(seconds.read_text(encoding="utf-8")) / 60, 1) if seconds.is_file() else None,
        "step": result["step"],
        "miou": round(result["miou"], 6),
        "pixel_accuracy": round(result["pixel_accuracy"], 6),
        "per_class_iou": {name: value and round(value, 4) for name, value in result["per_class_iou"].items()},
        "curve": curve_of(folder),
    }


def curve_of(folder: Path) -> list[list[float]]:
    """[step, mIoU] of each evaluation of a training."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {line["step"]: round(line["miou"], 4) for line in lines if "miou" in line}
    return [[step, found[step]] for step in sorted(found)]


def differences_of(experiment: Experiment, out: Path) -> list[dict[str, Any]]:
    """What `deeplabx compare` says of an experiment's runs, entry by entry."""
    jobs = jobs_of(experiment)
    baseline = next(job for job in jobs if job.entry.name == experiment.baseline)
    folder = out / experiment.name / "compare"
    words = [f"runs=[{','.join(str(job.folder(out)) for job in jobs)}]", f"out={folder}"]
    words += [f"baseline={baseline.folder(out)}", "images=0"]
    subprocess.run(
        [sys.executable, "-m", "deeplabx", "compare", *words], check=True, stdout=subprocess.DEVNULL
    )
    names = {str(job.folder(out).resolve()): job.entry.name for job in jobs}
    rows = []
    for entry in read_json(folder / "compare.json")["entries"]:
        runs = {names[str(Path(one["folder"]).resolve())] for one in entry["runs"]}
        if len(runs) != 1:
            sys.exit(f"compare has taken {' and '.join(sorted(runs))} for one entry")
        rows.append(
            {"entry": runs.pop(), **{key: entry[key] for key in ("difference", "low", "high", "p_holm")}}
        )
    return rows


def write(arguments: argparse.Namespace) -> None:
    """Gather what is finished below `out`; all else keeps its records, as long as it is an experiment."""
    stored = read_json(RECORDS) if RECORDS.is_file() else {}
    for experiment in EXPERIMENTS:
        jobs = jobs_of(experiment)
        finished = [job for job in jobs if is_finished(job.folder(arguments.out))]
        if not finished:
            continue
        before = stored.get(experiment.name, {"rows": []})
        rows = {(row["entry"], row["seed"]): row for row in before["rows"]}
        rows |= {(job.entry.name, job.seed): record_of(job, arguments.out) for job in finished}
        in_order = [rows.get((entry.name, seed)) for entry in experiment.entries for seed in entry.seeds]
        stored[experiment.name] = {**before, "rows": [row for row in in_order if row is not None]}
        if experiment.baseline is not None and len(finished) == len(jobs):
            stored[experiment.name]["differences"] = differences_of(experiment, arguments.out.resolve())
    write_json(RECORDS, {one.name: stored[one.name] for one in EXPERIMENTS if one.name in stored})
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), read_json(RECORDS)), encoding="utf-8")


# --- tables -------------------------------------------------------------------------------------------------


def with_tables(page: str, records: dict[str, Any]) -> str:
    """The page with each table between its marks replaced by what the records say."""
    parts = []
    for number, part in enumerate(page.split(BEGIN.partition("{}")[0])):
        if number == 0:
            parts.append(part)
            continue
        name, _, rest = part.partition(" -->")
        _, end, after = rest.partition(END)
        if not end:
            sys.exit(f"docs/results.md: the table {name} has no end")
        lines = "\n".join(table_of(name, records))
        parts.append(f"{BEGIN.format(name)}\n{lines}\n{END}{after}")
    return "".join(parts)


def table_of(name: str, records: dict[str, Any]) -> Iterator[str]:
    """A Markdown table: `NAME` of the entries, `NAME classes`, `NAME curve`, `NAME commands`."""
    experiment, _, kind = name.partition(" ")
    if experiment not in {one.name for one in EXPERIMENTS}:
        sys.exit(f"docs/results.md: {experiment} is not an experiment")
    record = records.get(experiment)
    if record is None:
        return iter(["Not measured yet."])
    return {"": entries_table, "classes": classes_table, "curve": curve_table, "commands": commands_table}[
        kind
    ](record)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def by_entry(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in record["rows"]:
        found.setdefault(row["entry"], []).append(row)
    return found


def mean_and_std(values: Sequence[float]) -> str:
    """In percent, with the sample standard deviation where there are several."""
    mean = f"{100 * statistics.fmean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean


def entries_table(record: dict[str, Any]) -> Iterator[str]:
    differences = {one["entry"]: one for one in record.get("differences", [])}
    timed = any(row["minutes"] is not None for row in record["rows"])
    published = any(row["published"] is not None for row in record["rows"])
    head = ["", "mIoU", "seeds"]
    head += ["published"] if published else []
    head += ["difference", "95 % interval", "p"] if differences else []
    head += ["steps", *(["minutes"] if timed else []), "machine", "commit", "date"]
    rows = []
    for entry, runs in by_entry(record).items():
        row = [entry, mean_and_std([run["miou"] for run in runs])]
        row.append(", ".join(f"{run['seed']}: {100 * run['miou']:.2f}" for run in runs))
        if published:
            row.append("" if runs[0]["published"] is None else f"{runs[0]['published']:.2f}")
        if differences:
            row += difference_cells(differences[entry]) if entry in differences else ["", "", ""]
        minutes = [run["minutes"] for run in runs if run["minutes"] is not None]
        row.append(" ".join(sorted({str(run["step"]) for run in runs})))
        if timed:
            row.append(f"{statistics.fmean(minutes):.0f}" if minutes else "")
        row += [joined(run[key] for run in runs) for key in ("machine", "commit", "date")]
        rows.append(row)
    return markdown(head, rows)


def joined(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def difference_cells(one: dict[str, Any]) -> list[str]:
    if one["difference"] is None:
        return ["baseline", "", ""]
    low, high = (f"{100 * one[key]:+.2f}" for key in ("low", "high"))
    return [f"{100 * one['difference']:+.2f}", f"{low} to {high}", f"{one['p_holm']:.3f}"]


def classes_table(record: dict[str, Any]) -> Iterator[str]:
    entries = by_entry(record)
    classes = list(record["rows"][0]["per_class_iou"])
    rows = []
    for entry, runs in entries.items():
        means = []
        for name in classes:
            values = [run["per_class_iou"].get(name) for run in runs]
            known = [value for value in values if value is not None and math.isfinite(value)]
            means.append(f"{100 * statistics.fmean(known):.1f}" if known else "")
        rows.append([entry, *means])
    return markdown(["", *classes], rows)


def curve_table(record: dict[str, Any]) -> Iterator[str]:
    entries = by_entry(record)
    steps = sorted({int(step) for row in record["rows"] for step, _ in row["curve"]})
    rows = []
    for entry, runs in entries.items():
        curves = [{int(step): miou for step, miou in run["curve"]} for run in runs]
        cells = []
        for step in steps:
            values = [curve[step] for curve in curves if step in curve]
            cells.append(f"{100 * statistics.fmean(values):.2f}" if values else "")
        rows.append([entry, *cells])
    return markdown(["step", *(str(step) for step in steps)], rows)


def commands_table(record: dict[str, Any]) -> Iterator[str]:
    """The command of each entry; that of the first seed."""
    yield "```sh data"
    for entry, runs in by_entry(record).items():
        yield f"# {entry}"
        yield runs[0]["command"]
    yield "```"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="action", required=True)
    commands.add_parser("list", help="the experiments and their commands")
    running = commands.add_parser("run", help="train and evaluate what is missing")
    running.add_argument("names", nargs="*", help="experiments; none: all that need no GPU")
    for name in sorted({one.data for one in EXPERIMENTS if one.data is not None}):
        running.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"folder of {name}")
    running.add_argument("--minutes", type=float, default=60.0, help="budget of this call")
    running.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further override")
    writing = commands.add_parser("write", help="put what is finished into docs/results.md")
    for one in (running, writing):
        one.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs")
    arguments = parser.parse_args()
    if arguments.action == "list":
        for experiment in EXPERIMENTS:
            print(f"{experiment.name}{' (GPU)' if experiment.gpu else ''}")
            for job in jobs_of(experiment):
                print(f"  {job.command}")
    elif arguments.action == "run":
        run_all(arguments)
    else:
        write(arguments)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    main()
