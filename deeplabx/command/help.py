"""What a command, a group or a setting is: from the command table, the schema and the YAML files of conf/.

Neither Hydra nor OmegaConf nor torch is imported, so that help answers in less than a tenth of a second.
"""

import dataclasses
import functools
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Union

from deeplabx import registry
from deeplabx.command.table import BY_WORDS, COMMANDS, FIRST_WORDS, Command, second_words
from deeplabx.command.yaml_files import choices, contents, head_comments
from deeplabx.config import schema
from deeplabx.config.fields import MISSING, range_words, setting, type_words
from deeplabx.config.unknown import meant
from deeplabx.errors import ConfigError

WIDTH = 110
RECIPE = "recipe"
SWEEP = "sweep."
FEW = 6  # options that are named one by one
# What a checkpoint is evaluated with, whatever it was trained with, unless the command line says otherwise.
# The other settings of `trainer` have no effect there.
NOT_STORED = {"trainer.devices": "auto", "trainer.precision": "fp32", "trainer.workers": "auto"}


class Setting(NamedTuple):
    """A setting of one command, or of one option of a group."""

    key: str
    field: dataclasses.Field[Any]
    hint: Any  # its type
    default: Any  # as conf/ has it: MISSING where it must be given, "${...}" where another setting gives it

    @property
    def words(self) -> str:
        return self.field.metadata.get("words", "")

    @property
    def source(self) -> str:
        return self.field.metadata.get("source", "")

    @property
    def choices(self) -> list[str]:
        return [str(option) for option in self.field.metadata.get("options", ())]

    @property
    def range(self) -> str:
        return range_words(self.field.metadata)

    @property
    def kind(self) -> str:
        """Type and choices or range, short: `int >= 1`, `auto|fp32`; of a text nothing."""
        if self.choices and not self.range:
            return "|".join(self.choices)
        signs = {"at_least": ">=", "above": ">", "at_most": "<=", "below": "<"}
        rule = self.field.metadata
        bounds = [f"{signs[name]} {rule[name]}" for name in signs if rule.get(name) is not None]
        kinds = [*self.choices, "int"] if self.choices else [short_type(self.hint)]
        return " ".join(["|".join(kinds), ", ".join(bounds)]).strip()


class Variant(NamedTuple):
    """What several options of a group, or several commands, have in common under one key."""

    setting: Setting
    defaults: dict[str, Any]  # by option, or by the command's words

    @property
    def default(self) -> str:
        shown = {default_words(value, short=True) for value in self.defaults.values()}
        return shown.pop() if len(shown) == 1 else "varies"


PLUGINS = Setting(
    "plugins",
    setting(
        words="your own parts: a Python file, a module or a quoted list; given on the command line of every "
        "command that builds",
        default=None,
    ),
    str | list[str] | None,
    None,
)


# --- what there is ------------------------------------------------------------------------------------------


@functools.cache
def hints_of(settings: type) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def settings_in(config: Any, values: Mapping[str, Any], prefix: str = "") -> Iterator[Setting]:
    """Every setting below a dataclass instance. values: what a YAML file has in place of its defaults."""
    kind: type = type(config)
    hints = hints_of(kind)
    for one in dataclasses.fields(config):
        key, value = prefix + one.name, values.get(one.name, getattr(config, one.name))
        own = getattr(config, one.name)
        if dataclasses.is_dataclass(own):
            yield from settings_in(own, value if isinstance(value, Mapping) else {}, f"{key}.")
        elif one.name != "name":  # of a group: the option itself
            yield Setting(key, one, hints[one.name], value)


def own_groups(command: Command) -> list[str]:
    """The groups that a command has, without `recipe`."""
    names = {one.name for one in dataclasses.fields(command.settings)} if command.schema else set()
    return [group for group in registry.GROUPS if group in names]


