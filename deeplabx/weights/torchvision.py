"""torchvision's DeepLabv3 and Lite R-ASPP, and its classification networks, whose names we use."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET, Normalization
from deeplabx.errors import CheckpointError
from deeplabx.weights.contract import BATCH_NORM, COUNTER, Build, Conversion, Imported, renamed

RESNETS: dict[
    tuple[bool, tuple[int, ...]], str
] = {  # by whether their units are bottlenecks, and how many each block has
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
MOBILENETV3 = {13: "mobilenetv3_small", 17: "mobilenetv3_large"}  # by the number of `features`
# Channels of the last 1x1 after a last block of half its channels.
HALVED = {"mobilenetv3_small": 288, "mobilenetv3_large": 480}
AUXILIARY_WEIGHT = 0.5  # of its reference training
OF_HEAD = {
    "convolution.0.": "classifier.1.",
    "convolution.1.": "classifier.2.",
    "classify.": "classifier.4.",
    "auxiliary.0.0.": "aux_classifier.0.",
    "auxiliary.0.1.": "aux_classifier.1.",
    "auxiliary.2.": "aux_classifier.4.",
}
OF_MOBILENETV3 = {"backbone.features.": "backbone."}
OF_LRASPP = {
    **OF_MOBILENETV3,
    "project.": "classifier.cbr.",
    "gate.": "classifier.scale.1.",
    "classify.": "classifier.high_classifier.",
    "classify_middle.": "classifier.low_classifier.",
}
VGG16_NOTE = (
    "it pools 2x2, but backbone=vgg16 pools 3x3 (as DeepLabv1): the features differ from "
    "torchvision's, and its classifier does not match them"
)


def of_aspp(prefix: str) -> dict[str, str]:
    return {
        "aspp.branches.4.project.0.": f"{prefix}.convs.4.1.",
        "aspp.branches.4.project.1.": f"{prefix}.convs.4.2.",
        "aspp.branches.": f"{prefix}.convs.",
        "aspp.project.": f"{prefix}.project.",
    }


# --- segmentation -------------------------------------------------------------------------------------------


def torchvision_segmentation(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of deeplabv3_* and lraspp_*. None for other names."""
    if has(foreign, "backbone.layer1.") and has(foreign, "classifier.0.convs."):
        return deeplabv3_on_resnet(foreign, build)
    if has(foreign, "backbone.1.block.") and has(foreign, "classifier.0.convs."):
        return deeplabv3_on_mobilenetv3(foreign, build)
    if has(foreign, "backbone.1.block.") and has(foreign, "classifier.cbr."):
        return lraspp(foreign, build)
    return None


def deeplabv3_on_resnet(foreign: Mapping[str, Tensor], build: Build) -> Imported:
    backbone = dilated_resnet(foreign, source="torchvision's DeepLabv3")
    conversion = Conversion(foreign, source=f"torchvision's DeepLabv3 on {backbone}")
    settings: dict[str, Any] = {
        "model": "deeplabv3",
        "model.head_convolution": True,
        "model.align_corners": False,
        "backbone": backbone,
        "backbone.output_stride": 8,
        "backbone.multi_grid": [1, 1, 1],
    }
    if has(foreign, "aux_classifier."):
        settings["model.auxiliary_weight"] = AUXILIARY_WEIGHT
    network = build(settings, num_classes=conversion.num_classes("classifier.4.weight"))
    conversion.take_network(network, lambda ours: renamed(ours, {**of_aspp("classifier.0"), **OF_HEAD}))
    conversion.refuse_others("backbone.", "classifier.", "aux_classifier.")
    return conversion.done(settings, IMAGENET)


def deeplabv3_on_mobilenetv3(foreign: Mapping[str, Tensor], build: Build) -> Imported:
    of_backbone = dilated_mobilenetv3(foreign, source="torchvision's DeepLabv3")
    conversion = Conversion(foreign, source=f"torchvision's DeepLabv3 on {of_backbone['backbone']}")
    settings = {
        "model": "deeplabv3",
        "model.separable": False,
        "model.atrous_rates": [12, 24, 36],
        "model.head_convolution": True,
        "model.align_corners": False,
        **of_backbone,
    }
    network = build(settings, num_classes=conversion.num_classes("classifier.4.weight"))
    conversion.take_network(
        network, lambda ours: renamed(ours, {**OF_MOBILENETV3, **of_aspp("classifier.0"), **OF_HEAD})
    )
    for name in foreign:
        if name.startswith("aux_classifier."):
            conversion.leave_out(
                name,
                "an auxiliary head on the features of stride 8; ours takes the input of the last block",
            )
    conversion.refuse_others("backbone.", "classifier.")
    return conversion.done(settings, IMAGENET)


def lraspp(foreign: Mapping[str, Tensor], build: Build) -> Imported:
    of_backbone = dilated_mobilenetv3(foreign, source="torchvision's Lite R-ASPP")
    conversion = Conversion(foreign, source=f"torchvision's Lite R-ASPP on {of_backbone['backbone']}")
    settings = {"model": "lraspp", "model.align_corners": False, **of_backbone}
    network = build(settings, num_classes=conversion.num_classes("classifier.high_classifier.weight"))
    conversion.take_network(network, lambda ours: renamed(ours, OF_LRASPP))
    conversion.refuse_others("backbone.", "classifier.")
    return conversion.done(settings, IMAGENET)


