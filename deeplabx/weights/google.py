"""Google's DeepLabv3 on MobileNetV2, as a frozen graph: batch norms are folded, into kernels and biases or,
of depthwise ones, scales and biases.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from deeplabx.backbone.normalization import MINUS_ONE_TO_ONE
from deeplabx.weights.contract import Build, Conversion, Imported
from deeplabx.weights.tfjs import depthwise_in_our_layout, in_our_layout

STEM = "MobilenetV2/Conv"
UNITS = 17  # inverted residuals; the first has no expansion
IMAGE_POOLING = 256  # channels, which come first in concat_projection; last in ours
SOURCE = "Google's DeepLabv3 on MobileNetV2"
NOTE = (
    "its batch norms are folded and have no statistics: train with trainer.unfold_norm=128 or "
    "trainer.freeze_backbone_norm=true"
)


def google_deeplabv3_mobilenetv2(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of deeplabv3_mnv2_*, kernels in TensorFlow's layout. None for other names."""
    if f"{STEM}/Conv2D/merged_input" not in foreign or "logits/semantic/weights" not in foreign:
        return None
    conversion = Conversion(foreign, source=SOURCE)
    for name in foreign:
        if foreign[name].ndim == 0 or not torch.is_floating_point(foreign[name]) or name == "Reshape":
            conversion.leave_out(name, "a constant of the graph")
    take_convolution(conversion, "backbone.features.0", STEM)
    for number in range(UNITS):
        theirs = "MobilenetV2/expanded_conv" + (f"_{number}" if number else "")
        ours = f"backbone.features.{number + 1}.conv"
        # The index of the depthwise convolution, after the expansion if there is one.
        first = int(number > 0)
        if first:
            take_convolution(conversion, f"{ours}.0", f"{theirs}/expand")
        take_depthwise(conversion, f"{ours}.{first}", f"{theirs}/depthwise")
        take_kernel(conversion, f"{ours}.{first + 1}.weight", f"{theirs}/project/Conv2D/merged_input")
        conversion.put_folded_norm(f"{ours}.{first + 2}", f"{theirs}/project/BatchNorm/FusedBatchNorm/Offset")
    take_convolution(conversion, "aspp.branches.0", "aspp0")
    take_convolution(conversion, "aspp.branches.1.project", "image_pooling")
    conversion.take(
        "aspp.project.0.weight",
        "concat_projection/Conv2D/merged_input",
        lambda kernel: in_our_layout(kernel).roll(-IMAGE_POOLING, dims=1),
        words="transposed, image pooling last",
    )
    conversion.put_folded_norm("aspp.project.1", "concat_projection/BatchNorm/FusedBatchNorm/Offset")
    take_kernel(conversion, "classify.weight", "logits/semantic/weights")
    conversion.take("classify.bias", "logits/semantic/biases")
    settings = {
        "model": "deeplabv3",
        "backbone": "mobilenetv2",
        "backbone.output_stride": 8,
        "model.align_corners": True,
    }
    return conversion.done(settings, MINUS_ONE_TO_ONE, note=NOTE)


def take_convolution(conversion: Conversion, ours: str, theirs: str) -> None:
    """A convolution and its batch norm, folded into the kernel but for the bias."""
    take_kernel(conversion, f"{ours}.0.weight", f"{theirs}/Conv2D/merged_input")
    conversion.put_folded_norm(f"{ours}.1", f"{theirs}/BatchNorm/FusedBatchNorm/Offset")


def take_depthwise(conversion: Conversion, ours: str, theirs: str) -> None:
    """A depthwise convolution and its batch norm, folded to scale and bias."""
    kernel = f"{theirs}/depthwise_weights"
    conversion.take(f"{ours}.0.weight", kernel, depthwise_in_our_layout, words="transposed")
    norm = f"{theirs}/BatchNorm/FusedBatchNorm"
    conversion.put_folded_norm(f"{ours}.1", f"{norm}/Offset", scale=f"{norm}/Scaled")


def take_kernel(conversion: Conversion, ours: str, theirs: str) -> None:
    conversion.take(ours, theirs, in_our_layout, words="transposed")
