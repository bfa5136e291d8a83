"""GeoTIFF, read and written by blocks through rasterio, with georeference and pixels without data.

rasterio is imported when it is needed. Whoever calls this has seen to it that it is installed.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from deeplabx.dataset.contract import Palette
from deeplabx.dataset.image_file import MAX_PIXELS
from deeplabx.dataset.image_header import TIFF_STARTS
from deeplabx.errors import DataError, DeeplabxError, ResourceError

CACHE = 128  # MiB of blocks that GDAL keeps; its own limit is a part of the machine's memory
BLOCK = 512  # side of the tiles that are written
WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".wld")  # beside a TIFF: its georeference
GEO_TAGS = (33550, 33922, 34264, 34735, 42113, 50844)  # of GeoTIFF; GDAL's nodata; RPCs
WIDTH, HEIGHT = 256, 257
Place = tuple[int, int, int, int]  # top, bottom, left, right


def is_raster(path: Path) -> bool:
    """Whether a file is a TIFF with a georeference (in it or in a world file beside it) or a nodata value, or
    one that is too large to be read whole: what is read through rasterio.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if not start.startswith(TIFF_STARTS):
            return False
        if start.startswith(b"MM\0+"):
            return True  # a BigTIFF that Pillow does not read
        head = start if start.startswith(b"II+\0") else start[:8]
        table = ImageFileDirectory_v2(head)
        file.seek(table.next)
        table.load(file)
    if any(path.with_suffix(suffix).is_file() for suffix in WORLD_FILES):
        return True
    sides = [table.get(tag, 0) for tag in (WIDTH, HEIGHT)]
    return any(tag in table for tag in GEO_TAGS) or sides[0] * sides[1] > MAX_PIXELS


@contextmanager
def rasterio_for(path: Path, *, failure: type[DeeplabxError] = DataError) -> Iterator[Any]:
    """rasterio, with a small cache. Its errors are raised as `failure`, and it does not warn of files without
    a georeference.
    """
    import rasterio
    from rasterio import errors

    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE):
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        try:
            yield rasterio
        except errors.RasterioError as error:
            # "Read failed. See previous exception for details." says less than what GDAL said
            words = " ".join(str(error.__cause__ or error).split())[:300]
            raise failure(f"{path}: {words}") from None


class RasterSource:
    """The pixels of a raster file, read by windows; a `deeplabx.engine.windows.Source`.

    channels: indices of the bands that are used, counted from 0; None: `expected` bands, or one of grey for
    three. Pixels are without data as the file's nodata value, mask band or alpha band says.
    """

    def __init__(self, path: Path, dataset: Any, *, expected: int, channels: Sequence[int] | None) -> None:
        from rasterio import enums

        self.path, self.dataset = path, dataset
        self.height, self.width = dataset.height, dataset.width
        self.bands = bands_of(path, dataset, expected=expected, channels=channels)
        self.channels = len(self.bands)
        self.is_whole = all(enums.MaskFlags.all_valid in flags for flags in dataset.mask_flag_enums)
        self.blocks = Blocks(dataset) if dataset.driver == "GTiff" and dataset.nodata is not None else None

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """uint8 pixels of rows top..bottom and columns left..right, without the last ones."""
        unique = sorted(set(self.bands))
        with rasterio_for(self.path):
            found = self.dataset.read(unique, window=((top, bottom), (left, right)))
        order = [unique.index(band) for band in self.bands]
        return np.ascontiguousarray(found[order].transpose(1, 2, 0))

    def valid(self, top: int, bottom: int, left: int, right: int) -> np.ndarray | None:
        """Which pixels hold data, bool; None where all do."""
        if self.is_whole:
            return None
        if self.blocks is not None and self.blocks.absent((top, bottom, left, right)):
            return np.zeros((bottom - top, right - left), bool)
        with rasterio_for(self.path):
            mask = self.dataset.dataset_mask(window=((top, bottom), (left, right)))
        return mask > 0


