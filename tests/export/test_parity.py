"""What differs from the model is found by the five sizes alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.engine.metrics import Metrics, metrics
from deeplabx.errors import CheckpointError
from deeplabx.export import parity
from tests.export.networks import register_slim, slim_model

pytestmark = pytest.mark.usefixtures("own_options")


class Swapped(nn.Module):
    """The model on BGR images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.flip(1))


class Ids(nn.Module):
    def __init__(self, model: nn.Module, *, shift: int = 0) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return (logits.argmax(dim=1, keepdim=True) + self.shift) % logits.shape[1]


def comparisons(model: nn.Module, network: nn.Module) -> list[parity.Comparison]:
    return [
        parity.compared(what, images, model=model, normalization=IMAGENET, network=network, preprocess=False)
        for what, images in parity.natural_images(8, 3)
    ]


@pytest.fixture(autouse=True)
def slim(own_options: None) -> None:
    register_slim()


def test_the_model_itself_is_equal_at_all_five_sizes() -> None:
    found = comparisons(slim_model(), slim_model())
    assert [one.what for one in found] == list(parity.sizes(8))
    assert all((one.logits or 0) < 1e-6 and one.equal_ids == 1 for one in found)
    parity.refuse_different(found, file="model.onnx")


def test_the_five_sizes_are_what_they_are_called() -> None:
    for stride in (8, 16, 32):
        found = parity.sizes(stride)
        assert found["one pixel above a stride"][1] % stride == 1
        assert found["odd"][1] % 2 == 1
        assert found["not square"][1] != found["not square"][2]
        assert found["features of 1 x 1"] == (1, stride, stride)
        assert found["batch of 2"][0] == 2


@pytest.mark.parametrize("fault", ["align_corners", "channels"])
def test_a_planted_fault_is_found(fault: str) -> None:
    model = slim_model()
    network = slim_model(align_corners=False) if fault == "align_corners" else Swapped(model)
    with pytest.raises(CheckpointError, match=r"model.onnx differs .* logits by .* bound 1e-04"):
        parity.refuse_different(comparisons(model, network), file="model.onnx")


def test_other_ids_are_found_where_there_are_no_logits() -> None:
    model = slim_model()
    equal = comparisons(model, Ids(model))
    parity.refuse_different(equal, file="model.onnx")
    assert all(one.logits is None for one in equal)
    with pytest.raises(CheckpointError, match=r"0.000% of the ids are equal, bound 99.99%"):
        parity.refuse_different(comparisons(model, Ids(model, shift=1)), file="model.onnx")


def test_a_tie_is_equal_and_counted() -> None:
    class Tie(nn.Module):
        def __init__(self, order: list[int]) -> None:
            super().__init__()
            self.order = order

        def forward(self, images: Tensor) -> Tensor:
            close = torch.stack([images[:, 0] * 0 + 1, images[:, 0] * 0 + 1 + 1e-7], dim=1)
            return close[:, self.order]

    (found,) = {(one.equal_ids, one.ties > 0) for one in comparisons(Tie([0, 1]), Tie([1, 0]))}
    assert found == (1.0, True)


def test_an_output_of_another_size_is_refused() -> None:
    class Short(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, :-1]

    with pytest.raises(CheckpointError, match=r"one pixel above a stride: the exported file gives"):
        comparisons(slim_model(num_classes=3), Short())


def test_what_is_not_finite_is_no_small_difference() -> None:
    class Nan(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * float("nan")

    class Same(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images

    with pytest.raises(CheckpointError, match="logits by inf"):
        parity.refuse_different(comparisons(Same(), Nan()), file="model.onnx")


def test_random_images_are_like_photographs() -> None:
    image = parity.random_image(64, 96, 3, seed=1)
    assert image.shape == (64, 96, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, parity.random_image(64, 96, 3, seed=1))
    pixels = image.astype(float)
    assert np.abs(np.diff(pixels, axis=1)).mean() < 0.6 * pixels.std(axis=(0, 1)).mean()  # smooth
    assert len(set(pixels.mean(axis=(0, 1)).round())) == 3  # channels differ


def scored(*rows: list[int]) -> Metrics:
    return metrics(torch.tensor(rows), ["a", "b"])


def test_metrics_beyond_a_bound_are_refused() -> None:
    model, file = scored([90, 10], [10, 90]), scored([91, 9], [10, 90])
    parity.refuse_other_metrics(parity.SplitComparison("val", model, model), file="model.onnx")
    with pytest.raises(CheckpointError, match=r"scores mIoU 0.82\d+ on split val, the model 0.81\d+"):
        parity.refuse_other_metrics(parity.SplitComparison("val", model, file), file="model.onnx")
    lost = parity.SplitComparison("val", file, model)
    parity.refuse_loss(lost, most=0.01, file="model_int8.onnx")
    with pytest.raises(CheckpointError, match=r"0.0083 lost, max_loss=0.001; most in a"):
        parity.refuse_loss(lost, most=0.001, file="model_int8.onnx")


def test_a_class_that_only_the_file_predicts_is_named() -> None:
    model, file = scored([90, 0], [0, 0]), scored([89, 1], [0, 0])
    with pytest.raises(CheckpointError, match="IoU 0 because no label has it: b"):
        parity.refuse_loss(parity.SplitComparison("val", model, file), most=0.01, file="model_int8.onnx")


def test_one_pixel_of_a_rare_class_is_no_other_file_but_classes_that_change_places_are() -> None:
    model = metrics(
        torch.diag(torch.tensor([10_000_000, *[5_000] * 20])), [f"c{number}" for number in range(21)]
    )
    confusion = torch.diag(torch.tensor([10_000_000, *[5_000] * 20]))
    confusion[1, 0], confusion[1, 1] = 1, 4_999  # 2e-4 of the IoU of its class, 1e-5 of the mIoU
    flipped = metrics(confusion, list(model.per_class_iou))
    parity.refuse_other_metrics(parity.SplitComparison("val", model, flipped), file="model.onnx")
    better, worse = scored([90, 10], [0, 100]), scored([100, 0], [10, 90])  # equal mIoU
    assert abs(better.miou - worse.miou) < 1e-9
    with pytest.raises(CheckpointError, match=r"bound 1e-04; classes beyond 2e-04: a .*, b "):
        parity.refuse_other_metrics(parity.SplitComparison("val", better, worse), file="model.onnx")


def test_the_record_of_a_comparison_is_plain(tmp_path: Path) -> None:
    model = scored([90, 10], [10, 90])
    plain = parity.SplitComparison("val", model, model).to_plain()
    assert plain["miou_lost"] == 0
    assert set(plain["model"]) == {"miou", "miou_gt_only", "per_class_iou", "confusion_sha256", "images"}
