"""What an option from outside the project must do, tried once before it is trained with: what differs is
answered in words, not by an error deep in the loop.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplabx.dataset.contract import MOST_IN_8_BITS, WIDE_IGNORE_INDEX, SegmentationSet
from deeplabx.dataset.labels import MAX_CLASSES
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab

HEIGHT, WIDTH = 65, 97  # odd, so that rounding shows
FEATURES = {"low_level": 4, "middle": 8}  # the strides of features, where it is not the output stride


def refuse_other_backbone(name: str, backbone: Any, *, in_channels: int) -> None:
    """Raise ConfigError where a backbone's features are not as it states."""
    stated = ("channels", "low_level_channels", "middle_channels", "auxiliary_channels", "output_stride")
    for attribute in (*stated, "normalization", "separable", "atrous_branches"):
        if not hasattr(backbone, attribute):
            raise ConfigError(f"backbone={name} does not state {attribute}", hint=where(type(backbone)))
    features = tried(backbone, torch.zeros(1, in_channels, HEIGHT, WIDTH))
    for kind in ("low_level", "middle", "auxiliary", "high"):
        found = tuple(getattr(features, kind).shape)
        channels = backbone.channels if kind == "high" else getattr(backbone, f"{kind}_channels")
        if found[1] != channels:
            key = "channels" if kind == "high" else f"{kind}_channels"
            raise ConfigError(
                f"backbone={name}: its {kind} features have {found[1]} channels, but {key} is {channels}"
            )
        stride = FEATURES.get(kind, backbone.output_stride if kind == "high" else None)
        sides = None if stride is None else (ceil(HEIGHT / stride), ceil(WIDTH / stride))
        if sides is not None and found[2:] != sides:
            raise ConfigError(
                f"backbone={name}: its {kind} features are {found[2]} x {found[3]}, but must be {sides[0]} x "
                f"{sides[1]} for an image of {HEIGHT} x {WIDTH}, at stride {stride}"
            )


def refuse_other_model(name: str, model: DeepLab, *, num_classes: int, in_channels: int) -> None:
    """Raise ConfigError where a model's logits are not of the image's size."""
    logits = tried(model, torch.zeros(1, in_channels, HEIGHT, WIDTH))
    expected = (1, num_classes, HEIGHT, WIDTH)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"model={name} gives {found} in evaluation mode, but must give logits {expected}")


def tried(network: nn.Module, images: Tensor) -> Any:
    """What a network gives in evaluation mode; it is left as it was."""
    training = network.training
    with torch.no_grad():
        outputs = network.eval()(images)
    network.train(training)
    return outputs


def refuse_other_augment(
    name: str, augment: Any, *, crop_size: int, channels: int, label_dtype: np.dtype
) -> None:
    """Raise ConfigError where an augmentation gives other than arrays of the crop's size, the image of uint8
    and the label as it was given; also from its methods `around` and `described`, where it has them.
    """
    image, label = np.zeros((HEIGHT, WIDTH, channels), np.uint8), np.zeros((HEIGHT, WIDTH), label_dtype)
    given: dict[str, Any] = {"crop_size": crop_size, "channels": channels, "label_dtype": label_dtype}
    called = augment(image, label, np.random.default_rng(0))
    refuse_other_result(name, called, **given)
    for method in ("around", "described"):
        if hasattr(augment, method) and level_of(augment, method) > level_of(augment, "__call__"):
            raise ConfigError(
                f"augment={name} overrides __call__, but inherits {method}, which does not call it",
                hint=f"override {method} too, or hold the other augmentation instead of extending it",
            )
    if hasattr(augment, "around"):
        around = augment.around(image, label, np.random.default_rng(0), 0)
        refuse_other_result(f"{name}: around", around, **given)
    if hasattr(augment, "described"):
        found = augment.described(image, label, np.random.default_rng(0))
        if not (isinstance(found, tuple) and len(found) == 3 and isinstance(found[2], list)):
            raise ConfigError(f"augment={name}: described must give (image, label, list of words)")
        refuse_other_result(f"{name}: described", found[:2], **given)


def level_of(augment: Any, method: str) -> int:
    """How many classes above its own the class is that defines a method; 0 of one that is its own."""
    classes = type(augment).__mro__
    return next((level for level, kind in enumerate(classes) if method in vars(kind)), 0)


def refuse_other_result(
    name: str, found: Any, *, crop_size: int, channels: int, label_dtype: np.dtype
) -> None:
    """Raise ConfigError for what an augmentation must not give."""
    expected = ((crop_size, crop_size, channels), (crop_size, crop_size))
    if not (isinstance(found, tuple) and len(found) == 2):
        raise ConfigError(f"augment={name} gives a {type(found).__name__}, but must give (image, label)")
    dtypes = (np.dtype(np.uint8), label_dtype)
    for what, array, shape, dtype in zip(("image", "label"), found, expected, dtypes, strict=True):
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ConfigError(f"augment={name} gives the {what} as {kind}, but must give {dtype} {shape}")


def refuse_other_set(name: str, samples: SegmentationSet) -> None:
    """Raise ConfigError where a data set's facts about itself do not go together."""
    problem = next(problems(samples), None)
    if problem is not None:
        raise ConfigError(f"dataset={name}: {problem}", hint=where(SegmentationSet))


def problems(samples: SegmentationSet) -> Iterator[str]:
    for attribute, what in (
        ("classes", "the list of class names"),
        ("palette", "an RGB colour for each class"),
    ):
        if not hasattr(samples, attribute):
            yield f"{type(samples).__name__} has no attribute {attribute}, {what}"
            return
    if len(samples.classes) != len(samples.palette):
        yield f"{len(samples.classes)} classes, but {len(samples.palette)} colours in its palette"
    if len(set(samples.classes)) != len(samples.classes):
        yield "duplicate class name"
    if len(samples.classes) > MAX_CLASSES:
        yield f"{len(samples.classes)} classes; there must be at most {MAX_CLASSES}"
    if not len(samples.classes) <= samples.ignore_index <= WIDE_IGNORE_INDEX:
        wide = "" if len(samples.classes) <= MOST_IN_8_BITS else f", such as {WIDE_IGNORE_INDEX}"
        yield (
            f"ignore_index={samples.ignore_index} must be a value up to {WIDE_IGNORE_INDEX} that is no "
            f"class{wide}"
        )


def where(contract: type) -> str:
    return f"{contract.__module__}.{contract.__name__} says what it must do"
