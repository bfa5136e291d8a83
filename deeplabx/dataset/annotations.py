"""Regions of class ids as the files that other programs read: GeoJSON, of each image, and one COCO JSON."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplabx.dataset.polygons import Region, Ring, regions_of, run_lengths


class ImageSize(NamedTuple):
    name: str  # of the image, relative to the folder that it was given by
    width: int
    height: int


class PlaceOnEarth(NamedTuple):
    """Where the corners of pixels lie: x = a * column + b * row + c, y = d * column + e * row + f."""

    transform: tuple[float, float, float, float, float, float]  # a to f
    crs: str  # of x and y, as GeoJSON's older standard names it: urn:ogc:def:crs:EPSG::32633

    def ring(self, ring: Ring) -> list[tuple[float, float]]:
        """A ring on the earth, turned where the image is mirrored, as it mostly is: rows lead down."""
        a, b, c, d, e, f = self.transform
        found = [(a * x + b * y + c, d * x + e * y + f) for x, y in ring]
        return found if a * e - b * d > 0 else found[::-1]


def write_geojson(
    path: Path,
    ids: np.ndarray,
    *,
    classes: Sequence[str],
    name: str,
    place: PlaceOnEarth | None = None,
) -> None:
    """The regions of ids H x W as GeoJSON, one on a line; ids that are no classes are left out.

    Without a place, coordinates are pixels of the image, x to the right and y down. The member `image` says
    which they are.
    """
    height, width = ids.shape
    coordinates = "pixels, y down" if place is None else place.crs
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if place is not None:
        head["crs"] = {"type": "name", "properties": {"name": place.crs}}
    head["image"] = {"name": name, "width": width, "height": height, "coordinates": coordinates}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{json.dumps(head)[:-1]}, "features": [')
        count = 0
        for region in regions_of(ids):
            if region.class_id < len(classes):
                file.write(f"{',' if count else ''}\n{json.dumps(feature(region, classes, place))}")
                count += 1
        file.write("\n]}\n")


def feature(region: Region, classes: Sequence[str], place: PlaceOnEarth | None) -> dict[str, Any]:
    """A region as GeoJSON has it, whose rings repeat their first corner."""
    corners: Any = (region.outline, *region.holes)
    if place is not None:
        corners = [place.ring(ring) for ring in corners]
    rings = [[*ring, ring[0]] for ring in corners]
    about = {"id": region.class_id, "class": classes[region.class_id], "pixels": region.area}
    return {
        "type": "Feature",
        "properties": about,
        "geometry": {"type": "Polygon", "coordinates": rings},
    }


def read_geojson(path: Path) -> tuple[ImageSize, Iterable[Region]]:
    """What `write_geojson` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    image = content["image"]
    found = (region_of(one) for one in content["features"])
    return ImageSize(image["name"], image["width"], image["height"]), found


def region_of(one: dict[str, Any]) -> Region:
    outline, *holes = (ring_of(ring) for ring in one["geometry"]["coordinates"])
    return Region(one["properties"]["id"], one["properties"]["pixels"], outline, holes)


def ring_of(coordinates: list[list[int]]) -> Ring:
    return [(x, y) for x, y in coordinates[:-1]]


def write_coco(path: Path, geojsons: Iterable[Path], *, classes: Sequence[str]) -> None:
    """One COCO JSON of many images, from what `write_geojson` wrote of each; an annotation for each region.

    A region without holes is a polygon, which every reader takes; one with holes is an RLE, as polygons of
    COCO have none. Category ids are class ids + 1: readers of COCO take 0 for the background.
    """
    images = []
    with path.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        count = 0
        for image_id, geojson in enumerate(geojsons, start=1):
            image, regions = read_geojson(geojson)
            about = {"id": image_id, "file_name": image.name, "width": image.width, "height": image.height}
            images.append(about)
            for region in regions:
                annotation = annotation_of(region, image)
                annotation |= {"id": count + 1, "image_id": image_id}
                file.write(f"{',' if count else ''}\n{json.dumps(annotation)}")
                count += 1
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
        file.write(f'\n],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')


def annotation_of(region: Region, image: ImageSize) -> dict[str, Any]:
    segmentation: Any = [[number for corner in region.outline for number in corner]]
    if region.holes:
        counts = run_lengths(region, (image.height, image.width))
        segmentation = {"size": [image.height, image.width], "counts": counts}
    return {
        "category_id": region.class_id + 1,
        "segmentation": segmentation,
        "area": region.area,
        "bbox": list(region.box),
        "iscrowd": 0,
    }
