"""deeplabx list: the groups and their options, what each is, and what backbones cost."""

import inspect
from collections.abc import Iterable

import torch

from deeplabx import registry
from deeplabx.command.yaml_files import choices, head_comments
from deeplabx.errors import ConfigError, nearest
from deeplabx.model.size import billions, convolutions, parameter_count
from deeplabx.run.build import build_model

SIZE = 513  # of the images for which multiply-adds are counted
RECIPE = "recipe"


def main(words: list[str]) -> str:
    """Every group with its options; of the groups that are named, what each option is."""
    groups = [*registry.GROUPS, RECIPE]
    for word in words:
        if word not in groups:
            raise ConfigError(
                f"{word} is not a group.{nearest(word, groups)}", hint=f"the groups are {', '.join(groups)}"
            )
    if not words:
        return "\n".join(f"{group:<10} {' '.join(choices(group))}" for group in groups)
    blocks = ["\n".join(described_options(group)) for group in words]
    if "backbone" in words:
        blocks.append(backbone_table(registry.OPTIONS["backbone"].values()))
    return "\n\n".join(blocks)


def described_options(group: str) -> list[str]:
    """Each option's name and what it is: as registered, or, of a recipe, in the comments at the head of its
    file.
    """
    names = choices(group)
    width = max(map(len, names))
    lines = []
    for name in names:
        known = registry.OPTIONS.get(group, {})
        said = [known[name].words] if name in known else head_comments(f"{group}/{name}")
        lines += [
            f"{first:<{width}}  {words}"
            for first, words in zip([name, *[""] * len(said)], said, strict=False)
        ]
    return lines


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
