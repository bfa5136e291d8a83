from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deeplabx.errors import CheckpointError
from deeplabx.registry import build
from tests.weights.importers import ml_illustrated_efficientnet_lite0

# of each unit, in the paper's order: channels in, expansion, channels out, side of the kernel, stride
UNITS = [
    (32, 1, 16, 3, 1),
    (16, 6, 24, 3, 2),
    (24, 6, 24, 3, 1),
    (24, 6, 40, 5, 2),
    (40, 6, 40, 5, 1),
    (40, 6, 80, 3, 2),
    (80, 6, 80, 3, 1),
    (80, 6, 80, 3, 1),
    (80, 6, 112, 5, 1),
    (112, 6, 112, 5, 1),
    (112, 6, 112, 5, 1),
    (112, 6, 192, 5, 2),
    (192, 6, 192, 5, 1),
    (192, 6, 192, 5, 1),
    (192, 6, 192, 5, 1),
    (192, 6, 320, 3, 1),
]
Table = dict[str, Tensor]


@pytest.fixture(scope="module")
def foreign() -> Table:
    """A made-up file of the package's names."""
    generator = torch.Generator().manual_seed(0)
    table: Table = {}

    def convolution(name: str, *shape: int) -> None:
        table[f"{name}.weight"] = (
            torch.randn(shape, generator=generator) * (2 / shape[1] / shape[2] / shape[3]) ** 0.5
        )

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "running_var"):
            table[f"{name}.{part}"] = torch.rand(channels, generator=generator) + 0.5
        for part in ("bias", "running_mean"):
            table[f"{name}.{part}"] = torch.randn(channels, generator=generator) * 0.1
        table[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for number, (inputs, expansion, outputs, side, _) in enumerate(UNITS):
        hidden = inputs * expansion
        if expansion > 1:
            convolution(f"_blocks.{number}._expand_conv", hidden, inputs, 1, 1)
            norm(f"_blocks.{number}._bn0", hidden)
        convolution(f"_blocks.{number}._depthwise_conv", hidden, 1, side, side)
        norm(f"_blocks.{number}._bn1", hidden)
        convolution(f"_blocks.{number}._project_conv", outputs, hidden, 1, 1)
        norm(f"_blocks.{number}._bn2", outputs)
    convolution("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    table["_fc.weight"], table["_fc.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return table


def their_features(table: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The package's network, from its own tensors, on odd sides."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, bias = (
            table[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * scale + bias

    x = norm(F.conv2d(x, table["_conv_stem.weight"], stride=2, padding=1), "_bn0").clamp(0, 6)
    for number, (inputs, expansion, outputs, side, stride) in enumerate(UNITS):
        name, y = f"_blocks.{number}.", x
        if expansion > 1:
            y = norm(F.conv2d(y, table[f"{name}_expand_conv.weight"]), f"{name}_bn0").clamp(0, 6)
        kernel = table[f"{name}_depthwise_conv.weight"]
        y = norm(
            F.conv2d(y, kernel, stride=stride, padding=side // 2, groups=len(kernel)), f"{name}_bn1"
        ).clamp(0, 6)
        y = norm(F.conv2d(y, table[f"{name}_project_conv.weight"]), f"{name}_bn2")
        x = x + y if inputs == outputs and stride == 1 else y
    return x


def test_the_features_are_the_packages(foreign: Table) -> None:
    imported = ml_illustrated_efficientnet_lite0(foreign)
    assert imported is not None
    backbone = build("backbone", "efficientnet_lite0", output_stride=32).eval()
    own = backbone.state_dict()
    backbone.load_state_dict(
        {name: value for name, value in imported.tensors.items() if name in own}, strict=True
    )
    images = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = backbone(images).high, their_features(foreign, images)
    assert ours.shape == theirs.shape == (1, 320, 3, 4)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_the_classifier_is_kept_in_timms_names(foreign: Table) -> None:
    imported = ml_illustrated_efficientnet_lite0(foreign)
    assert imported is not None
    assert imported.tensors["classifier.weight"].shape == (1000, 1280)
    assert torch.equal(imported.tensors["bn2.running_var"], foreign["_bn1.running_var"])
    assert imported.tensors["conv_head.weight"].shape == (1280, 320, 1, 1)
    assert not imported.left_out
    assert imported.normalization.mean == (127, 127, 127)
    assert "32k + 1" in imported.note


def test_a_headless_file_is_taken_too(foreign: Table) -> None:
    headless = {name: value for name, value in foreign.items() if name not in ("_fc.weight", "_fc.bias")}
    imported = ml_illustrated_efficientnet_lite0(headless)
    assert imported is not None
    assert "classifier.weight" not in imported.tensors
    assert imported.left_out["_conv_head.weight"] == "not in our model"


@pytest.mark.parametrize("name", ["_blocks.16._project_conv.weight", "_blocks.3._se_reduce.weight"])
def test_another_network_of_the_package_is_not_its_own(foreign: Table, name: str) -> None:
    assert ml_illustrated_efficientnet_lite0({**foreign, name: torch.zeros(8, 8, 1, 1)}) is None
    assert ml_illustrated_efficientnet_lite0({"blocks.0.0.conv_dw.weight": torch.zeros(1)}) is None


def test_a_cut_file_and_one_of_other_widths_are_refused_by_name(foreign: Table) -> None:
    with pytest.raises(CheckpointError, match=r"lacks _blocks\.9\._bn1\.bias"):
        ml_illustrated_efficientnet_lite0(
            {name: value for name, value in foreign.items() if name != "_blocks.9._bn1.bias"}
        )
    with pytest.raises(
        CheckpointError, match=r"_conv_stem\.weight is \[40, 3, 3, 3\] and not \[32, 3, 3, 3\]"
    ):
        ml_illustrated_efficientnet_lite0({**foreign, "_conv_stem.weight": torch.zeros(40, 3, 3, 3)})
