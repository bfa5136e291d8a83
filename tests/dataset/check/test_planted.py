"""Faults planted into a small folder: each is named, and the repaired copy has the true labels."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.planted_faults import SPLITS, is_named, kinds_found, labels_are_true, settings
from deeplabx.dataset import camvid, cityscapes
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.repair import repair
from deeplabx.run.checked_data import check_data
from tests.dataset.check.planted import FAULTS, NOT_REPAIRED, PALETTE, VOID, Planted, Sample

CLASSES = {
    "label_ids_as_train_ids": [label.name for label in cityscapes.CLASS_TABLE],
    "class_order": camvid.CLASSES,
}
OWN = ["background", "road", "water", "tree", "house"]
HEIGHT, WIDTH = 96, 128


def made_up(kind: str, root: Path) -> Planted:
    """Images of textured patches, each with a class of its own and a void border."""
    rng = np.random.default_rng(list(kind.encode()))
    classes = list(CLASSES.get(kind, OWN))
    samples = []
    for number in range(9):
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        image = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        for _ in range(4):
            top, left = rng.integers(0, HEIGHT - 32), rng.integers(0, WIDTH - 40)
            part = (slice(top, top + 28), slice(left, left + 36))
            ids[part] = rng.integers(1, len(classes))
            ids[top : top + 28, left] = VOID
            image[part] = (image[part] + 90) % 256
        split = "train" if number < 6 else "val"
        samples.append(Sample(split, f"photo{number}x", image.astype(np.uint8), ids))
    return Planted(root, samples, classes, rng)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_named_and_its_repair_has_the_true_labels(kind: str, tmp_path: Path) -> None:
    data = made_up(kind, tmp_path / "own")
    data.write()
    before = {path: path.read_bytes() for path in data.root.rglob("*") if path.is_file()}
    FAULTS[kind](data)
    planted = {path: path.read_bytes() for path in data.root.rglob("*") if path.is_file()}
    assert kind in ("background_not_named", "void_label", "class_never_occurs", "class_in_one_split") or (
        planted != before
    )
    checked = check_data(settings(data.root), splits=SPLITS, workers=0)
    assert is_named(kind, checked), kinds_found(checked)
    if kind in NOT_REPAIRED:
        return
    assert checked.stated is not None
    repair(checked.findings, checked.facts, checked.files, checked.stated, tmp_path / "copy")
    again = check_data(settings(tmp_path / "copy"), splits=SPLITS, workers=0)
    assert not again.of_level(Level.ERROR)
    assert not labels_are_true(data, tmp_path / "copy")
    assert {path: path.read_bytes() for path in data.root.rglob("*") if path.is_file()} == planted


def test_a_data_set_without_faults_has_no_finding(tmp_path: Path) -> None:
    data = made_up("clean", tmp_path)
    data.write()
    assert not check_data(settings(tmp_path), splits=SPLITS, workers=0).findings


@pytest.mark.parametrize("table", [True, False])
def test_palette_files_saved_as_rgb_are_recognised_with_white_as_void(table: bool, tmp_path: Path) -> None:
    """Palette files that are written here have white where there is no class. table: whether classes.yaml has
    the colours, beside ids that are ignored.
    """
    data = made_up("white", tmp_path / "own")
    data.write()
    colours = np.random.default_rng(1).integers(0, 250, (256, 3), np.uint8) if table else PALETTE.copy()
    colours[VOID] = 255
    if table:
        own = {name: colours[index].tolist() for index, name in enumerate(data.classes)}
        data.state({"classes": own, "ignore": [VOID]})
    data.rewrite(lambda ids: colours[ids])
    checked = check_data(settings(data.root), splits=SPLITS, workers=0)
    assert "palette_as_colour" in kinds_found(checked)
    assert checked.stated is not None
    repair(checked.findings, checked.facts, checked.files, checked.stated, tmp_path / "copy")
    assert not labels_are_true(data, tmp_path / "copy")
