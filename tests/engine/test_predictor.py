"""Images in windows, batches and bands, against loops written another way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import Normalization
from deeplabx.engine import predictor, windows
from deeplabx.engine.predictor import Prediction, Predictor
from deeplabx.engine.windows import ArraySource, Axis, Grid, Source, window_starts
from deeplabx.errors import ConfigError, DataError, ResourceError
from deeplabx.model.crf import DenseCRF
from deeplabx.process.memory import Free

PLAIN = Normalization(mean=(10.4, 20.6, 30.0), std=(50.0, 60.0, 70.0))
CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)


def network(kernel_size: int = 1, *, classes: int = 3) -> nn.Module:
    """One convolution, then another: with kernels of 1 x 1 it does not matter what is around a pixel."""
    torch.manual_seed(3)
    inner = nn.Conv2d(3, 8, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(inner, nn.ReLU(), nn.Conv2d(8, classes, 1)).eval()


class Pooled(nn.Module):
    """Like image pooling: what it gives depends on all that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) + 3 * self.inner(images.mean(dim=(2, 3), keepdim=True))


def together(model: nn.Module, **settings: Any) -> Predictor:
    return Predictor(model, PLAIN, CPU, num_classes=3, **settings)


# --- the blend ----------------------------------------------------------------------------------------------


def blended(model: nn.Module, image: np.ndarray, window: int) -> Tensor:
    """Logits C x H x W, pixel by pixel: of all windows that cover it, weighted by the distance to their edges
    on a squared sine.
    """

    def weight(position: int) -> float:
        distance = min(position, window - 1 - position) + 0.5
        return float(np.sin(np.pi / 2 * min(1.0, 3 * distance / window)) ** 2)

    height, width = image.shape[:2]
    line = [weight(position) for position in range(window)]
    total: Tensor | None = None
    weights = torch.zeros(height, width, dtype=torch.float64)
    for top in window_starts(height, window):
        for left in window_starts(width, window):
            part = torch.from_numpy(image[top : top + window, left : left + window].copy())[None]
            with torch.no_grad():
                logits = model(PLAIN(part))[0].double()
            if total is None:
                total = torch.zeros(len(logits), height, width, dtype=torch.float64)
            share = torch.tensor([[by_row * by_column for by_column in line] for by_row in line])
            total[:, top : top + window, left : left + window] += share * logits
            weights[top : top + window, left : left + window] += share
    assert total is not None
    return total / weights


def test_windows_are_blended_smoothly() -> None:
    model = Pooled()
    found = together(model, window=32).predict([IMAGE], probabilities=True)[0]
    expected = blended(model, IMAGE, 32)
    assert found.probabilities is not None
    assert torch.allclose(found.probabilities.double(), expected.softmax(dim=0), atol=1e-5)
    assert torch.equal(found.ids, expected.argmax(dim=0))
    assert not torch.equal(found.ids, together(model).ids(IMAGE))


@pytest.mark.parametrize("length", [5, 16, 17, 23, 40, 100])
def test_the_weights_of_all_windows_add_up_to_one_and_are_never_zero(length: int) -> None:
    axis = Axis.of(length, 16)
    total = np.zeros(length)
    for index, start in enumerate(axis.starts):
        share = axis.weights[index].numpy()
        assert share.min() > 0
        assert len(share) == axis.end(index) - start
        total[start : axis.end(index)] += share
    assert np.allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"flip": True}, {"batch": 4}])
@pytest.mark.parametrize("size", [(61, 83), (20, 83), (61, 20), (9, 9)])
def test_where_the_surroundings_do_not_matter_windows_give_the_whole_images_ids(
    size: tuple[int, int], settings: dict
) -> None:
    image = IMAGE[: size[0], : size[1]]
    whole = together(network(), **settings).ids(image)
    assert torch.equal(together(network(), window=24, **settings).ids(image), whole)


# --- bands --------------------------------------------------------------------------------------------------


def assembled(bands: Sequence[windows.Band], size: tuple[int, ...]) -> np.ndarray:
    ids = np.full(size, 99, np.uint8)
    for band in bands:
        ids[band.top : band.top + len(band.ids), band.left : band.left + band.ids.shape[1]] = band.ids
    return ids


