"""GeoTIFF in, GeoTIFF out: the place on the earth, pixels without data, going on after an interruption."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine.predictor import InterruptedPredictionError, Predictor
from deeplabx.engine.raster_prediction import RasterPrediction, predict_raster
from deeplabx.errors import ConfigError, DataError
from deeplabx.model.crf import DenseCRF

rasterio = pytest.importorskip("rasterio")

PLAIN = Normalization(mean=(100.0, 100.0, 100.0), std=(50.0, 60.0, 70.0))
CLASSES, PALETTE = ["road", "tree", "water"], [(128, 64, 128), (0, 200, 0), (0, 0, 255)]
PIXELS = np.random.default_rng(0).integers(1, 256, (3, 130, 150), dtype=np.uint8)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += not images.is_meta
        return self.inner(images) + self.inner(images.mean(dim=(2, 3), keepdim=True).expand_as(images))


def written(path: Path, pixels: np.ndarray = PIXELS, **settings: Any) -> Path:
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 5e5, 0, -0.25, 5e6)}
    layout = {"driver": "GTiff", "dtype": pixels.dtype.name, "count": len(pixels)}
    size = {"height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(path, "w", **{**layout, **size, **place, **settings}) as file:
        file.write(pixels)
    return path


def predicted(
    folder: Path, source: Path, *, model: nn.Module | None = None, **settings: Any
) -> RasterPrediction:
    own = {name: settings.pop(name) for name in ("channels", "probabilities_path") if name in settings}
    return predict_raster(
        Predictor(model or Pooled(), PLAIN, torch.device("cpu"), num_classes=3, **{"window": 48, **settings}),
        source,
        ids_path=folder / "ids.tif",
        classes=CLASSES,
        palette=PALETTE,
        checkpoint="abc",
        **own,
    )


def expected_ids(pixels: np.ndarray, **settings: Any) -> np.ndarray:
    found = Predictor(Pooled(), PLAIN, torch.device("cpu"), **{"window": 48, **settings})
    return found.ids(pixels.transpose(1, 2, 0)).numpy()


def test_ids_lie_where_the_image_lies_and_have_the_palette(tmp_path: Path) -> None:
    found = predicted(tmp_path, written(tmp_path / "in.tif"))
    assert found.words.startswith("150 x 130 pixels; 20 windows of 48 x 48; ")
    with rasterio.open(tmp_path / "ids.tif") as file, rasterio.open(tmp_path / "in.tif") as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert (file.nodata, file.dtypes, file.compression.name) == (255, ("uint8",), "deflate")
        assert file.block_shapes == [(512, 512)]
        assert file.colormap(1)[1] == (0, 200, 0, 255)
        assert (file.read(1) == expected_ids(PIXELS)).all()
        assert file.dataset_mask().all()
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "ids.tif"}


@pytest.mark.parametrize("window", [None, "auto"])
def test_a_raster_that_fits_is_predicted_whole(tmp_path: Path, window: str | None) -> None:
    found = predicted(tmp_path, written(tmp_path / "in.tif"), window=window, crf=DenseCRF(1))
    assert (found.bands, found.tiling) == (1, None)
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected_ids(PIXELS, window=None, crf=DenseCRF(1))).all()


@pytest.mark.parametrize("window", [48, None])
def test_pixels_without_data_have_none_in_the_ids(tmp_path: Path, window: int | None) -> None:
    pixels = PIXELS.copy()
    pixels[:, :, 60:] = 0
    pixels[:, 40:50, :] = 0
    pixels[1, 3, 3] = 0  # of one channel only
    source = written(tmp_path / "in.tif", pixels, nodata=0)
    predicted(tmp_path, source, window=window, probabilities_path=tmp_path / "p.tif")
    with rasterio.open(tmp_path / "ids.tif") as file, rasterio.open(source) as given:
        assert (file.dataset_mask() == given.dataset_mask()).all()
        ids = file.read(1)
    assert ids[3, 3] < 3
    filled = pixels.copy()
    filled[:, (pixels == 0).all(axis=0)] = 100
    valid = (pixels != 0).any(axis=0)
    if window is None:
        assert (ids[valid] == expected_ids(filled, window=None)[valid]).all()
    with rasterio.open(tmp_path / "p.tif") as file:
        scores = file.read()
        assert file.descriptions == ("road", "tree", "water")
    assert (np.isnan(scores) == ~valid).all()
    assert np.allclose(scores[:, valid].sum(axis=0), 1, atol=2e-3)
    assert (scores[:, valid].argmax(axis=0) == ids[valid]).mean() > 0.99  # float16 has ties


def test_alpha_is_no_channel_but_says_where_data_is(tmp_path: Path) -> None:
    alpha = np.full((1, 130, 150), 255, np.uint8)
    alpha[:, :70] = 0
    source = written(tmp_path / "in.tif", np.concatenate([PIXELS, alpha]), photometric="RGB", alpha="YES")
    predicted(tmp_path, source)
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.dataset_mask() == alpha[0]).all()


def test_control_points_are_kept(tmp_path: Path) -> None:
    points = [
        rasterio.control.GroundControlPoint(row, column, column * 2.0, row * 3.0)
        for row, column in ((0, 0), (0, 149), (129, 0), (129, 149))
    ]
    source = written(tmp_path / "in.tif", gcps=points, crs="EPSG:4326", transform=None)
    predicted(tmp_path, source)
    with rasterio.open(tmp_path / "ids.tif") as file:
        found, crs = file.gcps
    assert crs.to_epsg() == 4326
    assert [(one.row, one.col, one.x, one.y) for one in found] == [
        (one.row, one.col, one.x, one.y) for one in points
    ]


@pytest.mark.parametrize(
    ("pixels", "settings", "words"),
    [
        (PIXELS.astype(np.uint16), {}, "its samples are uint16, but must be of 8 bits"),
        (PIXELS[[0, 1, 2, 0]], {}, r"has 4 channels, the model needs 3\ndataset.channels=\[0,1,2\] reads"),
        (PIXELS[:2], {}, "has 2 channels, the model needs 3$"),
        (PIXELS, {"channels": [0, 3, 1]}, r"dataset.channels=\[0, 3, 1\], but .* has 3 channels"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    tmp_path: Path, pixels: np.ndarray, settings: dict, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        predicted(tmp_path, written(tmp_path / "in.tif", pixels, photometric="minisblack"), **settings)
    assert not (tmp_path / "ids.tif").exists()


def test_bands_of_a_choice_and_of_grey(tmp_path: Path) -> None:
    four = PIXELS[[1, 2, 0, 1]]
    predicted(tmp_path, written(tmp_path / "in.tif", four, photometric="minisblack"), channels=[2, 0, 1])
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected_ids(PIXELS)).all()
    predicted(tmp_path, written(tmp_path / "in.tif", PIXELS[:1]))
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected_ids(PIXELS[[0, 0, 0]])).all()


def test_a_crf_needs_the_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="eval.crf=true needs all of an image"):
        predicted(tmp_path, written(tmp_path / "in.tif"), crf=DenseCRF(1))


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "in.tif")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    words = r"package rasterio, which is not installed\npip install 'deeplabx\[geo\]'"
    with pytest.raises(ConfigError, match=words):
        predicted(tmp_path, source)


# --- going on -----------------------------------------------------------------------------------------------


class Killed(Pooled):
    """Ends after some passes, as by a signal."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        if self.passes == self.after:
            raise InterruptedPredictionError(15)
        return super().forward(images)


