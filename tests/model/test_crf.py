from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deeplabx.errors import ConfigError
from deeplabx.model import crf
from deeplabx.model.crf import DenseCRF

# Labels of the toy by pydensecrf2 1.1: setUnaryEnergy(-log(probabilities)),
# addPairwiseGaussian(sxy=position_xy, compat=position_weight), addPairwiseBilateral(sxy=bilateral_xy,
# srgb=bilateral_rgb, compat=bilateral_weight), the argmax of inference(10).
GOLDEN = Path(__file__).parent / "data"
V1 = DenseCRF(position_weight=3, position_xy=3, bilateral_weight=5, bilateral_xy=50, bilateral_rgb=10)
V2 = DenseCRF()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On cores that other tests keep busy, threads wait for each other longer than these small images take
    one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy() -> tuple[Tensor, Tensor, Tensor]:
    """Noisy image 200 x 200 x 3 of four shapes, probabilities 4 x 200 x 200 that favour a wrong class in a
    fifth of the pixels, truth.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:200, :200]
    truth = np.zeros((200, 200), np.int64)
    truth[20:90, 110:180] = 1
    truth[(y - 140) ** 2 + (x - 60) ** 2 < 45**2] = 2
    truth[(y > 110) & (x > y - 20) & (x < 190)] = 3
    colours = np.array([[90, 90, 100], [125, 80, 85], [80, 125, 90], [90, 95, 140]])
    image = (colours[truth] + random.normal(0, 8, (200, 200, 3))).clip(0, 255).astype(np.uint8)
    flipped = random.random((200, 200)) < 0.2
    labels = np.where(flipped, (truth + random.integers(1, 4, (200, 200))) % 4, truth)
    probabilities = np.where(labels == np.arange(4)[:, None, None], 0.5, 0.5 / 3).astype(np.float32)
    return torch.from_numpy(image), torch.from_numpy(probabilities), torch.from_numpy(truth)


def sketch(height: int = 12, width: int = 17) -> tuple[Tensor, Tensor]:
    """An image of three colours and the uncertain probabilities of their classes, small enough for N x N
    matrices.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    truth = (x > 8).astype(int) + (y > x)
    image = np.array([[60, 70, 80], [110, 70, 60], [80, 130, 90]])[truth] + random.normal(
        0, 6, (height, width, 3)
    )
    probabilities = 0.6 * random.dirichlet([1, 1, 1], (height, width)) + 0.4 * np.eye(3)[truth]
    return torch.from_numpy(image.astype(np.uint8)), torch.from_numpy(probabilities).permute(2, 0, 1).float()


def gaussian_kernel(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """N x N, normalised symmetrically. The diagonal stays, as in the released code: a pixel hears itself."""
    kernel = np.exp(-0.5 * np.square(features[:, None] - features[None]).sum(axis=2))
    total = kernel.sum(axis=1)
    return kernel / np.sqrt(total[:, None] * total)


def exact_mean_field(model: DenseCRF, image: Tensor, probabilities: Tensor) -> Tensor:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    xy, rgb = np.stack([x, y], axis=2).reshape(-1, 2), image.numpy().reshape(-1, 3)
    kernel = model.position_weight * gaussian_kernel(xy / model.position_xy)
    kernel += model.bilateral_weight * gaussian_kernel(
        np.hstack([xy / model.bilateral_xy, rgb / model.bilateral_rgb])
    )
    unary = marginals = probabilities.numpy().reshape(len(probabilities), -1)
    for _ in range(model.iterations):
        marginals = unary * np.exp(marginals @ kernel)
        marginals = marginals / marginals.sum(axis=0)
    return torch.from_numpy(marginals).reshape(probabilities.shape).float()


@pytest.mark.parametrize("model", [V1, V2, DenseCRF(1, 3, 3, 5, 50, 10), DenseCRF(5, 1, 3, 1, 5, 20)])
def test_the_lattice_comes_close_to_the_sum_over_all_pairs(model: DenseCRF) -> None:
    image, probabilities = sketch()
    marginals, exact = model(image, probabilities), exact_mean_field(model, image, probabilities)
    assert (exact.argmax(0) != probabilities.argmax(0)).sum() > 20
    assert torch.equal(marginals.argmax(0), exact.argmax(0))
    assert torch.allclose(
        marginals, exact, rtol=0, atol=0.03
    )  # what the paper's lattice approximates; without a CRF they are 0.3 to 0.9 off


@pytest.mark.parametrize(
    ("model", "golden", "accuracy"), [(V1, "crf_toy_v1.png", 0.99925), (V2, "crf_toy_v2.png", 0.9986)]
)
def test_the_toy_gets_the_labels_of_the_released_code(model: DenseCRF, golden: str, accuracy: float) -> None:
    image, probabilities, truth = toy()
    labels = model(image, probabilities).argmax(0)
    expected = torch.from_numpy(np.array(Image.open(GOLDEN / golden)))
    assert (probabilities.argmax(0) == truth).float().mean().item() == pytest.approx(0.802, abs=1e-4)
    assert (labels == truth).float().mean().item() == pytest.approx(accuracy, abs=2e-4)
    assert (labels == expected).float().mean().item() > 0.9998  # the truth itself is no closer than 0.99925


def test_a_point_is_the_weighted_mean_of_its_vertices_and_neighbours_are_one_stride_away() -> None:
    elevated = crf.elevate(torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (300, 3))))
    origins, ranks, weights = crf.enclosing_simplex(elevated)
    vertices = torch.stack(
        [4 * origins + k - 4 * (ranks > 3 - k) for k in range(4)], dim=1
    )  # N 4 4, as the paper's canonical simplex
    assert torch.allclose((weights[:, :, None] * vertices).sum(1), elevated)
    assert (weights > -1e-9).all()
    assert (vertices.sum(2) == 0).all()
    numbers, strides = crf.pack(origins, ranks)
    number_of = {
        tuple(vertex): number
        for vertex, number in zip(vertices.flatten(0, 1).tolist(), numbers.flatten().tolist(), strict=True)
    }
    assert len(number_of) == len(set(number_of.values()))
    for direction, stride in zip(4 * np.eye(4, dtype=int) - 1, strides, strict=True):
        for vertex, number in number_of.items():
            neighbour = number_of.get(tuple((vertex + direction).tolist()))
            assert (
                (neighbour == number + stride)
                if neighbour is not None
                else (number + stride not in number_of.values())
            )