def command_settings(command: Command) -> dict[str, Setting]:
    """Every setting of a command that is not of a group, by key."""
    if not command.schema:
        return {}
    every = settings_in(command.settings(), contents(command.key))
    found = {one.key: one for one in every if one.key.partition(".")[0] not in registry.GROUPS}
    if command.searches:
        found |= {one.key: one for one in settings_in(schema.SweepConfig(), {}, SWEEP)}
    builds = command.trains or {"model", "dataset"} & set(own_groups(command))
    return {**found, PLUGINS.key: PLUGINS} if builds else found


def is_stored(command: Command, key: str) -> bool:
    """Whether a command takes a setting from a run, checkpoint or file unless it is overridden."""
    of_run = key.partition(".")[0] in hints_of(schema.TrainConfig)
    return command.overrides_stored and (of_run or key.startswith(SWEEP))


def continues_run(command: Command) -> bool:
    """Whether a command continues a run, whose weights depend on the settings it was started with."""
    return bool(command.schema) and "run" in hints_of(command.settings)


def option_settings(group: str, name: str) -> dict[str, Setting]:
    """The settings of one option of a group, by key, with its defaults."""
    config = registry.settings_of(group, name)()
    return {one.key: one for one in settings_in(config, contents(f"{group}/{name}"), f"{group}.")}


def group_variants(group: str) -> list[Variant]:
    """The settings of a group's options; an option's is the same as another's that is declared alike."""
    found: list[Variant] = []
    for name in choices(group):
        for one in option_settings(group, name).values():
            same = (
                variant
                for variant in found
                if (variant.setting.key, variant.setting.hint) == (one.key, one.hint)
                and variant.setting.field.metadata == one.field.metadata
            )
            variant = next(same, None)
            if variant is None:
                variant = Variant(one, {})
                found.append(variant)
            variant.defaults[name] = one.default
    return found


def variants(key: str) -> list[Variant]:
    """What is known under a key: of the options of its group, or of the commands that have it."""
    group = key.partition(".")[0]
    if group in registry.GROUPS:
        return [variant for variant in group_variants(group) if variant.setting.key == key]
    found: list[Variant] = []
    for command in COMMANDS:
        one = command_settings(command).get(key)
        if one is None:
            continue
        same = (variant for variant in found if variant.setting.words == one.words)
        variant = next(same, None)
        if variant is None:
            variant = Variant(one, {})
            found.append(variant)
        if not is_stored(command, key):
            variant.defaults[command.words] = one.default
    return found


def all_settings() -> list[str]:
    """Every key that some command knows."""
    keys = [key for command in COMMANDS for key in command_settings(command)]
    keys += [variant.setting.key for group in registry.GROUPS for variant in group_variants(group)]
    return list(dict.fromkeys(keys))


def section_words(command: Command, section: str) -> str:
    """What a group or section is: as the command says, else as `train` does."""
    if section == "sweep.slurm":
        return "what each job asks SLURM for, with sweep.launcher=slurm"
    for settings in (command.settings, schema.TrainConfig, schema.SweepResumeConfig):
        for one in dataclasses.fields(settings):
            if one.name == section and one.metadata.get("words"):
                return one.metadata["words"]
    return ""


def chosen_options(command: Command) -> dict[str, str]:
    """The option of each group that a command takes when none is given; "" where one must be given."""
    entries = [one for one in contents(command.key).get("defaults", []) if isinstance(one, Mapping)]
    chosen = {str(group): option for entry in entries for group, option in entry.items()}
    return {group: "" if name == MISSING else name for group, name in chosen.items() if name is not None}


# --- values and types in words ------------------------------------------------------------------------------


