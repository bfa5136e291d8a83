"""Each layout of files trains, evaluates and predicts from its config alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.fake_folder import FOLDER_FAKES
from tests.conftest import Deeplabx

SMALLEST = [
    "augment.crop_size=33",
    "trainer.batch_size=2",
    "trainer.workers=0",
    "trainer.samples=0",
    "trainer.precision=fp32",
    "trainer.devices=cpu",
    "schedule.max_iters=1",
    "eval.scales=[0.25]",
]
PUBLISHED = {"ade20k": 150, "coco_stuff164k": 171, "coco_stuff10k": 171, "pascal_context": 59}
OF_FOLDER = {f"folder dataset.format={labels}": 4 for labels in FOLDER_FAKES if labels != "masks"}


def trained_evaluated_predicted(deeplabx: Deeplabx, folder: Path, settings: list[str], image: Path) -> dict:
    """result.json of the evaluation, after a training and before a prediction."""
    ended = deeplabx("train", *settings, *SMALLEST, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    ended = deeplabx("eval", "ckpt=run", "hydra.run.dir=evaluated")
    assert ended.code == 0, ended.err
    ended = deeplabx("predict", "ckpt=run", f"input='{image}'", "out=predicted", "save=ids")
    assert ended.code == 0, ended.err
    (ids,) = (folder / "predicted").rglob("*.png")
    with Image.open(ids) as predicted, Image.open(image) as given:
        assert predicted.size == given.size
    return json.loads((folder / "evaluated" / "result.json").read_text())


SLOW = (
    *("ade20k", "coco_stuff164k", "pascal_context"),
    *("folder dataset.format=beside", "folder dataset.format=list"),
)
EVERY = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in {**PUBLISHED, **OF_FOLDER}
]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.slow
def test_a_made_up_data_set_of_every_layout(name: str, deeplabx: Deeplabx, tmp_path: Path) -> None:
    settings = f"dataset={name}".split()
    ended = deeplabx("data", "fake", *settings, "out=data", "images=2")
    assert ended.code == 0, ended.err
    assert f"next: deeplabx train {' '.join(settings)} dataset.root=data" in ended.out
    image = min((tmp_path / "data").rglob("*.jpg"))
    settings = [*settings, "dataset.root=data"]
    result = trained_evaluated_predicted(deeplabx, tmp_path, settings, image)
    assert result["images"] == 2
    assert len(result["per_class_iou"]) == {**PUBLISHED, **OF_FOLDER}[name]


def test_grouped_folds(deeplabx: Deeplabx, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(12):
        name = f"patient{number // 2}_{number % 2}.png"
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "data/images" / name)
        Image.fromarray(rng.integers(0, 2, (40, 40), np.uint8)).save(tmp_path / "data/masks" / name)
    (tmp_path / "data" / "classes.yaml").write_text("classes: [background, vessel]")
    settings = ["dataset=folder", "dataset.root=data", "dataset.folds=5", "dataset.fold=1"]
    settings.append(r"dataset.group='^(patient\d+)_'")
    image = tmp_path / "data/images/patient0_0.png"
    result = trained_evaluated_predicted(deeplabx, tmp_path, settings, image)
    assert result["images"] in (2, 4)  # one patient or two
