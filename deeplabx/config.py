"""What a run may be told: one dataclass per group of settings, the range beside each setting.

Defaults live in conf/*.yaml; here is only what a value may be. A field without a default must come from a
YAML file or the command line. No torch here: a wrong setting is answered before torch is imported.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from omegaconf import MISSING

from deeplabx.errors import ConfigError


def number(
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    default: Any = MISSING,
) -> Any:
    """A field whose value (or whose every element) must be finite and within the range."""
    return field(
        default=default, metadata={"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    )


def choice(*options: Any, default: Any = MISSING) -> Any:
    """A field whose value must be one of `options`."""
    return field(default=default, metadata={"options": options})


@dataclass
class ModelRecommendedConfig:
    """What a model is published with; the backbone takes it from here by interpolation."""

    output_stride: int = choice(8, 16, 32)


@dataclass
class ModelConfig:
    name: str = MISSING
    align_corners: bool = MISSING
    norm: str = choice("auto", "batch", "sync", "group", "frozen")
    norm_momentum: float | None = number(
        above=0, at_most=1, default=None
    )  # weight of the newest batch in batch norm's statistics
    auxiliary_weight: float | None = number(
        above=0, default=None
    )  # of the auxiliary head's loss; None: no such head
    recommended: ModelRecommendedConfig = field(default_factory=ModelRecommendedConfig)


@dataclass
class DeepLabV1Config(ModelConfig):
    fc6: str = choice("large_fov", "7x7")


@dataclass
class DeepLabV2Config(ModelConfig):
    atrous_rates: list[int] = number(
        at_least=1, at_most=1000
    )  # for output stride 8; scaled by 8 / output_stride
    scales: list[float] = number(
        above=0, at_most=2
    )  # of the images that the network sees; the largest logit counts


@dataclass
class PoolingConfig(ModelConfig):
    """DeepLabv3 and v3+: ASPP with image pooling."""

    # None = "as the backbone says" for the next two
    separable: bool | None = None
    atrous_rates: list[int] | None = number(
        at_least=1, at_most=1000, default=None
    )  # for output stride 16; scaled by 16 / output_stride
    image_pooling: int | None = number(
        at_least=8, at_most=100_000, default=None
    )  # side in pixels of what is averaged; None: the whole image
    channels: int = number(at_least=1, at_most=65_536)  # of ASPP and what follows it
    projection_kernel: int = choice(1, 3)  # side of ASPP's last convolution


@dataclass
class DeepLabV3Config(PoolingConfig):
    aspp: bool = MISSING
    head_convolution: bool = MISSING


@dataclass
class DeepLabV3PlusConfig(PoolingConfig):
    decoder_convolutions: int = number(at_least=1, at_most=3)


@dataclass
class LRASPPConfig(ModelConfig):
    channels: int = number(at_least=1, at_most=65_536)
    pooling: int | None = number(
        at_least=8, at_most=100_000, default=None
    )  # side in pixels of what is averaged; None: the whole image
    pooling_stride: list[int] = number(at_least=1, at_most=1000)  # down and across, in features


@dataclass
class BackboneConfig:
    name: str = MISSING
    output_stride: int = choice(8, 16, 32)
    in_channels: int = number(at_least=1, at_most=1024)
    weights: str | None = None


@dataclass
class ResNetConfig(BackboneConfig):
    multi_grid: list[int] | None = number(
        at_least=1, at_most=1000, default=None
    )  # one rate per unit of the last block; None: as the model says
    blocks: int = number(at_least=4, at_most=7)


@dataclass
class MobileNetV2Config(BackboneConfig):
    width: float = number(above=0, at_most=4)


@dataclass
class MobileNetV3Config(BackboneConfig):
    reduced_tail: bool = MISSING
    dilate_strided: bool = MISSING


@dataclass
class VGGConfig(BackboneConfig):
    pass


@dataclass
class XceptionConfig(BackboneConfig):
    pass


@dataclass
class EfficientNetLiteConfig(BackboneConfig):
    pass


@dataclass
class TimmConfig(BackboneConfig):
    model: str = MISSING


@dataclass
class RecommendedConfig:
    """What a data set is published with; the other groups take it from here by interpolation."""

    crop_size: int = number(at_least=8)
    batch_size: int = number(at_least=1)
    max_iters: int = number(at_least=1)
    lr: float = number(above=0)
    eval_crop: list[int] | None = number(at_least=8, default=None)


@dataclass
class DatasetConfig:
    name: str = MISSING
    root: str | None = None
    train_split: str = MISSING
    split: str = MISSING  # the split that is evaluated
    recommended: RecommendedConfig = field(default_factory=RecommendedConfig)
    on_bad: str = choice("abort", "skip", default="abort")  # an image or label that cannot be read


@dataclass
class ShapesConfig(DatasetConfig):
    train_images: int = number(at_least=1)
    val_images: int = number(at_least=1)


@dataclass
class VOCConfig(DatasetConfig):
    sbd_root: str | None = None


@dataclass
class FolderConfig(DatasetConfig):
    val_fraction: float | None = number(above=0, at_most=0.9, default=None)
    split_seed: int = number(at_least=0)
    mask_suffix: str = MISSING


@dataclass
class AugmentConfig:
    name: str = MISSING
    crop_size: int = number(at_least=8)
    scale_min: float = number(above=0, at_most=10)
    scale_max: float = number(above=0, at_most=10)
    flip: float = number(at_least=0, at_most=1)


@dataclass
class LossConfig:
    name: str = MISSING
    class_weights: list[float] | None = number(above=0, default=None)  # one per class; None: all alike
    # how class_weights are computed from the training labels, which the run writes there; None: they are not
    class_balance: str | None = choice("median_frequency", "enet", "effective_number", default=None)
    keep_priors: bool = False


@dataclass
class OptimizerConfig:
    name: str = MISSING
    lr: float = number(above=0)
    weight_decay: float = number(at_least=0)


@dataclass
class SGDConfig(OptimizerConfig):
    momentum: float = number(at_least=0, at_most=1)


@dataclass
class AdamWConfig(OptimizerConfig):
    beta1: float = number(at_least=0, below=1)
    beta2: float = number(at_least=0, below=1)


@dataclass
class ScheduleConfig:
    name: str = MISSING
    max_iters: int = number(at_least=1)
    warmup_iters: int = number(at_least=0)


@dataclass
class PolyConfig(ScheduleConfig):
    power: float = number(at_least=0)


@dataclass
class StepConfig(ScheduleConfig):
    every: int = number(at_least=1)
    factor: float = number(above=0, at_most=1)


@dataclass
class TrainerConfig:
    batch_size: int = number(at_least=1)  # images per optimizer step, over all devices and accumulated passes
    accumulate: int = number(at_least=1)
    epochs: float | None = number(above=0, default=None)  # replaces schedule.max_iters
    devices: str = MISSING  # auto | cpu | N
    precision: str = choice("auto", "fp32", "bf16", "fp16")
    workers: int = number(at_least=0, at_most=256)
    head_lr_factor: float = number(above=0)
    head_bias_lr_factor: float | None = number(above=0, default=None)  # None: as head_lr_factor
    clip_norm: float | None = number(above=0, default=None)
    ema_decay: float | None = number(
        above=0, below=1, default=None
    )  # of the moving average of the weights; None: there is none
    freeze_stride: int | None = choice(
        2, 4, 8, 16, 32, default=None
    )  # the backbone up to this stride does not change; 32: all of it
    freeze_backbone_norm: bool = MISSING
    on_nonfinite: str = choice("abort", "skip")  # a loss or gradient that is not a finite number
    max_restarts: int = number(at_least=0, at_most=1000)
    eval_every: int | None = number(at_least=1, default=None)  # None: five evaluations a run
    save_every: int = number(at_least=1)
    log_every: int = number(at_least=1)
    samples: int = number(at_least=0)


@dataclass
class EvalConfig:
    scales: list[float] = number(above=0, at_most=10)
    flip: bool = MISSING
    window: int | None = number(at_least=8, default=None)
    crop: list[int] | None = number(
        at_least=8, default=None
    )  # height, width that a smaller image is padded to
    crf: bool = MISSING
    crf_iterations: int = number(at_least=0, at_most=1000)
    crf_position: list[float] = number(at_least=0, at_most=1e4)  # weight, pixels
    crf_bilateral: list[float] = number(at_least=0, at_most=1e4)  # weight, pixels, grey levels


@dataclass
class TrainConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = number(at_least=0, at_most=2**31 - 1)
    resume: bool = MISSING
    init_from: str | None = None


@dataclass
class CheckpointConfig:
    """A command that starts from a checkpoint's own config: only what is typed here replaces what is stored
    there.
    """

    ckpt: str = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


@dataclass
class EvaluateConfig(CheckpointConfig):
    dataset: DatasetConfig = field(default_factory=DatasetConfig)


@dataclass
class PredictConfig(CheckpointConfig):
    input: str = MISSING
    out: str = MISSING


@dataclass
class ResumeConfig:
    run: str = MISSING
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class ExtendConfig(ResumeConfig):
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class ShowConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_classes: int = number(at_least=1)
    size: int = number(at_least=8)


@dataclass
class DataFakeConfig:
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    out: str = MISSING
    images: int = number(at_least=1)
    seed: int = number(at_least=0, at_most=2**31 - 1)


@dataclass
class WeightsConfig:
    """A foreign file, and what is to go before what its importer says of the network."""

    source: str = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)


@dataclass
class WeightsImportConfig(WeightsConfig):
    out: str = MISSING


@dataclass
class WeightsVerifyConfig(WeightsConfig):
    ckpt: str | None = None


COMMANDS: dict[str, type] = {
    "train": TrainConfig,
    "eval": EvaluateConfig,
    "predict": PredictConfig,
    "resume": ResumeConfig,
    "extend": ExtendConfig,
    "show": ShowConfig,
    "data_fake": DataFakeConfig,
    "weights_import": WeightsImportConfig,
    "weights_verify": WeightsVerifyConfig,
}
# The families of each group: a YAML option names its family (`defaults: [/schema/backbone/resnet@_here_]`),
# which types its own keys.
FAMILIES: dict[str, dict[str, type]] = {
    "model": {
        "deeplabv1": DeepLabV1Config,
        "deeplabv2": DeepLabV2Config,
        "deeplabv3": DeepLabV3Config,
        "deeplabv3plus": DeepLabV3PlusConfig,
        "lraspp": LRASPPConfig,
    },
    "backbone": {
        "resnet": ResNetConfig,
        "mobilenetv2": MobileNetV2Config,
        "mobilenetv3": MobileNetV3Config,
        "vgg": VGGConfig,
        "xception": XceptionConfig,
        "efficientnet_lite": EfficientNetLiteConfig,
        "timm": TimmConfig,
    },
    "dataset": {"files": DatasetConfig, "shapes": ShapesConfig, "voc": VOCConfig, "folder": FolderConfig},
    "augment": {"standard": AugmentConfig},
    "loss": {"cross_entropy": LossConfig},
    "optimizer": {"sgd": SGDConfig, "adamw": AdamWConfig},
    "schedule": {"poly": PolyConfig, "step": StepConfig},
}


def register_schemas(command: str) -> None:
    """Make the schemas of a command known to Hydra, as `schema/<command>` and `schema/<group>/<family>`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name=command, node=COMMANDS[command])
    for group, families in FAMILIES.items():
        for family, schema in families.items():
            store.store(group=f"schema/{group}", name=family, node=schema)


