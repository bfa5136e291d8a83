"""The main jobs on files: the headline commands, and people's own folders. Short: a step at a small crop."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.command.evaluate import evaluate
from deeplabx.command.train import train
from deeplabx.run.description import stored_model
from tests.conftest import TINY, Root, compose_plain

SHORT = [
    *(setting for setting in TINY if not setting.startswith("dataset.")),
    "schedule.max_iters=1",
    "augment.crop_size=65",
]
FILES = {
    "config.yaml",
    "overrides.yaml",
    "environment.json",
    "train.log",
    "metrics.jsonl",
    "result.json",
    "DONE",
}
FOLDERS = {"checkpoints", "tensorboard", "plots", "samples"}


def trained(folder: Path, *settings: str) -> Path:
    folder.mkdir()
    train(compose_plain(*SHORT, *settings), folder, overrides=list(settings))
    assert {path.name for path in folder.iterdir()} >= FILES | FOLDERS
    return folder


@pytest.mark.parametrize("name", [pytest.param("voc", marks=pytest.mark.slow), "cityscapes"])
@pytest.mark.slow
def test_xception65_trains_and_evaluates(name: str, fake_root: Root, tmp_path: Path) -> None:
    run = trained(
        tmp_path / "run",
        "backbone=xception65",
        f"dataset={name}",
        f"dataset.root={fake_root(name)}",
        "eval.crop=[65,65]",
    )
    ran, again = json.loads((run / "result.json").read_text()), evaluate(stored_model(str(run))).to_plain()
    assert ran["miou"] == again["miou"]
    assert ran["confusion_sha256"] == again["confusion_sha256"]
    assert ran["images"] == 4
    assert ("10,582" in (run / "train.log").read_text()) == (name == "voc")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "cityscapes"])
def test_xception65_trains_and_evaluates_on_real_files(name: str, real_root: Root, tmp_path: Path) -> None:
    settings = [
        "backbone=xception65",
        f"dataset={name}",
        f"dataset.root={real_root(name)}",
    ]
    run = trained(tmp_path / "run", *settings, *(["eval.crop=[65,65]"] if name == "voc" else []))
    assert json.loads((run / "result.json").read_text())["images"] == {"voc": 223, "cityscapes": 3}[name]


def own_folder(root: Path, masks: np.ndarray) -> Path:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        Image.fromarray(mask).convert("RGB").save(root / "images" / f"{number}.png")
    return root


def test_medical_masks_train_from_a_table_alone(tmp_path: Path) -> None:
    root = own_folder(
        tmp_path / "own", np.random.default_rng(0).choice([0, 127, 255], (8, 48, 64)).astype(np.uint8)
    )
    (root / "classes.yaml").write_text(
        "classes: [background, organ, tumour]\nlabel_map: {0: background, 127: organ, 255: tumour}\n"
    )
    run = trained(tmp_path / "run", "dataset=folder", f"dataset.root={root}", "dataset.val_fraction=0.25")
    result = json.loads((run / "result.json").read_text())
    assert list(result["per_class_iou"]) == ["background", "organ", "tumour"]
    assert result["images"] == 2


def test_masks_of_colours_train_from_a_table_alone(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
    root = own_folder(tmp_path / "own", colours[np.random.default_rng(0).integers(0, 3, (8, 48, 64))])
    (root / "classes.yaml").write_text(
        "classes: {ground: [0, 0, 0], road: [128, 64, 128], car: [0, 0, 142]}\n"
    )
    run = trained(tmp_path / "run", "dataset=folder", f"dataset.root={root}", "dataset.val_fraction=0.25")
    assert list(json.loads((run / "result.json").read_text())["per_class_iou"]) == ["ground", "road", "car"]