def typed(value: Any) -> str:
    """A value as it is given on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{typed(part)}' for key, part in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return re.sub(r"\$\{now:[^}]*\}", "<time>", str(value)) or '""'


def referred(value: Any) -> str:
    """The key that an interpolation takes its value from; "" for a value of another kind."""
    found = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    return found[1] if found else ""


def recommending(value: Any) -> str:
    """What recommends a default: the data set or the model; "" for a default of another kind."""
    found = re.fullmatch(r"(dataset|model)\.recommended\.\w+", referred(value))
    return {"dataset": "data set", "model": "model"}[found[1]] if found else ""


def default_words(value: Any, *, short: bool = False) -> str:
    """A default for a column of a table, or for a line of its own."""
    key, owner = referred(value), recommending(value)
    if value == MISSING:
        return "needed" if short else "none: it must be given"
    if owner:
        return f"{owner}'s" if short else f"what the {owner} recommends ({key})"
    if key:
        return key if short else f"the value of {key}"
    if short and isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[{', '.join(str(one.get('name')) for one in value)}]"
    return typed(value)


def short_type(hint: Any) -> str:
    if typing.get_origin(hint) in (Union, types.UnionType):
        named = [short_type(option) for option in typing.get_args(hint) if option is not type(None)]
        return " or ".join(filter(None, named))
    if typing.get_origin(hint) is list:
        (inside,) = typing.get_args(hint)
        element = "" if typing.get_origin(inside) is dict else short_type(inside)
        return f"list of {element}" if element else ""
    return {bool: "true|false", str: ""}.get(hint, getattr(hint, "__name__", str(hint)))


# --- a command ----------------------------------------------------------------------------------------------


def command_help(command: Command) -> str:
    """What a command does, examples, its settings, then the groups whose options it takes."""
    parts = [[f"deeplabx {command.words}: {command.about}"], example_lines(command)]
    if command.schema:
        explains = (
            "`deeplabx help SETTING` explains a setting, `deeplabx help GROUP` a group and its options;"
        )
        prints = f"`deeplabx {command.words} --cfg job` prints the composed config."
        parts += [*setting_lines(command), group_lines(command), [explains, prints]]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def example_lines(command: Command) -> list[str]:
    longest = max((len(does) for _, does in command.examples), default=0)
    width = min(max((len(example) for example, _ in command.examples), default=0), WIDTH - longest - 13)
    return [f"  deeplabx {example:<{width}}  {does}".rstrip() for example, does in command.examples]


def setting_lines(command: Command) -> list[list[str]]:
    """One block for the settings of the command itself, and one for each section such as `trainer`."""
    sections: dict[str, list[Row]] = {}
    for key, one in listed(command).items():
        row = Row(key, command_default(command, one), one.words, one.kind)
        sections.setdefault(key.rpartition(".")[0], []).append(row)
    first = [f"Settings: default, meaning{setting_notes(command)}"]
    titles = [f"{section}: {section_words(command, section)}" for section in sections if section]
    tables = zip([*first, *titles], table(list(sections.values())), strict=True)
    return [[title, *lines] for title, lines in tables]


def setting_notes(command: Command) -> str:
    """What a reader of the table must know beside it."""
    stores = {"trainer", "sweep"} & set(hints_of(command.settings))
    notes = [f'"stored": as in {stored_in(command)}'] if stores else []
    notes = notes if command.overrides_stored else []
    keyless = [key for key in (*command.first, command.rest) if key]
    notes += [f"{' and '.join(keyless)} may be given without key"] if keyless else []
    return f" ({'; '.join(notes)})" if notes else ""


def stored_in(command: Command) -> str:
    """What holds the config that a command's overrides replace parts of."""
    if continues_run(command):
        return "the run's own config"
    if command.settings is schema.SweepResumeConfig:
        return "the sweep"
    return "the checkpoint" if "eval" in hints_of(command.settings) else "the file"


def listed(command: Command) -> dict[str, Setting]:
    """The settings that a command's help lists, those of no section first: not all that it accepts has an
    effect.
    """
    found = command_settings(command)
    if continues_run(command):
        groups = [*group_variants("dataset"), *group_variants("tracker")]
        of_groups = {one.setting.key: one.setting for one in groups}
        schedule = {one.key: one for one in settings_in(command.settings(), contents(command.key))}
        every = {**of_groups, **found, **{key: schedule[key] for key in command.needs if key in schedule}}
        found = {
            key: one
            for key, one in every.items()
            if "." not in key or schema.is_free_on_resume(key) or key in command.needs
        }
    elif command.overrides_stored:
        found = {
            key: one for key, one in found.items() if not key.startswith("trainer.") or key in NOT_STORED
        }
    return dict(sorted(found.items(), key=lambda item: "." in item[0]))


