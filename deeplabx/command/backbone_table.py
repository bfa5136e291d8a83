"""What each backbone costs, for `deeplabx list backbone`."""

import inspect
from collections.abc import Iterable

import torch

from deeplabx import registry
from deeplabx.model.size import billions, convolutions, parameter_count
from deeplabx.run.build import build_model

SIZE = 513  # of the images for which multiply-adds are counted


def backbone_table(options: Iterable[registry.Option]) -> str:
    """Each backbone at output stride 16, and what DeepLabv3+ with 21 classes costs on it."""
    lines = [
        f"{'backbone':<20} {'parameters':>12} {'channels':>9} {'low level':>10} {'v3+ parameters':>15} "
        f"{'v3+ multiply-adds at 513':>25}"
    ]
    for option in options:
        if needs_a_setting(option):
            lines.append(f"{option.name:<20} {option.words}; `deeplabx show` counts")
            continue
        with torch.device("meta"):
            model = build_model("deeplabv3plus", backbone=option.name, num_classes=21).eval()
        cost = f"{billions(convolutions(model, height=SIZE, width=SIZE)):.2f} billion"
        lines.append(
            f"{option.name:<20} {parameter_count(model.backbone):>12,} {model.backbone.channels:>9} "
            f"{model.backbone.low_level_channels:>10} {parameter_count(model):>15,} {cost:>25}"
        )
    return "\n".join(lines)


def needs_a_setting(option: registry.Option) -> bool:
    """Whether a backbone cannot be built without a setting of its own, such as which network of a library it
    is.
    """
    parameters = inspect.signature(option.builder).parameters.values()
    required = {one.name for one in parameters if one.default is one.empty}
    return bool(required - {"output_stride", "in_channels"})