def dilated_resnet(foreign: Mapping[str, Tensor], *, source: str) -> str:
    """The ResNet of a segmentation network, which has bottlenecks. Raises CheckpointError if it is none of
    ours.
    """
    name = resnet_name(foreign, prefix="backbone.")
    if name is None or not has(foreign, "backbone.layer1.0.conv3."):
        raise CheckpointError(
            f"this looks like {source}, on an unsupported ResNet: ResNeXt, Wide ResNet, or with other units",
            hint="supported are resnet50, resnet101 and resnet152",
        )
    return name


def dilated_mobilenetv3(foreign: Mapping[str, Tensor], *, source: str) -> dict[str, Any]:
    """Settings of the MobileNetV3 of a segmentation network. Raises CheckpointError if it is none of ours."""
    settings = mobilenetv3_settings(foreign, prefix="backbone.")
    if settings is None:
        raise CheckpointError(f"this looks like {source}, on a MobileNetV3 that is neither large nor small")
    return {**settings, "backbone.output_stride": 16, "backbone.dilate_strided": True}


# --- classification -----------------------------------------------------------------------------------------


def torchvision_classification(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of a ResNet, MobileNet or VGG-16 with its classifier, which keeps its names. None for other
    names, and for other widths: ResNeXt and Wide ResNet have ResNet's names.
    """
    if "fc.weight" in foreign and (name := resnet_name(foreign)) is not None:
        return named_as_ours(
            foreign,
            build,
            {"backbone": name},
            classifier=linear("fc"),
            source=f"torchvision's {name}",
            normalization=IMAGENET,
        )
    if "classifier.1.weight" in foreign and has(foreign, "features.1.conv."):
        classifier = ["features.18.0.weight", *norm("features.18.1"), *linear("classifier.1")]
        source = "torchvision's mobilenet_v2"
        return named_as_ours(
            foreign,
            build,
            {"backbone": "mobilenetv2"},
            classifier=classifier,
            source=source,
            normalization=IMAGENET,
        )
    if (
        "classifier.3.weight" in foreign
        and has(foreign, "features.1.block.")
        and (settings := mobilenetv3_settings(foreign, "features."))
    ):
        classifier = [*linear("classifier.0"), *linear("classifier.3")]
        source = f"torchvision's {settings['backbone']}"
        return named_as_ours(
            foreign, build, settings, classifier=classifier, source=source, normalization=IMAGENET
        )
    if "classifier.6.weight" in foreign and has(foreign, "features.28."):
        return vgg16(foreign, build)
    return None


def vgg16(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    settings = {"backbone": "vgg16"}
    network = build(settings)
    if {name for name in foreign if not name.startswith("classifier.")} - set(network.state_dict()):
        return None
    conversion = Conversion(foreign, source="torchvision's vgg16")
    conversion.take_network(network, as_it_is)
    for name in foreign:
        if name.startswith("classifier."):
            conversion.leave_out(
                name,
                "fits the features after 2x2 pooling only; fc6 and fc7 of DeepLabv1 and v2 are randomly "
                "initialised",
            )
    return conversion.done(settings, IMAGENET, note=VGG16_NOTE)


def named_as_ours(
    foreign: Mapping[str, Tensor],
    build: Build,
    settings: dict[str, Any],
    *,
    classifier: Iterable[str],
    source: str,
    normalization: Normalization,
    note: str = "",
) -> Imported | None:
    """A backbone whose names are ours, and its classifier. None if there are other tensors too, such as
    squeeze-and-excitation's: it is another network.
    """
    network = build(settings)
    classifier = list(classifier)
    if set(foreign) - {*network.state_dict(), *classifier}:
        return None
    conversion = Conversion(foreign, source=source)
    conversion.take_network(network, as_it_is)
    for name in classifier:
        take: Callable[[str, str], None] = (
            conversion.take_counter if name.endswith(COUNTER) else conversion.take
        )
        take(name, name)
    return conversion.done(settings, normalization, note=note)


def linear(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in (*BATCH_NORM, COUNTER)]


def as_it_is(name: str) -> str:
    return name


# --- which network it is ------------------------------------------------------------------------------------


def has(foreign: Mapping[str, Tensor], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in foreign)


def count(foreign: Mapping[str, Tensor], prefix: str) -> int:
    """The number of modules numbered after `prefix`: the largest number plus one."""
    numbers = [
        int(found[1]) for name in foreign if (found := re.match(rf"{re.escape(prefix)}(\d{{1,3}})\.", name))
    ]
    return max(numbers, default=-1) + 1


def resnet_name(foreign: Mapping[str, Tensor], *, prefix: str = "") -> str | None:
    """The name of our ResNet with the same type and number of units; None for other widths."""
    kernel = foreign.get(f"{prefix}layer1.0.conv2.weight")
    if kernel is not None and tuple(kernel.shape[:2]) != (
        64,
        64,
    ):  # 128 x 4 in ResNeXt-50, 128 x 128 in Wide ResNet-50
        return None
    counts = tuple(count(foreign, f"{prefix}layer{block}.") for block in range(1, 5))
    return RESNETS.get((has(foreign, f"{prefix}layer1.0.conv3."), counts))


def mobilenetv3_settings(foreign: Mapping[str, Tensor], prefix: str) -> dict[str, Any] | None:
    """Settings of the MobileNetV3 with this number of `features`; None if there is none."""
    features = count(foreign, prefix)
    if features not in MOBILENETV3:
        return None
    name = MOBILENETV3[features]
    last = foreign.get(f"{prefix}{features - 1}.0.weight")
    halved = last is not None and last.ndim == 4 and last.shape[0] == HALVED[name]
    return {"backbone": name, **({"backbone.reduced_tail": True} if halved else {})}
