import json
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline

from deeplabx.dataset.annotations import read_geojson, write_coco, write_geojson
from deeplabx.dataset.polygons import regions_of

CLASSES = ["background", "cat", "dog"]


def ids_of(seed: int) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(0, 3, (7 + seed, 9)).astype(np.uint8)
    ids[1:4, 1:4] = 1
    ids[2, 2] = 0  # a hole
    return ids


def mask_of(segmentation: object, height: int, width: int) -> np.ndarray:
    """A COCO segmentation decoded pixel by pixel."""
    if isinstance(segmentation, dict):
        assert segmentation["size"] == [height, width]
        flat = [index % 2 for index, count in enumerate(segmentation["counts"]) for _ in range(count)]
        return np.array(flat).reshape(width, height).T == 1
    assert isinstance(segmentation, list)
    (polygon,) = segmentation
    corners = np.array([*polygon, *polygon[:2]]).reshape(-1, 2)
    rows, columns = np.indices((height, width))
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    return Outline(corners, closed=True).contains_points(centres).reshape(height, width)


def test_coco_decoded_gives_exactly_the_ids(tmp_path: Path) -> None:
    for seed in range(2):
        write_geojson(tmp_path / f"{seed}.geojson", ids_of(seed), classes=CLASSES, name=f"{seed}.jpg")
    write_coco(tmp_path / "coco.json", sorted(tmp_path.glob("*.geojson")), classes=CLASSES)
    coco = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in coco["categories"]] == CLASSES
    names = {one["id"]: one["name"] for one in coco["categories"]}
    kinds = set()
    for image in coco["images"]:
        ids = ids_of(int(image["file_name"].removesuffix(".jpg")))
        assert (image["height"], image["width"]) == ids.shape
        back = np.full(ids.shape, 255, np.uint8)
        for one in coco["annotations"]:
            if one["image_id"] == image["id"]:
                mask = mask_of(one["segmentation"], *ids.shape)
                rows, columns = np.nonzero(mask)
                assert one["area"] == mask.sum()
                left, top = columns.min(), rows.min()
                assert one["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
                back[mask] = CLASSES.index(names[one["category_id"]])
                kinds.add(type(one["segmentation"]))
        np.testing.assert_array_equal(back, ids)
    assert kinds == {list, dict}
    numbers = [one["id"] for one in coco["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))


def test_geojson_is_read_as_it_was_written_and_says_that_it_is_in_pixels(tmp_path: Path) -> None:
    ids = ids_of(3)
    write_geojson(tmp_path / "a.geojson", ids, classes=CLASSES, name="a.jpg")
    image, regions = read_geojson(tmp_path / "a.geojson")
    assert image == ("a.jpg", 9, 10)
    assert list(regions) == list(regions_of(ids))
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert content["image"]["coordinates"] == "pixels, y down"
    for one in content["features"]:
        assert CLASSES[one["properties"]["id"]] == one["properties"]["class"]
        assert all(ring[0] == ring[-1] for ring in one["geometry"]["coordinates"])
