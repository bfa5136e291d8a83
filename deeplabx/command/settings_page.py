"""docs/settings.md: every setting, from the schema and the YAML files of conf/."""

import sys
from collections.abc import Iterable

from deeplabx import registry
from deeplabx.command.help import (
    PLUGINS,
    Variant,
    command_settings,
    default_lines,
    group_variants,
    is_stored,
    section_words,
    variants,
)
from deeplabx.command.table import BY_WORDS, COMMANDS
from deeplabx.command.yaml_files import choices
from deeplabx.config.fields import type_words

COMMAND = "python -m deeplabx.command.settings_page > docs/settings.md"
HEAD = f"""\
<!-- Generated from deeplabx/config/schema.py and conf/ by `{COMMAND}` -->
# Settings

[Back to the README](../README.md)

Settings are given as `key=value` on the command line, options of a group as `group=option`; `deeplabx help
KEY` explains one in the terminal. In training, command-line overrides win over a recipe, and a recipe over
the default, which may be what the data set or the model recommends. `eval` and `predict` take everything that
is not overridden from the checkpoint, `resume` and `extend` from the run. v1, v2, v3 and v3+ are the DeepLab
papers 1412.7062, 1606.00915, 1706.05587 and 1802.02611; other numbers of this form are arXiv's too.
"""
COLUMNS = ("setting", "meaning", "type, range or choices", "default", "source")


def page() -> str:
    """The whole page: training, its groups, then what other commands have of their own."""
    train = BY_WORDS["train"]
    own = [variants(key)[0] for key in command_settings(train)]
    blocks = [HEAD, section("Training", [one for one in own if "." not in one.setting.key])]
    for name in ("trainer", "eval", "sweep"):
        inside = [one for one in own if one.setting.key.startswith(f"{name}.")]
        blocks.append(section(f"{name}: {section_words(train, name)}", inside))
    blocks += [group_section(group) for group in registry.GROUPS]
    for command in COMMANDS:
        keys = [
            key for key in command_settings(command) if not is_stored(command, key) and key != PLUGINS.key
        ]
        found = [one for key in keys for one in variants(key) if command.words in one.defaults]
        if command is not train and found:
            blocks.append(section(f"`deeplabx {command.words}`", found))
    return "\n".join(blocks)


def group_section(group: str) -> str:
    """The options of a group, and their settings."""
    options = [
        f"- `{group}={name}`: {escaped(registry.option(group, name).words)}" for name in choices(group)
    ]
    title = f"{group}: {section_words(BY_WORDS['train'], group)}"
    return section(title, group_variants(group), above="\n".join([*options, "", ""]))


def section(title: str, found: Iterable[Variant], *, above: str = "") -> str:
    lines = [row(COLUMNS), row(["---"] * len(COLUMNS)), *(row(cells(variant)) for variant in found)]
    return f"## {title}\n\n{above}" + "\n".join(lines) + "\n"


def cells(variant: Variant) -> list[str]:
    one, names = variant.setting, list(variant.defaults)
    group = one.key.partition(".")[0]
    of_some = group in registry.GROUPS and names != choices(group)
    of_both = bool(one.choices and one.range)
    limits = one.range if of_both else ", ".join(one.choices) or one.range
    return [
        f"`{one.key}`",
        one.words + (f" ({', '.join(names)})" if of_some else ""),
        type_words(one.hint, one.choices if of_both else ()) + (f": {limits}" if limits else ""),
        "; ".join(default_lines(variant)),
        one.source,
    ]


def row(values: Iterable[str]) -> str:
    return f"| {' | '.join(map(escaped, values))} |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(page())