def command_default(command: Command, one: Setting) -> str:
    """The default that a command's help shows."""
    if not is_stored(command, one.key) or one.key in command.needs:
        return default_words(one.default, short=True)
    return "stored" if continues_run(command) else NOT_STORED.get(one.key, "stored")


def group_lines(command: Command) -> list[str]:
    """One line for each group, or as many as its options take."""
    if continues_run(command) or not own_groups(command):
        return []
    chosen = chosen_options(command)
    rows = []
    for group in own_groups(command):
        words = section_words(command, group)
        if group in chosen:
            words += f" (default {chosen[group]})" if chosen[group] else " (needed)"
        rows.append((f"{group}=", "|".join(choices(group)), words))
    if command.settings is schema.TrainConfig:
        rows.append(("+recipe=", "NAME", "a whole reproduction; `deeplabx help recipe` lists them"))
    width = 50
    stored = f" (not given: as in {stored_in(command)})" if command.overrides_stored else ""
    lines = [f"Groups: group=option{stored}"]
    for start, options, words in rows:
        left = broken_at_bars(options, width - len(start))
        right = textwrap.wrap(words, WIDTH - width - 4)
        for number in range(max(len(left), len(right))):
            head = start if number == 0 else " " * len(start)
            shown = head + left[number] if number < len(left) else ""
            lines.append(f"  {shown:<{width}}  {right[number] if number < len(right) else ''}".rstrip())
        lines += textwrap.wrap(
            " ".join(shared_settings(start.rstrip("="))),
            WIDTH,
            initial_indent="      with ",
            subsequent_indent=" " * 11,
            break_on_hyphens=False,
        )
    return lines


def shared_settings(group: str) -> list[str]:
    """The keys that all options of a group have."""
    if group not in registry.GROUPS:
        return []
    return [
        f"{group}.{one.name}"
        for one in dataclasses.fields(registry.GROUPS[group])
        if one.name not in ("name", "recommended")
    ]


def broken_at_bars(options: str, width: int) -> list[str]:
    """`a|b|c` in lines of at most `width` where the names allow it."""
    lines = [""]
    for part in re.findall(r"[^|]+\|?", options):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return lines


class Row(NamedTuple):
    """A line of a table of settings."""

    key: str
    default: str
    words: str
    kind: str


def table(blocks: list[list[Row]]) -> list[list[str]]:
    """Rows as lines, with the same columns in every block."""
    rows = [row for block in blocks for row in block]
    keys = max((len(row.key) for row in rows), default=0)
    defaults = max((len(row.default) for row in rows), default=0)
    found: list[list[str]] = []
    for block in blocks:
        lines: list[str] = []
        for row in block:
            head = f"  {row.key:<{keys}}  {row.default:<{defaults}}  "
            first, *others = fitted(row.words, row.kind, WIDTH - len(head))
            lines += [f"{head}{first}".rstrip(), *(" " * len(head) + other for other in others)]
        found.append(lines)
    return found


def fitted(words: str, kind: str, room: int) -> list[str]:
    """The meaning in one line: whole and with its type where that fits, else what is before the semicolon."""
    clause, shown = words.partition(";")[0], f" [{kind}]" if kind else ""
    candidates = [words + shown, words, clause + shown, clause]
    return next(([one.strip()] for one in candidates if len(one) <= room), textwrap.wrap(clause, room))


# --- `deeplabx help` ----------------------------------------------------------------------------------------


def explained(words: list[str]) -> str:
    """What `deeplabx help WORDS` prints: each is a command, a group, an option, a section or a setting.

    Raises ConfigError, with the nearest name, for a word that is none of them.
    """
    words = [" ".join(words)] if " ".join(words) in BY_WORDS else words
    return "\n\n".join(explained_word(word) for word in words)


