import json
import shutil
from pathlib import Path

import pytest

from deeplabx import config as schema
from deeplabx.errors import CheckpointError
from deeplabx.evaluate import evaluate


def result_of(folder: Path, ckpt: Path, **changes: object) -> dict:
    folder.mkdir()

    def change(config: schema.TrainConfig) -> None:
        for key, value in changes.items():
            owner, _, name = key.partition("__")
            setattr(getattr(config, owner), name, value)

    evaluate(str(ckpt), folder, change=change)
    return dict(json.loads((folder / "result.json").read_text()))


def test_eval_repeats_the_runs_own_result_to_the_last_digit(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = json.loads((tiny_run / "result.json").read_text())
    again = result_of(tmp_path / "eval", tiny_run)
    for key in ("miou", "miou_gt_only", "pixel_accuracy", "per_class_iou", "confusion_sha256", "images", "step"):
        assert again[key] == trained[key], key
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("background", "disc", "mIoU", "pixel accuracy"))


@pytest.mark.parametrize(
    "changes",
    [
        {"eval__scales": [0.5, 1.0], "eval__flip": True},
        {"eval__window": 33},
        {"backbone__output_stride": 8},
        {"eval__crop": [129, 129]},
        {"dataset__split": "train"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_typed_changes_the_evaluation(tiny_run: Path, tmp_path: Path, changes: dict) -> None:
    result = result_of(tmp_path / "eval", tiny_run, **changes)
    assert result["confusion_sha256"] != json.loads((tiny_run / "result.json").read_text())["confusion_sha256"]


def test_a_damaged_checkpoint_says_so(tiny_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "copy")
    for path in copy.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"is damaged: model.safetensors is not what MANIFEST.json says"):
        evaluate(str(copy), tmp_path, change=lambda config: None)


def test_another_data_sets_classes_are_refused(tiny_run: Path, tmp_path: Path, camvid_root: Path) -> None:
    def change(config: schema.TrainConfig) -> None:
        config.dataset = schema.DatasetConfig("camvid", str(camvid_root), "train", "val", config.dataset.recommended)

    with pytest.raises(CheckpointError, match="knows 7 classes"):
        evaluate(str(tiny_run), tmp_path, change=change)
