"""kazuto1011's deeplab-pytorch: DeepLabv2 on Caffe's ResNet, and the network without ASPP that it is trained
from, called v1 there.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deeplabx.backbone.normalization import CAFFE
from deeplabx.errors import CheckpointError
from deeplabx.weights.contract import Build, Conversion, Imported, renamed
from deeplabx.weights.torchvision import count, has

MULTI_SCALE = "base."  # prefix of all names in a network that fuses three scales
BACKBONES = {(3, 4, 6, 3): "resnet50_caffe", (3, 4, 23, 3): "resnet101_caffe"}  # by the units of each block
CONVOLUTIONS = {1: "reduce", 2: "conv3x3", 3: "increase"}  # of a unit, by our numbers
FIRST_KERNEL = "layer1.conv1.conv.weight"
DILATED = {"model.align_corners": False, "backbone.output_stride": 8, "backbone.multi_grid": [1, 1, 1]}
NOTE = "the file does not state its atrous rates and scales; assuming those of all its configs"


def kazuto1011_deeplab(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of deeplabv2_resnet101_msc-*.pth, of the same without MSC, and of
    deeplabv1_resnet101-coco.pth. None for other names.
    """
    prefix = MULTI_SCALE if has(foreign, MULTI_SCALE) else ""
    if not has(foreign, f"{prefix}layer2.block1.reduce."):
        return None
    if has(foreign, f"{prefix}aspp.c0."):
        return deeplabv2(foreign, build, prefix=prefix)
    if has(foreign, "fc.") and ("fc.weight" not in foreign or foreign["fc.weight"].ndim == 4):
        return without_aspp(foreign, build)
    raise CheckpointError(
        "this looks like a network of kazuto1011's deeplab-pytorch, but neither DeepLabv2 nor the one "
        "called v1 there",
        hint="its v3 and v3+ fuse three scales, unlike ours; only its v2, and the v1 "
        "that it starts from, can be imported",
    )


def deeplabv2(foreign: Mapping[str, Tensor], build: Build, *, prefix: str) -> Imported:
    backbone = resnet_name(foreign, prefix=prefix)
    settings = {
        "model": "deeplabv2",
        "model.atrous_rates": [6, 12, 18, 24],
        "model.scales": [1.0, 0.5, 0.75] if prefix else [1.0],
        "backbone": backbone,
        **DILATED,
    }
    conversion = Conversion(foreign, source=f"kazuto1011's DeepLabv2 on {backbone}")
    return converted(conversion, settings, build, prefix=prefix, classifier="aspp.c0", note=NOTE)


def without_aspp(foreign: Mapping[str, Tensor], build: Build) -> Imported:
    backbone = resnet_name(foreign)
    settings = {"model": "deeplabv3", "model.aspp": False, "backbone": backbone, **DILATED}
    conversion = Conversion(
        foreign, source=f"kazuto1011's DeepLabv1 on {backbone}, a classifier without ASPP"
    )
    return converted(conversion, settings, build, prefix="", classifier="fc")


def converted(
    conversion: Conversion,
    settings: dict[str, Any],
    build: Build,
    *,
    prefix: str,
    classifier: str,
    note: str = "",
) -> Imported:
    num_classes = conversion.num_classes(f"{prefix}{classifier}.weight")
    conversion.take_network(build(settings, num_classes=num_classes), lambda ours: prefix + name_there(ours))
    conversion.take(
        "backbone.conv1.weight",
        prefix + FIRST_KERNEL,
        lambda kernel: kernel.flip(1),
        words="BGR to RGB",
    )
    conversion.refuse_others(f"{prefix}layer", f"{prefix}aspp.", f"{prefix}fc")
    return conversion.done(settings, CAFFE, note=note)


def resnet_name(foreign: Mapping[str, Tensor], *, prefix: str = "") -> str:
    """Our Caffe ResNet with the same number of units. Raises CheckpointError if there is none."""
    # Which begin at 1.
    units = tuple(count(foreign, f"{prefix}layer{block}.block") - 1 for block in range(2, 6))
    if units not in BACKBONES:
        raise CheckpointError(
            f"this looks like a network of kazuto1011's deeplab-pytorch, on a ResNet of {list(units)} units",
            hint=f"supported: {' and '.join(f'{name} with {list(own)}' for own, name in BACKBONES.items())}",
        )
    return BACKBONES[units]


def name_there(ours: str) -> str:
    """There blocks are layers 2 to 5, units are numbered from 1, and the parts of a unit are named for what
    they do.
    """
    if found := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))\.(\w+)", ours):
        block, unit, kind, number, of_shortcut, tensor = found.groups()
        part = (
            f"{CONVOLUTIONS[int(number)]}.{kind}"
            if number
            else f"shortcut.{('conv', 'bn')[int(of_shortcut)]}"
        )
        return f"layer{int(block) + 1}.block{int(unit) + 1}.{part}.{tensor}"
    if found := re.fullmatch(r"aspp\.(\d)\.classify\.(\w+)", ours):
        return f"aspp.c{found[1]}.{found[2]}"
    return renamed(
        ours,
        {"backbone.conv1.": "layer1.conv1.conv.", "backbone.bn1.": "layer1.conv1.bn.", "classify.": "fc."},
    )
