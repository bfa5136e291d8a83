"""argv to command. The standard library only: `deeplabx --help` answers before Hydra could be imported."""

import os
import re
import signal
import sys
from typing import NoReturn

from deeplabx import __version__
from deeplabx.command.quoting import in_quotes
from deeplabx.command.table import BY_WORDS, FIRST_WORDS, FLAGS, SHORT_FLAGS, Command, help_text, second_words
from deeplabx.errors import nearest


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    code: int | str | None = 0
    try:
        try:
            answer(sys.argv[1:] if argv is None else argv)
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()  # not at Python's own end, where what follows could not be caught
    except BrokenPipeError:  # the reader of what is printed has left, as in `deeplabx list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:  # while Hydra was imported; later ones are answered by command.dispatch
        print("deeplabx: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def answer(argv: list[str]) -> NoReturn:
    if not argv or argv in (["--help"], ["-h"], ["help"]):
        print(help_text(__version__))
        sys.exit(0)
    if argv[0] in ("--version", "-V"):
        print(f"deeplabx {__version__}")
        sys.exit(0)
    if argv[0] in ("-sc", "--shell-completion"):
        complete(argv[1:])
    command, words = found_command(argv)
    if {"--help", "-h"} & set(words):
        show_help(command, words)
    if not command.schema:
        execute(command, {}, words)
    flags, settings = flags_and_settings(words, command)
    execute(command, flags, settings)


def show_help(command: Command, words: list[str]) -> NoReturn:
    """Print the help of a command, with the options of the plug-ins that its words name."""
    from deeplabx.command.help import command_help
    from deeplabx.errors import DeeplabxError, report

    named = [word for word in words if word.startswith("plugins=")]
    try:
        if named:
            from deeplabx.command.overrides import load_plugins

            load_plugins(named)
        print(command_help(command))
    except DeeplabxError as error:
        sys.exit(report(error))
    sys.exit(0)


def found_command(argv: list[str]) -> tuple[Command, list[str]]:
    """The command that the first word or two of argv name, and the words after them."""
    first, *rest = argv
    if first in BY_WORDS:
        return BY_WORDS[first], rest
    if first not in FIRST_WORDS:
        fail(
            f"{first} is not a command of deeplabx.{nearest(first, FIRST_WORDS)}",
            f"the commands are {', '.join(FIRST_WORDS)}",
        )
    seconds = second_words(first)
    example = next(example for second in seconds for example, _ in BY_WORDS[f"{first} {second}"].examples)
    words = f"after deeplabx {first} comes {', '.join(seconds)}"
    if not rest:
        fail(words, f"as in deeplabx {example}")
    word = rest[0]
    if word in ("--help", "-h"):
        print(f"{words}, as in deeplabx {example}")
        sys.exit(0)
    if word not in seconds:
        fail(
            f"deeplabx {first} {word} is not a command.{nearest(word, seconds)}",
            f"after {first} comes {', '.join(seconds)}",
        )
    return BY_WORDS[f"{first} {word}"], rest[1:]


def execute(command: Command, flags: dict[str, str], words: list[str]) -> NoReturn:
    if command.trains:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, leave)
    from deeplabx.command import dispatch

    sys.exit(dispatch.run(command, flags, words))


def leave(number: int, frame: object) -> NoReturn:
    """What TERM and USR1 do while a training is only starting: the job that is requeued starts it again."""
    print(
        f"deeplabx: {signal.Signals(number).name} received before the first step: nothing is lost, start "
        "it again",
        file=sys.stderr,
    )
    sys.exit(75)


def fail(message: str, hint: str) -> NoReturn:
    print(f"deeplabx: {message}\n  {hint}", file=sys.stderr)
    sys.exit(2)


