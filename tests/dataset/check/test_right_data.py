"""Data that is right but looks odd has no error, and nothing of it is repaired wrongly."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.planted_faults import SPLITS, settings
from deeplabx.dataset.check.damage import damaged_edges
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.scan import with_values
from deeplabx.dataset.check.stated import Stated
from deeplabx.run.checked_data import CheckedData, check_data
from tests.dataset.check.test_repair import VOID, Folder, ids_of, image_of

HEIGHT, WIDTH = 64, 96


def lines(rng: np.random.Generator) -> np.ndarray:
    """Road markings, vessels and cracks: curves of one pixel, of several classes side by side."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in range(12):
        points = rng.integers(0, min(HEIGHT, WIDTH), (5, 1, 2)).astype(np.int32)
        cv2.polylines(ids, [points], False, 1 + index % 9, 1)
        cv2.polylines(ids, [points + np.array([1, 0], np.int32)], False, 1 + (index + 1) % 9, 1)
    return ids


def checkerboard(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((x + y) % 2).astype(np.uint8)


def staircase(rng: np.random.Generator) -> np.ndarray:
    """Columns of ascending ids, as of depth in bins."""
    return (np.arange(WIDTH)[None] // 8 % 10).repeat(HEIGHT, axis=0).astype(np.uint8)


def dithered(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((HEIGHT, WIDTH)) < np.linspace(0, 1, WIDTH)).astype(np.uint8)


def dense(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 10, (HEIGHT, WIDTH)).astype(np.uint8)


def land_cover(rng: np.random.Generator) -> np.ndarray:
    """Classified pixel by pixel: areas with much salt and pepper."""
    coarse = cv2.resize(rng.random((6, 8)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(10 * coarse + rng.normal(0, 1.2, (HEIGHT, WIDTH)), 0, 9).astype(np.uint8)


def tiny(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 10, (8, 8)).astype(np.uint8)


MAPS: list[Callable[[np.random.Generator], np.ndarray]] = [
    lines, checkerboard, staircase, dithered, dense, land_cover, tiny,
]  # fmt: skip


def written(root: Path, make: Callable[[np.random.Generator], np.ndarray], style: str) -> None:
    names = [f"n{index}" for index in range(10)]
    palette = [[index * 25, 255 - index * 20, index * 73 % 256] for index in range(10)]
    table: dict[str, object] = {"classes": names, "ignore": [VOID]}
    if style == "steps":
        table = {"classes": {10 * index: name for index, name in enumerate(names)}}
    if style == "colours":
        table = {"classes": dict(zip(names, palette, strict=True))}
    data = Folder(root, **table)
    for path in [*(root / "images").rglob("*.png"), *(root / "masks").rglob("*.png")]:
        path.unlink()
    for number in range(6):
        ids = make(np.random.default_rng(number))
        mask = {"ids": ids, "steps": ids * np.uint8(10), "colours": np.array(palette, np.uint8)[ids]}[style]
        image = cv2.resize(image_of(number), ids.shape[::-1], interpolation=cv2.INTER_NEAREST)
        data.add(f"{'train' if number < 4 else 'val'}/p{number}a", image, mask)


def checked(root: Path) -> CheckedData:
    return check_data(settings(root), splits=SPLITS, workers=0)


def kinds(found: CheckedData, level: Level) -> list[str]:
    return [finding.kind for finding in found.of_level(level)]


@pytest.mark.parametrize("style", ["ids", "steps", "colours"])
@pytest.mark.parametrize("make", MAPS)
def test_label_maps_of_all_sorts_have_no_error(
    tmp_path: Path, make: Callable[[np.random.Generator], np.ndarray], style: str
) -> None:
    written(tmp_path, make, style)
    assert kinds(checked(tmp_path), Level.ERROR) == []


def cleared(root: Path, **table: object) -> Folder:
    """Without the duplicate of `Folder`."""
    data = Folder(root, **table)
    for kind in ("images", "masks"):
        (root / kind / "train/p0again.png").unlink()
    return data


def test_black_around_every_image_is_the_background(tmp_path: Path) -> None:
    """Radiographs and retinas: a network has to predict the background there."""
    data = cleared(tmp_path, classes=["normal", "lesion"])
    for number in range(6):
        image, ids = image_of(number), np.minimum(ids_of(number), 1)
        image[:, :12], ids[:, :12] = 0, 0
        data.add(f"{'train' if number < 4 else 'val'}/p{number}a", image, ids)
    found = checked(tmp_path)
    assert [(one.kind, one.level, one.repair) for one in found.findings] == [("no_data", Level.NOTE, "")]


def test_a_black_corner_of_a_few_tiles_labelled_background_is_a_note(tmp_path: Path) -> None:
    data = cleared(tmp_path, classes=["background", "road", "tree"])
    image, ids = image_of(1), ids_of(1)
    image[:, :12], ids[:, :12] = 0, 0
    data.add("train/p1a", image, ids)
    found = checked(tmp_path)
    assert [(one.kind, one.level, one.repair) for one in found.findings] == [("no_data", Level.NOTE, "")]


def test_empty_tiles_in_both_splits_are_no_duplicates(tmp_path: Path) -> None:
    data = cleared(tmp_path)
    for name in ("train/empty1", "train/empty2", "val/empty3"):
        data.add(name, np.zeros((40, 60, 3), np.uint8), ids_of(2))
    assert [one.kind for one in checked(tmp_path).findings] == ["constant_image"]


def test_one_split_for_training_and_evaluation_is_a_warning_without_repair(tmp_path: Path) -> None:
    data = cleared(tmp_path)
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").write_text("p1a\np2a\n", encoding="utf-8")
    for kind in ("images", "masks"):
        for split in SPLITS:
            for path in (data.root / kind / split).iterdir():
                path.rename(data.root / kind / path.name)
            (data.root / kind / split).rmdir()
    (finding,) = checked(tmp_path).findings
    assert (finding.kind, finding.level, finding.repair) == ("duplicate_across_splits", Level.WARNING, "")


def test_two_images_are_enough(tmp_path: Path) -> None:
    data = cleared(tmp_path)
    for number in (1, 2, 3, 5):
        for kind in ("images", "masks"):
            (data.root / kind / f"{'train' if number < 4 else 'val'}/p{number}a.png").unlink()
    assert checked(tmp_path).findings == []


@pytest.mark.parametrize(
    ("table", "raw"),
    [
        ({"classes": {0: "a", 10: "b", 20: "c"}}, [0, 10, 20]),
        ({"classes": {"a": 5, "b": 6, "c": 7}}, [5, 6, 7]),
        ({"classes": ["a", "b"], "label_map": {4: "ignore", 0: "ignore", 1: "a", 2: "b"}}, [0, 1, 2]),
        ({"classes": ["a", "b"], "ignore": [VOID]}, [0, 1, VOID]),
        ({"classes": ["road", "sidewalk", "building"]}, [0, 1, 2]),
    ],
)  # fmt: skip
def test_ids_that_are_stated_are_no_fault(tmp_path: Path, table: dict[str, object], raw: list[int]) -> None:
    data = cleared(tmp_path, **table)
    for path in (data.root / "masks").rglob("*.png"):
        with Image.open(path) as mask:
            ids = np.array(mask)
        Image.fromarray(np.array(raw, np.uint8)[ids]).save(path)
    assert checked(tmp_path).findings == []


def areas_side_by_side(rng: np.random.Generator) -> np.ndarray:
    """Rectangles, of which a few begin one pixel beside another one."""
    ids = np.zeros((64, 96), np.uint8)
    for index in range(1, 5):
        y, x = rng.integers(0, 40, 2)
        ids[y : y + 20, x : x + 30] = index
    return ids


def test_areas_that_begin_one_pixel_apart_are_no_smooth_edges() -> None:
    """One of 40 such maps has ramps along its rows, one of 200 in both directions."""
    facts = [
        with_values(Facts("train", seed, Path(f"{seed}.jpg"), Path(f"{seed}.png")), ids, void=[])
        for seed in range(600)
        for ids in [areas_side_by_side(np.random.default_rng(seed))]
    ]
    rows = [way for one in facts if one.edges for way in [one.edges.across]]
    assert any(way.ramps > 0.15 * way.changes for way in rows if way.changes >= 40)
    stated = Stated(tuple("abcde"), [], dict.fromkeys(range(5), 0), False, VOID)
    assert list(damaged_edges(facts, stated)) == []
