"""What a run may be told: one dataclass per group of settings, the range beside each setting, and the rules across them.

Defaults live in conf/*.yaml; here is only what a value may be. A field without a default must come from a YAML file or the command line.
No torch here: a wrong setting is answered before torch is imported.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.errors import ConfigError


def number(*, at_least: float | None = None, above: float | None = None, at_most: float | None = None, default: Any = MISSING) -> Any:
    """A field whose value (or whose every element) must be finite and within the range."""
    return field(default=default, metadata={"at_least": at_least, "above": above, "at_most": at_most})


def choice(*options: Any, default: Any = MISSING) -> Any:
    """A field whose value must be one of `options`."""
    return field(default=default, metadata={"options": options})


@dataclass
class ModelConfig:
    name: str = MISSING
    # None = "as the backbone says" for the next two
    separable: bool | None = None
    atrous_rates: list[int] | None = number(at_least=1, default=None)  # for output stride 16; scaled by 16 / output_stride
    align_corners: bool = MISSING
    norm: str = choice("batch", "frozen")


@dataclass
class BackboneConfig:
    name: str = MISSING
    output_stride: int = choice(8, 16, 32)
    weights: str | None = None


@dataclass
class ResNetConfig(BackboneConfig):
    multi_grid: list[int] = number(at_least=1)  # one rate per unit of the last block


@dataclass
class MobileNetV2Config(BackboneConfig):
    pass


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


@dataclass
class ShapesConfig(DatasetConfig):
    train_images: int = number(at_least=1)
    val_images: int = number(at_least=1)


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


@dataclass
class OptimizerConfig:
    name: str = MISSING
    lr: float = number(above=0)
    weight_decay: float = number(at_least=0)


@dataclass
class SGDConfig(OptimizerConfig):
    momentum: float = number(at_least=0, at_most=1)


@dataclass
class ScheduleConfig:
    name: str = MISSING
    max_iters: int = number(at_least=1)
    warmup_iters: int = number(at_least=0)


@dataclass
class PolyConfig(ScheduleConfig):
    power: float = number(at_least=0)


@dataclass
class TrainerConfig:
    batch_size: int = number(at_least=1)  # pictures per optimizer step, over all devices and accumulated passes
    accumulate: int = number(at_least=1)
    epochs: float | None = number(above=0, default=None)  # replaces schedule.max_iters
    devices: str = MISSING  # auto | cpu | N
    precision: str = choice("auto", "fp32", "bf16", "fp16")
    workers: int = number(at_least=0, at_most=256)
    head_lr_factor: float = number(above=0)
    clip_norm: float | None = number(above=0, default=None)
    eval_every: int | None = number(at_least=1, default=None)  # None: five evaluations a run
    save_every: int = number(at_least=1)
    log_every: int = number(at_least=1)
    samples: int = number(at_least=0)


@dataclass
class EvalConfig:
    scales: list[float] = number(above=0, at_most=10)
    flip: bool = MISSING
    window: int | None = number(at_least=8, default=None)
    crop: list[int] | None = number(at_least=8, default=None)  # height, width that a smaller picture is padded to


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
    """A command that starts from a checkpoint's own config: only what is typed here replaces what is stored there."""

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
class ShowConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    num_classes: int = number(at_least=1)
    size: int = number(at_least=8)


COMMANDS: dict[str, type] = {
    "train": TrainConfig,
    "eval": EvaluateConfig,
    "predict": PredictConfig,
    "resume": ResumeConfig,
    "show": ShowConfig,
}
# The families of each group: a YAML option names its family (`defaults: [/schema/backbone/resnet@_here_]`), which types its own keys.
FAMILIES: dict[str, dict[str, type]] = {
    "model": {"deeplab": ModelConfig},
    "backbone": {"resnet": ResNetConfig, "mobilenetv2": MobileNetV2Config},
    "dataset": {"files": DatasetConfig, "shapes": ShapesConfig},
    "augment": {"standard": AugmentConfig},
    "loss": {"cross_entropy": LossConfig},
    "optimizer": {"sgd": SGDConfig},
    "schedule": {"poly": PolyConfig},
}


def register_schemas() -> None:
    """Make every schema known to Hydra as `schema/<command>` and `schema/<group>/<family>`."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for command, schema in COMMANDS.items():
        store.store(group="schema", name=command, node=schema)
    for group, families in FAMILIES.items():
        for family, schema in families.items():
            store.store(group=f"schema/{group}", name=family, node=schema)


def conf_dir() -> Path:
    """The folder of YAML files: beside the package's modules in a wheel, one level up in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/ folder beside {package} or above it", hint="reinstall deeplabx: its YAML files are missing")


