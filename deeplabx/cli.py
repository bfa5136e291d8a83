"""argv to command. The standard library only: `deeplabx --help` answers before Hydra could be imported."""

import os
import re
import signal
import sys
from typing import NoReturn

from deeplabx import __version__
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
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(help_text(__version__))
        sys.exit(0)
    if argv[0] in ("--version", "-V"):
        print(f"deeplabx {__version__}")
        sys.exit(0)
    if argv[0] in ("-sc", "--shell-completion"):
        complete(argv[1:])
    command, words = found_command(argv)
    if not command.schema:
        if {"--help", "-h"} & set(words):
            print(f"deeplabx {command.words}: {command.about}")
            sys.exit(0)
        execute(command, {}, words)
    words = named_folder(words) if command.folder else words
    flags, settings = flags_and_settings(words, example=next(iter(command.needs), "dataset"))
    if "--help" in flags:
        typed = {setting.partition("=")[0] for setting in settings}
        settings += [one for one in command.defaults if one.partition("=")[0] not in typed]
    execute(command, flags, settings)


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


def named_folder(words: list[str]) -> list[str]:
    """`resume RUN` as `resume run=RUN`. A first word that looks like a setting is one, unless it is a
    folder.
    """
    if not words or words[0].startswith(("-", "run=")):
        return words
    # os.path, because pathlib takes a while to import
    if re.match(r"[+~]*[\w.@/:]+=|[+~]", words[0]) and not os.path.isdir(words[0]):  # noqa: PTH112
        return words
    return [f"run={words[0]}", *words[1:]]


def flags_and_settings(words: list[str], *, example: str = "dataset") -> tuple[dict[str, str], list[str]]:
    """The flags by their long names, with their values, and the settings; in any order.

    example: the setting that a word without a key is likely to be of.
    """
    flags: dict[str, str] = {}
    settings: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            if "=" not in word and not word.startswith("~"):
                fail(f"{word!r} is not a setting", f"settings are key=value, as in {example}={word}")
            settings.append(word)
            continue
        typed, equals, value = word.partition("=")
        flag = SHORT_FLAGS.get(typed, typed)
        if flag not in FLAGS or (equals and FLAGS[flag] == ()):
            fail(f"{word} is not an option.{nearest(word, FLAGS)}", f"the options are {', '.join(FLAGS)}")
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
    return flags, settings


def complete(words: list[str]) -> NoReturn:
    """Tab completion: Hydra completes settings, but knows nothing of the command's words before them."""
    command = BY_WORDS["train"]
    if words[:1] == ["query=bash"]:
        line = os.environ.get("COMP_LINE", "")
        typed = line.split()
        whole = typed[1:] if line.endswith(" ") else typed[1:-1]  # the words that are complete
        seconds = second_words(whole[0]) if whole else ()
        if not whole or (seconds and len(whole) == 1):
            print(" ".join(seconds if whole else FIRST_WORDS))
            sys.exit(0)
        count = 2 if seconds else 1
        found = BY_WORDS.get(" ".join(whole[:count]))
        if found is None or not found.schema:
            sys.exit(0)
        command = found
        os.environ["COMP_LINE"] = typed[0] + line.split(typed[count], 1)[1]
    from deeplabx.command import dispatch

    sys.exit(dispatch.complete(command, words))


if __name__ == "__main__":
    main()