def test_a_blur_reaches_both_ends_of_a_line() -> None:
    values = torch.tensor([[1000.0], [1.0], [10.0], [100.0]])
    for stride in (5, -5):
        assert crf.blur_along(torch.tensor([-12, 0, 5, 10]), stride)(values).flatten().tolist() == [
            1000,
            6,
            60.5,
            105,
        ]


def test_marginals_are_probabilities_in_float32() -> None:
    image, probabilities = sketch()
    marginals = V2(image, probabilities.double())
    assert marginals.dtype == torch.float32
    assert marginals.shape == probabilities.shape
    assert torch.allclose(marginals.sum(0), torch.ones(12, 17))


def test_no_iteration_gives_the_probabilities_back() -> None:
    image, probabilities = sketch()
    assert torch.allclose(DenseCRF(iterations=0)(image, probabilities), probabilities, atol=1e-6)


def test_a_uniform_image_keeps_its_uniform_labels() -> None:
    probabilities = torch.tensor([0.3, 0.45, 0.25])[:, None, None].expand(3, 20, 30)
    marginals = V2(torch.full((20, 30, 3), 128, dtype=torch.uint8), probabilities)
    assert (marginals.argmax(0) == 1).all()


def test_classes_have_no_order() -> None:
    image, probabilities = sketch()
    order = [2, 0, 1]
    assert torch.allclose(V2(image, probabilities[order]), V2(image, probabilities)[order], atol=1e-5)


def test_the_same_bits_on_every_run() -> None:
    image, probabilities = sketch(80, 120)
    assert torch.equal(V2(image, probabilities), V2(image, probabilities))


def test_classes_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, probabilities = sketch()
    whole = V2(image, probabilities)
    monkeypatch.setattr(crf, "BYTES_AT_A_TIME", 1)
    assert torch.allclose(V2(image, probabilities), whole, atol=1e-5)


def test_a_probability_of_zero_stays_finite_and_can_be_overruled() -> None:
    image = torch.full((15, 15, 3), 90, dtype=torch.uint8)
    probabilities = torch.zeros(2, 15, 15)
    probabilities[0] = 1
    probabilities[:, 7, 7] = torch.tensor([0.0, 1.0])
    assert V2(image, probabilities).isfinite().all()
    overruled = DenseCRF(bilateral_weight=200, position_weight=0)(image, probabilities)
    assert (overruled.argmax(0) == 0).all()


def test_one_pixel_and_one_class_work() -> None:
    image, probabilities = sketch()
    assert torch.equal(V2(image, torch.ones(1, 12, 17)), torch.ones(1, 12, 17))
    assert V2(image[:1, :1], probabilities[:, :1, :1]).argmax(0) == probabilities[:, 0, 0].argmax()


def test_bad_input_is_named() -> None:
    image, probabilities = sketch()
    with pytest.raises(ValueError, match=r"image \(12, 17, 3\) and probabilities \(3, 12, 16\) do not match"):
        V2(image, probabilities[:, :, 1:])
    with pytest.raises(ValueError, match="the image is torch.float32"):
        V2(image.float(), probabilities)
    with pytest.raises(ValueError, match="bilateral_rgb=0 is a standard deviation"):
        DenseCRF(bilateral_rgb=0)
    with pytest.raises(ConfigError, match="the standard deviations of the CRF are too small"):
        DenseCRF(bilateral_rgb=0.001)(image, probabilities)
