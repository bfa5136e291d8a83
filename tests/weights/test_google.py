from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import deeplabx
from deeplabx.errors import CheckpointError
from deeplabx.model.contract import DeepLab
from deeplabx.weights.contract import Imported
from deeplabx.weights.tfjs import read_tfjs
from deeplabx.weights.truth import truth_of
from tests.conftest import Root
from tests.weights.importers import google_deeplabv3_mobilenetv2
from tests.weights.test_tfjs import write_tfjs

# of each unit: channels in, channels out, stride of the depthwise convolution, its rate
UNITS = [
    (32, 16, 1, 1),
    (16, 24, 2, 1),
    (24, 24, 1, 1),
    (24, 32, 2, 1),
    (32, 32, 1, 1),
    (32, 32, 1, 1),
    (32, 64, 1, 1),  # strided in the classification network
    (64, 64, 1, 2),
    (64, 64, 1, 2),
    (64, 64, 1, 2),
    (64, 96, 1, 2),
    (96, 96, 1, 2),
    (96, 96, 1, 2),
    (96, 160, 1, 2),  # strided in the classification network
    (160, 160, 1, 4),
    (160, 160, 1, 4),
    (160, 320, 1, 4),
]
Table = dict[str, Tensor]


def unit_name(number: int) -> str:
    return "MobilenetV2/expanded_conv" + (f"_{number}" if number else "")


def made_up_table() -> Table:
    """Tensors of the graph's names, in the layout of TensorFlow."""
    generator = torch.Generator().manual_seed(0)
    table: Table = {}

    def convolution(name: str, side: int, inputs: int, outputs: int) -> None:
        kernel = (
            torch.randn(side, side, inputs, outputs, generator=generator) * (2 / side / side / inputs) ** 0.5
        )
        table[f"{name}/Conv2D/merged_input"] = kernel
        table[f"{name}/BatchNorm/FusedBatchNorm/Offset"] = torch.randn(outputs, generator=generator) * 0.3

    convolution("MobilenetV2/Conv", 3, 3, 32)
    for number, (inputs, outputs, _, _) in enumerate(UNITS):
        name, hidden = unit_name(number), inputs * 6 if number else inputs
        if number:
            convolution(f"{name}/expand", 1, inputs, hidden)
        table[f"{name}/depthwise/depthwise_weights"] = torch.randn(3, 3, hidden, 1, generator=generator) / 3
        table[f"{name}/depthwise/BatchNorm/FusedBatchNorm/Scaled"] = (
            torch.rand(hidden, generator=generator) + 0.5
        )
        table[f"{name}/depthwise/BatchNorm/FusedBatchNorm/Offset"] = (
            torch.randn(hidden, generator=generator) * 0.3
        )
        convolution(f"{name}/project", 1, hidden, outputs)
    convolution("aspp0", 1, 320, 256)
    convolution("image_pooling", 1, 320, 256)
    convolution("concat_projection", 1, 512, 256)
    table["logits/semantic/weights"] = torch.randn(1, 1, 256, 21, generator=generator) / 16
    table["logits/semantic/biases"] = torch.randn(21, generator=generator)
    table["Reshape"], table["sub_1/x"] = torch.full((1, 1, 3), 127.5), torch.tensor(513, dtype=torch.int32)
    return table


@pytest.fixture(scope="module")
def made_up() -> Table:
    return made_up_table()


