import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabx.command.evaluate import evaluate
from deeplabx.config import schema
from deeplabx.errors import CheckpointError


def result_of(folder: Path, ckpt: Path, **changes: object) -> dict:
    folder.mkdir()

    def change(config: schema.TrainConfig) -> None:
        for key, value in changes.items():
            owner, _, name = key.partition("__")
            setattr(getattr(config, owner), name, value)

    evaluate(str(ckpt), folder, change=change)
    return dict(json.loads((folder / "result.json").read_text()))


def test_eval_repeats_the_runs_own_result_to_the_last_digit(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = json.loads((tiny_run / "result.json").read_text())
    again = result_of(tmp_path / "eval", tiny_run)
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
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("background", "disc", "mIoU", "pixel accuracy"))


def test_what_is_typed_replaces_what_is_stored_and_nothing_else(tiny_run: Path, tmp_path: Path) -> None:
    typed = [
        "eval.scales=[0.5,1.0]",
        "eval.flip=true",
        "eval.window=33",
        "backbone.output_stride=8",
        "dataset.split=train",
    ]
    command = [sys.executable, "-m", "deeplabx", "eval", f"ckpt={tiny_run}", *typed]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/eval/*/result.json")
    result = json.loads(path.read_text())
    seen = {"scales": [0.5, 1.0], "flip": True, "window": 33, "crop": None}
    unused = {
        "crf": False,
        "crf_iterations": 10,
        "crf_position": [3.0, 1.0],
        "crf_bilateral": [4.0, 67.0, 3.0],
    }
    assert result["eval"] == {**seen, **unused}
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
def test_what_is_typed_is_checked(tiny_run: Path, tmp_path: Path, typed: str) -> None:
    command = [sys.executable, "-m", "deeplabx", "eval", f"ckpt={tiny_run}", typed]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 2, done.stderr
    assert typed.lstrip("+").partition("=")[0] in done.stderr


def test_a_damaged_checkpoint_says_so(tiny_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    for path in copy.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"is damaged: model.safetensors is not what MANIFEST.json says"
    ):
        evaluate(str(copy), tmp_path, change=lambda config: config)


def test_another_data_sets_classes_are_refused(tiny_run: Path, tmp_path: Path, camvid_root: Path) -> None:
    def change(config: schema.TrainConfig) -> None:
        config.dataset = schema.DatasetConfig(
            "camvid", str(camvid_root), "train", "val", config.dataset.recommended
        )

    with pytest.raises(CheckpointError, match="knows 7 classes"):
        evaluate(str(tiny_run), tmp_path, change=change)