@pytest.mark.parametrize("after", [0, 3, 7, 18])
def test_continued_is_unbroken(tmp_path: Path, after: int) -> None:
    source = written(tmp_path / "in.tif")
    own = {"probabilities_path": tmp_path / "p.tif"}
    unbroken = tmp_path / "unbroken"
    predicted(unbroken, source, probabilities_path=unbroken / "p.tif")
    with pytest.raises(InterruptedPredictionError):
        predicted(tmp_path, source, model=Killed(after), **own)
    assert (tmp_path / "ids.tif.part").is_dir()
    assert not (tmp_path / "ids.tif").exists()
    model = Pooled()
    found = predicted(tmp_path, source, model=model, **own)
    assert found.continued == max(0, after) // 5
    assert model.passes == 20 - 5 * max(0, found.continued - 1)  # a row of windows is computed twice
    for name in ("ids.tif", "p.tif"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()
    assert not (tmp_path / "ids.tif.part").exists()


@pytest.mark.parametrize("change", ["source", "settings"])
def test_part_of_another_prediction_is_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    source = written(tmp_path / "in.tif")
    with pytest.raises(InterruptedPredictionError):
        predicted(tmp_path, source, model=Killed(12))
    if change == "source":
        os.utime(source, (1, 1))
    found = predicted(tmp_path, source, flip=change == "settings")
    assert found.continued == 0
    name = {"source": "source", "settings": "flip"}[change]
    assert f"holds part of another prediction ({name} differs): starting again" in capsys.readouterr().err
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected_ids(PIXELS, flip=change == "settings")).all()


def test_what_memory_decided_is_decided_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, expected = written(tmp_path / "in.tif"), expected_ids(PIXELS)
    monkeypatch.setattr(Predictor, "window_for", lambda self, height, width: 48)
    with pytest.raises(InterruptedPredictionError):
        predicted(tmp_path, source, model=Killed(12), window="auto")
    monkeypatch.setattr(Predictor, "window_for", lambda self, height, width: None)
    found = predicted(tmp_path, source, window="auto")
    assert found.continued == 2
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected).all()


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    source = written(tmp_path / "in.tif")

    class Again(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            with pytest.raises(ConfigError, match="is in use by another run"):
                predicted(tmp_path, source)
            raise InterruptedPredictionError(15)

    with pytest.raises(InterruptedPredictionError):
        predicted(tmp_path, source, model=Again())


def test_a_damaged_band_is_said_in_words(tmp_path: Path) -> None:
    source = written(tmp_path / "in.tif")
    with pytest.raises(InterruptedPredictionError):
        predicted(tmp_path, source, model=Killed(12))
    (tmp_path / "ids.tif.part" / "000001.ids").write_bytes(b"{}")
    with pytest.raises(DataError, match="000001.ids is damaged\nremove .*ids.tif.part, then start"):
        predicted(tmp_path, source)


KILLED = """
import os, signal, sys
from pathlib import Path
from deeplabx.engine import journal
from tests.engine.test_raster_prediction import predicted

write = journal.Journal.write

def dying(self, number, *rest):
    write(self, number, *rest)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)

journal.Journal.write = dying
predicted(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_process_leaves_what_the_next_one_continues(tmp_path: Path) -> None:
    source = written(tmp_path / "in.tif")
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, source], check=False)
    assert ended.returncode == -9
    assert predicted(tmp_path, source).continued == 2
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert (file.read(1) == expected_ids(PIXELS)).all()
