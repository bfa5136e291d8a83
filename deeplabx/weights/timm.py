"""timm's classification networks whose names are ours: ResNet with a deep stem, aligned Xception and
EfficientNet-Lite0.

Its plain ResNets have torchvision's names. Its other networks are backbone=timm, which loads their files
unchanged.
"""

from collections.abc import Mapping

from torch import Tensor

from deeplabx.backbone.normalization import IMAGENET, MINUS_ONE_TO_ONE
from deeplabx.weights.contract import Build, Imported
from deeplabx.weights.torchvision import count, linear, named_as_ours, norm, resnet_name

STEMS = {32: "v1c", 64: "beta"}  # by the width of the first 3x3
XCEPTIONS = {13: "xception41", 21: "xception65", 23: "xception71"}  # by the number of units
LITE0 = (1, 2, 2, 3, 3, 4, 1)  # units in each block
BETA_NOTE = (
    "timm has a block's stride in its first unit, resnet*_beta in the last unit of the previous block: the "
    "features differ from timm's, so it must be trained; with backbone=timm the features are timm's"
)
LITE0_NOTE = (
    "read as timm's tf_efficientnet_lite0, but with symmetric padding, which is the same on odd sizes. "
    "timm's efficientnet_lite0 has the same tensor names but is another network (its norms' eps is 1e-5, its "
    "images are normalised as torchvision's): use backbone=timm for it"
)


def timm_classification(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of resnet50s, resnet101s, resnet50c, resnet101c, xception41, 65 and 71, and
    tf_efficientnet_lite0. None for others.
    """
    if "conv1.0.weight" in foreign and "fc.weight" in foreign:
        return deep_stem(foreign, build)
    if "head.fc.weight" in foreign and (name := XCEPTIONS.get(count(foreign, "blocks."))):
        classifier, source = linear("head.fc"), f"timm's {name}"
        return named_as_ours(
            foreign,
            build,
            {"backbone": name},
            classifier=classifier,
            source=source,
            normalization=MINUS_ONE_TO_ONE,
        )
    if (
        "classifier.weight" in foreign
        and tuple(count(foreign, f"blocks.{block}.") for block in range(count(foreign, "blocks."))) == LITE0
    ):
        return named_as_ours(
            foreign,
            build,
            {"backbone": "efficientnet_lite0"},
            classifier=["conv_head.weight", *norm("bn2"), *linear("classifier")],
            source="timm's tf_efficientnet_lite0",
            normalization=MINUS_ONE_TO_ONE,
            note=LITE0_NOTE,
        )
    return None


def deep_stem(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """A ResNet whose stem is three 3x3. None for one that differs elsewhere too, such as ResNet-D with its
    shortcuts.
    """
    name, stem = resnet_name(foreign), STEMS.get((*foreign["conv1.0.weight"].shape, 0)[0])
    if name not in ("resnet50", "resnet101") or stem is None:
        return None
    return named_as_ours(
        foreign,
        build,
        {"backbone": f"{name}_{stem}"},
        classifier=linear("fc"),
        source=f"timm's {name}{'s' if stem == 'beta' else 'c'}",
        normalization=IMAGENET,
        note=BETA_NOTE if stem == "beta" else "",
    )
