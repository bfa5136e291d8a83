"""Every command, declared once: help, completion, settings, module and exit all read it here.

Standard library only: `deeplabx --help` answers before anything else is imported. To add a command: a line
here, its module, and, where it has settings, their dataclass in config/schema.py and conf/<key>.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Command:
    words: str  # after `deeplabx`, one word or two
    about: str  # what it does
    # lines of `deeplabx --help`, each with what it does; "" in the first one: `about`
    examples: tuple[tuple[str, str], ...] = ()
    run: str  # "module:function": takes a Job, or, without a schema, the words after the command
    schema: str = ""  # the dataclass of its settings in config/schema.py; "" for a command without settings
    # Whether its settings replace those that a checkpoint or run has stored: only overrides count.
    overrides_stored: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)  # settings without a default, with their meaning
    folder: bool = False  # whether its first word is a run's folder, given without run=
    trains: bool = False  # whether it can be started again when it is stopped before its first step
    parallel: bool = False  # whether the processes that torchrun or SLURM started run it together
    defaults: tuple[str, ...] = ()  # overrides with which --help and completion compose

    @property
    def key(self) -> str:
        """The name of its primary config: conf/<key>.yaml."""
        return self.words.replace(" ", "_")


CKPT = {"ckpt": "a run folder or a checkpoint, as in ckpt=outputs/train/..."}
SOURCE = {"source": "a file or folder of weights, or a name that deeplabx weights list tells"}
COMMANDS = (
    Command(
        words="train",
        about="train a model",
        examples=(
            ("train", "a first run on generated shapes: three minutes, no data, no GPU"),
            ("train backbone=resnet50 dataset=camvid dataset.root=PATH", ""),
            ("train -m optimizer.lr=0.01,0.02", "a sweep: one folder per job"),
        ),
        run="deeplabx.command.train:main",
        schema="TrainConfig",
        trains=True,
        parallel=True,
    ),
    Command(
        words="eval",
        about="mIoU and the per-class table of a run's best checkpoint",
        examples=(("eval ckpt=RUN dataset.split=val", ""),),
        run="deeplabx.command.evaluate:main",
        schema="EvaluateConfig",
        overrides_stored=True,
        needs=CKPT,
        parallel=True,
    ),
    Command(
        words="predict",
        about="class ids and an overlay for an image or a folder of images",
        examples=(("predict ckpt=RUN input=photo.jpg", ""),),
        run="deeplabx.command.predict:main",
        schema="PredictConfig",
        overrides_stored=True,
        needs={**CKPT, "input": "an image or a folder of images"},
        parallel=True,
    ),
    Command(
        words="resume",
        about="continue an interrupted run exactly",
        examples=(("resume RUN", ""),),
        run="deeplabx.command.resume:main",
        schema="ResumeConfig",
        overrides_stored=True,
        folder=True,
        trains=True,
        parallel=True,
    ),
    Command(
        words="extend",
        about="train a run for more steps than it was planned for",
        examples=(("extend RUN schedule.max_iters=N", ""),),
        run="deeplabx.command.extend:main",
        schema="ExtendConfig",
        overrides_stored=True,
        needs={
            "schedule.max_iters": "the new number of steps, as in deeplabx extend RUN schedule.max_iters=2000"
        },
        folder=True,
        trains=True,
        parallel=True,
    ),
    Command(
        words="list",
        about="the groups and their options; deeplabx list backbone dataset: what each option of these "
        "groups is",
        examples=(("list", "models, backbones, data sets and the other groups"),),
        run="deeplabx.command.list:main",
    ),
    Command(
        words="show",
        about="parameters, multiply-adds and strides of a model",
        examples=(("show backbone=resnet101", ""),),
        run="deeplabx.command.show:main",
        schema="ShowConfig",
    ),
    Command(
        words="data fake",
        about="write a small made-up data set in the original layout",
        examples=(("data fake dataset=voc out=DIR", ""),),
        run="deeplabx.command.data:fake",
        schema="DataFakeConfig",
        needs={"out": "the folder to write, as in out=voc_fake"},
        defaults=("dataset=voc",),
    ),
    Command(
        words="weights list",
        about="the known weights, what they are for and whether they are in the cache; "
        "deeplabx weights list NAME: all about one",
        examples=(("weights list", "the known weights; import and verify take other programs' files"),),
        run="deeplabx.command.weights:listed",
    ),
    Command(
        words="weights import",
        about="make a checkpoint, or a backbone's weights, of another program's file",
        run="deeplabx.command.weights:import_main",
        schema="WeightsImportConfig",
        overrides_stored=True,
        needs={**SOURCE, "out": "the folder to write, as in out=imported"},
    ),
    Command(
        words="weights verify",
        about="compare another program's file with what its publisher states and what that program computes",
        run="deeplabx.command.weights:verify_main",
        schema="WeightsVerifyConfig",
        overrides_stored=True,
        needs=SOURCE,
    ),
    Command(
        words="doctor",
        about="versions, device, memory, disk and extras of this machine, and what is wrong with them",
        examples=(("doctor", "versions, device, memory, disk, extras: for a look, and for a report"),),
        run="deeplabx.command.doctor:main",
    ),
)
BY_WORDS = {command.words: command for command in COMMANDS}
FIRST_WORDS = tuple(dict.fromkeys(command.words.partition(" ")[0] for command in COMMANDS))
# Hydra's flags, each with its possible values; () for one without a value, None for any value.
FLAGS: dict[str, tuple[str, ...] | None] = {
    "--help": (),
    "--hydra-help": (),
    "--resolve": (),
    "--run": (),
    "--multirun": (),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--cfg": ("job", "hydra", "all"),
    "--package": None,
    "--config-path": None,
    "--config-name": None,
    "--config-dir": None,
}
SHORT_FLAGS = {
    "-h": "--help",
    "-r": "--run",
    "-m": "--multirun",
    "-i": "--info",
    "-c": "--cfg",
    "-p": "--package",
    "-cp": "--config-path",
    "-cn": "--config-name",
    "-cd": "--config-dir",
}

HELP = """\
deeplabx {version}: train, evaluate and ship the DeepLab series with any backbone

{lines}

Settings are key=value, groups are group=option:
  deeplabx train --help lists them, deeplabx train --cfg job prints the whole config.
Tab completion for bash: eval "$(deeplabx -sc install=bash)"
Exit codes: 0 done, 2 usage, 3 data, 4 checkpoint, 5 device, 6 memory or disk, 7 diverged,
8 sweep jobs failed, 75 saved, 130 interrupted."""


def second_words(first: str) -> tuple[str, ...]:
    """What can follow the first word of a command of two words; nothing for a command of one word."""
    return tuple(
        command.words.partition(" ")[2] for command in COMMANDS if command.words.startswith(f"{first} ")
    )


def help_text(version: str) -> str:
    examples = [
        (example, does or (one.about if number == 0 else ""))
        for one in COMMANDS
        for number, (example, does) in enumerate(one.examples)
    ]
    lines = [f"  deeplabx {example:<42} {does}".rstrip() for example, does in examples]
    return HELP.format(version=version, lines="\n".join(lines))
