"""argv to command. Standard library only: `deeplabx --help` must not wait for Hydra to be imported."""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from deeplabx import __version__
from deeplabx.command.arguments import fail, flags_and_settings
from deeplabx.command.completion import complete
from deeplabx.command.table import BY_WORDS, FIRST_WORDS, Command, help_text, second_words
from deeplabx.errors import nearest
from deeplabx.process.ending import end_process
from deeplabx.process.terminal import discard_terminal, show_any_text

# What people enter by habit for a command of two words or of another name.
OTHER_WORDS = {
    "evaluate": "eval RUN",
    "infer": "predict RUN INPUT",
    "inference": "predict RUN INPUT",
    "leaderboard": "sweep show DIR",
    "optimize": "train -m sweep.trials=N ...",
    "search": "train -m sweep.trials=N ...",
    "test": "eval RUN",
    "tune": "train -m sweep.trials=N ...",
}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    show_any_text()
    code: int | str | None = 0
    try:
        try:
            answer(sys.argv[1:] if argv is None else argv)
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()  # here, because an error in Python's own flush at exit cannot be caught
    except BrokenPipeError:  # stdout was closed, as in `deeplabx list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:  # while Hydra was imported; later ones are answered by command.dispatch
        print("deeplabx: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


def program() -> NoReturn:
    """`main` as a program: its end is the end of the process."""
    try:
        main()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            end_process(ended.code)
        raise


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
    from deeplabx.command.overrides import load_plugins
    from deeplabx.errors import DeeplabxError, report
    from deeplabx.run import plugins

    try:
        plugins.load_installed()
        load_plugins([word for word in words if word.startswith("plugins=")])
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
        if first in OTHER_WORDS:
            fail(f"{first} is not a command of deeplabx.", f"type deeplabx {OTHER_WORDS[first]}")
        fail(
            f"{first} is not a command of deeplabx.{nearest(first, FIRST_WORDS)}",
            f"the commands are {', '.join(FIRST_WORDS)}",
        )
    seconds = second_words(first)
    example = next(example for second in seconds for example, _ in BY_WORDS[f"{first} {second}"].examples)
    words = f"{first} needs a second word: {', '.join(seconds)}"
    if not rest:
        fail(words, f"as in deeplabx {example}")
    word = rest[0]
    if word in ("--help", "-h"):
        print(f"{words}, as in deeplabx {example}")
        sys.exit(0)
    if word not in seconds:
        if first == "sweep" and Path(word).exists():
            fail(
                f"deeplabx sweep {word} does not say what to do",
                f"deeplabx sweep show {word} prints its leaderboard; "
                f"deeplabx sweep resume {word} runs the rest",
            )
        fail(
            f"deeplabx {first} {word} is not a command.{nearest(word, seconds)}",
            words,
        )
    return BY_WORDS[f"{first} {word}"], rest[1:]


def execute(command: Command, flags: dict[str, str], words: list[str]) -> NoReturn:
    if command.trains:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, leave)
    from deeplabx.command import dispatch

    sys.exit(dispatch.run(command, flags, words))


def leave(number: int, frame: object) -> NoReturn:
    """The answer to TERM, USR1 and HUP before the first step: a scheduler that requeues the job restarts
    it.
    """
    if number == signal.SIGHUP:
        discard_terminal()
    print(
        f"deeplabx: {signal.Signals(number).name} received before the first step: nothing is lost, start "
        "it again",
        file=sys.stderr,
    )
    sys.exit(75)


if __name__ == "__main__":
    program()
