"""report.html: its numbers are those of result.json, and it is made of whatever there is."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from deeplabx.command import variants
from deeplabx.command.table import BY_WORDS
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine.metrics import metrics
from deeplabx.engine.record.record import IMAGES, Predictions, Record, as_png, write_predictions
from deeplabx.errors import CheckpointError
from deeplabx.report.page import Heatmap, Text
from deeplabx.report.run_page import confusion, images
from deeplabx.report.run_page.boundaries import boundary_iou, trimap_miou
from deeplabx.report.run_page.calibration import calibration_error
from deeplabx.report.run_page.confusion import OTHERS, heatmap, worst_confusions
from deeplabx.report.run_page.cost import training_seconds
from deeplabx.report.run_page.curves import MOST_POINTS, points
from deeplabx.report.run_page.examples import SMALLEST, crop_around
from deeplabx.report.run_page.folder import Files
from deeplabx.report.run_page.images import chosen
from deeplabx.report.statistics import bootstrap
from deeplabx.run import report as reports
from deeplabx.run.build import open_dataset
from deeplabx.run.report import Reports, report_quietly, write_report
from tests.conftest import TINY, Deeplabx, TrainTiny
from tests.report.page.parsed import Parsed


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests look at words: two images and one confusion are drawn. Of `evaluation`, all are."""
    monkeypatch.setattr(images, "WORST", 1)
    monkeypatch.setattr(images, "MEDIAN", 0)
    monkeypatch.setattr(images, "BEST", 1)
    monkeypatch.setattr(confusion, "WORST", 1)


def page_of(folder: Path) -> Parsed:
    write_report(folder)
    return parsed(folder)


def parsed(folder: Path) -> Parsed:
    found = Parsed((folder / "report.html").read_text(encoding="utf-8"))
    assert found.problems == []
    return found


def rows_of(folder: Path) -> dict[str, list[str]]:
    """The data-key of each cell of each row of all tables, by the first cell."""
    found: dict[str, list[str]] = {}
    for tag, attributes in parsed(folder).tags:
        if tag == "th" and attributes.get("scope") == "row":
            cells = found.setdefault(attributes["data-key"], [])
        elif tag == "td":
            cells.append(attributes["data-key"])
    return found


