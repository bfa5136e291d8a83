"""Parse the words of a command line into flags and settings, and explain those that are neither. Standard
library only, up to the first mistake.
"""

import os
import re
import sys
from typing import NoReturn

from deeplabx.command.quoting import in_quotes
from deeplabx.command.table import FLAGS, SHORT_FLAGS, Command
from deeplabx.errors import nearest


def fail(message: str, hint: str) -> NoReturn:
    print(f"deeplabx: {message}\n  {hint}", file=sys.stderr)
    sys.exit(2)


def flags_and_settings(words: list[str], command: Command) -> tuple[dict[str, str], list[str]]:
    """The flags by their long names, with their values, and the settings; in any order."""
    flags: dict[str, str] = {}
    settings: list[str] = []
    given = {word.partition("=")[0] for word in words if "=" in word and not os.path.lexists(word)}
    # settings that take words without a key
    bare = [key for key in (*command.first, command.rest) if key and key not in given]
    rest: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            if bare and (os.path.lexists(os.path.expanduser(word)) or not is_setting(word)):  # noqa: PTH111
                refuse_spaces(word, settings, words)
                if bare == [command.rest]:
                    rest.append(word)
                else:
                    settings.append(f"{bare.pop(0)}={in_quotes(word)}")
                continue
            if not is_setting(word):
                refuse_spaces(word, settings, words)
                refuse_bare(word, command)
            settings.append(word)
            continue
        typed, equals, value = word.partition("=")
        flag = SHORT_FLAGS.get(typed, typed)
        if flag not in FLAGS or (equals and FLAGS[flag] == ()):
            refuse_flag(word, words, command)
        values = FLAGS[flag]
        if values != () and not equals:
            optional = flag == "--info"  # a setting after it is not its value
            if optional and not (words and words[0] in (values or ())):
                value = "all"
            elif not words:
                fail(f"{typed} needs a value", "as in --cfg job or --config-dir FOLDER")
            else:
                value = words.pop(0)
        if values and value not in values:
            fail(
                f"{typed} {value} is not one of {', '.join(values)}.{nearest(value, values)}",
                f"as in deeplabx train {flag} {values[0]}",
            )
        flags[flag] = value
    if rest:
        settings.append(f"{command.rest}=[{','.join(map(in_quotes, rest))}]")
    return flags, settings


def is_setting(word: str) -> bool:
    """Whether a word looks like key=value, +key=value or ~key."""
    return re.match(r"[+~]*[\w.@/:]+=|~(?!/)[\w.@/]+$", word) is not None


def refuse_spaces(word: str, settings: list[str], words: list[str]) -> None:
    """Exit if a setting was written with spaces around its =."""
    after = words[0] if words else ""
    if word == "=" and settings:
        fail("a setting has no spaces around its =", f"type {settings[-1]}{word}{after}")
    if after.startswith("="):
        value = after[1:] or (words[1] if len(words) > 1 else "")
        fail("a setting has no spaces around its =", f"type {word}={value}")
    if word.startswith("="):
        fail(f"{word} has no key", "a setting is key=value, without spaces")
    if settings and settings[-1].endswith("=") and not word.startswith("-"):
        fail("a setting has no spaces around its =", f"type {settings[-1]}{word}")


def refuse_bare(word: str, command: Command) -> NoReturn:
    """Exit for a word that is neither a setting nor a flag."""
    if word.endswith((".yaml", ".yml")):
        fail(
            f"{word} is a file: settings from a file are a recipe",
            "save it as FOLDER/recipe/NAME.yaml with the first line `# @package _global_`, then type "
            "--config-dir FOLDER +recipe=NAME",
        )
    if re.match(r"[\w.]+:", word) and not word.endswith(":"):
        key, _, value = word.partition(":")
        fail(f"{word!r} is not a setting", f"settings are key=value: type {key}={value}")
    if element := re.match(r"([\w.]+)\[\d+\]", word):
        fail(f"{word!r} sets one element of a list", f"give the whole list, as in '{element[1]}=[...]'")
    if word[0] in "{[" or word[-1] in ",:}]":
        fail(
            f"{word!r} is not a setting: the shell has split a value at its spaces",
            "quote the whole setting, as in 'augment.mean=[0.5, 0.5, 0.5]'",
        )
    if command.first:
        fail(f"{word!r} is one word too many", f"use it as in: deeplabx {command.examples[0][0]}")
    if word[0] in "\u2013\u2014\u2212":
        fail(f"{word!r} begins with a long dash", f"type -{word[1:]}")
    from deeplabx.command.overrides import known_keys
    from deeplabx.command.yaml_files import groups_of

    if command.schema and word in known_keys(command):
        fail(f"{word} has no value", f"type {word}=VALUE, without spaces")
    keys = groups_of(word) or [*command.needs, "dataset"]
    fail(f"{word!r} is not a setting", f"settings are key=value, as in {keys[0]}={word}")


def refuse_flag(word: str, words: list[str], command: Command) -> NoReturn:
    """Exit for an unknown flag; suggest the setting of that name, if there is one."""
    from deeplabx.command.overrides import instead_of_flag

    typed, _, value = word.partition("=")
    if not value and words and not words[0].startswith("-") and not is_setting(words[0]):
        value = words[0]
    meant = instead_of_flag(typed, value, command) if re.match(r"-+\w", typed) else ""
    near = nearest(typed, FLAGS)
    if meant:
        fail(f"{typed} is not an option: settings are key=value, without dashes", f"type {meant}")
    fail(f"{word} is not an option.{near}", f"the options are {', '.join(FLAGS)}")