def options(group: str) -> list[str]:
    """The choices of a group: its YAML files, sorted by name."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """' Did you mean X?', or nothing when no known name is near."""
    known = list(known)
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    last = sorted((key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]), key=lambda key: key.count("."))
    found = (last or matches)[:1]
    return f" Did you mean {found[0]}?" if found else ""


# --- from a composed config to checked dataclasses ---------------------------------------------------------------------------------


def checked(config: DictConfig) -> Any:
    """The composed config as plain dataclasses, every value within its range. Raises ConfigError naming the setting."""
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be given", hint=f"type {missing[0]}=...")
    try:
        plain = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {' '.join(str(error.msg or error).split())[:200]}") from None
    refuse_added(plain)
    check(plain)
    return plain


def refuse_added(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for a setting that no schema has: `+key=value` adds one to a config, but nothing would read it."""
    known = [setting.name for setting in dataclasses.fields(config)]
    for name, value in vars(config).items():
        if name not in known:
            raise ConfigError(
                f"{prefix}{name} is not a setting.{nearest(name, known)}", hint=f"{prefix or 'the top '}has {', '.join(known)}"
            )
        if dataclasses.is_dataclass(value):
            refuse_added(value, f"{prefix}{name}.")


def check(config: Any) -> None:
    """Raise ConfigError for the first setting out of range, then for the first rule across settings that is broken."""
    for key, value, setting in walk(config):
        check_value(key, value, setting)
    if isinstance(config, TrainConfig):
        check_training(config)


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every (dotted key, value, field) below a dataclass instance."""
    for setting in dataclasses.fields(config):
        value = getattr(config, setting.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{setting.name}.")
        else:
            yield prefix + setting.name, value, setting


def check_value(key: str, value: Any, setting: dataclasses.Field[Any]) -> None:
    rule = setting.metadata
    if value is None:
        return
    if isinstance(value, list) and not value:
        raise ConfigError(f"{key}=[] is empty", hint=f"give at least one value, as in {key}=[1]")
    for element in value if isinstance(value, list) else [value]:
        if "options" in rule and element not in rule["options"]:
            known = [str(option) for option in rule["options"]]
            raise ConfigError(f"{key}={element} is not one of {', '.join(known)}.{nearest(str(element), known)}")
        if isinstance(element, float) and not math.isfinite(element):
            raise ConfigError(f"{key}={element} is not a finite number{range_words(rule)}")
        if outside(element, rule):
            raise ConfigError(f"{key}={element} is out of range{range_words(rule)}")


def outside(value: Any, rule: typing.Mapping[str, Any]) -> bool:
    if not isinstance(value, int | float):
        return False
    at_least, above, at_most = rule.get("at_least"), rule.get("above"), rule.get("at_most")
    return (
        (at_least is not None and value < at_least) or (above is not None and value <= above) or (at_most is not None and value > at_most)
    )


def range_words(rule: typing.Mapping[str, Any]) -> str:
    words = {"at_least": "at least", "above": "above", "at_most": "at most"}
    said = [f"{words[name]} {rule[name]}" for name in words if rule.get(name) is not None]
    return f": it must be {' and '.join(said)}" if said else ""


def check_training(config: TrainConfig) -> None:
    """The rules that no single setting shows."""
    augment, trainer, backbone = config.augment, config.trainer, config.backbone
    if augment.crop_size < backbone.output_stride:
        raise ConfigError(
            f"augment.crop_size={augment.crop_size} is smaller than backbone.output_stride={backbone.output_stride}",
            hint="the network needs a crop of at least one output stride; 513 and 512 are both fine crops",
        )
    if augment.scale_min > augment.scale_max:
        raise ConfigError(f"augment.scale_min={augment.scale_min} is above augment.scale_max={augment.scale_max}")
    if isinstance(config.schedule, ScheduleConfig) and trainer.epochs is None and config.schedule.warmup_iters >= config.schedule.max_iters:
        raise ConfigError(
            f"schedule.warmup_iters={config.schedule.warmup_iters} leaves nothing of schedule.max_iters={config.schedule.max_iters}"
        )
    check_eval(config.eval)
    passes = device_count(trainer.devices) * trainer.accumulate
    if trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} cannot be divided by trainer.devices x trainer.accumulate = {passes}",
            hint=f"take a multiple of {passes}, such as trainer.batch_size={passes * max(2, round(trainer.batch_size / passes))}",
        )
    if trainer.batch_size // passes == 1 and config.model.norm == "batch":
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} leaves one picture per pass, and batch norm after image pooling needs two",
            hint=f"type trainer.batch_size={2 * passes}, a smaller trainer.accumulate, or model.norm=frozen",
        )


def check_eval(config: EvalConfig) -> None:
    if config.crop is not None and len(config.crop) != 2:
        raise ConfigError(f"eval.crop={config.crop} must be [height,width]", hint="as in eval.crop=[513,513]")


def device_count(devices: str) -> int:
    """How many processes `trainer.devices` asks for; `auto` and `cpu` are one."""
    if devices in ("auto", "cpu"):
        return 1
    if not devices.isdecimal() or int(devices) < 1:
        raise ConfigError(f"trainer.devices={devices} is not one of auto, cpu, or a number from 1.{nearest(devices, ['auto', 'cpu'])}")
    return int(devices)


# --- to a file and back ------------------------------------------------------------------------------------------------------------


def to_plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON-ready data. A group carries the name of its family, so that `from_plain` needs no guess."""
    families = {schema: f"{group}/{family}" for group, table in FAMILIES.items() for family, schema in table.items()}
    plain: dict[str, Any] = {"family": families[type(config)]} if type(config) in families else {}
    for setting in dataclasses.fields(config):
        value = getattr(config, setting.name)
        plain[setting.name] = to_plain(value) if dataclasses.is_dataclass(value) else value
    return plain