@pytest.fixture(scope="module")
def evaluation(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `deeplabx eval`."""
    from deeplabx.command.compose import composed
    from deeplabx.command.evaluate import main
    from deeplabx.command.job import Job

    folder = tmp_path_factory.mktemp("evaluation")
    overrides = [f"ckpt={tiny_run}", "trainer.devices=cpu"]
    main(Job(BY_WORDS["eval"], composed("eval", overrides), folder, overrides))
    return folder


# --- numbers ------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_result_json(evaluation: Path) -> None:
    result = json.loads((evaluation / "result.json").read_text())
    rows, page = rows_of(evaluation), parsed(evaluation)
    for name, iou in result["per_class_iou"].items():
        assert float(rows[name][0]) == iou if iou is not None else rows[name][0] == ""
    for name in ("miou", "pixel_accuracy", "mean_class_accuracy"):
        assert f"{result[name]:.4f}" in page.inside["bdi"]
    assert str(result["images"]) in page.inside["bdi"]
    assert "mIoU" in page.inside["dt"]


def test_a_run_and_its_evaluation_have_the_same_numbers(
    tiny_run: Path, evaluation: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    write_report(run)
    own, other = rows_of(run), rows_of(evaluation)
    for name in Record.read(evaluation).classes:
        assert own[name][:7] == other[name][:7]


def test_the_table_of_classes_is_that_of_loops_over_the_raw_arrays(tiny_run: Path, evaluation: Path) -> None:
    record, rows = Record.read(evaluation), rows_of(evaluation)
    samples, kept = (
        open_dataset("shapes", split="val", train_images=12, val_images=4),
        Predictions(evaluation),
    )
    pairs = [(samples[index].label, np.asarray(kept.ids(index))) for index in range(4)]
    labels, ids = (np.concatenate([pair[which].ravel() for pair in pairs]) for which in (0, 1))
    valid = labels != 255
    labels, ids = labels[valid], ids[valid]
    interval = bootstrap(record)
    for at, name in enumerate(record.classes):
        right = float(((labels == at) & (ids == at)).sum())
        iou, words, precision, recall, _, pixels, images = rows[name][:7]
        union = ((labels == at) | (ids == at)).sum()
        assert iou == ("" if not union else repr(float(right / union)))
        assert precision == ("" if not (ids == at).any() else repr(float(right / (ids == at).sum())))
        assert recall == ("" if not (labels == at).any() else repr(float(right / (labels == at).sum())))
        assert int(pixels) == (labels == at).sum()
        assert int(images) == sum(bool((label == at).any()) for label, _ in pairs)
        ends = interval.per_class[name]
        assert words == ("" if ends is None else f"{ends.low:.4f} to {ends.high:.4f}")


def raw(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / IMAGES) as file:
        return {name: file[name] for name in file.files}


def test_boundaries_trimaps_objects_and_calibration_are_those_of_loops(evaluation: Path) -> None:
    arrays, record, rows = raw(evaluation), Record.read(evaluation), rows_of(evaluation)
    details = record.details
    assert details is not None
    assert details.calibration is not None
    found = boundary_iou(details)
    for at, name in enumerate(record.classes):
        common, union = arrays["boundary"][at].tolist()
        assert np.isnan(found[at]) if not union else found[at] == common / union
        assert rows[name][4] == ("" if not union else repr(common / union))
    curve = trimap_miou(details)
    for width in range(1, 41):
        ious = []
        for at in range(len(record.classes)):
            right, labelled, predicted = (
                int(arrays["distance"][:width, at, which].sum()) for which in range(3)
            )
            if labelled + predicted:
                ious.append(right / (labelled + predicted - right))
        assert curve[width - 1] == pytest.approx(sum(ious) / len(ious), rel=1e-12)
    assert float(rows["10"][0]) == curve[9]
    for size in range(16):
        number, total = (float(arrays["objects"][:, size, which].sum()) for which in (0, 1))
        name = f"{4**size:,} to {4 ** (size + 1) - 1:,}"
        assert (name in rows) == bool(number)
        if number:
            assert rows[name] == [str(int(number)), repr(float(rows[name][1]))]
            assert float(rows[name][1]) == pytest.approx(total / number, rel=1e-12)
    error, pixels = 0.0, arrays["calibration"][:, 0].sum()
    for count, right, confidence in arrays["calibration"].tolist():
        if count:
            error += count / pixels * abs(right / count - confidence / count)
    assert calibration_error(details.calibration) == pytest.approx(error, rel=1e-12)
    assert f"Expected calibration error: {error:.4f}." in parsed(evaluation).inside["p"]


def test_images_are_ranked_by_their_own_miou(evaluation: Path) -> None:
    record, rows = Record.read(evaluation), rows_of(evaluation)
    for name, miou in zip(record.names, record.counts.miou_of_images(), strict=True):
        assert float(rows[name][0]) == miou
    captions = [words for words in parsed(evaluation).inside["p"] if words.startswith("val ")]
    shown = [float(words.rsplit(" ", 1)[1]) for words in captions if "mIoU" in words]
    assert len(shown) == 4
    assert shown == sorted(shown)


def test_examples_show_the_images(evaluation: Path) -> None:
    page = parsed(evaluation)
    images = [one for one in page.all("img") if one["alt"].startswith("val ")]
    assert len(images) >= 16  # image, label, prediction and errors of four images
    assert all(one["src"].startswith("data:image/webp;base64,") for one in images)


# --- parts --------------------------------------------------------------------------------------------------


def test_rows_of_the_matrix_add_up_also_where_classes_are_many() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 100, (150, 150))
    matrix[3] = 0
    chart, words = heatmap(matrix, [f"class {at}" for at in range(150)])
    assert isinstance(chart, Heatmap)
    assert isinstance(words, Text)
    sums = np.sum(chart.values, axis=1)
    assert len(sums) == 30
    assert np.allclose(sums[np.isfinite(sums)], 1)
    assert chart.columns[-1] == OTHERS
    assert "Of 150 classes, the 30 with the most pixels" in words.words
    used = matrix.sum(axis=0) + matrix.sum(axis=1)
    least = min(used[int(name.split()[1])] for name in chart.rows)
    assert sum(used > least) == 29


def test_the_worst_confusions_are_those_of_the_most_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.array([[50, 3, 0], [9, 1, 4], [0, 0, 2]])
    monkeypatch.setattr(confusion, "WORST", 10)
    found = worst_confusions(matrix)
    assert [(one.label, one.predicted, one.pixels) for one in found] == [(1, 0, 9), (1, 2, 4), (0, 1, 3)]
    assert found[0].share == 9 / 14
    assert worst_confusions(np.diag([3, 4])) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_holds_the_largest_part_and_stays_in_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 200, 2))
    mask = np.zeros((height, width), bool)
    tall, wide = rng.integers(5, 1 + height // 3), rng.integers(5, 1 + width // 3)
    top, left = rng.integers(0, height - tall), rng.integers(0, width - wide)
    mask[0, 0] = True
    mask[top : top + tall, left : left + wide] = True
    rows, columns = crop_around(mask)
    assert 0 <= rows.start <= top < top + tall <= rows.stop <= height
    assert 0 <= columns.start <= left < left + wide <= columns.stop <= width
    assert rows.stop - rows.start >= min(SMALLEST, height)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 8, 9, 100])
def test_an_image_is_shown_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("WORST", 4), ("MEDIAN", 2), ("BEST", 2)):
        monkeypatch.setattr(images, name, number)
    groups = dict(chosen(np.arange(count)))
    shown = [at for positions in groups.values() for at in positions]
    assert len(shown) == len(set(shown)) >= min(count, 7)
    if count == 100:
        assert groups == {"Worst": [0, 1, 2, 3], "Median": [49, 50], "Best": [99, 98]}


def test_a_long_curve_has_few_points_with_the_same_mean() -> None:
    steps, values = np.arange(12_000.0), np.random.default_rng(0).random(12_000)
    x, y = points(steps, values)
    assert len(x) == len(y) == MOST_POINTS
    assert np.mean(y) == pytest.approx(values.mean(), rel=1e-9)
    assert x == sorted(x)


def test_the_time_of_a_run_is_that_of_its_lines() -> None:
    lines: list[dict[str, Any]] = [
        {"step": 10, "images_per_second": 8.0, "data_wait": 0.25},
        {"step": 20, "images_per_second": 16.0, "data_wait": 0.0},
    ]
    assert training_seconds(lines, batch_size=4) == (5 * 0.75 + 2.5, 5 * 0.25)


# --- whatever there is --------------------------------------------------------------------------------------


def test_training_writes_the_report_of_its_best_evaluation(own_run: Path) -> None:
    page = parsed(own_run)
    result = json.loads((own_run / "result.json").read_text())
    assert f"{result['miou']:.4f}" in page.inside["bdi"]
    assert "finished" in page.inside["bdi"]
    assert "Training loss" in page.inside["figcaption"]
    assert "Where the time went" in page.inside["figcaption"]


def test_reports_of_a_run_are_made_later_but_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int | None, bool]] = []
    waiting: list[Callable[[], object]] = []
    clock = iter([100.0, 105.0, 111.0, 111.0, 119.0, 122.0, 122.0, 123.0])

    def noted(_: Path, *, newest: Any, finished: bool, **__: object) -> None:
        made.append((None if newest is None else newest[0], finished))

    monkeypatch.setattr(reports, "write_report", noted)
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    samples = open_dataset("shapes", split="val", train_images=1, val_images=1)
    own = Reports(tmp_path, samples=samples, say=print, later=waiting.append)
    result = metrics(torch.eye(2, dtype=torch.int64), ["a", "b"])
    for step in range(1, 5):  # 5, 11, 19 and 22 seconds after the run began
        own.due((step, result))
    own.due(finished=True)
    assert made == []
    for one in waiting:
        one()
    assert made == [(2, False), (4, False), (None, True)]


def test_a_report_during_the_run_has_the_evaluation_that_is_not_logged_yet(own_run: Path) -> None:
    for name in ("result.json", "DONE"):
        (own_run / name).unlink()
    lines = [line for line in (own_run / "metrics.jsonl").read_text().splitlines() if "miou" not in line]
    (own_run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = Files.read(own_run).metrics
    assert found is not None
    write_report(own_run, newest=(4, found))
    assert float(rows_of(own_run)["4"][0]) == found.miou
    assert "running, at step 4 of 4" in parsed(own_run).text


def test_a_report_that_fails_is_a_line_in_the_log(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError("no\nroom")

    monkeypatch.setattr(reports, "write_report", broken)
    folder = train_tiny("run", "schedule.max_iters=2", "eval.details=false")
    lines = (folder / "train.log").read_text().splitlines()
    said = [line for line in lines if "report.html could not be written: no; deeplabx report" in line]
    assert len(said) == 1  # the end: the evaluations were too soon after one another
    assert (folder / "DONE").is_file()
    assert not (folder / "report.html").exists()


def test_a_run_without_an_evaluation_has_a_report(own_run: Path) -> None:
    for name in ("images.npz", "predictions.zip", "cost.json", "result.json", "DONE"):
        (own_run / name).unlink()
    lines = (own_run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (own_run / "metrics.jsonl").write_text("".join(one for one in lines if "loss" in one) + '{"step": 9')
    page = page_of(own_run)
    assert "There is no evaluation yet" in page.text
    assert "running, at step 4 of 4 when this page was written; or it was killed since" in page.text
    assert "Training loss" in page.inside["figcaption"]
    assert not any("cannot be read" in words for words in page.inside.get("h3", []))


@pytest.mark.parametrize(("name", "badge"), [("FAILED", "error"), ("INTERRUPTED", "")])
def test_a_run_that_ended_early_says_so(name: str, badge: str, own_run: Path) -> None:
    (own_run / "DONE").unlink()
    (own_run / name).write_text("loss is not finite <b>\nmore\n")
    page = page_of(own_run)
    assert f"{name.lower()}, at step 4 of 4: loss is not finite <b>" in page.text
    assert badge in page.text


def test_without_details_the_rest_is_there(own_run: Path) -> None:
    record = Record.read(own_run)
    dataclasses.replace(record, details=None).write(own_run)
    page = page_of(own_run)
    assert "Details were not measured, as eval.details=false asked" in page.text
    assert "Boundary IoU" not in page.text
    assert "Confusion matrix" in page.text


def test_a_result_of_another_evaluation_is_pointed_out(own_run: Path) -> None:
    result = json.loads((own_run / "result.json").read_text())
    result |= {"confusion_sha256": "0" * 64, "miou": 0.5}
    (own_run / "result.json").write_text(json.dumps(result))
    page = page_of(own_run)
    assert "result.json and images.npz are of different evaluations" in page.text
    assert "0.5000" in page.text


def test_a_record_that_is_gone_leaves_the_result(own_run: Path) -> None:
    (own_run / "images.npz").unlink()
    page = page_of(own_run)
    result = json.loads((own_run / "result.json").read_text())
    rows = rows_of(own_run)
    for name, iou in result["per_class_iou"].items():
        assert rows[name] == ["" if iou is None else repr(iou)]
    assert f"{result['miou']:.4f}" in page.inside["bdi"]


DAMAGED = (
    *("result.json", "cost.json", "environment.json", "alarms.json", "images.npz", "variants.json"),
    *("overrides.yaml", "extensions.json", "predictions.zip", "unreadable.txt"),
)
CONTENTS = (b"", b"[" * 1200, b"{}", b"\xff\xfe")


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_damaged_files_are_left_out(content: bytes, own_run: Path) -> None:
    for name in DAMAGED:
        (own_run / name).write_bytes(content)
    page = page_of(own_run)
    assert "There is no evaluation yet" in page.text
    assert "Training loss" in page.text
    assert "images.npz is damaged" in page.text


@pytest.mark.parametrize("name", [one for one in DAMAGED if one != "unreadable.txt"])
def test_a_damaged_file_is_named(name: str, own_run: Path) -> None:
    (own_run / name).write_bytes(b'{"a": nan')
    page = page_of(own_run)
    assert str(own_run / name) in page.text
    assert ("Confusion matrix" in page.text) == (name != "images.npz")


def test_a_damaged_prediction_leaves_the_others(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WORST", 4)
    kept = Predictions(own_run)
    ids = {index: np.asarray(kept.ids(index)) for index in range(4)}
    content = {index: as_png(one) if index else as_png(one)[:-20] for index, one in ids.items()}
    write_predictions(own_run, content)
    page = page_of(own_run)
    assert "predictions.zip is damaged" in page.text
    assert len([one for one in page.all("img") if one["alt"].endswith("errors in red")]) == 3


def test_an_evaluation_of_which_nothing_can_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(b"x")
    page = page_of(tmp_path)
    assert "The files with the result of this evaluation cannot be read." in page.text
    assert "running" not in page.text


def test_lines_that_no_run_writes_are_counted(own_run: Path) -> None:
    with (own_run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1e999, "loss": 1}\nnonsense\n{"step": -1, "loss": 2}\n[3]\n')
        file.write('{"step": 5, "loss": "high", "lr": [], "images_per_second": true}\n')
        file.write('{"step": 5, "miou": {}, "per_class_iou": {"disc": "x", "ring": null, "bar": 0.25}}\n')
    page = page_of(own_run)
    assert "4 lines cannot be read" in page.text
    assert "IoU of the classes ranked 7, lowest first" in page.text  # six of the run, and bar


def test_a_data_set_that_is_gone_leaves_the_numbers(own_run: Path) -> None:
    text = (own_run / "config.yaml").read_text()
    (own_run / "config.yaml").write_text(text.replace("val_images: 4", "val_images: 3"))
    page = page_of(own_run)
    assert "No images: the images of val are not those that were evaluated: there are 3 now" in page.text
    assert "Confusion matrix" in page.text
    assert not page.all("img")


def test_warnings_are_shown(own_run: Path) -> None:
    alarms = [{"step": 7, "kind": "loss", "message": "the loss <i>rises", "hint": "optimizer.lr=0.001"}]
    (own_run / "alarms.json").write_text(json.dumps(alarms))
    (own_run / "unreadable.txt").write_text("one.png: damaged\ntwo.png: damaged\n")
    page = page_of(own_run)
    for words in ("the loss <i>rises", "optimizer.lr=0.001", "At step 7.", "one.png: damaged"):
        assert words in page.text
    assert "2 images could not be read, and were left out" in page.text


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\u202eb\x00"]
)
def test_a_strangers_names_stay_text(hostile: str, own_run: Path) -> None:
    before = [tag for tag, _ in page_of(own_run).tags if tag in ("script", "img")]
    record = Record.read(own_run)
    classes = [hostile, *record.classes[1:]]
    dataclasses.replace(record, classes=classes, names=[hostile] * 4, dataset=hostile, split=hostile).write(
        own_run
    )
    page = page_of(own_run)
    assert [tag for tag, _ in page.tags if tag == "script"] == [tag for tag in before if tag == "script"]
    assert not [one for _, one in page.tags if "onerror" in one]
    if hostile.isprintable():
        assert hostile in page.text


def test_a_link_is_not_written_through(own_run: Path, tmp_path: Path) -> None:
    (own_run / "report.html").unlink()
    (own_run / "report.html").symlink_to(tmp_path / "elsewhere")
    said: list[str] = []
    assert not report_quietly(own_run, said.append)
    assert "is a link" in said[0]
    assert not (tmp_path / "elsewhere").exists()


# --- the command --------------------------------------------------------------------------------------------


def test_report_is_made_again(own_run: Path, deeplabx: Deeplabx) -> None:
    (own_run / "report.html").unlink()
    done = deeplabx("report", str(own_run))
    assert done.code == 0, done.err
    assert done.out == "written to run/report.html\n"
    assert (own_run / "report.html").is_file()


def test_a_folder_of_something_else_is_one_line(tmp_path: Path, deeplabx: Deeplabx) -> None:
    (tmp_path / "photos").mkdir()
    done = deeplabx("report", "photos")
    assert done.code == 4
    assert done.err.startswith("deeplabx: photos is not the folder of a run or of an evaluation")
    assert not any((tmp_path / "photos").iterdir())
    with pytest.raises(CheckpointError, match="neither the folder of a run nor of an evaluation"):
        write_report(tmp_path / "photos")


def test_variants_are_measured_and_kept(
    own_run: Path, deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "TRIED", variants.TRIED[:3])
    done = deeplabx("report", str(own_run), "variants=true", "variant_images=4")
    assert done.code == 0, done.err
    kept = json.loads((own_run / "variants.json").read_text())
    result = json.loads((own_run / "result.json").read_text())
    assert [one["name"] for one in kept["rows"]][:3] == ["as evaluated", "output stride 8", "flip"]
    assert kept["rows"][0]["miou"] == result["miou"]  # of all four images, as they were evaluated
    assert kept["images"] == kept["of"] == 4
    rows = rows_of(own_run)
    assert float(rows["flip"][0]) == kept["rows"][2]["miou"]
    assert float(rows["flip"][1]) == kept["rows"][2]["miou"] - kept["rows"][0]["miou"]
    assert "on 4 of the 4 images of val" in parsed(own_run).text
    page = page_of(own_run)  # the next report shows them
    assert "Cost against gain" in page.text


@pytest.mark.slow
def test_a_data_set_that_has_moved_is_found_again(tmp_path: Path, deeplabx: Deeplabx) -> None:
    settings = [one for one in TINY if not one.startswith("dataset.")]
    assert deeplabx("data", "fake", "dataset=folder", "out=own", "images=4").code == 0
    done = deeplabx("train", "dataset=folder", "dataset.root=own", *settings, "hydra.run.dir=run")
    assert done.code == 0, done.err
    (tmp_path / "own").rename(tmp_path / "moved")
    assert deeplabx("report", "run").code == 0
    page = parsed(tmp_path / "run")
    assert "does not exist" in page.text
    assert f"if it moved, type deeplabx report {tmp_path / 'run'} dataset.root=PATH" in page.text
    assert not page.all("img")
    assert deeplabx("report", "run", "dataset.root=moved").code == 0
    assert len(parsed(tmp_path / "run").all("img")) >= 4
    assert deeplabx("report", "run", "variants=true").code == 3


def test_variants_of_images_that_cannot_be_read_are_not_measured(
    own_run: Path, deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadableSet, "read", lambda self, index: None)
    ended = deeplabx("report", str(own_run), "variants=true", "variant_images=2")
    assert ended.code == 3
    assert "none of 2 images of split val can be read" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["safetensors", "torch_export"])
def test_an_exported_file_has_the_report_of_its_run(
    format_: str, tiny_run: Path, tmp_path: Path, deeplabx: Deeplabx
) -> None:
    done = deeplabx("export", str(tiny_run), f"format={format_}", "out=file", "check_split=false")
    assert done.code == 0, done.err
    assert deeplabx("eval", "file", "hydra.run.dir=eval").code == 0
    rows = rows_of(tmp_path / "eval")
    result = json.loads((tmp_path / "eval" / "result.json").read_text())
    for name, iou in result["per_class_iou"].items():
        assert rows[name][0] == ("" if iou is None else repr(iou))
    assert result["images"] == 4
    assert len(parsed(tmp_path / "eval").all("img")) >= 4
    (exported,) = [one for one in (tmp_path / "file").iterdir() if one.suffix in (".safetensors", ".pt2")]
    assert sha256(exported.read_bytes()).hexdigest() in parsed(tmp_path / "eval").text


@pytest.mark.slow
def test_variants_of_an_evaluation_have_its_settings(
    tiny_run: Path, tmp_path: Path, deeplabx: Deeplabx
) -> None:
    done = deeplabx("eval", str(tiny_run), "eval.flip=true", "backbone.output_stride=8", "hydra.run.dir=e")
    assert done.code == 0, done.err
    assert deeplabx("report", "e", "variants=true", "variant_images=1").code == 0
    kept = json.loads((tmp_path / "e" / "variants.json").read_text())
    assert [one["name"] for one in kept["rows"]] == ["as evaluated", "scales 0.5 to 1.75"]


@pytest.mark.parametrize("setting", ["variant_images=0", "variants=maybe", "dataset.splitt=x"])
def test_a_wrong_setting_is_refused(setting: str, own_run: Path, deeplabx: Deeplabx) -> None:
    assert deeplabx("report", str(own_run), setting).code == 2


def test_what_to_type_next_works(evaluation: Path, own_run: Path, deeplabx: Deeplabx) -> None:
    write_report(own_run)
    for folder in (evaluation, own_run):
        lines = [line for line in parsed(folder).inside["code"] if line.startswith("deeplabx ")]
        assert len(lines) >= 5
        for line in lines:
            words = shlex.split(line)[1:]
            if words[0] in BY_WORDS:  # compare is a command of its own
                done = deeplabx(*words, "--cfg", "job")
                assert done.code == 0, (line, done.err)


def test_an_evaluation_says_what_it_was_made_of(evaluation: Path, tiny_run: Path) -> None:
    source = json.loads((evaluation / "evaluation.json").read_text())
    manifest = json.loads(Path(source["checkpoint"], "MANIFEST.json").read_text())
    assert source["sha256"] == manifest["model.safetensors"]["sha256"]
    assert source["sha256"] in parsed(evaluation).text
    assert Path(source["checkpoint"]).is_relative_to(tiny_run.resolve())
    assert source["overrides"] == ["trainer.devices=cpu"]
