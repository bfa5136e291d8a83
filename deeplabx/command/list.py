"""deeplabx list: the groups and their options, what each is, and what backbones cost."""

from deeplabx import registry
from deeplabx.command.yaml_files import choices, head_comments
from deeplabx.errors import ConfigError, nearest

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
        from deeplabx.command.backbone_table import backbone_table  # here, because it imports torch

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
