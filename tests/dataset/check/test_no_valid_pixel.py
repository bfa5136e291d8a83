"""An evaluated split in which no pixel counts: there is no mIoU of it."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.command import evaluate as evaluation
from deeplabx.command import train as train_command
from deeplabx.command.resume import resume
from deeplabx.dataset.camvid import VOID
from deeplabx.dataset.check.no_valid_pixel import refuse_no_valid_pixel
from deeplabx.dataset.contract import Sample, SegmentationSet
from deeplabx.dataset.readable import ReadableSet
from deeplabx.engine import checkpoint as checkpoints
from deeplabx.engine.state import TrainState
from deeplabx.errors import DataError, StoppedError
from deeplabx.process.signals import StopRequest
from deeplabx.run.build import open_dataset
from deeplabx.run.description import stored_model
from tests.conftest import Deeplabx, Root, compose_plain
from tests.run.test_changed_data import SMALL, write_data

IGNORED = "classes: [background, object, third]\nignore: 255\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes, and a third that no image has."""
    root = write_data(tmp_path / "data")
    (root / "classes.yaml").write_text(IGNORED)
    return root


def make_void(root: Path, split: str = "val") -> None:
    for path in (root / "masks" / split).iterdir():
        Image.fromarray(np.full((70, 80), 255, np.uint8)).save(path)


def settings(root: Path, *more: str) -> list[str]:
    return [*SMALL, f"dataset.root='{root}'", *more]


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    """A run of it, stopped after its first step."""
    stop = StopRequest()
    stop.number = signal.SIGINT
    (tmp_path / "run").mkdir()
    with pytest.raises(StoppedError):
        train_command.run(compose_plain(*settings(data)), tmp_path / "run", [], stop)
    return tmp_path / "run"


def test_a_run_does_not_begin(data: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    make_void(data)
    ended = deeplabx("train", *settings(data), "hydra.run.dir=new")
    assert ended.code == 3
    said = "split val has no valid pixel: all pixels of its 2 labels are ignored (255)\n  labels of published"
    assert said in ended.err
    assert not (tmp_path / "new").exists()


def test_a_sweep_counts_such_a_job_as_failed(data: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    make_void(data)
    ended = deeplabx("train", "-m", "seed=0,1", *settings(data), "hydra.sweep.dir=sweep")
    assert ended.code == 8
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert [(job["status"], job["miou"], job["exit_code"]) for job in jobs] == [("failed", None, 3)] * 2


def test_eval_writes_no_number(data: Path, run: Path, deeplabx: Deeplabx, tmp_path: Path) -> None:
    make_void(data)
    ended = deeplabx("eval", f"ckpt={run}", "trainer.devices=cpu", "hydra.run.dir=eval")
    assert (ended.code, ended.out) == (3, "")
    assert "split val has no valid pixel" in ended.err
    assert not (tmp_path / "eval" / "result.json").exists()


def break_all(root: Path) -> None:
    for path in (root / "images" / "val").iterdir():
        path.write_bytes(b"no image")


def break_one_and_void_the_other(root: Path) -> None:
    make_void(root)
    (root / "images" / "val" / "val0.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_all, r"^none of the 2 images of split val can be read, .*\nthe first: .*val0.png"),
        (break_one_and_void_the_other, r"its 2 labels are ignored \(255\), 1 of them unreadable"),
    ],
)
def test_unreadable_images_that_are_skipped_leave_nothing_to_evaluate(
    data: Path, run: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(data)
    found = stored_model(
        str(run), change=lambda config: replace(config, dataset=replace(config.dataset, on_bad="skip"))
    )
    with pytest.raises(DataError, match=said):
        evaluation.evaluate(found)


def test_a_class_that_is_absent_from_the_split_is_fine(run: Path) -> None:
    result = evaluation.evaluate(stored_model(str(run)))
    assert result.images == 2
    assert result.per_class_iou["object"] is not None


def test_labels_that_become_void_during_a_run_lose_no_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_command, "draw_curves", lambda folder: None)
    config = compose_plain(*settings(data, "trainer.eval_every=2"))
    folders = [tmp_path / name for name in ("whole", "run")]
    kept = shutil.copytree(data, tmp_path / "kept")
    update = TrainState.update

    def void_after_the_check(state: TrainState, *batch: object, **named: object) -> object:
        if state.step == 2:
            make_void(data)
        return update(state, *batch, **named)  # type: ignore[arg-type]

    for folder in folders:
        folder.mkdir()
    train_command.train(config, folders[0], overrides=[])
    monkeypatch.setattr(TrainState, "update", void_after_the_check)
    with pytest.raises(DataError, match=r"split val has no valid pixel"):
        train_command.train(config, folders[1], overrides=[])
    monkeypatch.setattr(TrainState, "update", update)
    found, _ = checkpoints.newest(folders[1] / "checkpoints")
    assert found is not None
    assert (found.state["step"], found.state["best"]["step"]) == (4, 2)
    assert "no valid pixel" in (folders[1] / "FAILED").read_text()
    assert not (folders[1] / "result.json").exists()
    with pytest.raises(DataError, match=r"split val has no valid pixel"):
        resume(folders[1], change=lambda config: config)
    shutil.copytree(kept, data, dirs_exist_ok=True)
    resume(folders[1], change=lambda config: config)
    files = [folder / "checkpoints" / "step-00000004" / "model.safetensors" for folder in folders]
    assert files[0].read_bytes() == files[1].read_bytes()
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[0]["confusion_sha256"] == results[1]["confusion_sha256"]


def test_labels_of_another_ignored_value(fake_root: Root, tmp_path: Path) -> None:
    root = shutil.copytree(fake_root("camvid"), tmp_path / "camvid")
    paths = sorted((root / "valannot").iterdir())
    for path in paths:
        with Image.open(path) as label:
            Image.fromarray(np.full((label.height, label.width), VOID, np.uint8)).save(path)
    with pytest.raises(DataError, match=r"split val has no valid pixel"):
        refuse_no_valid_pixel(open_dataset("camvid", root=str(root), split="val"))
    one = np.full((120, 160), VOID, np.uint8)
    one[60, 80] = 3
    Image.fromarray(one).save(paths[-1])
    refuse_no_valid_pixel(open_dataset("camvid", root=str(root), split="val"))


class Empty(SegmentationSet):
    classes, palette = ["a", "b"], [(0, 0, 0), (1, 1, 1)]

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError


def test_a_split_of_no_images() -> None:
    with pytest.raises(DataError, match=r"split mine holds no images"):
        refuse_no_valid_pixel(ReadableSet(Empty(), split="mine"))


def test_labels_are_read_until_a_valid_pixel_is_seen(data: Path) -> None:
    samples = open_dataset("folder", root=str(data), split="train")
    read: list[int] = []
    label = samples.samples.label

    def noted(index: int) -> np.ndarray:
        read.append(index)
        return label(index)

    samples.samples.label = noted  # type: ignore[method-assign]
    refuse_no_valid_pixel(samples)
    assert read == [0]
