"""What is read through rasterio, and the blocks that a sparse file does not hold."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset.raster import is_raster, opened_raster, write_raster
from deeplabx.errors import DataError

rasterio = pytest.importorskip("rasterio")
PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.25, 5e6)}
LAYOUT = {"driver": "GTiff", "dtype": "uint8", "count": 1}


def test_a_tiff_with_a_place_or_a_nodata_value_is_a_raster(tmp_path: Path) -> None:
    for name, settings in (("place", PLACE), ("nodata", {"nodata": 0}), ("big", {**PLACE, "bigtiff": "YES"})):
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning)
            if "crs" not in settings
            else rasterio.Env(),
            rasterio.open(tmp_path / f"{name}.tif", "w", height=4, width=5, **LAYOUT, **settings) as file,
        ):
            file.write(np.ones((1, 4, 5), np.uint8))
        assert is_raster(tmp_path / f"{name}.tif")
    for name in ("plain.tif", "plain.png"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / name)
        assert not is_raster(tmp_path / name)
    (tmp_path / "plain.tfw").write_text("0.5\n0\n0\n-0.5\n500000\n5000000\n", encoding="utf-8")
    assert is_raster(tmp_path / "plain.tif")
    with opened_raster(tmp_path / "plain.tif", expected=3, channels=None) as source:
        assert source.dataset.transform.a == 0.5


def test_blocks_that_are_not_in_the_file_hold_no_data_and_are_not_read(
    tmp_path: Path,
) -> None:
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True, "nodata": 0}
    with rasterio.open(tmp_path / "in.tif", "w", height=64, width=80, **LAYOUT, **PLACE, **tiles) as file:
        file.write(np.full((1, 20, 10), 7, np.uint8), window=((30, 50), (40, 50)))
    with opened_raster(tmp_path / "in.tif", expected=1, channels=None) as source:
        expected = np.zeros((64, 80), bool)
        expected[30:50, 40:50] = True
        found = source.valid(0, 64, 0, 80)
        assert found is not None
        assert (found == expected).all()
        assert (source.read(29, 31, 39, 41)[..., 0] == [[0, 0], [0, 7]]).all()
        assert source.blocks is not None
        assert source.blocks.absent((0, 16, 0, 80))
        assert not source.blocks.absent((0, 17, 0, 80))
        assert not source.blocks.absent((63, 64, 47, 48))  # in the block that holds row 49
        assert source.blocks.absent((0, 64, 64, 80))


def test_rows_without_data_take_no_room(tmp_path: Path) -> None:
    size = {"height": 2048, "width": 1024}
    with rasterio.open(tmp_path / "in.tif", "w", sparse_ok=True, **size, **LAYOUT, **PLACE):
        pass
    noise = np.random.default_rng(0).integers(0, 200, (512, 1024), dtype=np.uint8)
    rows = [(1, 0, None), (1, 512, noise), (1, 1024, None), (1, 1536, None)]
    with rasterio.open(tmp_path / "in.tif") as like:
        write_raster(tmp_path / "out.tif", like, iter(rows), dtype="uint8", nodata=255)
    with rasterio.open(tmp_path / "out.tif") as file:
        ids = file.read(1)
    assert (ids[512:1024] == noise).all()
    assert (ids[:512] == 255).all()
    assert (ids[1024:] == 255).all()
    assert (tmp_path / "out.tif").stat().st_size < 1.1 * noise.size


def test_a_file_that_is_no_raster_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "in.tif").write_bytes(b"II*\0 no")
    with (
        pytest.raises(DataError, match="in.tif"),
        opened_raster(tmp_path / "in.tif", expected=3, channels=None),
    ):
        pass
