"""COCO JSON: labels as pycocotools draws them, and every fault of a file in words."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.check.headers import check_headers
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.fingerprint import image_names, raw_values
from deeplabx.dataset.folder import folder
from deeplabx.dataset.problems import collecting
from deeplabx.errors import DataError
from deeplabx.run.build import open_dataset

SIZE = (30, 40)  # height, width
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]


def image(number: int, name: str = "", **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name or f"{number}.jpg", "height": SIZE[0], "width": SIZE[1], **more}


def annotation(image_id: int, segmentation: Any, category: int = 7, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": category, "segmentation": segmentation, **more}


def write(root: Path, name: str = "annotations/train.json", **changed: Any) -> Path:
    """A data set of images 1 to 3, the third without annotations."""
    content: dict[str, Any] = {
        "images": [image(number) for number in (1, 2, 3)],
        "annotations": [annotation(1, [SQUARE]), annotation(2, [SQUARE], 3)],
        "categories": CATEGORIES,
        **changed,
    }
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    for one in content["images"] if isinstance(content["images"], list) else []:
        if isinstance(one, dict) and isinstance(one.get("file_name"), str) and ".." not in one["file_name"]:
            place = root / "images" / one["file_name"]
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE[::-1]).save(place)
    return root


def opened(root: Path, split: str = "train", **settings: Any) -> LabelledFiles:
    return folder(root=str(root), split=split, format="coco", **settings)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_labels_are_those_that_pycocotools_draws(tmp_path: Path) -> None:
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(60):
        pixels = np.asfortranarray(rng.random(SIZE) < 0.02, np.uint8)
        rings = [rng.uniform(-5, 45, 2 * int(rng.integers(3, 9))).tolist() for _ in range(1 + number % 2)]
        text = masks.encode(pixels)["counts"].decode()
        runs = [(value, len(list(run))) for value, run in groupby(pixels.ravel(order="F").tolist())]
        counts = [0] * runs[0][0] + [length for _, length in runs]
        kinds = rings, {"size": list(SIZE), "counts": text}, {"size": list(SIZE), "counts": counts}
        annotations.append(
            annotation(1 + number % 3, kinds[number % 3], (3, 7)[number % 5 == 0], iscrowd=number % 3 == 1)
        )
    samples = opened(write(tmp_path, annotations=annotations))
    assert samples.classes == ["background", "dog", "cat"]  # in the order of their ids
    for index in range(3):
        expected = np.zeros(SIZE, np.uint8)
        for one in annotations:
            if one["image_id"] == index + 1:
                found = one["segmentation"]
                rle = masks.frPyObjects(found, *SIZE) if not isinstance(found, dict) else found
                if isinstance(rle, list):
                    rle = masks.merge(rle)
                elif isinstance(rle["counts"], list):
                    rle = masks.frPyObjects(rle, *SIZE)
                expected[masks.decode(rle) > 0] = {3: 1, 7: 2}[one["category_id"]]
        np.testing.assert_array_equal(samples[index].label, expected)
        np.testing.assert_array_equal(samples.label(index), expected)
        assert len(np.unique(expected)) == 3


def test_a_later_annotation_covers_an_earlier_one(tmp_path: Path) -> None:
    inner = [4, 4, 8, 4, 8, 8, 4, 8]
    for first, second, at_inner in ((SQUARE, inner, 1), (inner, SQUARE, 1)):
        write(tmp_path, annotations=[annotation(1, [first], 7), annotation(1, [second], 3)])
        assert opened(tmp_path).label(0)[6, 6] == at_inner


def test_what_is_not_labelled_is_background_or_ignored(tmp_path: Path) -> None:
    write(tmp_path)
    samples = opened(tmp_path, unlabelled="ignore")
    assert samples.classes == ["dog", "cat"]
    assert np.unique(samples.label(0)).tolist() == [1, 255]
    assert (samples.label(2) == 255).all()
    (words,) = [words for words in samples.left_out if "no labelled shape" in words]
    assert words.startswith("1 of 3 images have no labelled shape: all of it is ignored; the first: ")
    assert "all of it is background" in "".join(opened(tmp_path).left_out)
    named = [*CATEGORIES, {"id": 1, "name": "background"}]
    write(tmp_path, categories=named, annotations=[annotation(1, [SQUARE], 1)])
    assert opened(tmp_path).classes == ["background", "dog", "cat"]
    assert not opened(tmp_path).label(0).any()


def test_what_labels_mean_is_in_the_record_of_a_run(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "classes.yaml").write_text("classes: [animal]\nlabel_map: {cat: animal, dog: ignore}")
    samples = open_dataset("folder", root=str(tmp_path), split="train", format="coco")
    assert raw_values(samples) == (["background, what is not labelled", "animal, cat"], "dog")
    assert image_names(samples, root=str(tmp_path)) == ["images/1.jpg", "images/2.jpg", "images/3.jpg"]


def test_classes_yaml_names_the_classes_and_maps_labels(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "classes.yaml").write_text(
        "classes: {animal: [9, 8, 7]}\nlabel_map: {cat: animal, dog: ignore}"
    )
    samples = opened(tmp_path)
    assert (samples.classes, samples.palette) == (["background", "animal"], [(0, 0, 0), (9, 8, 7)])
    assert [np.unique(samples.label(index)).tolist() for index in range(2)] == [[0, 1], [0, 255]]
    for text, words in {
        "classes: [cat]": r"the label 'dog' is not in .*classes.yaml\n.*add it to classes, label_map",
        "names: [cat]": "must have the key classes, such as classes: .dog, cat",
        "classes: [cat, dog]\nlabel_map: {cat: dgo}": "label_map maps 'cat' to 'dgo', which is not",
        "classes: [cat, dog]\nlabel_map: {cat: dog}": "'cat' is a class, but is mapped to another",
        "classes: [cat, dog]\nignore: {a: b}": "ignore lists labels",
        "classes: [cat, dog]\nlabels: 1": "labels is not one of classes, ignore, label_map",
        "classes: [cat, cat]": "duplicate class name: cat",
        "classes: {0: cat, 1: dog}": "classes gives ids, but these labels have names",
    }.items():
        (tmp_path / "classes.yaml").write_text(text)
        with pytest.raises(DataError, match=words):
            opened(tmp_path)
    (tmp_path / "classes.yaml").write_text("classes: [cat]\nlabel_map: {dog: cat}")
    with pytest.raises(
        DataError, match=r"one class, 'cat'; there must be two\nset dataset.unlabelled=background"
    ):
        opened(tmp_path, unlabelled="ignore")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no categories": ({"categories": 5}, "categories is not a list"),
    "image of no object": ({"images": [5]}, "an image is 5, not an object"),
    "id of text": ({"images": [image("x")]}, "the id of image 'x.jpg' is 'x', not a whole number"),  # type: ignore[arg-type]
    "no name": ({"images": [{"id": 1}]}, "image 1 has no file_name"),
    "no size": ({"images": [{"id": 1, "file_name": "1.jpg"}]}, "has height None and width None"),
    "size of a bomb": (
        {"images": [{**image(1), "height": 10**6, "width": 10**6}]},
        "image '1.jpg' of 1000000 x 1000000 pixels is too large",
    ),
    "out of the folder": (
        {"images": [image(1, "../1.jpg")]},
        "'../1.jpg' leads out of the data set's folder",
    ),
    "two of an id": ({"images": [image(1), image(1, "b.jpg")]}, "1 is the id of two images"),
    "two of a name": ({"images": [image(1), image(2, "1.jpg")]}, "'1.jpg' is the file_name of two images"),
    "one file by two names": (
        {"images": [image(1, "a/1.jpg"), image(2, ".//a/./1.jpg")]},
        "'a/1.jpg' is the file_name of two images",
    ),
    "category without a name": ({"categories": [{"id": 1}]}, "a category is .*without a whole id and a name"),
    "two categories of a name": (
        {"categories": [*CATEGORIES, {"id": 9, "name": "cat"}]},
        "'cat' is the name of two categories",
    ),
    "two categories of an id": (
        {"categories": [*CATEGORIES, {"id": 3, "name": "x"}]},
        "3 is the id of two categories",
    ),
    "no segmentation": (
        {"annotations": [annotation(1, []), annotation(1, None)]},
        r"annotation 1: it has no segmentation, perhaps only a box or a caption \(1 more of this image\)",
    ),
    "odd polygon": ({"annotations": [annotation(1, [[1, 2, 3, 4, 5]])]}, "a polygon of 5 numbers"),
    "line": ({"annotations": [annotation(1, [[1, 2, 3, 4]])]}, "a polygon of 4 numbers"),
    "flat polygon": ({"annotations": [annotation(1, SQUARE)]}, "a list of lists of numbers, but holds 2"),
    "text in a polygon": (
        {"annotations": [annotation(1, [[1, 2, 3, 4, 5, "6"]])]},
        "a coordinate that is not a number: '6'",
    ),
    "nested polygon": ({"annotations": [annotation(1, [[[1, 2], [3, 4]] * 3])]}, "not a number"),
    "far polygon": ({"annotations": [annotation(1, [[1, 2, 3, 4, 5, 1e9]])]}, "not within 100,000 pixels"),
    "endless polygon": (
        {"annotations": [annotation(1, [[-1e5, -1e5, 1e5, 1e5] * 20])]},
        "an outline of more than 1,000,000 pixels",
    ),
    "other size of run lengths": (
        {"annotations": [annotation(1, {"size": [3, 2], "counts": [6]})]},
        "run lengths of 2 x 3 for an image of 40 x 30",
    ),
    "run lengths of too few": (
        {"annotations": [annotation(1, {"size": list(SIZE), "counts": [6]})]},
        "run lengths of 6 pixels for an image of 40 x 30",
    ),
    "run lengths of text": (
        {"annotations": [annotation(1, {"size": list(SIZE), "counts": ["6"]})]},
        "run lengths that are not whole numbers",
    ),
    "no run lengths": (
        {"annotations": [annotation(1, {"size": list(SIZE)})]},
        "counts must be a list or a text",
    ),
    "bad letters": ({"annotations": [annotation(1, {"size": [30, 40], "counts": "\u00e9"})]}, "not ASCII"),
    "size of text": ({"annotations": [annotation(1, {"size": "x", "counts": []})]}, "its size is 'x'"),
    "huge size": (
        {"annotations": [annotation(1, {"size": [10**9, 10**9], "counts": [10**18]})]},
        "its size .* is too large",
    ),
    "unknown image": (
        {"annotations": [annotation(9, [SQUARE])]},
        "unknown image_id in 1 annotation, the first: 9",
    ),
    "unknown category": (
        {"annotations": [annotation(1, [SQUARE], 9)]},
        "unknown category_id in 1 annotation, the first: 9",
    ),
    "annotation of no object": ({"annotations": ["x"]}, "annotation None: it is 'x', not an object"),
    "image_id of text": ({"annotations": [annotation("1", [SQUARE])]}, "its image_id is '1'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_an_error_in_words(name: str, tmp_path: Path) -> None:
    changed, words = BAD[name]
    write(tmp_path, **changed)
    with pytest.raises(DataError, match=words):
        check_headers(open_dataset("folder", root=str(tmp_path), split="train", format="coco"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("\ud800.jpg", "cannot be the name of a file"),
        ("a" * 5000 + ".jpg", r"aaa \.\.\.: File name too long"),
    ],
    ids=["no UTF-8", "too long"],
)
@pytest.mark.parametrize("settings", [{}, {"folds": 2, "fold": 0}], ids=["own", "folds"])
def test_a_name_that_no_file_can_have(
    name: str, words: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path)
    content = json.loads((tmp_path / "annotations/train.json").read_text(encoding="utf-8"))
    content["images"][0]["file_name"] = name
    (tmp_path / "annotations/train.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=words) as error:
        open_dataset("folder", root=str(tmp_path), split="train", format="coco", **settings)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("[1]", "is not readable JSON: { expected"),
        ("{", "is not readable JSON"),
        ('{"info": [1', "is not readable JSON"),
        ('{"images": [], "images": []}', "duplicate key 'images'"),
        ('{"info": NaN}', "NaN is not a number"),
        ('{"info": ' + "[" * 100_000, "lists within lists, too deep"),
        ('{"info": ' + "9" * 5000 + "}", "is not readable JSON"),
        ('{"images": []} x', "is not readable JSON: more text"),
        ('{"images": []}', "has no annotations and no categories"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    ],
)
def test_what_is_not_cocos_json_is_an_error_in_words(text: str, words: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "annotations/train.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        opened(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "annotations/train.json").write_bytes(b'{"info": "\xff"}')
    with pytest.raises(DataError, match="it is not UTF-8"):
        opened(tmp_path)


def test_files_that_are_missing_or_of_another_size_or_not_listed(tmp_path: Path) -> None:
    write(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / "images/other.png")
    assert "1 images below " in "".join(opened(tmp_path).left_out)
    Image.new("RGB", (41, 30)).save(tmp_path / "images/2.jpg")
    samples = open_dataset("folder", root=str(tmp_path), split="train", format="coco")
    with pytest.raises(DataError, match=r"1 of 3 pairs .*2.jpg is 41 x 30 but .*train.json/2 is 40 x 30"):
        check_headers(samples)
    (tmp_path / "images/1.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of 3 images of .*train.json have no image file, the first: .*1.jpg"
    ):
        opened(tmp_path)


def test_problems_are_collected_and_the_rest_is_used(tmp_path: Path) -> None:
    write(tmp_path, annotations=[annotation(1, []), annotation(9, [SQUARE]), annotation(2, [SQUARE], 3)])
    (tmp_path / "images/1.jpg").unlink()
    with collecting() as problems:
        samples = opened(tmp_path)
    assert len(problems) == 2
    assert [image.name for image, _ in samples.pairs] == ["2.jpg", "3.jpg"]
    assert np.unique(samples.label(0)).tolist() == [0, 1]


def test_an_image_with_a_bad_annotation_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, annotations=[annotation(1, []), annotation(2, [SQUARE], 3)])
    samples = open_dataset("folder", root=str(tmp_path), split="train", format="coco", skip_unreadable=True)
    (line,) = check_headers(samples)
    assert line.startswith("1 of 3 pairs of split train cannot be used")
    assert [samples.read(index) is None for index in range(3)] == [True, False, False]
    assert "1 of 3 images have no labelled shape" in "".join(samples.left_out)


@pytest.mark.parametrize(
    ("place", "images"),
    [
        ("annotations/train.json", "images/train"),
        ("train.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("annotations/train.json", "."),
        ("annotations/train.json", "train"),
    ],
)
def test_where_the_json_and_the_images_may_be(place: str, images: str, tmp_path: Path) -> None:
    write(tmp_path / "made", place)
    for path in (tmp_path / "made" / "images").iterdir():
        target = tmp_path / "own" / images / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    (tmp_path / "own" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "made" / place).rename(tmp_path / "own" / place)
    assert len(opened(tmp_path / "own")) == 3
    assert not [words for words in opened(tmp_path / "own").left_out if "left out" in words]


def test_cocos_own_names(tmp_path: Path) -> None:
    write(tmp_path, "annotations/instances_val2017.json")
    (tmp_path / "images").rename(tmp_path / "val2017")
    assert len(opened(tmp_path, "instances_val2017")) == 3


def test_cvats_and_label_studios_exports_are_split(tmp_path: Path) -> None:
    write(tmp_path / "cvat", "annotations/instances_default.json")
    (tmp_path / "cvat/images").rename(tmp_path / "cvat/default")
    (tmp_path / "cvat/images").mkdir()
    (tmp_path / "cvat/default").rename(tmp_path / "cvat/images/default")
    write(
        tmp_path / "studio",
        "result.json",
        images=[image(number, f"images/{number}.jpg") for number in (1, 2, 3)],
    )
    (tmp_path / "studio/images/images").rename(tmp_path / "studio/moved")
    (tmp_path / "studio/images").rmdir()
    (tmp_path / "studio/moved").rename(tmp_path / "studio/images")
    for name in ("cvat", "studio"):
        assert [len(opened(tmp_path / name, split, folds=3, fold=0)) for split in ("train", "val")] == [2, 1]


def test_two_json_files_or_none(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, "train.json")
    with pytest.raises(DataError, match="has both annotations/train.json and train.json"):
        opened(tmp_path)
    with pytest.raises(DataError, match="has neither annotations/val.json nor val.json nor val/_anno"):
        opened(tmp_path, "val")


def test_one_json_of_all_images_is_split(tmp_path: Path) -> None:
    write(
        tmp_path,
        "annotations/all.json",
        images=[image(number, f"p{number % 3}/{number}.jpg") for number in range(9)],
    )
    names = {
        split: {one.name for one, _ in opened(tmp_path, split, val_fraction=0.3, group=r"p\d").pairs}
        for split in ("train", "val")
    }
    assert {len(found) for found in names.values()} == {3, 6}
    assert len(names["train"] | names["val"]) == 9
    samples = opened(tmp_path, "val", folds=3, fold=0, annotations="annotations/all.json")
    assert len(samples) == len(samples.shapes) == 3  # type: ignore[attr-defined]
    for settings, words in (
        ({"annotations": "annotations/all.json"}, "the JSON of all images, which must be split"),
        ({"annotations": "x.json", "val_fraction": 0.3}, "x.json: .* has no such file"),
        ({"annotations": "../x.json", "val_fraction": 0.3}, "leads out of dataset.root"),
    ):
        with pytest.raises(DataError, match=words):
            opened(tmp_path, **settings)
    write(tmp_path, "annotations/more.json")
    with pytest.raises(DataError, match="has 2: annotations/all.json, annotations/more.json"):
        opened(tmp_path, val_fraction=0.3)


def test_predictions_saved_as_polygons_are_read_again(tmp_path: Path) -> None:
    """What `predict save=[polygons]` writes is COCO JSON, whose annotations come first."""
    from deeplabx.dataset.annotations import write_coco, write_geojson

    ids = np.random.default_rng(0).integers(0, 3, (6, 8)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    classes = ["sky", "road", "car"]
    write_geojson(tmp_path / "a.geojson", ids, classes=classes, name="a.jpg")
    write_coco(tmp_path / "train.json", [tmp_path / "a.geojson"], classes=classes)
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg")
    samples = opened(tmp_path, unlabelled="ignore")
    assert samples.classes == classes
    np.testing.assert_array_equal(samples.label(0), ids)
