"""Small generated data sets as people's own images are laid out: one for each format of `dataset=folder`."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from deeplabx.dataset.contract import IGNORE_INDEX
from deeplabx.dataset.fake_scenes import SPLITS, Scene, scenes, write_lines
from deeplabx.dataset.labels import voc_palette
from deeplabx.dataset.polygons import Region, regions_of, run_lengths
from deeplabx.dataset.rle import compressed, inside
from deeplabx.dataset.writing import place_for, write_ids, write_image

CLASSES = ["background", "road", "water", "tree"]
PALETTE = voc_palette(len(CLASSES))
HEIGHT, WIDTH = 120, 160
CROWD = CLASSES.index("tree")  # regions of it are marked as crowds


def numbered(images: int, seed: int, *, void: bool) -> list[tuple[str, str, Scene]]:
    """The split, the name and the scene of each image."""
    found = scenes(2 * images, PALETTE, height=HEIGHT, width=WIDTH, seed=seed, void=void)
    return [(SPLITS[number // images], f"image_{number:05d}", scene) for number, scene in enumerate(found)]


def write_table(out: Path, *, void: bool) -> None:
    content: dict[str, Any] = {
        "classes": {name: list(colour) for name, colour in zip(CLASSES, PALETTE, strict=True)}
    }
    if void:
        content["ignore"] = [IGNORE_INDEX]
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    (out / "classes.yaml").write_text(text, encoding="utf-8")


def fake_masks(out: Path, *, images: int, seed: int) -> None:
    """images, masks and classes.yaml."""
    for split, name, scene in numbered(images, seed, void=True):
        write_image(out / "images" / split / f"{name}.jpg", scene.image)
        write_ids(out / "masks" / split / f"{name}.png", scene.ids, PALETTE)
    write_table(out, void=True)


def fake_beside(out: Path, *, images: int, seed: int) -> None:
    """images with the masks among them, and classes.yaml."""
    for split, name, scene in numbered(images, seed, void=True):
        write_image(out / "images" / split / f"{name}.jpg", scene.image)
        write_ids(out / "images" / split / f"{name}.png", scene.ids, PALETTE)
    write_table(out, void=True)


def fake_list(out: Path, *, images: int, seed: int) -> None:
    """train.csv and val.csv with the paths of scans and drawings, and classes.yaml."""
    rows: dict[str, list[str]] = {split: ["image,label"] for split in SPLITS}
    for split, name, scene in numbered(images, seed, void=True):
        image, label = f"scans/{name}.jpg", f"drawings/{name}_ids.png"
        write_image(out / image, scene.image)
        write_ids(out / label, scene.ids, PALETTE)
        rows[split].append(f"{image},{label}")
    for split, lines in rows.items():
        write_lines(out / f"{split}.csv", lines)
    write_table(out, void=True)


def fake_coco(out: Path, *, images: int, seed: int) -> None:
    """images and annotations/<split>.json: polygons, run lengths of regions with holes, and crowds."""
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES) if number]
    content: dict[str, dict[str, list[Any]]] = {split: {"images": [], "annotations": []} for split in SPLITS}
    for number, (split, name, scene) in enumerate(numbered(images, seed, void=False), start=1):
        write_image(out / "images" / split / f"{name}.jpg", scene.image)
        own = content[split]
        own["images"].append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
        for region in regions_of(scene.ids):
            if region.class_id:
                about = {
                    "id": len(own["annotations"]) + 1,
                    "image_id": number,
                    "category_id": region.class_id,
                }
                own["annotations"].append({**about, **segmentation_of(region)})
    for split, one in content.items():
        path = place_for(out / "annotations" / f"{split}.json")
        path.write_text(json.dumps({**one, "categories": categories}), encoding="utf-8")


def segmentation_of(region: Region) -> dict[str, Any]:
    """A polygon; run lengths where it has holes, and as COCO's text where it is a crowd."""
    about = {"area": region.area, "bbox": list(region.box), "iscrowd": int(region.class_id == CROWD)}
    if not region.holes and region.class_id != CROWD:
        return {**about, "segmentation": [[number for corner in region.outline for number in corner]]}
    counts = run_lengths(region, (HEIGHT, WIDTH))
    written: Any = compressed(np.array(counts)) if region.class_id == CROWD else counts
    return {**about, "segmentation": {"size": [HEIGHT, WIDTH], "counts": written}}


def fake_labelme(out: Path, *, images: int, seed: int) -> None:
    """images with a JSON file beside each, and classes.yaml."""
    for split, name, scene in numbered(images, seed, void=False):
        folder = out / "images" / split
        write_image(folder / f"{name}.jpg", scene.image)
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [shape_of(region) for region in regions_of(scene.ids) if region.class_id],
            "imagePath": f"{name}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    write_table(out, void=False)


def shape_of(region: Region) -> dict[str, Any]:
    """A polygon; a mask where it has holes."""
    shape: dict[str, Any] = {"label": CLASSES[region.class_id], "group_id": None, "flags": {}}
    if not region.holes:
        return {**shape, "shape_type": "polygon", "points": [list(corner) for corner in region.outline]}
    left, top, width, height = region.box
    counts = np.array(run_lengths(region, (HEIGHT, WIDTH)))
    pixels = inside(counts, height=HEIGHT, width=WIDTH).T[top : top + height, left : left + width]
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).save(file, format="PNG")
    corners = [[left, top], [left + width - 1, top + height - 1]]
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return {**shape, "shape_type": "mask", "points": corners, "mask": text}


FOLDER_FAKES: dict[str, Callable[..., None]] = {
    "masks": fake_masks,
    "beside": fake_beside,
    "coco": fake_coco,
    "labelme": fake_labelme,
    "list": fake_list,
}