def explained_word(word: str) -> str:
    name, _, option = word.lstrip("+").partition("=")
    found = ["\n".join(setting_help(variant)) for variant in variants(name)]
    if word in BY_WORDS:
        return "\n\n".join([command_help(BY_WORDS[word]), *found])  # `resume` is a setting too
    if second_words(word):
        commands = [BY_WORDS[f"{word} {second}"] for second in second_words(word)]
        return "\n".join(f"deeplabx {one.words}: {one.about}" for one in commands)
    if name == RECIPE:
        return recipe_help()
    if name in registry.GROUPS:
        return option_help(name, option) if option else group_help(name)
    if found:
        return "\n\n".join(found)
    inside = [key for key in all_settings() if key.startswith(f"{name}.")]
    if inside:
        return section_help(name, inside)
    raise ConfigError(
        f"{word} is not a command, group or setting.{meant(word, known_words())}",
        hint="`deeplabx train --help` lists the settings of a training, `deeplabx list` the groups",
    )


def known_words() -> list[str]:
    options = [f"{group}={name}" for group in registry.GROUPS for name in choices(group)]
    return [*BY_WORDS, *FIRST_WORDS, *registry.GROUPS, RECIPE, *all_settings(), *options]


def section_help(name: str, keys: Iterable[str]) -> str:
    rows = [setting_row(variant) for key in keys for variant in variants(key)]
    words = section_words(BY_WORDS["train"], name)
    return "\n".join([f"{name}: {words}" if words else f"{name}: default, meaning", "", *table([rows])[0]])


def group_help(group: str) -> str:
    """The options of a group, then their settings: those that all share, then those of some."""
    options = choices(group)
    width = max(map(len, options))
    chosen = chosen_options(BY_WORDS["train"]).get(group, "")
    lines = [f"{group}: {section_words(BY_WORDS['train'], group)} (default {chosen})", ""]
    for name in options:
        first, *others = textwrap.wrap(registry.option(group, name).words, WIDTH - width - 4) or [""]
        lines += [f"  {name:<{width}}  {first}".rstrip(), *(" " * (width + 4) + other for other in others)]
    shared = {one.key for one in settings_in(registry.GROUPS[group](), {}, f"{group}.")}
    by_owners: dict[str, list[Row]] = {}
    for variant in group_variants(group):
        owners = f"every {group}" if variant.setting.key in shared else ", ".join(variant.defaults)
        by_owners.setdefault(owners, []).append(setting_row(variant))
    for owners, rows in zip(by_owners, table(list(by_owners.values())), strict=True):
        lines += ["", *textwrap.wrap(f"Settings of {owners}: default, meaning", WIDTH), *rows]
    return "\n".join(
        [*lines, "", f"`deeplabx help {group}=OPTION` explains an option, as in {group}={chosen}"]
    )


def option_help(group: str, name: str) -> str:
    """What an option is, and its settings with its defaults."""
    title = textwrap.wrap(f"{group}={name}: {registry.option(group, name).words}", WIDTH)
    rows = [setting_row(Variant(one, {name: one.default})) for one in option_settings(group, name).values()]
    return "\n".join([*title, "", *table([rows])[0]])


def setting_row(variant: Variant) -> Row:
    return Row(variant.setting.key, variant.default, variant.setting.words, variant.setting.kind)


def recipe_help() -> str:
    """The recipes, and what each is expected to reach."""
    lines = ["recipe: a whole reproduction, as in deeplabx train +recipe=NAME dataset.root=PATH"]
    for name in choices(RECIPE):
        lines += ["", *(f"  {line}" for line in head_comments(f"{RECIPE}/{name}"))]
    return "\n".join(lines)


# --- one setting --------------------------------------------------------------------------------------------


