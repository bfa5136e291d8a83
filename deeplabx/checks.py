"""From a composed config to checked dataclasses: every value in its range, then the rules that hold across
settings. No torch here.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx import config as schema
from deeplabx.errors import ConfigError

LEAST_DISTANCE = 0.1  # pixels or grey levels of the CRF's kernels: finer ones have no neighbours left


def checked(config: DictConfig) -> Any:
    """The composed config as plain dataclasses, every value within its range. Raises ConfigError naming the
    setting.
    """
    try:
        missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
        plain = None if missing else OmegaConf.to_object(config)
        missing = missing or [key for key, value, _ in walk(plain) if value == MISSING]  # taken away with ~
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {' '.join(str(error.msg or error).split())[:200]}") from None
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be given", hint=f"type {missing[0]}=...")
    refuse_added(plain)
    check(plain)
    if isinstance(plain, schema.TrainConfig):
        refuse_nonsense_weights(plain.loss)
    return plain


def refuse_nonsense_weights(loss: schema.LossConfig) -> None:
    """Raise ConfigError where weights are both given and to be computed (a run's own config has both: there
    the one is what became of the other), or where the priors are to be kept and there are none.
    """
    if loss.class_weights is not None and loss.class_balance is not None:
        raise ConfigError(
            f"loss.class_weights={loss.class_weights} and loss.class_balance={loss.class_balance} are two "
            "answers to one question",
            hint="leave one of them null",
        )
    if loss.keep_priors and loss.class_weights is None and loss.class_balance is None:
        raise ConfigError(
            "loss.keep_priors=true, but there are no class weights",
            hint="type loss.class_balance=enet, or leave it false",
        )


def refuse_added(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for a setting that no schema has: `+key=value` adds one to a config, but nothing
    would read it.
    """
    known = [setting.name for setting in dataclasses.fields(config)]
    for name, value in vars(config).items():
        if name not in known:
            raise ConfigError(
                f"{prefix}{name} is not a setting.{schema.nearest(name, known)}",
                hint=f"{prefix.rstrip('.') or 'the top'} has {', '.join(known)}",
            )
        if dataclasses.is_dataclass(value):
            refuse_added(value, f"{prefix}{name}.")


def check(config: Any, *, training: bool = True) -> None:
    """Raise ConfigError for the first setting out of range, then for the first rule across settings that is
    broken.

    training: whether a run's config is to be trained with; eval and predict use one without its batch.
    """
    for key, value, setting in walk(config):
        check_value(key, value, setting)
    if isinstance(config, schema.TrainConfig | schema.ShowConfig):
        check_model(config.model)
    if isinstance(config, schema.TrainConfig):
        check_eval(config.eval)
        device_count(config.trainer.devices)
        if training:
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
        raise ConfigError(f"{key}=[] is empty", hint="give at least one value, or leave it out")
    for element in value if isinstance(value, list) else [value]:
        if "options" in rule and element not in rule["options"]:
            known = [str(option) for option in rule["options"]]
            raise ConfigError(
                f"{key}={element} is not one of {', '.join(known)}.{schema.nearest(str(element), known)}"
            )
        if isinstance(element, float) and not math.isfinite(element):
            raise ConfigError(f"{key}={element} is not a finite number{range_words(rule)}")
        if outside(element, rule):
            raise ConfigError(f"{key}={element} is out of range{range_words(rule)}")