def flags_and_settings(words: list[str], command: Command) -> tuple[dict[str, str], list[str]]:
    """The flags by their long names, with their values, and the settings; in any order."""
    flags: dict[str, str] = {}
    settings: list[str] = []
    given = {word.partition("=")[0] for word in words if "=" in word and not os.path.lexists(word)}
    # settings that words without a key are taken for
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
    """Exit where a setting was written with spaces around its =."""
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
            f"{word} is a file of settings, which is given as a recipe",
            "put it at FOLDER/recipe/NAME.yaml, under a first line `# @package _global_`; "
            "then: --config-dir FOLDER +recipe=NAME",
        )
    if re.match(r"[\w.]+:", word) and not word.endswith(":"):
        key, _, value = word.partition(":")
        fail(f"{word!r} is not a setting", f"settings are key=value: type {key}={value}")
    if command.first:
        fail(f"{word!r} is one word too many", f"as in deeplabx {command.examples[0][0]}")
    if word[0] in "\u2013\u2014\u2212":
        fail(f"{word!r} begins with a long dash", f"type -{word[1:]}")
    from deeplabx.command.overrides import known_keys
    from deeplabx.command.yaml_files import groups_of

    if command.schema and word in known_keys(command):
        fail(f"{word} has no value", f"type {word}=VALUE, without spaces")
    keys = groups_of(word) or [*command.needs, "dataset"]
    fail(f"{word!r} is not a setting", f"settings are key=value, as in {keys[0]}={word}")


def refuse_flag(word: str, words: list[str], command: Command) -> NoReturn:
    """Exit for a flag that there is not; where it was meant to be a setting, with that."""
    from deeplabx.command.overrides import instead_of_flag

    typed, _, value = word.partition("=")
    if not value and words and not words[0].startswith("-") and not is_setting(words[0]):
        value = words[0]
    meant = instead_of_flag(typed, value, command) if re.match(r"-+\w", typed) else ""
    near = nearest(typed, FLAGS)
    if meant:
        fail(f"{typed} is not an option: settings are key=value, without dashes", f"type {meant}")
    fail(f"{word} is not an option.{near}", f"the options are {', '.join(FLAGS)}")


INSTALL = {
    "bash": """\
_deeplabx() {
    local IFS=$' \\n'
    COMPREPLY=($(COMP_LINE="$COMP_LINE" "${COMP_WORDS[0]}" -sc query 2>/dev/null))
    [[ "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _deeplabx deeplabx""",
    "zsh": """\
_deeplabx() {
    local -a found
    found=(${=$(COMP_LINE="${(j: :)words[1,CURRENT]}" ${words[1]} -sc query 2>/dev/null)})
    (( $#found )) && compadd -Q -S '' -- $found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _deeplabx deeplabx""",
    "fish": """\
complete -c deeplabx -a '(env COMP_LINE=(commandline -cp | string collect) deeplabx -sc query 2>/dev/null \
    | string split -n " ")'""",
}


def complete(words: list[str]) -> NoReturn:
    """`-sc install=SHELL` prints the script for a shell; the script asks `-sc query` what can follow
    $COMP_LINE, the line up to the cursor.
    """
    asked, _, shell = words[0].partition("=") if words else ("", "", "")
    if asked == "install" and shell in INSTALL:
        print(INSTALL[shell])
        sys.exit(0)
    if asked != "query":
        fail("-sc needs install=bash, install=zsh or install=fish", 'eval "$(deeplabx -sc install=bash)"')
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    whole = typed[1:] if line.endswith(" ") else typed[1:-1]  # the words that are complete
    last = "" if line.endswith(" ") or len(typed) < 2 else typed[-1]
    seconds = second_words(whole[0]) if whole else ()
    if not whole or (seconds and len(whole) == 1):
        print(" ".join(word for word in (seconds if whole else FIRST_WORDS) if word.startswith(last)))
        sys.exit(0)
    count = 2 if seconds else 1
    found = BY_WORDS.get(" ".join(whole[:count]))
    if found is None or not found.schema:
        sys.exit(0)
    settings = [word for word in whole[count:] if is_setting(word) and not word.startswith("plugins=")]
    from deeplabx.command import dispatch

    sys.exit(dispatch.complete(found, " ".join([typed[0], *settings, last])))


if __name__ == "__main__":
    main()
