"""The same weights, the same logits as in other libraries' models."""

import re

import deeplabx
from tests.model.peers import difference

SAME = 1e-9  # relative, in float64


def renamed(name: str, rules: dict[str, str]) -> str:
    """`name` with the first rule whose pattern is its beginning applied."""
    for pattern, replacement in rules.items():
        new, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return new
    return name


def of_aspp(prefix: str) -> dict[str, str]:
    return {
        r"aspp\.branches\.4\.project\.0": rf"{prefix}.convs.4.1",
        r"aspp\.branches\.4\.project\.1": rf"{prefix}.convs.4.2",
        r"aspp\.branches": f"{prefix}.convs",
        r"aspp\.project": f"{prefix}.project",
    }


def test_torchvisions_deeplabv3_on_resnet50() -> None:
    model = deeplabx.build_model(
        "deeplabv3",
        backbone="resnet50",
        num_classes=21,
        output_stride=8,
        head_convolution=True,
        auxiliary_weight=0.5,
        align_corners=False,
        backbone_settings={"multi_grid": ()},
    )
    head = {r"convolution\.0": "classifier.1", r"convolution\.1": "classifier.2", "classify": "classifier.4"}
    auxiliary = {r"auxiliary\.0\.(.)": r"aux_classifier.\1", r"auxiliary\.2": "aux_classifier.4"}
    rules = {**of_aspp("classifier.0"), **head, **auxiliary}
    assert difference(model, "torchvision_deeplabv3_resnet50", theirs=lambda name: renamed(name, rules)) < SAME


OF_VAINF = {
    **of_aspp("classifier.aspp"),
    r"decoder\.project_low_level": "classifier.project",
    r"decoder\.refine\.0": "classifier.classifier",
    "classify": "classifier.classifier.3",
}


def test_vainfs_deeplabv3plus_on_resnet50() -> None:
    model = deeplabx.build_model(
        "deeplabv3plus",
        backbone="resnet50",
        num_classes=21,
        decoder_convolutions=1,
        align_corners=False,
        backbone_settings={"multi_grid": ()},
    )
    head_first = {
        "classifier.classifier.0.weight": [*range(48, 304), *range(48)]
    }  # as the released code concatenates; VainF's is low-level first
    assert difference(model, "vainf_deeplabv3plus_resnet50", theirs=lambda name: renamed(name, OF_VAINF), order=head_first) < SAME


def test_kazuto1011s_deeplabv2_on_resnet101_with_three_scales() -> None:
    model = deeplabx.build_model("deeplabv2", backbone="resnet101_caffe", num_classes=21, scales=[1.0, 0.5, 0.75], align_corners=False)

    def theirs(name: str) -> str:
        name = renamed(
            name,
            {
                r"aspp\.(.)\.classify": r"base.aspp.c\1",
                r"backbone\.conv1": "base.layer1.conv1.conv",
                r"backbone\.bn1": "base.layer1.conv1.bn",
            },
        )
        name = re.sub(r"^backbone\.layer(.)\.(\d+)", lambda found: f"base.layer{int(found[1]) + 1}.block{int(found[2]) + 1}", name)
        name = name.replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.bn")
        for number, part in enumerate(("reduce", "conv3x3", "increase"), start=1):
            name = re.sub(rf"(block\d+)\.(conv|bn){number}\b", rf"\1.{part}.\2", name)
        return name

    assert difference(model, "kazuto1011_deeplabv2_resnet101_msc", theirs=theirs) < SAME