def outside(value: Any, rule: Mapping[str, Any]) -> bool:
    if not isinstance(value, int | float):
        return False
    at_least, above, at_most, below = (rule.get(name) for name in ("at_least", "above", "at_most", "below"))
    return (
        (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (at_most is not None and value > at_most)
        or (below is not None and value >= below)
    )


def range_words(rule: Mapping[str, Any]) -> str:
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    said = [f"{words[name]} {rule[name]}" for name in words if rule.get(name) is not None]
    return f": it must be {' and '.join(said)}" if said else ""


def check_training(config: schema.TrainConfig) -> None:
    """The rules that no single setting shows."""
    augment, trainer, backbone = config.augment, config.trainer, config.backbone
    if augment.crop_size < backbone.output_stride:
        raise ConfigError(
            f"augment.crop_size={augment.crop_size} is smaller than "
            f"backbone.output_stride={backbone.output_stride}",
            hint="the network needs a crop of at least one output stride; 513 and 512 are both fine crops",
        )
    if augment.scale_min > augment.scale_max:
        raise ConfigError(
            f"augment.scale_min={augment.scale_min} is above augment.scale_max={augment.scale_max}"
        )
    if trainer.epochs is None and config.schedule.warmup_iters >= config.schedule.max_iters:
        raise ConfigError(
            f"schedule.warmup_iters={config.schedule.warmup_iters} leaves nothing of "
            f"schedule.max_iters={config.schedule.max_iters}"
        )
    passes = device_count(trainer.devices) * trainer.accumulate
    if trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} cannot be divided by trainer.devices x "
            f"trainer.accumulate = {passes}",
            hint=f"take a multiple of {passes}, such as "
            f"trainer.batch_size={passes * max(2, round(trainer.batch_size / passes))}",
        )
    if backbone.in_channels != 3:
        raise ConfigError(
            f"backbone.in_channels={backbone.in_channels}, but every data set here gives images of 3 channels"
        )
    if trainer.freeze_backbone_norm and config.model.norm == "group":
        raise ConfigError(
            "trainer.freeze_backbone_norm=true, but model.norm=group leaves no batch norm to freeze"
        )
    alone = config.model.norm == "batch" or (
        config.model.norm == "auto" and device_count(trainer.devices) == 1
    )
    if trainer.batch_size // passes == 1 and alone and sees_single_values(config):
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} leaves one image per pass, of which a batch norm "
            "sees a single value: it needs two",
            hint=f"type trainer.batch_size={2 * passes}, a smaller trainer.accumulate, model.norm=group or "
            "model.norm=frozen",
        )


def check_model(model: schema.ModelConfig) -> None:
    """Raise ConfigError for a setting of ASPP where there is none."""
    if isinstance(model, schema.DeepLabV3Config) and not model.aspp:
        papers: dict[str, Any] = {
            "separable": None,
            "atrous_rates": None,
            "image_pooling": None,
            "projection_kernel": 1,
        }
        if not model.head_convolution:  # which is of as many channels
            papers["channels"] = 256
        for name, unset in papers.items():
            value = getattr(model, name)
            if value != unset:
                raise ConfigError(
                    f"model.{name}={value} is a setting of ASPP, and model.aspp=false leaves that out"
                )


def sees_single_values(config: schema.TrainConfig) -> bool:
    """Whether some batch norm sees a single value of each image: after image pooling over all of it, or
    because its features are 1 x 1.
    """
    model, stride = config.model, config.backbone.output_stride
    if model.norm in ("frozen", "group"):
        return False
    features = math.ceil(config.augment.crop_size * min(getattr(model, "scales", [1.0])) / stride)
    if not isinstance(model, schema.PoolingConfig) or (
        isinstance(model, schema.DeepLabV3Config) and not model.aspp
    ):
        return features == 1
    return model.image_pooling is None or math.ceil(model.image_pooling / stride) >= features


def check_eval(config: schema.EvalConfig) -> None:
    if config.crop is not None and len(config.crop) != 2:
        raise ConfigError(f"eval.crop={config.crop} must be [height,width]", hint="as in eval.crop=[513,513]")
    if len(config.crf_position) != 2:
        raise ConfigError(
            f"eval.crf_position={config.crf_position} must be [weight,pixels]",
            hint="as in eval.crf_position=[3,1]",
        )
    if len(config.crf_bilateral) != 3:
        raise ConfigError(
            f"eval.crf_bilateral={config.crf_bilateral} must be [weight,pixels,grey levels]",
            hint="as in eval.crf_bilateral=[4,67,3]",
        )
    for key, (_, *distances) in (
        ("crf_position", config.crf_position),
        ("crf_bilateral", config.crf_bilateral),
    ):
        if min(distances) < LEAST_DISTANCE:
            raise ConfigError(
                f"eval.{key}={getattr(config, key)}: a distance must be at least {LEAST_DISTANCE}"
            )


def device_count(devices: str) -> int:
    """How many processes `trainer.devices` asks for; `auto` and `cpu` are one."""
    if devices in ("auto", "cpu"):
        return 1
    if not devices.isdecimal() or int(devices) < 1:
        raise ConfigError(
            f"trainer.devices={devices} is not one of auto, cpu, or a number from "
            f"1.{schema.nearest(devices, ['auto', 'cpu'])}"
        )
    return int(devices)
