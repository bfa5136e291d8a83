"""mmsegmentation's DeepLabv3 and v3+ on ResNet, with a plain or a deep stem (v1c), and the classification
networks with a deep stem.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET
from deeplabx.errors import CheckpointError
from deeplabx.weights.contract import Build, Conversion, Imported, renamed
from deeplabx.weights.torchvision import has, linear, resnet_name

PARTS = {"backbone", "decode_head", "auxiliary_head"}  # with a neck, it is another network
PROJECTION = "decode_head.bottleneck.conv.weight"
CLASSIFIER = "decode_head.conv_seg.weight"
OF_STEM = {"conv1.": "stem.", "bn1.": "stem.7."}
DEEP_STEMS = ("resnet50", "resnet101")  # backbones that have a v1c
AUXILIARY = ("auxiliary_head.convs.0.", "auxiliary_head.conv_seg.")
AUXILIARY_WEIGHT = 0.4  # of all its configs
NOTE = (
    "the file does not state how it was trained: if its name has 769x769, set "
    "model.align_corners=true; if it has d16-mg124, set "
    "backbone.output_stride=16 backbone.multi_grid=[1,1,2] (its rates 1, 2, 4)"
)


def unit(ours: str, theirs: str) -> dict[str, str]:
    """A convolution and its batch norm."""
    return {f"{ours}.0.": f"{theirs}.conv.", f"{ours}.1.": f"{theirs}.bn."}


def separable_unit(ours: str, theirs: str) -> dict[str, str]:
    return {**unit(f"{ours}.0", f"{theirs}.depthwise_conv"), **unit(f"{ours}.1", f"{theirs}.pointwise_conv")}


def of_head(*, separable: bool) -> dict[str, str]:
    names: dict[str, str] = {}
    for number in (1, 2, 3):  # the atrous branches
        names |= (separable_unit if separable else unit)(
            f"aspp.branches.{number}", f"decode_head.aspp_modules.{number}"
        )
    return {
        **names,
        **unit("aspp.branches.0", "decode_head.aspp_modules.0"),
        **unit("aspp.branches.4.project", "decode_head.image_pool.1"),
        **unit("aspp.project", "decode_head.bottleneck"),
        **unit("decoder.project_low_level", "decode_head.c1_bottleneck"),
        **separable_unit("decoder.refine.0", "decode_head.sep_bottleneck.0"),
        **separable_unit("decoder.refine.1", "decode_head.sep_bottleneck.1"),
        "classify.": "decode_head.conv_seg.",
        **unit("auxiliary.0", "auxiliary_head.convs.0"),
        "auxiliary.2.": "auxiliary_head.conv_seg.",
    }


def mmsegmentation_deeplab(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of deeplabv3_r50-d8_*, deeplabv3plus_r101-d8_* and their like; r50b has a plain stem. None
    for other names.
    """
    if not has(foreign, "decode_head.image_pool.1.") or {name.partition(".")[0] for name in foreign} - PARTS:
        return None
    plus = has(foreign, "decode_head.sep_bottleneck.")
    source = f"mmsegmentation's {'DeepLabv3+' if plus else 'DeepLabv3'}"
    backbone = resnet_of(foreign, prefix="backbone.")
    if backbone is None:
        raise CheckpointError(
            f"this looks like {source}, on a backbone that cannot be imported",
            hint="ResNet-50 and ResNet-101 can; its ResNet-18 keeps a rate of 1 in the second 3x3 of a "
            "unit, unlike resnet18",
        )
    conversion = Conversion(foreign, source=f"{source} on {backbone}")
    settings: dict[str, Any] = {
        "model": "deeplabv3plus" if plus else "deeplabv3",
        "model.separable": plus,
        "model.channels": conversion.num_classes(PROJECTION),  # its outputs
        "model.projection_kernel": 3,
        "model.align_corners": False,
        "backbone": backbone,
        "backbone.output_stride": 8,
        "backbone.multi_grid": [1, 1, 1],
    }
    auxiliary = [name for name in foreign if name.startswith("auxiliary_head.")]
    if auxiliary and all(name.startswith(AUXILIARY) for name in auxiliary):
        settings["model.auxiliary_weight"] = AUXILIARY_WEIGHT
    else:
        for name in auxiliary:
            conversion.leave_out(name, "an auxiliary head that differs from ours")
    take_deeplab(conversion, settings, build, separable=plus)
    return conversion.done(settings, IMAGENET, note=NOTE)


def take_deeplab(
    conversion: Conversion, settings: Mapping[str, Any], build: Build, *, separable: bool
) -> None:
    num_classes = conversion.num_classes(CLASSIFIER)
    if num_classes == 1:
        raise CheckpointError(
            f"this looks like {conversion.source} with a single output per pixel, compared with a threshold",
            hint="models with two or more classes can be imported",
        )
    stem = {
        f"backbone.{ours}": f"backbone.{theirs}"
        for ours, theirs in stem_names(str(settings["backbone"])).items()
    }
    names = {**stem, **of_head(separable=separable)}
    conversion.take_network(build(settings, num_classes=num_classes), lambda ours: renamed(ours, names))
    channels = settings["model.channels"]
    conversion.take(
        "aspp.project.0.weight",
        PROJECTION,
        lambda kernel: torch.cat([kernel[:, channels:], kernel[:, :channels]], dim=1),
        words="image pooling last",
    )
    conversion.refuse_others("backbone.", "decode_head.")


def mmsegmentation_classification(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of open-mmlab://resnet50_v1c and resnet101_v1c. None for other names."""
    backbone = resnet_of(foreign) if "stem.0.weight" in foreign else None
    if backbone is None:
        return None
    conversion = Conversion(foreign, source=f"mmsegmentation's {backbone}")
    conversion.take_network(build({"backbone": backbone}), lambda ours: renamed(ours, stem_names(backbone)))
    if "fc.weight" in foreign:
        for name in linear("fc"):
            conversion.take(name, name)
    conversion.refuse_others("")
    return conversion.done({"backbone": backbone}, IMAGENET)


def resnet_of(foreign: Mapping[str, Tensor], *, prefix: str = "") -> str | None:
    """The name of our ResNet with the same bottlenecks and stem."""
    name = resnet_name(foreign, prefix=prefix)
    if name is None or not has(foreign, f"{prefix}layer1.0.conv3."):
        return None
    if not has(foreign, f"{prefix}stem."):
        return name
    return f"{name}_v1c" if name in DEEP_STEMS else None


def stem_names(backbone: str) -> dict[str, str]:
    return OF_STEM if backbone.endswith("_v1c") else {}
