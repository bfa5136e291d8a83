"""deeplabx list: the groups and their options, what each is, and what backbones cost."""

from deeplabx import registry
from deeplabx.command.yaml_files import choices, head_comments
from deeplabx.errors import ConfigError, nearest

RECIPE = "recipe"
EXPECTED = "Expected: "


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
    """One line for each option, with its name and what it is: as registered, or, of a recipe, the number that
    it is expected to reach, whose number that is, and whether it was measured by us.
    """
    names = choices(group)
    width = max(map(len, names))
    known = registry.OPTIONS.get(group, {})
    return [
        f"{name:<{width}}  {known[name].words if name in known else expected_words(name)}" for name in names
    ]


def expected_words(recipe: str) -> str:
    """What the head of a recipe's file says after "Expected: "."""
    comments = head_comments(f"{RECIPE}/{recipe}")
    return next((line.removeprefix(EXPECTED) for line in comments if line.startswith(EXPECTED)), "")
