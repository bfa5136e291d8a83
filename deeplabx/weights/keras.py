"""The ResNet-50 of Keras's applications before Keras 2.2.5: Caffe's, in BGR; its convolutions have biases,
its batch norms an eps of 1e-3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from deeplabx.backbone.normalization import KERAS
from deeplabx.errors import CheckpointError
from deeplabx.weights.contract import BATCH_NORM_EPS, Build, Conversion, Imported
from deeplabx.weights.tfjs import in_our_layout

SOURCE = "Keras's ResNet-50"
EPS = 1e-3  # of its batch norms
UNITS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}  # by the number of the stage; ours count from 1


def keras_resnet50(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of a layers model whose stem is bn_conv1 and whose first block is res2a. None for other
    names.
    """
    if "bn_conv1/moving_variance" not in foreign or "res2a_branch2a/kernel" not in foreign:
        return None
    conversion = Conversion(foreign, source=SOURCE)
    conversion.take(
        "conv1.weight",
        "conv1/kernel",
        lambda kernel: in_our_layout(kernel).flip(1),
        words="transposed, BGR to RGB",
    )
    take_norm(conversion, "bn1", norm="bn_conv1", convolution="conv1")
    for stage, letters in UNITS.items():
        for number, letter in enumerate(letters):
            ours, theirs = f"layer{stage - 1}.{number}", f"{stage}{letter}_branch"
            for part, branch in enumerate("abc", start=1):
                take_convolution(
                    conversion, f"{ours}.conv{part}", f"{ours}.bn{part}", theirs=f"{theirs}2{branch}"
                )
            if number == 0:
                take_convolution(
                    conversion, f"{ours}.downsample.0", f"{ours}.downsample.1", theirs=f"{theirs}1"
                )
    if "fc1000/kernel" in foreign:
        conversion.take("fc.weight", "fc1000/kernel", in_our_layout, words="transposed")
        conversion.take("fc.bias", "fc1000/bias")
    return conversion.done({"backbone": "resnet50_keras"}, KERAS)


def take_convolution(conversion: Conversion, convolution: str, norm: str, *, theirs: str) -> None:
    """A convolution res`theirs` and its batch norm bn`theirs`."""
    conversion.take(f"{convolution}.weight", f"res{theirs}/kernel", in_our_layout, words="transposed")
    take_norm(conversion, norm, norm=f"bn{theirs}", convolution=f"res{theirs}")


def take_norm(conversion: Conversion, ours: str, *, norm: str, convolution: str) -> None:
    """A batch norm after a convolution with a bias: (y + bias - mean) / sqrt(var + 1e-3), where ours is (y -
    mean) / sqrt(var + 1e-5).
    """
    mean, variance, bias = (
        conversion.read(name)
        for name in (f"{norm}/moving_mean", f"{norm}/moving_variance", f"{convolution}/bias")
    )
    if mean.shape != bias.shape:
        raise CheckpointError(
            f"{SOURCE}: {convolution}/bias and {norm}/moving_mean have the shapes {list(bias.shape)} and "
            f"{list(mean.shape)}"
        )
    conversion.take(f"{ours}.weight", f"{norm}/gamma")
    conversion.take(f"{ours}.bias", f"{norm}/beta")
    conversion.put(f"{ours}.running_mean", mean - bias, words=f"{norm}/moving_mean - {convolution}/bias")
    conversion.put(
        f"{ours}.running_var",
        variance + (EPS - BATCH_NORM_EPS),
        words=f"{norm}/moving_variance + {EPS} - {BATCH_NORM_EPS}",
    )
    conversion.put(f"{ours}.num_batches_tracked", torch.tensor(0), words="not in the file: 0")
