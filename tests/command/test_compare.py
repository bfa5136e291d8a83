"""deeplabx compare, on folders of made-up evaluations."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deeplabx.engine.metrics import sha256_of
from deeplabx.engine.record.counts import Cells, ImageCounts
from deeplabx.engine.record.record import Record, as_png, write_predictions
from deeplabx.report.compare.entries import value_words
from deeplabx.report.page.blocks import Intervals, Point, Scatter
from deeplabx.report.page.charts import intervals, log_ticks, pareto_front, scatter
from tests.conftest import TINY, Deeplabx, TrainTiny, compose_plain
from tests.report.page.parsed import Parsed

CLASSES = ["ground", "tree", "<b>car"]
IMAGES = 30
COST = {"parameters": 1000, "multiply_adds": 5_000_000, "height": 60, "width": 80, "peak_memory": 1 << 20}


def matrices(*, skill: float, seed: int, images: int = IMAGES, labels: int = 0) -> np.ndarray:
    """N x C x C. labels: seed of what is labelled."""
    of_labels, rng = np.random.default_rng(labels), np.random.default_rng([seed, 1])
    pixels = of_labels.integers(100, 900, (images, len(CLASSES)))
    found = np.zeros((images, len(CLASSES), len(CLASSES)), np.int64)
    for number in range(len(CLASSES)):
        right = (pixels[:, number] * np.clip(skill + rng.normal(0, 0.05, images), 0, 1)).astype(int)
        found[:, number, number] = right
        found[:, number, (number + 1) % len(CLASSES)] = pixels[:, number] - right
    return found


def record_of(counts: np.ndarray, **changed: Any) -> Record:
    cells = [Cells(np.flatnonzero(one), one.ravel()[np.flatnonzero(one)]) for one in counts]
    record = Record(
        classes=CLASSES,
        palette=[(0, 0, 0), (0, 200, 0), (200, 0, 0)],
        ignore_index=255,
        dataset="own",
        split="val",
        step=100,
        names=[f"image {number}.png" for number in range(len(counts))],
        groups=None,
        indices=np.arange(len(counts)),
        sizes=np.tile([60, 80], (len(counts), 1)),
        counts=ImageCounts.of(cells, num_classes=len(CLASSES)),
        details=None,
    )
    return replace(record, **changed)


def write_evaluation(
    folder: Path, counts: np.ndarray, *, settings: dict[str, Any] | None = None, **changed: Any
) -> Path:
    """The folder of a run, as training leaves it, without checkpoints."""
    folder.mkdir(parents=True)
    record = record_of(counts, **changed)
    record.write(folder)
    sha256 = sha256_of(record.counts.confusion())
    result = {"miou": 0.5, "confusion_sha256": sha256, "images": len(counts)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, **(settings or {})}), encoding="utf-8")
    cost = {**COST, "images_per_second": 9.5, "device": "cpu", "threads": 2}
    (folder / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
    write_predictions(
        folder, {number: as_png(np.full((60, 80), number % 3, np.uint8)) for number in range(3)}
    )
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs on the same images; the second is better."""
    first, second = (
        write_evaluation(
            tmp_path / name, matrices(skill=skill, seed=seed), settings={"optimizer": {"lr": lr}}
        )
        for name, skill, seed, lr in (("a", 0.7, 1, 0.1), ("b", 0.8, 2, 0.2))
    )
    return first, second


def compare(deeplabx: Deeplabx, *words: str | Path) -> Any:
    return deeplabx("compare", *map(str, words), "out=out", "resamples=400")


def result(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))


# --- what is written ----------------------------------------------------------------------------------------