def their_logits(table: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The graph from its image to logits/semantic/BiasAdd, as its model.json has it, from its own tensors."""

    def convolution(x: Tensor, name: str, *, stride: int = 1, padding: int = 0) -> Tensor:
        kernel = table[f"{name}/Conv2D/merged_input"].permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, table[f"{name}/BatchNorm/FusedBatchNorm/Offset"], stride, padding)

    x = convolution(x, "MobilenetV2/Conv", stride=2, padding=1).clamp(0, 6)
    for number, (inputs, outputs, stride, rate) in enumerate(UNITS):
        name = unit_name(number)
        y = convolution(x, f"{name}/expand").clamp(0, 6) if number else x
        kernel = table[f"{name}/depthwise/depthwise_weights"].permute(2, 3, 0, 1)
        y = F.conv2d(y, kernel, None, stride, padding=rate, dilation=rate, groups=len(kernel))
        scale, offset = (
            table[f"{name}/depthwise/BatchNorm/FusedBatchNorm/{part}"][:, None, None]
            for part in ("Scaled", "Offset")
        )
        y = convolution((y * scale + offset).clamp(0, 6), f"{name}/project")
        x = x + y if inputs == outputs and stride == 1 else y
    pooled = convolution(x.mean((2, 3), keepdim=True), "image_pooling").relu().expand(-1, -1, *x.shape[2:])
    x = convolution(torch.cat([pooled, convolution(x, "aspp0").relu()], dim=1), "concat_projection").relu()
    return F.conv2d(x, table["logits/semantic/weights"].permute(3, 2, 0, 1), table["logits/semantic/biases"])


def filled(imported: Imported | None) -> DeepLab:
    assert imported is not None
    assert (imported.settings["model"], imported.settings["backbone"]) == ("deeplabv3", "mobilenetv2")
    model = deeplabx.build_model(
        "deeplabv3",
        backbone="mobilenetv2",
        num_classes=21,
        output_stride=imported.settings["backbone.output_stride"],
        align_corners=imported.settings["model.align_corners"],
    )
    model.load_state_dict(imported.tensors, strict=True)
    return model.eval()


def test_the_logits_are_those_of_the_graph(made_up: Table, tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, {name: tensor.numpy() for name, tensor in made_up.items()}, shard_bytes=2**22)
    model = filled(google_deeplabv3_mobilenetv2(read_tfjs(path)))
    images = torch.rand(1, 3, 97, 65, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        ours, theirs = model(images), their_logits(made_up, images)
    assert theirs.shape == (1, 21, 13, 9)
    assert (ours[:, :, ::8, ::8] - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_only_constants_of_the_graph_are_left_out(made_up: Table) -> None:
    imported = google_deeplabv3_mobilenetv2({**made_up, "surprise": torch.zeros(3)})
    assert imported is not None
    assert imported.left_out == {
        "Reshape": "a constant of the graph",
        "sub_1/x": "a constant of the graph",
        "surprise": "not in our model",
    }
    assert "freeze_backbone_norm" in imported.note


def test_other_names_are_not_its_own() -> None:
    assert google_deeplabv3_mobilenetv2({"MobilenetV2/Conv/weights": torch.zeros(3, 3, 3, 32)}) is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "MobilenetV2/expanded_conv_9/depthwise/BatchNorm/FusedBatchNorm/Scaled",
            None,
            "lacks MobilenetV2/expanded_conv_9/depthwise",
        ),
        (
            "image_pooling/BatchNorm/FusedBatchNorm/Offset",
            None,
            "lacks image_pooling/BatchNorm/FusedBatchNorm/Offset",
        ),
        (
            "aspp0/Conv2D/merged_input",
            torch.zeros(1, 320, 256),
            r"a tensor of shape \[1, 320, 256\] was found instead of a kernel",
        ),
        (
            "concat_projection/Conv2D/merged_input",
            torch.zeros(()),
            r"a tensor of shape \[\] was found instead of a kernel",
        ),
        (
            "MobilenetV2/expanded_conv/depthwise/depthwise_weights",
            torch.zeros(3, 3),
            "was found instead of a depthwise kernel",
        ),
    ],
)
def test_a_cut_or_damaged_file_is_refused_by_name(
    made_up: Table, name: str, value: Tensor | None, reason: str
) -> None:
    damaged = {other: tensor for other, tensor in made_up.items() if other != name} | (
        {} if value is None else {name: value}
    )
    with pytest.raises(CheckpointError, match=reason):
        google_deeplabv3_mobilenetv2(damaged)


def test_the_real_files_logits_are_tensorflows(real_weights: Root) -> None:
    """The kept numbers were made by TensorFlow.js 4.22 (Node, wasm), which executed the file's own graph on
    the image that `truth.drawn` draws.

    They are the 21 numbers of logits/semantic/BiasAdd (65 x 65 x 21) at six places, of which the last is in
    the padding.
    """
    imported = google_deeplabv3_mobilenetv2(
        read_tfjs(real_weights("deeplabv3_mnv2_pascal_trainval_tfjs") / "model.json")
    )
    assert imported is not None
    truth = truth_of(imported)
    assert truth is not None
    assert truth.difference(filled(imported), imported.normalization) < 2e-5
