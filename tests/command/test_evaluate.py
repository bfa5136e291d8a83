import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from deeplabx.engine.predictor import Predictor
from deeplabx.errors import CheckpointError
from deeplabx.run.description import stored_model
from tests.conftest import Deeplabx, Root


def result_of(folder: Path) -> dict:
    (path,) = folder.glob("outputs/eval/*/result.json")
    return json.loads(path.read_text())


def test_eval_repeats_the_runs_own_result_to_the_last_digit(
    tiny_run: Path, deeplabx: Deeplabx, tmp_path: Path
) -> None:
    trained = json.loads((tiny_run / "result.json").read_text())
    ended = deeplabx("eval", f"ckpt={tiny_run}", "trainer.devices=cpu")
    assert ended.code == 0, ended.err
    again = result_of(tmp_path)
    for key in (
        "miou",
        "miou_gt_only",
        "pixel_accuracy",
        "per_class_iou",
        "confusion_sha256",
        "images",
        "step",
    ):
        assert again[key] == trained[key], key
    assert all(name in ended.out for name in ("background", "disc", "mIoU", "pixel accuracy"))


def test_what_is_typed_replaces_what_is_stored_and_nothing_else(
    tiny_run: Path, deeplabx: Deeplabx, tmp_path: Path
) -> None:
    typed = [
        "eval.scales=[0.5,1.0]",
        "eval.flip=true",
        "eval.window=65",
        "backbone.output_stride=8",
        "dataset.split=train",
    ]
    ended = deeplabx("eval", f"ckpt={tiny_run}", *typed)
    assert ended.code == 0, ended.err
    result, stored = result_of(tmp_path), vars(stored_model(str(tiny_run)).config.eval)
    assert result["eval"] == {**stored, "scales": [0.5, 1.0], "flip": True, "window": 65}
    assert (result["output_stride"], result["split"], result["images"]) == (8, "train", 12)


@pytest.mark.parametrize(
    "typed",
    [
        "eval.scales=[0.0]",
        "backbone.output_stride=12",
        "eval.crop=[5]",
        "trainer.precision=fp61",
        "+foo=1",
        "+eval.foo=1",
        "+backbone.depth=2",
        "++model={}",
    ],
)
def test_what_is_typed_is_checked(tiny_run: Path, deeplabx: Deeplabx, typed: str) -> None:
    ended = deeplabx("eval", f"ckpt={tiny_run}", typed)
    assert (ended.code, ended.out) == (2, "")
    assert typed.lstrip("+").partition("=")[0] in ended.err


def test_a_damaged_checkpoint_says_so(tiny_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    for path in copy.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"is damaged: model.safetensors does not match MANIFEST.json"):
        stored_model(str(copy))


def test_another_data_sets_classes_are_refused(tiny_run: Path, deeplabx: Deeplabx, fake_root: Root) -> None:
    ended = deeplabx("eval", f"ckpt={tiny_run}", "dataset=camvid", f"dataset.root={fake_root('camvid')}")
    assert (ended.code, ended.out) == (4, "")
    assert "has 7 classes (background, disc, square, triangle, ...), but the data set has 11" in ended.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_a_signal_ends_it_in_a_sentence(
    tiny_run: Path, deeplabx: Deeplabx, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    forward = Predictor.forward

    def signalled(*arguments: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), number)
        return forward(*arguments, **settings)

    monkeypatch.setattr(Predictor, "forward", signalled)
    ended = deeplabx("eval", f"ckpt={tiny_run}", "trainer.devices=cpu")
    assert (ended.code, ended.out) == (code, "")
    assert ended.err == f"deeplabx: {number.name} received: stopped, no result\n"
