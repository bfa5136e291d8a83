"""What is made of the ids of a raster: its colours, an overlay and polygons, with its georeference."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplabx.dataset.annotations import PlaceOnEarth, write_geojson
from deeplabx.dataset.image_file import MAX_PIXELS
from deeplabx.dataset.raster import BLOCK, RasterSource, opened_raster, rasterio_for, write_raster
from deeplabx.errors import DataError
from deeplabx.report.overlay import Palette, colourised, overlay


def write_colours(
    path: Path, ids_path: Path, palette: Palette, *, below: Path | None = None, channels: Any = None
) -> None:
    """The colours of a raster of ids as an RGBA GeoTIFF, block row by block row; laid over the raster `below`
    if it is given. Pixels without data are transparent. channels: of `below`.
    """
    with rasterio_for(ids_path) as rasterio, rasterio.open(ids_path) as ids:
        if below is None:
            rows = colour_rows(ids, palette, None)
            write_raster(path, ids, rows, dtype="uint8", nodata=None, count=4, rgb=True)
        else:
            with opened_raster(below, expected=3, channels=channels) as source:
                rows = colour_rows(ids, palette, source)
                write_raster(path, ids, rows, dtype="uint8", nodata=None, count=4, rgb=True)


def colour_rows(
    ids: Any, palette: Palette, source: RasterSource | None
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Band, top row and values, as `write_raster` takes them."""
    for top in range(0, ids.height, BLOCK):
        bottom = min(ids.height, top + BLOCK)
        own = ids.read(1, window=((top, bottom), (0, ids.width)))
        absent = own == ids.nodata
        if absent.all():
            yield from ((band, top, None) for band in (1, 2, 3, 4))
            continue
        if source is None:
            colours = colourised(own, palette)
        else:
            colours = overlay(source.read(top, bottom, 0, ids.width), own, palette)
        yield from ((band, top, colours[..., band - 1]) for band in (1, 2, 3))
        yield 4, top, np.where(absent, 0, 255).astype(np.uint8)


def write_polygons(path: Path, ids_path: Path, *, classes: Sequence[str], name: str) -> None:
    """The regions of a raster of ids as GeoJSON in its own coordinate system, which the file names; in pixels
    where it has none.
    """
    with rasterio_for(ids_path) as rasterio, rasterio.open(ids_path) as file:
        ids, place = file.read(1), place_on_earth(file)
    write_geojson(path, ids, classes=classes, name=name, place=place)


def refuse_untraceable(path: Path) -> None:
    """Raise DataError for a raster whose polygons are too large to be traced in one piece."""
    with rasterio_for(path) as rasterio, rasterio.open(path) as file:
        if file.height * file.width > MAX_PIXELS:
            raise DataError(
                f"{path}: polygons are traced of up to {MAX_PIXELS:,} pixels, not of {file.width} x "
                f"{file.height}",
                hint="leave polygons out of save=; gdal_polygonize.py IDS.tif OUT.gpkg traces them in pieces",
            )


def place_on_earth(file: Any) -> PlaceOnEarth | None:
    if file.transform.is_identity or file.crs is None:
        return None
    code = file.crs.to_epsg()
    if code == 4326:  # whose own order is latitude, longitude
        name = "urn:ogc:def:crs:OGC:1.3:CRS84"
    else:
        name = f"urn:ogc:def:crs:EPSG::{code}" if code is not None else file.crs.to_wkt()
    return PlaceOnEarth(tuple(file.transform)[:6], name)
