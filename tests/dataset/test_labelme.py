"""LabelMe's JSON files: every kind of shape, and every fault in words."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.check.headers import check_headers
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.folder import folder
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset

SIZE = (30, 40)  # height, width


def shape(label: str, points: list[Any], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


TRIANGLE = shape("cat", [[2, 2], [20.5, 4], [8, 25]])


def write(root: Path, name: str, shapes: Any, *, labels: str = "images/train", **more: Any) -> Path:
    """An image in images/train with its label file in the folder `labels`."""
    path = root / "images/train" / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1]).save(path)
    content = {
        "shapes": shapes,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "imagePath": path.name,
        **more,
    }
    label = root / labels / f"{name}.json"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(json.dumps(content), encoding="utf-8")
    return label


def opened(root: Path, **settings: Any) -> LabelledFiles:
    return folder(root=str(root), split=settings.pop("split", "train"), format="labelme", **settings)


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_each_kind_of_shape(tmp_path: Path) -> None:
    masks = pytest.importorskip("pycocotools.mask")
    blob = np.random.default_rng(0).random((6, 8)) < 0.5
    write(tmp_path, "a", [TRIANGLE])
    write(tmp_path, "b", [shape("cat", [[12, 20], [3, 5]], "rectangle")])
    write(tmp_path, "c", [shape("dog", [[15, 12], [15, 21.5]], "circle")])
    write(tmp_path, "d", [shape("dog", [[30, 10], [37, 15]], "mask", mask=png(blob))])
    write(tmp_path, "e", [shape("dog", [[36, -2], [43, 3]], "mask", mask=png(blob))])
    samples = opened(tmp_path)
    assert samples.classes == ["background", "cat", "dog"]
    found = [samples[index].label for index in range(5)]
    (rle,) = masks.frPyObjects([[2, 2, 20.5, 4, 8, 25]], *SIZE)
    np.testing.assert_array_equal(found[0], masks.decode(rle))
    rectangle = np.zeros(SIZE)
    rectangle[5:20, 3:12] = 1
    np.testing.assert_array_equal(found[1], rectangle)
    circle, mask, cut = np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            if (column + 0.5 - 15) ** 2 + (row + 0.5 - 12) ** 2 <= 9.5**2:
                circle[row, column] = 2
    np.testing.assert_array_equal(found[2], circle)
    mask[10:16, 30:38][blob] = 2
    np.testing.assert_array_equal(found[3], mask)
    cut[:4, 36:40][blob[2:, :4]] = 2
    np.testing.assert_array_equal(found[4], cut)


def test_a_later_shape_covers_an_earlier_one(tmp_path: Path) -> None:
    inner = shape("dog", [[3, 3], [9, 9]], "rectangle")
    outer = shape("cat", [[1, 1], [20, 20]], "rectangle")
    write(tmp_path, "a", [outer, inner])
    write(tmp_path, "b", [inner, outer])
    samples = opened(tmp_path)
    assert [samples.label(index)[5, 5] for index in range(2)] == [2, 1]
    assert opened(tmp_path, unlabelled="ignore").label(0)[25, 25] == 255


def test_labels_of_all_splits_are_the_classes_and_are_said(tmp_path: Path) -> None:
    write(tmp_path, "a", [TRIANGLE], labels="labels/train")
    write(tmp_path, "b", [], labels="labels/train")
    label = write(tmp_path, "c", [shape("ant", TRIANGLE["points"])], labels="labels/val")
    (tmp_path / "images/val").mkdir()
    (tmp_path / "images/train/c.jpg").rename(tmp_path / "images/val/c.jpg")
    for split in ("train", "val"):
        samples = opened(tmp_path, split=split)
        assert samples.classes == ["background", "ant", "cat"]
        assert "no classes.yaml: the classes are the labels in " in "".join(samples.left_out)
        assert "labels: ant, cat" in "".join(samples.left_out)
    assert "1 of 2 images have no labelled shape: all of it is background" in "".join(
        opened(tmp_path).left_out
    )
    label.rename(label.with_name("d.json"))
    with pytest.raises(
        DataError, match=r"1 of 1 images .* have no label file, .*c.json\nthe label of images/a"
    ):
        opened(tmp_path, split="val")
    assert " without an image: 1, the first: " in "".join(opened(tmp_path).left_out)


def test_images_and_labels_in_the_root_are_split(tmp_path: Path) -> None:
    write(tmp_path / "own", "a", [TRIANGLE])
    folder_of_all = tmp_path / "own/images/train"
    for number in range(9):
        write(tmp_path / "own", f"s{number}", [TRIANGLE])
    assert len(opened(folder_of_all, split="val", folds=5, fold=4)) == 2
    assert len(opened(folder_of_all, split="train", folds=5, fold=4)) == 8


def test_old_files_state_no_size(tmp_path: Path) -> None:
    write(tmp_path, "a", [{"label": "cat", "points": TRIANGLE["points"]}], imageHeight=None, imageWidth=None)
    assert opened(tmp_path)[0].label.shape == SIZE


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (shape("cat", [[1, 1], [5, 5]], "line"), "shape 1, 'cat': a line has no area"),
        (shape("cat", [[1, 1], [5, 5], [9, 9]], "linestrip"), "a linestrip has no area; draw a polygon"),
        (shape("cat", [[1, 1]], "point"), "a point has no area"),
        (shape("cat", [[1, 1], [5, 5]], "star"), "shape_type 'star' is not one of polygon, rectangle"),
        (shape("cat", [[1, 1], [5, 5]]), "a polygon of 4 numbers"),
        (shape("cat", [[1, 1], [5, 5], [5, 6]], "circle"), "a circle of 3 points, not 2"),
        (shape("cat", [[1, 1], [5, "5"], [5, 6]]), "a coordinate that is not a number: '5'"),
        (shape("cat", [[1, 1, 1]]), r"points must be a list of \[x, y\]"),
        (shape("cat", 5), r"points must be a list of \[x, y\], not 5"),  # type: ignore[arg-type]
        (shape("cat", [[1, 1], [5, 5]], "mask", mask="?"), "its mask is not a PNG file in base64"),
        (shape("cat", [[1, 1], [5, 5]], "mask"), "its mask is not a PNG file in base64"),
        (
            shape("cat", [[1, 1], [5, 5]], "mask", mask=png(np.zeros((3, 4), bool))),
            "a mask of 4 x 3 in a box of 5 x 5",
        ),
        (shape("", []), "the label of a shape is '', not a text"),
        (shape(7, []), "the label of a shape is 7, not a text"),  # type: ignore[arg-type]
        (5, "is not LabelMe's: it has no list of shapes"),
    ],
)
def test_a_bad_shape_is_an_error_in_words(bad: Any, words: str, tmp_path: Path) -> None:
    write(tmp_path, "a", [TRIANGLE])
    write(tmp_path, "b", [TRIANGLE, bad])
    samples = open_dataset("folder", root=str(tmp_path), split="train", format="labelme")
    with pytest.raises(DataError, match=rf"1 of 2 pairs .*, the first: .*b.json:? .*{words}"):
        check_headers(samples)
    with pytest.raises(DataError, match=f"b.json:? .*{words}"):
        samples[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must hold an object"),
        ("{}", "it has no list of shapes"),
        ('{"shapes": [], "imageHeight": -1, "imageWidth": 5}', "imageHeight is -1 and imageWidth 5"),
        ('{"shapes": [], "imageHeight": 1e9, "imageWidth": 5}', "imageHeight is 1000000000.0"),
        (
            '{"shapes": [{"label": "cow"}], "imageHeight": 5, "imageWidth": 5}',
            "'cow' is not in .*classes.yaml",
        ),
        ("x", "is not readable JSON"),
    ],
)
def test_a_bad_file_is_an_error_in_words_or_skipped(text: str, words: str, tmp_path: Path) -> None:
    write(tmp_path, "a", [TRIANGLE])
    write(tmp_path, "b", [TRIANGLE]).write_text(text, encoding="utf-8")
    (tmp_path / "classes.yaml").write_text("classes: [cat]")
    settings = {"root": str(tmp_path), "split": "train", "format": "labelme"}
    with pytest.raises(DataError, match=words):
        check_headers(open_dataset("folder", **settings))  # type: ignore[arg-type]
    samples = open_dataset("folder", skip_unreadable=True, **settings)
    (line,) = check_headers(samples)
    assert line.endswith("; they are skipped")
    assert samples.read(1) is None
    found = samples.read(0)
    assert found is not None
    assert found.label.any()
    assert not samples.left_out


def test_bad_files_without_a_classes_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "a", [TRIANGLE])
    write(tmp_path, "b", [TRIANGLE]).write_text("x", encoding="utf-8")
    assert opened(tmp_path).classes == ["background", "cat"]
    path.write_text("y", encoding="utf-8")
    with pytest.raises(DataError, match="a.json is not readable JSON"):
        opened(tmp_path)
