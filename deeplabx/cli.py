"""argv → command. The standard library only: `deeplabx --help` answers before Hydra or torch could be
imported.
"""

import os
import re
import signal
import sys
from typing import NoReturn

from deeplabx import __version__

HELP = """\
deeplabx {version}: train, evaluate and ship the DeepLab series with any backbone

  deeplabx train                                   a first run on generated shapes: three minutes, no data, no GPU
  deeplabx train backbone=resnet50 dataset=camvid dataset.root=PATH
  deeplabx train -m optimizer.lr=0.01,0.02         a sweep: one folder per job
  deeplabx resume RUN                              continue an interrupted run exactly
  deeplabx extend RUN schedule.max_iters=N         let a run go on further than it was planned to
  deeplabx eval ckpt=RUN dataset.split=val         mIoU and the per-class table of a run's best checkpoint
  deeplabx predict ckpt=RUN input=photo.jpg        class ids and an overlay of an image or a folder
  deeplabx list                                    models, backbones, data sets and the other groups
  deeplabx show backbone=resnet101                 parameters, multiply-adds and strides of a model
  deeplabx data fake dataset=voc out=DIR           a small made-up data set in the original layout
  deeplabx weights list                            weights that are known; import and verify take other programs' files
  deeplabx doctor                                  versions, device, memory, disk, extras: what to look at, and to paste into a report

Settings are key=value, groups are group=option:  deeplabx train --help lists them, --cfg job prints the whole config.
Tab completion for bash:                          eval "$(deeplabx -sc install=bash)"
Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 device, 6 memory or disk, 7 diverged, 8 sweep jobs failed, 75 saved, 130 interrupted."""

