"""EfficientNet-Lite0 in the names of ML Illustrated's efficientnet_lite_pytorch, which numbers all units
consecutively.
"""

from collections.abc import Mapping

from torch import Tensor

from deeplabx.backbone.efficientnet_lite import TABLE, EfficientNetLite
from deeplabx.weights.contract import Build, Conversion, Imported, renamed

SOURCE = "ML Illustrated's EfficientNet-Lite0"
SETTINGS = {"backbone": "efficientnet_lite0"}
UNITS = [
    (f"blocks.{block}.{repeat}", expansion)
    for block, (expansion, _, repeats, _, _) in enumerate(TABLE)
    for repeat in range(repeats)
]
# Of a unit without expansion.
PLAIN = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
EXPANDED = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
NOTE = (
    "it was trained with TensorFlow's padding, which equals ours on sides of 32k + 1 (225, 513) and is one "
    "pixel off at each stride on even sides"
)


def ml_illustrated_efficientnet_lite0(foreign: Mapping[str, Tensor], build: Build) -> Imported | None:
    """The weights of efficientnet-lite0-*.pth. None for other names, and for a network of another depth or
    with squeeze-excite.
    """
    units = {
        name.split(".")[1]
        for name in foreign
        if name.startswith("_blocks.") and name.endswith("._project_conv.weight")
    }
    if (
        "_conv_stem.weight" not in foreign
        or units != {str(number) for number in range(len(UNITS))}
        or any("._se_" in name for name in foreign)
    ):
        return None
    conversion = Conversion(foreign, source=SOURCE)
    theirs = names()
    conversion.take_network(build(SETTINGS), lambda ours: renamed(ours, theirs))
    if "_fc.weight" in foreign:  # the classifier, in timm's names
        conversion.take("conv_head.weight", "_conv_head.weight")
        conversion.take_norm("bn2", "_bn1")
        conversion.take("classifier.weight", "_fc.weight")
        conversion.take("classifier.bias", "_fc.bias")
    return conversion.done(SETTINGS, EfficientNetLite.normalization, note=NOTE)


def names() -> dict[str, str]:
    """Our prefix of each convolution and norm, mapped to theirs."""
    found = {"conv_stem.": "_conv_stem.", "bn1.": "_bn0."}
    for number, (unit, expansion) in enumerate(UNITS):
        parts = EXPANDED if expansion > 1 else PLAIN
        found |= {f"{unit}.{ours}.": f"_blocks.{number}.{theirs}." for ours, theirs in parts.items()}
    return found