def from_plain(schema: type, plain: Any, *, key: str = "") -> Any:
    """The inverse of `to_plain`. The data is read as data: no interpolation, nothing instantiated by name. Raises ConfigError."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{key or 'the config'} is not a table of settings")
    plain = dict(plain)
    if "family" in plain:
        group, _, family = str(plain.pop("family")).partition("/")
        found = FAMILIES.get(group, {}).get(family)
        if found is None or not issubclass(found, schema):
            raise ConfigError(f"{key} is of the unknown family {group}/{family}")
        schema = found
    hints = typing.get_type_hints(schema)
    unknown, absent = set(plain) - set(hints), set(hints) - set(plain)
    if unknown or absent:
        raise ConfigError(f"{key or 'the config'} does not fit this version: unknown {sorted(unknown)}, absent {sorted(absent)}")
    values = {}
    for name, hint in hints.items():
        dotted = f"{key}.{name}" if key else name
        nested = dataclasses.is_dataclass(hint) and isinstance(hint, type)
        values[name] = from_plain(hint, plain[name], key=dotted) if nested else typed(plain[name], hint, key=dotted)
    return schema(**values)


def typed(value: Any, hint: Any, *, key: str) -> Any:
    if not fits(value, hint):
        raise ConfigError(f"{key}={value!r} is not {type_words(hint)}")
    return float(value) if hint is float else value


def fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(fits(element, typing.get_args(hint)[0]) for element in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def type_words(hint: Any) -> str:
    """A type in a user's words: 'a whole number', 'a list such as [6,12,18]'."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_words(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return "a list of numbers such as [6,12,18]"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}.get(hint, str(hint))


def setting_type(schema: type, key: str) -> Any:
    """The declared type of a dotted key, looked for in every family of its group; None when there is no such key."""
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
                keys += [key for key in setting_keys(typing.cast(type, candidate), f"{prefix}{name}.") if key not in keys]
        else:
            keys.append(prefix + name)
    return keys


def replace_typed(base: Any, composed: DictConfig, overrides: list[str]) -> None:
    """Copy each setting that was typed (`overrides`, as Hydra lists them) from the composed config onto `base`, groups first and whole."""
    names = [override.lstrip("+~").partition("=")[0] for override in overrides]
    for name in sorted(names, key=lambda name: "." in name):
        if OmegaConf.select(composed, name, default=None) is None and "." not in name:
            continue
        owner, _, last = name.rpartition(".")
        target = base
        for part in owner.split(".") if owner else []:
            target = getattr(target, part, None)
        if not hasattr(target, last):
            if owner:
                raise ConfigError(f"{name} is not a setting of this checkpoint's {owner}={getattr(target, 'name', '?')}")
            continue  # ckpt, input and out are the command's own, not the checkpoint's
        value = OmegaConf.select(composed, name)
        setattr(target, last, OmegaConf.to_object(value) if OmegaConf.is_config(value) else value)