COMMANDS = ("train", "eval", "predict", "resume", "extend", "list", "show", "data", "weights", "doctor")
TRAINING = ("train", "resume", "extend")
PLAIN = {  # commands without settings, and what they do
    "list": "the groups and their options; deeplabx list backbone dataset: what each option of these "
    "groups is",
    "weights_list": "the known weights, what they are for and whether they are in the cache; deeplabx "
    "weights list NAME: all about one",
    "doctor": "versions, device, memory, disk and extras of this machine, and what is wrong with them",
}
ACTIONS = {"data": ("fake",), "weights": ("list", "import", "verify")}  # the second word of a command of two
EXAMPLES = {"data": "fake dataset=voc out=DIR", "weights": "import source=FILE out=DIR"}
# Keys whose value is a path: Hydra's grammar would trip over ( ) , = ~ [ ] and letters beyond ASCII in it.
PATH_KEYS = (
    "input",
    "out",
    "source",
    "ckpt",
    "run",
    "init_from",
    "dataset.root",
    "dataset.sbd_root",
    "backbone.weights",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
FLAGS_WITH_VALUE = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
)
FLAGS = (
    "--help",
    "-h",
    "--hydra-help",
    "--resolve",
    "--run",
    "-r",
    "--multirun",
    "-m",
    "--info",
    "-i",
    *FLAGS_WITH_VALUE,
)
CFG_TOPICS = ("job", "hydra", "all")
INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
COMPLETION_FLAGS = ("-sc", "--shell-completion")


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        answer(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:  # while Hydra was imported; later ones are answered by `apps`
        print("deeplabx: interrupted", file=sys.stderr)
        sys.exit(130)


def answer(argv: list[str]) -> None:
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(HELP.format(version=__version__))
        sys.exit(0)
    if argv[0] in ("--version", "-V"):
        print(f"deeplabx {__version__}")
        sys.exit(0)
    if argv[0] in COMPLETION_FLAGS:
        complete(argv)
    command, arguments = argv[0], argv[1:]
    if command not in COMMANDS:
        fail(
            f"{command} is not a command of deeplabx.{nearest(command, COMMANDS)}",
            f"the commands are {', '.join(COMMANDS)}",
        )
    if command in ACTIONS:
        command, arguments = two_words(command, arguments)
    if command in ("resume", "extend"):
        arguments = name_the_run(arguments)
    if command in PLAIN and set(arguments) & {"--help", "-h"}:
        print(f"deeplabx {command.replace('_', ' ')}: {PLAIN[command]}")
        sys.exit(0)
    start(command, arguments if command in PLAIN else hydra_arguments(arguments))


def two_words(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """`data fake ...` as the command data_fake."""
    actions = ACTIONS[command]
    word = arguments[0] if arguments else "--help"
    if word in ("--help", "-h"):
        print(
            f"after deeplabx {command} comes {', '.join(actions)}, as in deeplabx {command} "
            f"{EXAMPLES[command]}"
        )
        sys.exit(0 if arguments else 2)
    if word not in actions:
        fail(
            f"deeplabx {command} {word} is not a command.{nearest(word, actions)}",
            f"after {command} comes {', '.join(actions)}",
        )
    arguments = arguments[1:]
    if (
        command == "data"
        and set(arguments) & {"--help", "-h"}
        and not any(argument.startswith("dataset=") for argument in arguments)
    ):
        arguments.append("dataset=voc")  # Hydra's help is of a whole config, and dataset= must be given
    return f"{command}_{word}", arguments


def leave(number: int, frame: object) -> NoReturn:
    """What TERM and USR1 do while a training is only starting: the job that is requeued starts it again."""
    print(
        f"deeplabx: {signal.Signals(number).name} received before the first step: nothing is lost, start "
        "it again",
        file=sys.stderr,
    )
    sys.exit(75)


def start(command: str, arguments: list[str]) -> NoReturn:
    if command in TRAINING:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, leave)
    from deeplabx import apps

    sys.exit(apps.run(command, arguments))


def fail(message: str, hint: str) -> NoReturn:
    print(f"deeplabx: {message}\n  {hint}", file=sys.stderr)
    sys.exit(2)


def nearest(word: str, known: tuple[str, ...]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def name_the_run(arguments: list[str]) -> list[str]:
    """`resume RUN` reads as `resume run=RUN`. A first word that looks like a setting is one, unless there is
    such a folder.
    """
    if not arguments or arguments[0].startswith(("-", "run=")):
        return arguments
    if re.match(r"[+~]*[\w.@/:]+=|[+~]", arguments[0]) and not os.path.isdir(arguments[0]):  # noqa: PTH112 - pathlib takes a while
        return arguments
    return [f"run={arguments[0]}", *arguments[1:]]


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Flags first, settings after them (Hydra's parser refuses `a=1 -m b=2`), the values of path keys
    quoted.
    """
    flags: list[str] = []
    settings: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            settings.append(word)
            continue
        if word.partition("=")[0] not in FLAGS:
            fail(
                f"{word} is not an option.{nearest(word, FLAGS)}",
                f"the options are {', '.join(flag for flag in FLAGS if flag.startswith('--'))}",
            )
        if word in ("--cfg", "-c") and words[:1] and words[0] not in CFG_TOPICS:
            fail(
                f"--cfg {words[0]} is not one of {', '.join(CFG_TOPICS)}.{nearest(words[0], CFG_TOPICS)}",
                "as in deeplabx train --cfg job",
            )
        flags.append(word)
        if word in ("--info", "-i"):
            flags.append(
                words.pop(0) if words[:1] and words[0] in INFO_TOPICS else INFO_TOPICS[0]
            )  # else it would take a setting
        if word in FLAGS_WITH_VALUE:
            if not words:
                fail(f"{word} needs a value", "as in --cfg job or --config-dir FOLDER")
            flags.append(words.pop(0))
    for word in settings:
        if "=" not in word and not word.startswith("~"):
            fail(f"{word!r} is not a setting", f"settings are key=value, as in dataset={word}")
    sweep = any(flag in ("-m", "--multirun") for flag in flags)
    return flags + [quoted(word, sweep=sweep) for word in settings]


def quoted(setting: str, *, sweep: bool) -> str:
    """`setting` with the value of a path key in Hydra's quotes; in a sweep a comma still separates values."""
    key, _, value = setting.partition("=")
    if key.lstrip("+~") not in PATH_KEYS or value in ("", "null", "none"):
        return setting
    if value[0] == value[-1] and value[0] in "'\"" and len(value) > 1:
        return setting
    parts = value.split(",") if sweep else [value]
    return f"{key}=" + ",".join(in_quotes(part) for part in parts)


def in_quotes(text: str) -> str:
    """`text` in single quotes as Hydra reads them: a backslash is doubled only where a quote follows."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def complete(argv: list[str]) -> NoReturn:
    """Tab completion: Hydra completes settings, but knows nothing of the command word that stands before
    them.
    """
    query = argv[1:2] == ["query=bash"]
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    complete_words = len(words) if line.endswith(" ") else len(words) - 1
    command = "train"
    if query:
        if complete_words < 2:
            print(" ".join(COMMANDS))
            sys.exit(0)
        if words[1] in ACTIONS and complete_words < 3:
            print(" ".join(ACTIONS[words[1]]))
            sys.exit(0)
        typed = 3 if words[1] in ACTIONS else 2  # words that name the command
        command = "_".join(words[1:typed])
        os.environ["COMP_LINE"] = words[0] + line.split(words[typed - 1], 1)[1]
        if words[1] not in COMMANDS or command in PLAIN:
            sys.exit(0)
    start(command, argv)


if __name__ == "__main__":
    main()