def setting_help(variant: Variant) -> list[str]:
    """Meaning, type, range or choices, default, what sets it, and where the number comes from."""
    one, key = variant.setting, variant.setting.key
    lines = textwrap.wrap(f"{key}: {one.words}" if one.words else key, WIDTH)
    labelled = [("type", type_words(one.hint, one.choices if one.range else ()))]
    labelled += [("choices", ", ".join(one.choices))] if one.choices and not one.range else []
    labelled += [("range", one.range)] if one.range else []
    labelled += [("default", text) for text in default_lines(variant)]
    labelled += [("options", option_names(variant))] if key.partition(".")[0] in registry.GROUPS else []
    labelled += [("set by", text) for text in precedence(variant)]
    labelled += [("recipes", text) for text in recipe_values(key)]
    labelled += [("source", one.source)] if one.source else []
    last = ""
    for label, text in labelled:
        shown = "" if label == last else label
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=f"  {shown:<8}  ", subsequent_indent=" " * 12, break_on_hyphens=False
        )
        last = label
    return lines


def default_lines(variant: Variant) -> list[str]:
    """The default, or each with the options or commands whose it is; and what the data sets recommend."""
    owners: dict[str, list[str]] = {}
    for owner, value in variant.defaults.items():
        owners.setdefault(default_words(value), []).append(owner)
    lines = list(owners)
    if len(owners) > 1:
        lines = [f"{', '.join(names)}: {value}" for value, names in owners.items()]
    for key in dict.fromkeys(filter(None, map(referred, variant.defaults.values()))):
        values = [
            f"{name} {typed(value)}" for found in variants(key) for name, value in found.defaults.items()
        ]
        lines += [f"{key}: {', '.join(values)}"] if values else []
    return lines


def option_names(variant: Variant) -> str:
    """The options of its group that have a setting."""
    group, names = variant.setting.key.partition(".")[0], list(variant.defaults)
    return f"every {group}" if names == choices(group) and len(names) > FEW else ", ".join(names)


def precedence(variant: Variant) -> list[str]:
    """Which commands take the setting, and what each takes it from."""
    key = variant.setting.key
    group = key.partition(".")[0]
    said: dict[str, list[str]] = {}
    for command in COMMANDS:
        own = command_settings(command).get(key)
        if group in own_groups(command) or (own is not None and own.words == variant.setting.words):
            defaults = list(variant.defaults.values()) if own is None else [own.default]
            said.setdefault(set_by(command, key, defaults), []).append(command.words)
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def set_by(command: Command, key: str, defaults: list[Any]) -> str:
    """What gives a command's setting its value. defaults: those of all options that have it."""
    if key == PLUGINS.key or key in command.needs:
        return "the command line"
    if key.startswith(SWEEP) and command.searches:
        return "the command line, with -m"
    if is_stored(command, key):
        if continues_run(command) and key not in schema.FREE_ON_RESUME:
            return "as in the run; another value is refused"
        if not continues_run(command) and key.startswith("trainer."):
            used = NOT_STORED.get(key) if key != "trainer.workers" or command.words == "eval" else None
            return f"{used}, unless the command line overrides it" if used else "no effect"
        return f"command-line overrides win over {stored_in(command)}"
    if command.settings is schema.DataFakeConfig and key.startswith("dataset.") and key != "dataset.format":
        return "no effect"
    owners = [recommending(value) for value in defaults]
    weakest = "the default"
    if any(owners):
        weakest = f"what the {next(filter(None, owners))} recommends"
        weakest += "" if all(owners) else ", or over the option's own default"
    if command.settings is schema.TrainConfig:
        return f"command-line overrides win over a recipe, a recipe over {weakest}"
    return f"command-line overrides win over {weakest}"


def recipe_values(key: str) -> list[str]:
    """The values that recipes give a setting, each with their names."""
    found: dict[str, list[str]] = {}
    for name in choices(RECIPE):
        value: Any = contents(f"{RECIPE}/{name}")
        for part in key.split("."):
            value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
        if value != MISSING:
            found.setdefault(typed(value), []).append(name)
    return [f"{value}: {', '.join(names)}" for value, names in found.items()]