@pytest.mark.parametrize("strip_bytes", [2**29, 1], ids=["one strip", "several"])
def test_bands_are_the_prediction_wherever_they_begin(
    strip_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LEAST_STRIP", 2)
    monkeypatch.setattr(windows, "STRIP_BYTES", strip_bytes)
    found = together(Pooled(), window=24)
    expected = found.ids(IMAGE).numpy()
    bands = list(found.bands(ArraySource(IMAGE)))
    assert (assembled(bands, IMAGE.shape[:2]) == expected).all()
    assert len({band.left for band in bands}) == (1 if strip_bytes > 1 else 3)
    for start in range(len(bands)):
        again = list(found.bands(ArraySource(IMAGE), start=start))
        assert [band.number for band in again] == list(range(start, len(bands)))
        assert (again[0].ids == bands[start].ids).all()
    rest = [*bands[:3], *found.bands(ArraySource(IMAGE), start=3)]
    assert (assembled(rest, IMAGE.shape[:2]) == expected).all()


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = together(Pooled(), window=24)
    expected = found.ids(IMAGE)
    monkeypatch.setattr(windows, "LEAST_STRIP", 1)
    monkeypatch.setattr(windows, "STRIP_BYTES", 1)
    assert len(Grid.of(61, 83, window=24, num_classes=3).strips) > 3
    assert torch.equal(found.ids(IMAGE), expected)


class Masked(ArraySource):
    """Without data in its left half and in a corner; it notes what is read."""

    def __init__(self, image: np.ndarray) -> None:
        super().__init__(image)
        self.mask = np.ones(image.shape[:2], bool)
        self.mask[:, :40] = False
        self.mask[:5, 70:] = False
        self.read_from: list[int] = []

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        self.read_from.append(right)
        return super().read(top, bottom, left, right)

    def valid(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return self.mask[top:bottom, left:right]


def test_pixels_without_data_get_the_ignore_index_and_windows_without_any_are_not_computed() -> None:
    source: Source = Masked(IMAGE)
    assert isinstance(source, Masked)
    ids = assembled(list(together(network(), window=24).bands(source)), IMAGE.shape[:2])
    assert (ids[~source.mask] == 255).all()
    assert (ids[source.mask] == together(network()).ids(IMAGE).numpy()[source.mask]).all()
    assert min(source.read_from) > 40


def test_a_source_without_any_data_needs_no_network() -> None:
    class Never(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            assert images.is_meta
            return super().forward(images)

    source = Masked(IMAGE)
    source.mask[:] = False
    bands = list(together(Never(network()), window=24).bands(source, probabilities=True))
    assert (assembled(bands, IMAGE.shape[:2]) == 255).all()


def test_bands_need_the_channels_and_take_no_crf() -> None:
    with pytest.raises(DataError, match="has 2 channels, the model needs 3"):
        next(together(network(), window=24).bands(ArraySource(IMAGE[..., :2])))
    with pytest.raises(ConfigError, match="^eval.crf=true needs all of an image"):
        next(together(network(), window=24, crf=DenseCRF(1)).bands(ArraySource(IMAGE)))


def test_the_crf_refines_what_windows_gave() -> None:
    crf = DenseCRF(2, bilateral_rgb=20.0)
    ids = together(network(), window=24, crf=crf).ids(IMAGE)
    assert torch.equal(ids, together(network(), crf=crf).ids(IMAGE))
    assert not torch.equal(ids, together(network()).ids(IMAGE))


def test_the_share_that_depends_on_the_windows_is_counted() -> None:
    class Places(nn.Module):
        """Class 0 in the left half of what it sees, else 1."""

        def forward(self, images: Tensor) -> Tensor:
            left = torch.zeros_like(images[:, :1])
            left[..., : images.shape[3] // 2] = 1
            return torch.cat([left, 1 - left], dim=1)

    image = np.zeros((24, 40, 3), np.uint8)  # windows at columns 0 and 16, of which 16..24 are in both
    found = together(Places(), window=24).predict([image])[0].tiling
    assert found is not None
    assert (found.windows, found.overlapped, found.differing) == (2, 24 * 8, 24 * 8)
    assert "100.00 % of the pixels" in found.words
    assert found.share == 1.0
    agreeing = together(network(), window=24).predict([image])[0].tiling
    assert agreeing is not None
    assert agreeing.share == 0.0


# --- batches ------------------------------------------------------------------------------------------------


class Batches(nn.Module):
    """Notes how many images come at once; more than `most` are too many for its memory."""

    def __init__(self, inner: nn.Module, most: int = 100) -> None:
        super().__init__()
        self.inner, self.most = inner, most
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((len(images), *images.shape[2:]))
        if len(images) > self.most or images.shape[2] > 60:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return self.inner(images)


def same(found: list[Prediction], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, ids in zip(found, expected, strict=True):
        assert torch.equal(one.ids, ids)


@pytest.mark.parametrize("settings", [{}, {"scales": [0.5, 1.0], "flip": True}, {"crop": (50, 50)}])
def test_images_of_one_size_are_computed_together_and_each_gets_its_own(settings: dict) -> None:
    sizes = [(40, 50), (40, 30), (40, 50), (21, 30), (40, 50), (40, 30)]
    images = [IMAGE[:height, index : index + width] for index, (height, width) in enumerate(sizes)]
    model = Batches(Pooled())
    found = together(model, batch=2, **settings)
    expected = [found.ids(image) for image in images]
    model.seen.clear()
    same(found.predict(images), expected)
    passes = 4 if settings.get("flip") else 1
    assert len(model.seen) == passes * (3 if "crop" in settings else 4)


def test_with_too_little_memory_fewer_are_computed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    images = [IMAGE[:40, start : start + 40] for start in range(7)]
    expected = [together(network(3)).ids(image) for image in images]
    model = Batches(network(3), most=2)
    found = together(model, batch=5)
    same(found.predict(images), expected)
    assert [count for count, *_ in model.seen] == [5, 3, 2, 1, 2, 2]
    assert capsys.readouterr().err == (
        "out of memory: continuing with 3 at once\nout of memory: continuing with 2 at once\n"
    )


def test_windows_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = Batches(network(3), most=1)
    expected = together(network(3), window=32).ids(IMAGE)
    found = together(model, window=32, batch=2)
    assert torch.equal(found.ids(IMAGE), expected)
    assert "continuing with 1 at once" in capsys.readouterr().err
    assert sum(count > 1 for count, *_ in model.seen) == 1


# --- auto ---------------------------------------------------------------------------------------------------


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_free(size: int) -> None:
        monkeypatch.setattr(predictor, "free_on", lambda device: Free(size, 2**31, "this machine"))

    return set_free


def test_auto_takes_the_whole_image_where_it_fits_and_else_windows_and_says_so_once(
    free: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = together(Pooled()).ids(IMAGE)
    cut = together(Pooled(), window=32).ids(IMAGE)
    assert not torch.equal(whole, cut)
    found = together(Pooled(), window="auto", training_crop=32)
    free(2**30)
    assert torch.equal(found.ids(IMAGE), whole)
    assert capsys.readouterr().err == ""
    free(2**19)
    for _ in range(2):
        assert torch.equal(found.ids(IMAGE), cut)
    words = capsys.readouterr().err
    assert words.count("\n") == 1
    assert words.startswith("eval.window=auto: an image of 83 x 61 pixels needs about ")
    assert "512 KiB of 2.0 GiB are free (this machine): windows of 32 x 32 for it" in words
    free(1)
    assert torch.equal(found.ids(IMAGE[:30, :20]), together(Pooled()).ids(IMAGE[:30, :20]))  # one window


def test_auto_goes_to_windows_when_the_memory_was_not_enough(
    free: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    free(2**30)
    found = together(Batches(network(3)), window="auto", training_crop=32)
    assert torch.equal(found.ids(IMAGE), together(network(3), window=32).ids(IMAGE))
    assert capsys.readouterr().err == (
        "out of memory, for an image of 83 x 61 pixels: predicting it in windows\n"
    )
    with pytest.raises(ResourceError, match="^out of memory, for an image of 83 x 61 pixels\n"):
        together(Batches(network(3))).ids(IMAGE)  # the whole image was asked for


class Holed(ArraySource):
    """An image without data in its rows 54 to 102."""

    def valid(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        rows = np.arange(top, bottom)
        return np.repeat(((rows < 54) | (rows >= 102))[:, None], right - left, axis=1)


def test_windows_around_one_without_data_do_not_mix() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (130, 40, 3), dtype=np.uint8)
    pixels[54:102] = PLAIN.pad_pixel
    one = together(Pooled(), window=48)  # windows from rows 0, 27, 54, which is left out, and 82
    found, expected = (
        [band.probabilities for band in one.bands(source(pixels), probabilities=True)]
        for source in (Holed, ArraySource)
    )
    assert found[2] is None
    assert found[3] is not None
    assert expected[3] is not None
    np.testing.assert_allclose(found[3][:, 20:], expected[3][:, 20:], atol=1e-6)


def test_a_model_that_gives_ids_predicts_whole_images_though_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deeplabx.engine.predictor.free_on", lambda device: Free(1, 2, "the test"))
    one = together(network(), window="auto", training_crop=32)
    assert one.window_for(61, 83) == 32
    assert replace(one, gives_ids=True).window_for(61, 83) is None


# --- the probability of the predicted class -----------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scales": (0.5, 1.0), "flip": True},
        {"window": 32},
        {"window": 32, "scales": (1.0, 1.5)},
        {"crf": DenseCRF(2, bilateral_rgb=20.0)},
        {"crf": DenseCRF(2, bilateral_rgb=20.0), "window": 48},
        {"crop": (80, 100)},
    ],
)
def test_the_confidence_is_the_largest_probability_and_does_not_change_the_ids(
    settings: dict[str, Any],
) -> None:
    predictor = together(network(3), **settings)
    (plain,) = predictor.predict([IMAGE])
    (whole,) = predictor.predict([IMAGE], probabilities=True)
    (found,) = predictor.predict([IMAGE], confidence=True)
    assert plain.confidence is None
    assert found.probabilities is None
    assert torch.equal(found.ids, plain.ids)
    assert whole.probabilities is not None
    assert found.confidence is not None
    torch.testing.assert_close(found.confidence, whole.probabilities.max(dim=0).values)