class Blocks:
    """Which blocks of a GeoTIFF are in the file: those that are not, in a sparse one, are nodata."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.height, self.width = dataset.block_shapes[0]
        separate = dataset.interleaving is not None and dataset.interleaving.name == "band"
        self.bands = dataset.indexes if separate else dataset.indexes[:1]
        self.known: dict[tuple[int, int], bool] = {}

    def absent(self, place: Place) -> bool:
        """Whether no block of these rows and columns is in the file."""
        top, bottom, left, right = place
        return all(
            self.is_absent(column, row)
            for row in range(top // self.height, (bottom - 1) // self.height + 1)
            for column in range(left // self.width, (right - 1) // self.width + 1)
        )

    def is_absent(self, column: int, row: int) -> bool:
        name = f"BLOCK_OFFSET_{column}_{row}"
        return all(self.dataset.get_tag_item(name, "TIFF", bidx=band) is None for band in self.bands)


@contextmanager
def opened_raster(path: Path, *, expected: int, channels: Sequence[int] | None) -> Iterator[RasterSource]:
    """A raster to read. expected: the number of the network's channels. Raises DataError for a file that
    cannot be used, whole or in part.
    """
    with rasterio_for(path) as rasterio:
        dataset = rasterio.open(path)
    with dataset:
        yield RasterSource(path, dataset, expected=expected, channels=channels)


def bands_of(path: Path, dataset: Any, *, expected: int, channels: Sequence[int] | None) -> list[int]:
    """The bands that become the network's channels, counted from 1. Raises DataError unless they are clear
    and of 8 bits.
    """
    from rasterio.enums import ColorInterp

    colours = [
        band
        for band, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if meaning != ColorInterp.alpha
    ]
    if channels is not None:
        if max(channels) >= dataset.count:
            raise DataError(
                f"dataset.channels={list(channels)}, but {path} has {dataset.count} channels",
                hint="indices count from 0",
            )
        found = [index + 1 for index in channels]
    elif len(colours) == 1 and expected == 3:
        found = colours * 3  # grey, as in images
    elif len(colours) == expected:
        found = colours
    else:
        indices = ",".join(str(index) for index in range(expected))
        raise DataError(
            f"{path} has {len(colours)} channels, the model needs {expected}",
            hint=f"dataset.channels=[{indices}] reads the first {expected}"
            if len(colours) > expected
            else "",
        )
    kinds = sorted({dataset.dtypes[band - 1] for band in found} - {"uint8"})
    if kinds:
        raise DataError(
            f"{path}: its samples are {', '.join(kinds)}, but must be of 8 bits",
            hint="gdal_translate -ot Byte -scale LOW HIGH IN OUT; with the same LOW and HIGH as for training",
        )
    if any(dataset.colorinterp[band - 1] == ColorInterp.palette for band in found):
        raise DataError(
            f"{path} has a colour table, whose indices are not colours",
            hint="gdal_translate -expand rgb IN OUT makes channels of it",
        )
    return found


# --- writing ------------------------------------------------------------------------------------------------


def place_of(dataset: Any) -> dict[str, Any]:
    """Where on the earth a raster lies, as settings of one that is written."""
    gcps, crs_of_gcps = dataset.gcps
    found: dict[str, Any] = {"crs": dataset.crs, "rpcs": dataset.rpcs}
    if gcps:
        found |= {"gcps": gcps, "crs": crs_of_gcps}
    elif not dataset.transform.is_identity:
        found["transform"] = dataset.transform
    return {key: value for key, value in found.items() if value is not None}


def write_raster(
    path: Path,
    like: Any,
    rows: Iterator[tuple[int, int, np.ndarray | None]],
    *,
    dtype: str,
    nodata: float | None,
    count: int = 1,
    palette: Palette | None = None,
    descriptions: Sequence[str] = (),
    half: bool = False,
    rgb: bool = False,
) -> None:
    """A tiled, compressed GeoTIFF of the size and place of `like`, an open raster.

    rows: band, top row, and whole rows of one band; None for rows in which every pixel is nodata, which take
    no room in the file. half: store float32 in 16 bits. rgb: whether the first bands are red, green and
    blue; a fourth is alpha.
    """
    layout = {
        **{"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
        **{"compress": "deflate", "bigtiff": "IF_SAFER", "sparse_ok": True, "interleave": "band"},
        **({"nbits": 16} if half else {}),
        "photometric": "palette" if palette is not None else "rgb" if rgb else "minisblack",
        **({"alpha": "yes"} if rgb and count == 4 else {}),
    }
    with rasterio_for(path, failure=ResourceError) as rasterio:
        file = rasterio.open(
            path,
            "w",
            height=like.height,
            width=like.width,
            count=count,
            dtype=dtype,
            nodata=nodata,
            **layout,
            **place_of(like),
        )
        with file:
            if "AREA_OR_POINT" in like.tags():
                file.update_tags(AREA_OR_POINT=like.tags()["AREA_OR_POINT"])
            if palette is not None:
                table = {index: (*colour, 255) for index, colour in enumerate(palette)}
                file.write_colormap(1, {**table, int(nodata or 0): (0, 0, 0, 0)})
            for band, name in enumerate(descriptions, start=1):
                file.set_band_description(band, name)
            for band, top, values in rows:
                if values is not None:
                    file.write(values, band, window=((top, top + len(values)), (0, like.width)))
