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
    examples: tuple[tuple[str, str], ...] = ()  # two or more, each with what it does
    run: str  # "module:function": takes a Job, or, without a schema, the words after the command
    schema: str = ""  # the dataclass of its settings in config/schema.py; "" for a command without settings
    # Whether its settings replace those that a checkpoint or run has stored: only overrides count.
    overrides_stored: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)  # settings without a default, with their meaning
    first: tuple[str, ...] = ()  # settings that may be its first words, without key=
    holds: tuple[str, ...] = ("config.yaml",)  # files that the folder of `run` has, one of them at least
    rest: str = ""  # a list that further words without key= go into
    lists: bool = False  # whether it lists options; of installed plug-ins too
    trains: bool = False  # whether it can be started again when it is stopped before its first step
    searches: bool = False  # whether -m takes the settings sweep.*
    parallel: bool = False  # whether the processes that torchrun or SLURM started run it together
    defaults: tuple[str, ...] = ()  # overrides with which --help and completion compose
    # Values of settings that are null in the checkpoint, unless null is what was typed.
    in_place_of_null: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> type:
        """The dataclass of its settings."""
        from deeplabx.config import schema  # here, because `deeplabx --help` needs none of it

        return getattr(schema, self.schema)

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
            ("train backbone=resnet50 dataset=camvid dataset.root=PATH", "on CamVid"),
            ("train dataset=folder dataset.root=own", "on your own images"),
            ("train -m optimizer.lr=0.01,0.02", "a sweep: one folder per job"),
        ),
        run="deeplabx.command.train:main",
        schema="TrainConfig",
        trains=True,
        searches=True,
        parallel=True,
    ),
    Command(
        words="eval",
        about="mIoU and the per-class table of a run's best checkpoint",
        examples=(
            ("eval RUN", "on the split that it was evaluated on in training"),
            ("eval RUN dataset.split=test eval.flip=true", "on another split, flipped images too"),
        ),
        run="deeplabx.command.evaluate:main",
        schema="EvaluateConfig",
        overrides_stored=True,
        needs=CKPT,
        first=("ckpt",),
        parallel=True,
    ),
    Command(
        words="predict",
        about="class ids and an overlay of each image",
        examples=(
            ("predict RUN photo.jpg", "into outputs/predict/"),
            ("predict RUN photos/ out=predicted", "every image below a folder"),
            ("predict RUN clip.mp4 'save=[ids,overlay,polygons]'", "a video, with polygons"),
        ),
        run="deeplabx.command.predict:main",
        schema="PredictConfig",
        overrides_stored=True,
        needs={**CKPT, "input": "images, folders or videos, as in deeplabx predict RUN photo.jpg"},
        in_place_of_null={"eval.window": "auto"},
        first=("ckpt",),
        rest="input",
        parallel=True,
    ),
    Command(
        words="report",
        about="the page of a run or of an evaluation: report.html",
        examples=(
            ("report RUN", "made again, as after each evaluation"),
            ("report RUN variants=true", "and what output stride 8, scales and flip cost and gain here"),
        ),
        run="deeplabx.command.report:main",
        schema="ReportConfig",
        overrides_stored=True,
        first=("run",),
        holds=("config.yaml", "evaluation.json", "images.npz"),
    ),
    Command(
        words="export",
        about="a file for onnxruntime, OpenVINO or torch.export",
        examples=(
            ("export RUN", "ONNX, checked against the run, into outputs/export/"),
            ("export RUN format=openvino int8=true out=DIR", "with 8-bit integers too, mIoU measured"),
        ),
        run="deeplabx.command.export:main",
        schema="ExportConfig",
        overrides_stored=True,
        needs=CKPT,
        first=("ckpt",),
    ),
    Command(
        words="serve",
        about="a page and a JSON service that segment images",
        examples=(
            ("serve RUN", "for this machine alone, at http://127.0.0.1:8000/"),
            ("serve RUN serve.port=0 serve.max_pixels=4000000", "on any free port, for small images"),
        ),
        run="deeplabx.command.serve:main",
        schema="ServeConfig",
        overrides_stored=True,
        needs=CKPT,
        in_place_of_null={"eval.window": "auto"},
        first=("ckpt",),
    ),
    Command(
        words="resume",
        about="continue an interrupted run exactly",
        examples=(
            ("resume RUN", "from its newest checkpoint"),
            ("resume RUN trainer.workers=0", "with other loader processes"),
            ("resume RUN tracker=mlflow", "recorded by MLflow from here on"),
        ),
        run="deeplabx.command.resume:main",
        schema="ResumeConfig",
        overrides_stored=True,
        first=("run",),
        trains=True,
        parallel=True,
    ),
    Command(
        words="extend",
        about="train a run for more steps than it was planned for",
        examples=(
            ("extend RUN schedule.max_iters=2000", "up to step 2000"),
            ("extend RUN schedule.max_iters=2000 trainer.workers=0", "with other loader processes"),
        ),
        run="deeplabx.command.extend:main",
        schema="ExtendConfig",
        overrides_stored=True,
        needs={
            "schedule.max_iters": "the new number of steps, as in deeplabx extend RUN schedule.max_iters=2000"
        },
        first=("run",),
        trains=True,
        parallel=True,
    ),
    Command(
        words="compare",
        about="which of several evaluations is better, and how sure",
        examples=(
            ("compare RUN RUN", "two runs on the same images, into outputs/compare/"),
            ("compare outputs/sweep/NAME", "the jobs of a sweep, with means over seeds"),
            ("compare RUN RUN baseline=RUN", "against a run chosen beforehand"),
        ),
        run="deeplabx.command.compare:main",
        schema="CompareConfig",
        needs={"runs": "the folders of two or more runs, or of a sweep, as in deeplabx compare RUN RUN"},
        rest="runs",
    ),
    Command(
        words="sweep resume",
        about="run what a sweep has not finished",
        examples=(
            ("sweep resume DIR", "what failed, was stopped or is missing"),
            ("sweep resume DIR sweep.jobs=2", "two jobs at a time"),
        ),
        run="deeplabx.command.sweep_resume:main",
        schema="SweepResumeConfig",
        overrides_stored=True,
        needs={"folder": "the folder of a sweep, as in deeplabx sweep resume outputs/sweep/STAMP"},
        first=("folder",),
        trains=True,
    ),
    Command(
        words="sweep show",
        about="the jobs of a sweep, the best first",
        examples=(
            ("sweep show DIR", "in the terminal, as leaderboard.csv and as sweep.html"),
            ("sweep show outputs/sweep/STAMP", "also while the sweep runs"),
        ),
        run="deeplabx.command.sweep_show:main",
        schema="SweepShowConfig",
        needs={"folder": "the folder of a sweep, as in deeplabx sweep show outputs/sweep/STAMP"},
        first=("folder",),
    ),
    Command(
        words="list",
        about="the groups and their options",
        examples=(
            ("list", "models, backbones, data sets and the other groups"),
            ("list backbone dataset", "what each option of these groups is"),
        ),
        run="deeplabx.command.list:main",
        lists=True,
    ),
    Command(
        words="show",
        about="parameters, multiply-adds and strides of a model",
        examples=(
            ("show backbone=resnet101", "of DeepLabv3+ on it"),
            ("show model=deeplabv3 backbone=xception65 backbone.output_stride=8", "of DeepLabv3 at stride 8"),
        ),
        run="deeplabx.command.show:main",
        schema="ShowConfig",
    ),
    Command(
        words="help",
        about="what a setting, a group or a command is",
        examples=(
            ("help trainer.ema_decay", "meaning, type, range and default of a setting"),
            ("help loss", "the options of a group and the settings they share"),
        ),
        run="deeplabx.command.help:explained",
        lists=True,
    ),
    Command(
        words="data check",
        about="faults of a data set, their causes, and a repaired copy",
        examples=(
            ("data check", "of the generated shapes, which have none"),
            ("data check dataset=folder dataset.root=own", "of your own images and masks"),
            ("data check dataset=folder dataset.root=own fix=true out=DIR", "and a repaired copy in DIR"),
        ),
        run="deeplabx.command.data_check:main",
        schema="DataCheckConfig",
    ),
    Command(
        words="data stats",
        about="classes, void, sizes and channels of a data set",
        examples=(
            ("data stats", "of the generated shapes"),
            ("data stats dataset=folder dataset.root=own", "of your own images"),
            ("data stats dataset=voc dataset.root=PATH 'splits=[trainval]'", "of another split"),
        ),
        run="deeplabx.command.data_stats:main",
        schema="DataStatsConfig",
    ),
    Command(
        words="data preview",
        about="the augmented samples that training sees",
        examples=(
            ("data preview", "the first 12 of the generated shapes"),
            ("data preview dataset=folder dataset.root=own", "of your own images, with their labels"),
            ("data preview augment.scale_min=0.25 epoch=3 images=24", "with other settings, of epoch 3"),
        ),
        run="deeplabx.command.data_preview:main",
        schema="DataPreviewConfig",
    ),
    Command(
        words="data fake",
        about="write a small made-up data set in the original layout",
        examples=(
            ("data fake dataset=voc out=DIR", "a few images per split"),
            ("data fake dataset=cityscapes out=DIR images=20", "with more images"),
            ("data fake dataset=folder dataset.format=coco out=DIR", "with polygons, in COCO JSON"),
        ),
        run="deeplabx.command.data:fake",
        schema="DataFakeConfig",
        needs={"out": "the folder to write, as in out=voc_fake"},
        defaults=("dataset=voc",),
    ),
    Command(
        words="weights list",
        about="the known weights, and which are in the cache",
        examples=(
            ("weights list", "all of them"),
            ("weights list deeplabv3_mobilenetv2_voc_google", "all about one"),
        ),
        run="deeplabx.command.weights:listed",
    ),
    Command(
        words="weights import",
        about="convert another program's weights",
        examples=(
            ("weights import source=FILE out=DIR", "then eval, predict and init_from take DIR"),
            ("weights import source=FILE out=DIR dataset=camvid", "if the file does not name its classes"),
        ),
        run="deeplabx.command.weights:import_main",
        schema="WeightsImportConfig",
        overrides_stored=True,
        needs={**SOURCE, "out": "the folder to write, as in out=imported"},
    ),
    Command(
        words="weights verify",
        about="check another program's file: its checksum, network and logits",
        examples=(
            ("weights verify source=FILE", "its network, its checksum and its logits"),
            ("weights verify source=FILE ckpt=DIR", "and whether DIR holds the same tensors"),
        ),
        run="deeplabx.command.weights:verify_main",
        schema="WeightsVerifyConfig",
        overrides_stored=True,
        needs=SOURCE,
    ),
    Command(
        words="doctor",
        about="check this machine: versions, device, memory, disk, extras",
        examples=(
            ("doctor", "for a look"),
            ("doctor > doctor.txt", "for a bug report"),
        ),
        run="deeplabx.command.doctor:main",
    ),
)
BY_WORDS = {command.words: command for command in COMMANDS}
FIRST_WORDS = tuple(dict.fromkeys(command.words.partition(" ")[0] for command in COMMANDS))
# Hydra's flags, each with its possible values; () for one without a value, None for any value.
FLAGS: dict[str, tuple[str, ...] | None] = {
    "--help": (),
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

Settings are key=value, groups are group=option, in any order. RUN is the folder of a run.
  deeplabx COMMAND --help   its settings and groups      deeplabx help SETTING   one setting
  deeplabx train -m optimizer.lr=0.01,0.02   a sweep     deeplabx COMMAND --cfg job   the whole config
Tab completion: eval "$(deeplabx -sc install=bash)"   or zsh;   deeplabx -sc install=fish | source
Exit codes: 0 done, 1 internal error, 2 usage, 3 data, 4 checkpoint, 5 device, 6 memory or disk, 7 diverged,
8 sweep jobs failed, 75 saved, 130 interrupted."""


def second_words(first: str) -> tuple[str, ...]:
    """What can follow the first word of a command of two words; nothing for a command of one word."""
    return tuple(
        command.words.partition(" ")[2] for command in COMMANDS if command.words.startswith(f"{first} ")
    )


def help_text(version: str) -> str:
    lines = [f"  deeplabx {one.examples[0][0]:<38} {one.about}" for one in COMMANDS]
    return HELP.format(version=version, lines="\n".join(lines))