def test_two_runs_are_compared_in_all_files(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    ended = compare(deeplabx, *pair)
    assert (ended.code, ended.err) == (0, "")
    table = result(tmp_path)
    best, other = table["entries"]
    assert [best["name"], other["name"]] == ["optimizer.lr=0.2", "optimizer.lr=0.1"]
    assert table["reference"] == "optimizer.lr=0.2"
    iou = [np.diag(one) / (one.sum(0) + one.sum(1) - np.diag(one)) for one in totals()]
    assert best["miou"] == pytest.approx(iou[1].mean(), abs=1e-12)
    assert other["difference"] == pytest.approx(iou[0].mean() - iou[1].mean(), abs=1e-12)
    assert other["low"] < other["difference"] < other["high"] < 0
    assert other["per_class"]["tree"]["difference"] == pytest.approx(iou[0][1] - iou[1][1], abs=1e-12)
    assert other["verdict"].startswith("worse, ")
    assert "worse, more than 99.9 % sure" in ended.out
    assert "the noise of training (another seed) is not in the interval" in ended.out
    text = (tmp_path / "out" / "compare.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [float(row["miou"]) for row in rows] == [best["miou"], other["miou"]]
    assert rows[1]["parameters"] == "1000.0"
    page = Parsed((tmp_path / "out" / "compare.html").read_text(encoding="utf-8"))
    assert page.problems == []
    assert "The data set cannot be read" in page.text
    assert "predictions of some images were not kept" in page.text
    assert re.search(r"image \d+.png: -\d+.\d\d points", page.text)
    assert "<b>car" in page.text
    assert f"{100 * other['difference']:+.2f}" in page.text


def totals() -> list[np.ndarray]:
    return [matrices(skill=skill, seed=seed).sum(0) for skill, seed in ((0.7, 1), (0.8, 2))]


def test_the_same_words_give_the_same_numbers(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    assert compare(deeplabx, *pair).code == 0
    first = result(tmp_path)
    assert compare(deeplabx, *pair).code == 0
    assert result(tmp_path) == first
    assert compare(deeplabx, *pair, "seed=1").code == 0
    assert result(tmp_path)["entries"][1]["low"] != first["entries"][1]["low"]


def test_runs_that_differ_in_seed_alone_are_one_entry(deeplabx: Deeplabx, tmp_path: Path) -> None:
    skills = {(0.1, 0): 0.70, (0.1, 1): 0.72, (0.2, 0): 0.80, (0.2, 1): 0.83, (0.2, 2): 0.81}
    folders = [
        write_evaluation(
            tmp_path / f"{lr}-{seed}",
            matrices(skill=skill, seed=seed),
            settings={"optimizer": {"lr": lr}, "seed": seed},
        )
        for (lr, seed), skill in skills.items()
    ]
    assert compare(deeplabx, *folders).code == 0
    table = result(tmp_path)
    assert [(one["name"], one["n"]) for one in table["entries"]] == [
        ("optimizer.lr=0.2", 3),
        ("optimizer.lr=0.1", 2),
    ]
    best = table["entries"][0]
    mious = [run["miou"] for run in best["runs"]]
    assert best["miou"] == pytest.approx(np.mean(mious))
    assert best["std"] == pytest.approx(np.std(mious, ddof=1))
    assert any("from the seeds of both sides" in one for one in table["notes"])


def test_folds_are_paired_within_the_fold(deeplabx: Deeplabx, tmp_path: Path) -> None:
    folders = [
        write_evaluation(
            tmp_path / f"{lr}-{fold}",
            matrices(skill=0.7 + lr, seed=fold, images=20 + fold, labels=fold),
            settings={"optimizer": {"lr": lr}, "dataset": {"fold": fold}},
            names=[f"fold {fold} image {number}" for number in range(20 + fold)],
        )
        for lr in (0.0, 0.1)
        for fold in (0, 1)
    ]
    assert compare(deeplabx, *folders).code == 0
    table = result(tmp_path)
    assert (table["images"], [one["n"] for one in table["entries"]]) == (41, [2, 2])
    ended = compare(deeplabx, *folders[:3])
    assert ended.code == 3
    assert "optimizer.lr=0 has folds 0, 1, optimizer.lr=0.1 fold 0" in ended.err


def test_images_are_paired_by_name(deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    assert compare(deeplabx, *pair).code == 0
    expected = result(tmp_path)["entries"]
    counts = matrices(skill=0.8, seed=2)[::-1]
    shutil.rmtree(pair[1])
    names = [f"image {number}.png" for number in reversed(range(IMAGES))]
    write_evaluation(pair[1], counts, settings={"optimizer": {"lr": 0.2}}, names=names)
    assert compare(deeplabx, *pair).code == 0
    found = result(tmp_path)["entries"][1]
    assert found["low"] == pytest.approx(expected[1]["low"], abs=1e-3)
    assert found["difference"] == pytest.approx(expected[1]["difference"], abs=1e-12)


def write_sweep(sweep: Path, *status: str, **fields: object) -> None:
    """A sweep.json with a job of each status; fields: of the first in place of its own."""
    jobs = [
        {
            **{"job": number, "overrides": [], "folder": f"{number}", "status": one, "miou": 0.5},
            **{"seconds": 1.0},
        }
        for number, one in enumerate(status)
    ]
    jobs[0].update(fields)
    (sweep / "sweep.json").write_text(json.dumps({"format": 1, "jobs": jobs}), encoding="utf-8")


def test_a_sweep_is_its_finished_jobs(deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    sweep = tmp_path / "sweep"
    for number, folder in enumerate(pair):
        shutil.copytree(folder, sweep / f"{number}")
    write_sweep(sweep, "done", "done", "failed")
    ended = compare(deeplabx, sweep)
    assert ended.code == 0
    assert "1 of 3 jobs are not done and left out: 2" in ended.err
    assert [one["name"] for one in result(tmp_path)["entries"]] == ["optimizer.lr=0.2", "optimizer.lr=0.1"]
    again = compare(deeplabx, sweep, sweep / "0")
    assert (again.code, "is given twice" in again.err) == (2, True)
    write_sweep(sweep, "failed")
    none = compare(deeplabx, sweep)
    assert (none.code, "without a finished job" in none.err) == (4, True)


@pytest.mark.parametrize("folder", ["../a", "..", "/tmp", "", "a\0", 1, "a" * 5000])
def test_a_job_outside_its_sweep_is_refused(deeplabx: Deeplabx, tmp_path: Path, folder: object) -> None:
    (tmp_path / "sweep").mkdir()
    write_sweep(tmp_path / "sweep", "done", folder=folder)
    ended = compare(deeplabx, "sweep")
    assert ended.code == 4
    assert "sweep.json is damaged: " in ended.err


@pytest.mark.parametrize(
    "sweep",
    ['{"jobs": 1}', '{"format": 1, "jobs": [1]}', '{"format": 1, "jobs": NaN}', "[" * 100_000, ""],
)
def test_a_damaged_sweep_is_refused(deeplabx: Deeplabx, tmp_path: Path, sweep: str) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(sweep, encoding="utf-8")
    ended = compare(deeplabx, "sweep")
    assert ended.code == 4
    assert "sweep.json" in ended.err
    assert len(ended.err.splitlines()) <= 3


def test_a_baseline_by_folder_and_by_name(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    assert compare(deeplabx, *pair, f"baseline={pair[0]}").code == 0
    table = result(tmp_path)
    assert (table["reference"], table["baseline"]) == ("optimizer.lr=0.1", True)
    assert table["entries"][0]["verdict"].startswith("better, ")
    assert compare(deeplabx, *pair, "baseline=optimizer.lr=0.1").code == 0
    assert result(tmp_path) == table
    ended = compare(deeplabx, *pair, "baseline=other")
    assert ended.code == 2
    assert "is none of the entries" in ended.err
    assert "optimizer.lr=0.2" in ended.err


def test_the_same_training_evaluated_twice_is_paired(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    """By `deeplabx eval`, which keeps its settings in evaluation.json."""
    for folder, flip in zip(pair, (False, True), strict=True):
        (folder / "config.yaml").unlink()
        path = folder / "result.json"
        table = json.loads(path.read_text(encoding="utf-8"))
        table |= {"checkpoint": "run/checkpoints/step-1"}
        path.write_text(json.dumps(table), encoding="utf-8")
        source = {"config": {"seed": 0, "eval": {"flip": flip}}}
        (folder / "evaluation.json").write_text(json.dumps(source), encoding="utf-8")
    assert compare(deeplabx, *pair).code == 0
    table = result(tmp_path)
    assert [one["name"] for one in table["entries"]] == ["eval.flip=true", "eval.flip=false"]
    assert any("both sides are one training" in one for one in table["notes"])


def test_evaluations_with_the_same_settings_are_told_apart(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    """By step where it differs, else by folder: they are no two seeds."""
    settings = {"optimizer": {"lr": 0.1}}
    later = write_evaluation(tmp_path / "c", matrices(skill=0.75, seed=3), settings=settings, step=200)
    assert compare(deeplabx, pair[0], later).code == 0
    assert [one["name"] for one in result(tmp_path)["entries"]] == ["step=200", "step=100"]
    copied = shutil.copytree(pair[0], tmp_path / "copied")
    assert compare(deeplabx, pair[0], copied).code == 0
    assert {one["name"] for one in result(tmp_path)["entries"]} == {f"folder={pair[0]}", f"folder={copied}"}
    assert result(tmp_path)["entries"][1]["p"] == 1.0


def test_images_per_second_of_two_machines_are_marked(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    cost = {**COST, "images_per_second": 500.0, "device": "a GPU", "threads": 8}
    (pair[0] / "cost.json").write_text(json.dumps(cost), encoding="utf-8")
    ended = compare(deeplabx, *pair)
    assert "500*" in ended.out
    assert "(a GPU, 8 threads; cpu, 2 threads)" in ended.out
    assert any("do not compare them" in one for one in result(tmp_path)["notes"])
    (pair[0] / "cost.json").unlink()
    assert compare(deeplabx, *pair).code == 0
    assert result(tmp_path)["entries"][1]["parameters"] is None


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dataset": "voc"}, "are of data set 'own' and 'voc'"),
        ({"split": "test"}, "are of split 'val' and 'test'"),
        ({"classes": ["ground", "tree", "bus"]}, "are of different classes: '<b>car' and 'bus'"),
        ({"names": [f"{number}" for number in range(IMAGES)]}, "are of different images (30 and 30): '"),
        ({"sizes": np.tile([60, 81], (IMAGES, 1))}, "of different sizes, the first 'image 0.png'"),
        ({"labels": 5}, "are of 30 images whose labels differ, the first 'image 0.png'"),
        ({"images": 29}, "are of different images (30 and 29): 'image 29.png' is in"),
    ],
)
def test_evaluations_of_other_images_are_refused(
    deeplabx: Deeplabx, pair: tuple[Path, Path], changed: dict[str, Any], words: str
) -> None:
    shutil.rmtree(pair[1])
    made = {name: changed[name] for name in ("labels", "images") if name in changed}
    record = {name: value for name, value in changed.items() if name not in made}
    settings = {"optimizer": {"lr": 0.2}}
    write_evaluation(pair[1], matrices(skill=0.8, seed=2, **made), settings=settings, **record)
    ended = compare(deeplabx, *pair)
    assert ended.code == 3
    assert words in ended.err
    assert len(ended.err.splitlines()) <= 3


def damage_images(folder: Path) -> None:
    data = (folder / "images.npz").read_bytes()
    (folder / "images.npz").write_bytes(data[: len(data) // 2])


def other_result(folder: Path) -> None:
    (folder / "result.json").write_text('{"miou": 0.5, "confusion_sha256": "0"}', encoding="utf-8")


def huge_cost(folder: Path) -> None:
    (folder / "cost.json").write_text('{"parameters": 1e300}', encoding="utf-8")


def wrong_config(folder: Path) -> None:
    (folder / "config.yaml").write_text("[1, 2]", encoding="utf-8")


def aliases(folder: Path) -> None:
    lines = ["a0: &a0 [1, 2]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    (folder / "config.yaml").write_text("\n".join(lines), encoding="utf-8")


def wrong_predictions(folder: Path) -> None:
    write_predictions(folder, dict.fromkeys(range(IMAGES), as_png(np.full((60, 80), 9, np.uint8))))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damage_images, "images.npz is damaged"),
        (other_result, "are not of the same evaluation"),
        (lambda folder: (folder / "images.npz").unlink(), "has no images.npz"),
        (lambda folder: (folder / "result.json").unlink(), "has no result.json"),
        (lambda folder: (folder / "result.json").write_text("{", encoding="utf-8"), "is not readable JSON"),
        (huge_cost, "cost.json is damaged: parameters=1e+300"),
        (wrong_config, "holds no config of a run"),
        (aliases, "holds no config of a run"),
        (wrong_predictions, "predictions.zip is damaged"),
    ],
)
def test_a_damaged_evaluation_is_refused(
    deeplabx: Deeplabx, pair: tuple[Path, Path], spoil: Callable[[Path], object], words: str
) -> None:
    spoil(pair[1])
    ended = compare(deeplabx, *pair)
    assert ended.code == 4
    assert words in ended.err
    assert len(ended.err.splitlines()) <= 3


def test_what_is_no_comparison_is_refused(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    one = compare(deeplabx, pair[0])
    assert (one.code, "a comparison needs two or more" in one.err) == (2, True)
    twice = compare(deeplabx, pair[0], f"{pair[0]}/../a")
    assert (twice.code, "is given twice" in twice.err) == (2, True)
    gone = compare(deeplabx, pair[0], "nowhere")
    assert (gone.code, "nowhere does not exist" in gone.err) == (4, True)
    seeds = [
        write_evaluation(tmp_path / f"s{seed}", matrices(skill=0.7, seed=seed), settings={"seed": seed})
        for seed in (1, 2)
    ]
    small = [write_evaluation(tmp_path / name, matrices(skill=0.7, seed=1, images=1)) for name in "xy"]
    single = compare(deeplabx, *small)
    assert (single.code, "is an evaluation of one image" in single.err) == (3, True)
    alike = compare(deeplabx, *seeds)
    assert (alike.code, "the 2 runs differ in seed or fold alone" in alike.err) == (2, True)
    assert deeplabx("compare").code == 2
    assert not (tmp_path / "out").exists()


def test_a_verdict_on_frames_of_one_video_is_qualified(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    """One evaluation says which images belong together; the other is of the same images."""
    shutil.rmtree(pair[1])
    settings = {"optimizer": {"lr": 0.2}}
    write_evaluation(pair[1], matrices(skill=0.8, seed=2), settings=settings, groups=["video"] * IMAGES)
    ended = compare(deeplabx, *pair)
    assert "worse, more than 99.9 % sure if its images were not alike" in ended.out
    assert "the 30 images of val belong to 1 group" in ended.out
    assert result(tmp_path)["entries"][1]["verdict"].endswith("if its images were not alike")


def test_a_run_that_was_not_evaluated_is_told_how(deeplabx: Deeplabx, pair: tuple[Path, Path]) -> None:
    (pair[1] / "images.npz").unlink()
    assert f"deeplabx eval {pair[1]}" in compare(deeplabx, *pair).err


def test_any_text_and_number_in_a_config_is_shown(
    deeplabx: Deeplabx, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    texts = [
        '{"a": .nan, "b": 2020-01-01, "c": "\\ud800\\u202e", "seed": [1]}',
        '{"a": .inf, "b": [.nan], "c": x}',
    ]
    for folder, text in zip(pair, texts, strict=True):
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    ended = compare(deeplabx, *pair)
    assert (ended.code, ended.err) == (0, "")
    assert "\u202e" not in ended.out
    settings = [one["settings"] for one in result(tmp_path)["entries"]]
    assert settings == [
        {"a": "inf", "b": ["nan"], "c": "x"},
        {"a": "nan", "b": "2020-01-01", "c": "\ud800\u202e"},
    ]
    assert "\u202e" not in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")


# --- charts -------------------------------------------------------------------------------------------------


def test_the_pareto_front_is_what_no_other_point_dominates() -> None:
    rng = np.random.default_rng(0)
    points = [Point(f"{number}", *map(float, rng.integers(0, 8, 2))) for number in range(30)]
    for less in (True, False):
        expected = {
            one.name
            for one in points
            if not any(
                (other.x <= one.x if less else other.x >= one.x)
                and other.y >= one.y
                and (other.x, other.y) != (one.x, one.y)
                for other in points
            )
        }
        assert {one.name for one in pareto_front(points, less=less)} == expected


@pytest.mark.parametrize(("low", "high"), [(3, 4), (0.02, 900), (1, 1), (2.7e6, 6e7), (1, 1e12)])
def test_ticks_of_a_logarithmic_axis_enclose_its_values(low: float, high: float) -> None:
    marks = log_ticks(low, high)
    assert marks[0] <= low <= high <= marks[-1]
    assert marks == sorted(set(marks))
    assert 2 <= len(marks) <= 14


def test_charts_have_every_name_and_stay_inside() -> None:
    points = [Point(f"entry {number}", 10.0**number, 50.0 + number, 45.0, 60.0) for number in range(8)]
    chart = scatter(Scatter("title", points, "x", "y", logarithmic=True))
    texts = [part.words for part in chart.parts if part.tag == "text"]
    assert all(one.name in texts for one in points)
    names = [f"class {number}" for number in range(5)]
    ends = [(-1.0, 2.0), None, *[(0.5, 5.0)] * 3]
    bars = intervals(Intervals("title", names, [1.0, -2.0, 0.0, 3.0, 4.0], ends))
    assert all(name in [part.words for part in bars.parts] for name in names)
    for drawing in (chart, bars):
        for part in drawing.parts:
            for name, value in part.attributes.items():
                if name in ("x", "x1", "x2"):
                    assert -1 <= float(value) <= drawing.width + 1
                if name in ("y", "y1", "y2"):
                    assert -1 <= float(value) <= drawing.height + 1


def test_settings_are_written_as_they_are_typed() -> None:
    part = {"name": "dice", "weight": 0.5, "class_weights": None}
    assert [value_words(one) for one in (None, True, [1.0, 2.5], 0.007, "a", [part])] == [
        "null",
        "true",
        "[1,2.5]",
        "0.007",
        "a",
        "[{name:dice,weight:0.5}]",
    ]


# --- real runs ----------------------------------------------------------------------------------------------


def test_a_run_and_an_evaluation_of_another(
    deeplabx: Deeplabx, tmp_path: Path, tiny_run: Path, train_tiny: TrainTiny
) -> None:
    """With the images of the data set, which is there."""
    short = train_tiny("short", "schedule.max_iters=1")
    assert deeplabx("eval", str(short), "eval.flip=true", "hydra.run.dir=flipped").code == 0
    ended = compare(deeplabx, tiny_run, "flipped")
    assert ended.code == 0
    table = result(tmp_path)
    found = {one["name"]: one["miou"] for one in table["entries"]}
    for name, folder in (
        ("eval.flip=false schedule.max_iters=4", tiny_run),
        ("eval.flip=true schedule.max_iters=1", tmp_path / "flipped"),
    ):
        own = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        assert found[name] == pytest.approx(own["miou"], abs=1e-12)
    page = Parsed((tmp_path / "out" / "compare.html").read_text(encoding="utf-8"))
    assert page.problems == []
    assert "The data set cannot be read" not in page.text
    assert page.all("img")


@pytest.mark.slow
def test_two_by_two_runs_are_trained_and_compared(
    deeplabx: Deeplabx, tmp_path: Path, train_tiny: TrainTiny
) -> None:
    pairs = [(lr, seed) for lr in (0.01, 0.05) for seed in (0, 1)]
    folders = [train_tiny(f"{lr}-{seed}", f"optimizer.lr={lr}", f"seed={seed}") for lr, seed in pairs]
    ended = compare(deeplabx, *folders)
    assert ended.code == 0
    table = result(tmp_path)
    assert {one["name"] for one in table["entries"]} == {"optimizer.lr=0.01", "optimizer.lr=0.05"}
    assert [one["n"] for one in table["entries"]] == [2, 2]
    assert compose_plain(*TINY).dataset.val_images == table["images"]