def conf_dir() -> Path:
    """The folder of YAML files: beside the package's modules in a wheel, one level up in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(
        f"no conf/ folder beside {package} or above it", hint="reinstall deeplabx: its YAML files are missing"
    )


def options(group: str) -> list[str]:
    """The choices of a group: its YAML files, sorted by name."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """' Did you mean X?', or nothing when no known name is near."""
    known = list(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    last = sorted(
        (key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]),
        key=lambda key: key.count("."),
    )
    found = (last or matches)[:1]
    return f" Did you mean {found[0]}?" if found else ""


def type_words(hint: Any) -> str:
    """A type in a user's words: 'a whole number', 'a list such as [6,12,18]'."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_words(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return "a list of numbers such as [6,12]"
    return {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }.get(hint, str(hint))


def setting_type(schema: type, key: str) -> Any:
    """The declared type of a dotted key, looked for in every family of its group; None when there is no such
    key.
    """
    head, _, rest = key.partition(".")
    hints = typing.get_type_hints(schema)
    if head not in hints:
        return None
    if not rest:
        return hints[head]
    for candidate in (hints[head], *FAMILIES.get(head, {}).values()):
        if dataclasses.is_dataclass(candidate):
            found = setting_type(typing.cast(type, candidate), rest)
            if found is not None:
                return found
    return None


def setting_keys(schema: type, prefix: str = "") -> list[str]:
    """Every dotted key that a command knows, those of all families of a group included."""
    keys: list[str] = []
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            for candidate in (hint, *(FAMILIES.get(name, {}).values() if not prefix else ())):
                keys += [
                    key
                    for key in setting_keys(typing.cast(type, candidate), f"{prefix}{name}.")
                    if key not in keys
                ]
        else:
            keys.append(prefix + name)
    return keys
