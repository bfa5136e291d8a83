"""From a composed config to checked dataclasses: every value in its range, then the rules across settings."""

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deeplabx.config import schema
from deeplabx.config.fields import range_words, walk
from deeplabx.config.stages import Stage, named, stages_of
from deeplabx.config.torch_optimizers import check_algorithm
from deeplabx.config.unknown import OTHER_VALUES
from deeplabx.errors import ConfigError, nearest

LEAST_DISTANCE = 0.1  # pixels or grey levels of the CRF's kernels: below this, a pixel has no neighbours
MOST_TRANSFORM_VALUES, MOST_TRANSFORM_DEPTH = 1000, 20  # of augment.transforms


def checked(config: DictConfig) -> Any:
    """The composed config as plain dataclasses, every value in its range. Raises ConfigError naming the
    setting.
    """
    try:
        missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
        plain = None if missing else OmegaConf.to_object(config)
        missing = missing or [key for key, value, _ in walk(plain) if value == MISSING]  # removed with ~
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {' '.join(str(error.msg or error).split())[:200]}") from None
    if missing:
        raise ConfigError(f"{', '.join(missing)} must be given", hint=f"set {missing[0]}=...")
    refuse_added(plain)
    check(plain)
    if isinstance(plain, schema.TrainConfig):
        refuse_contradicting_weights(plain.loss)
        plain.stages = plain.stages or None
        check_stages(plain)
    return plain


def check_stages(config: schema.TrainConfig) -> None:
    """Check the config of every stage of a run before the first one begins. Raises ConfigError."""
    before: Stage | None = None
    for stage in stages_of(config):
        with named(stage.name):
            # A later stage always has weights: those of the one before it.
            check(dataclasses.replace(stage.config, init_from=stage.start) if before else stage.config)
            refuse_contradicting_weights(stage.config.loss)
            if before and stage.config.trainer.unfold_norm is not None and trains_norms(before.config):
                raise ConfigError(
                    f"trainer.unfold_norm={stage.config.trainer.unfold_norm}, but stage {before.name} trains "
                    "the batch norms: they are no longer folded",
                    hint=f"set it in the first stage, or model.norm=frozen in stage {before.name}",
                )
        before = stage


def trains_norms(config: schema.TrainConfig) -> bool:
    """Whether a run trains all batch norms, and leaves none as they were loaded."""
    frozen = config.trainer.freeze_backbone_norm or config.trainer.freeze_stride is not None
    return config.model.norm != "frozen" and not frozen


def checked_section(config: DictConfig, name: str) -> Any:
    """A section of a composed config as its dataclass, every value in its range. Raises ConfigError naming
    the setting.
    """
    section: Any = None
    try:
        section = OmegaConf.to_object(config[name])
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {' '.join(str(error.msg or error).split())[:200]}") from None
    for key, value, field in walk(section, f"{name}."):
        if value == MISSING:  # removed with ~
            raise ConfigError(f"{key} must be given", hint=f"set {key}=...")
        check_value(key, value, field)
    return section


def refuse_contradicting_weights(loss: schema.LossSettings, *, key: str = "loss") -> None:
    """Raise ConfigError if class weights are both given and computed, or if there are none for keep_priors to
    use. A saved run's config has both: there, the given weights are the computed ones. key: of the loss.
    """
    if not isinstance(loss, schema.ClassWeightedLossSettings):
        return
    if loss.class_weights is not None and loss.class_balance is not None:
        raise ConfigError(
            f"{key}.class_weights={loss.class_weights} and {key}.class_balance={loss.class_balance}: set "
            "only one of them",
            hint="leave the other null",
        )
    if getattr(loss, "keep_priors", False) and loss.class_weights is None and loss.class_balance is None:
        raise ConfigError(
            f"{key}.keep_priors=true, but there are no class weights",
            hint=f"set {key}.class_balance=enet or {key}.keep_priors=false",
        )


def refuse_added(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for a setting that no schema has: `+key=value` adds one, but nothing would read
    it.
    """
    known = [one.name for one in dataclasses.fields(config)]
    for name, value in vars(config).items():
        if name not in known:
            raise ConfigError(
                f"{prefix}{name} is not a setting.{nearest(name, known)}",
                hint=f"{prefix.rstrip('.') or 'the top level'} has {', '.join(known)}",
            )
        if dataclasses.is_dataclass(value):
            refuse_added(value, f"{prefix}{name}.")


def check(config: Any, *, training: bool = True) -> None:
    """Raise ConfigError for the first setting out of range, then for the first broken rule across settings.

    training: False for eval and predict, which do not use the batch settings.
    """
    for key, value, field in walk(config):
        check_value(key, value, field)
    if isinstance(config, schema.TrainConfig | schema.ShowConfig):
        check_parts("model", config.model)
    if isinstance(getattr(config, "dataset", None), schema.FolderSettings):
        check_folder(config.dataset)
    if isinstance(config, schema.TrainConfig | schema.DataStatsConfig | schema.DataPreviewConfig):
        check_channels(config.dataset.channels)
    if isinstance(config, schema.TrainConfig | schema.DataPreviewConfig) and training:
        check_augment(config.augment)
    if isinstance(config, schema.TrainConfig):
        check_eval(config.eval)
        device_count(config.trainer.devices)
        if training:
            check_training(config)


def check_own(config: Any, settings: type, *, keys: Collection[str]) -> None:
    """Check the values of settings that only one command has. config: as it was composed; settings: the
    command's dataclass. Raises ConfigError.
    """
    for field in dataclasses.fields(settings):
        if field.name in keys:
            value = config[field.name]
            plain = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
            check_value(field.name, plain, field)


def check_value(key: str, value: Any, field: dataclasses.Field[Any]) -> None:
    rule = field.metadata
    if value is None:
        return
    if isinstance(value, list) and not value:
        raise ConfigError(f"{key}=[] is empty", hint="give at least one value, or leave it out")
    for element in value if isinstance(value, list) else [value]:
        if "options" in rule and element not in rule["options"]:
            if not range_words(rule) or not is_whole(element):
                raise ConfigError(f"{key}={element} is not {choice_words(element, rule)}")
            element = int(element)  # an interpolation may have given it as a text
        if isinstance(element, float) and not math.isfinite(element):
            raise ConfigError(f"{key}={element} is not a finite number{must_be(rule)}")
        if outside(element, rule):
            raise ConfigError(f"{key}={element} is out of range{must_be(rule)}")


def is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdecimal())


def choice_words(value: Any, rule: Mapping[str, Any]) -> str:
    """What a field can be that `value` is not, and the nearest of it."""
    known = [str(option) for option in rule["options"]]
    other = OTHER_VALUES.get(str(value).lower())
    near = f" Did you mean {other}?" if other in known else nearest(str(value), known)
    if said := range_words(rule):
        return f"{', '.join(known)} or a whole number that is {said}.{near}"
    return f"one of {', '.join(known)}.{near}"


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


def must_be(rule: Mapping[str, Any]) -> str:
    said = range_words(rule)
    return f": it must be {said}" if said else ""


def check_parts(group: str, settings: Any) -> None:
    """Raise ConfigError for a setting that has no effect because the part it belongs to is switched off."""
    for field in dataclasses.fields(settings):
        parts = field.metadata.get("parts", ())
        value = getattr(settings, field.name)
        if parts and value != field.default and not any(getattr(settings, part, True) for part in parts):
            off = " and ".join(f"{group}.{part}=false" for part in parts)
            raise ConfigError(f"{group}.{field.name}={value} has no effect with {off}", hint="leave it unset")


def check_folder(dataset: schema.FolderSettings) -> None:
    """Raise ConfigError for settings of people's own images that do not go together, or have no effect."""
    check_split(dataset)
    for key, unset, formats in (
        ("annotations", None, ("coco", "list")),
        ("unlabelled", "background", ("coco", "labelme")),
        ("mask_suffix", "", ("masks", "beside")),
        ("mask_alpha", "refuse", ("masks", "beside", "list")),
    ):
        value = getattr(dataset, key)
        if value != unset and dataset.format not in formats:
            raise ConfigError(
                f"dataset.{key}={value} has no effect with dataset.format={dataset.format}",
                hint=f"it belongs to dataset.format={' or '.join(formats)}",
            )


def check_split(dataset: schema.FolderSettings) -> None:
    folds, fold, fraction = dataset.folds, dataset.fold, dataset.val_fraction
    if folds is None and fold is not None:
        raise ConfigError(
            f"dataset.fold={fold} without dataset.folds", hint="set dataset.folds too, as in dataset.folds=5"
        )
    if folds is not None and fold is None:
        raise ConfigError(
            f"dataset.folds={folds} needs dataset.fold, from 0 to {folds - 1}",
            hint=f"all of them in turn: -m dataset.fold={','.join(map(str, range(folds)))}"[:200],
        )
    if folds is not None and fold is not None and fold >= folds:
        raise ConfigError(f"dataset.fold={fold} is not one of dataset.folds={folds}: 0 to {folds - 1}")
    if folds is not None and fraction is not None:
        raise ConfigError(f"dataset.folds={folds} and dataset.val_fraction={fraction}: set only one of them")
    for key in ("group", "annotations"):
        if getattr(dataset, key) is not None and folds is None and fraction is None:
            raise ConfigError(
                f"dataset.{key}={getattr(dataset, key)} has no effect without dataset.val_fraction or "
                "dataset.folds",
                hint="with neither, the data set has its own splits",
            )


def check_training(config: schema.TrainConfig) -> None:
    """Check the rules that involve several settings."""
    augment, trainer, backbone = config.augment, config.trainer, config.backbone
    if augment.crop_size < backbone.output_stride:
        raise ConfigError(
            f"augment.crop_size={augment.crop_size} is smaller than "
            f"backbone.output_stride={backbone.output_stride}",
            hint="the network needs a crop of at least one output stride; 513 and 512 both work",
        )
    check_optimizer(config)
    check_schedule(config.schedule, length_is_known=trainer.epochs is None)
    if trainer.swa_start is not None and trainer.ema_decay is not None:
        raise ConfigError(
            f"trainer.swa_start={trainer.swa_start} and trainer.ema_decay={trainer.ema_decay}: only one "
            "average of the weights is kept",
            hint="set the other one to null",
        )
    if trainer.swa_start is None and trainer.swa_every != 1:
        raise ConfigError(
            f"trainer.swa_every={trainer.swa_every} has no effect without trainer.swa_start",
            hint="set trainer.swa_start too, as in trainer.swa_start=0.75",
        )
    passes = device_count(trainer.devices) * trainer.accumulate
    if trainer.batch_size % passes:
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} is not divisible by trainer.devices x "
            f"trainer.accumulate = {passes}",
            hint=f"use a multiple of {passes}, such as "
            f"trainer.batch_size={passes * max(2, round(trainer.batch_size / passes))}",
        )
    if augment.mix is not None and trainer.batch_size < 2 * device_count(trainer.devices):
        raise ConfigError(
            f"augment.mix={augment.mix} needs at least 2 images for each process, but "
            f"trainer.batch_size={trainer.batch_size} over trainer.devices={trainer.devices} is 1",
            hint=f"set trainer.batch_size={2 * device_count(trainer.devices)} or augment.mix=null",
        )
    if trainer.freeze_backbone_norm and config.model.norm == "group":
        raise ConfigError(
            "trainer.freeze_backbone_norm=true, but model.norm=group leaves no batch norm to freeze"
        )
    check_unfold_norm(config)
    one_process = config.model.norm == "batch" or (
        config.model.norm == "auto" and device_count(trainer.devices) == 1
    )
    if trainer.batch_size // passes == 1 and one_process and norm_sees_one_value(config):
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} gives one image per pass, but a batch norm needs "
            "at least two values per channel",
            hint=f"set trainer.batch_size={2 * passes}, a smaller trainer.accumulate, model.norm=group or "
            "model.norm=frozen",
        )


def check_unfold_norm(config: schema.TrainConfig) -> None:
    crops, norm = config.trainer.unfold_norm, config.model.norm
    if crops is None:
        return
    if norm in ("frozen", "group"):
        why = "never uses new statistics" if norm == "frozen" else "has none"
        raise ConfigError(
            f"trainer.unfold_norm={crops} measures statistics of batch norms, but model.norm={norm} {why}",
            hint="set trainer.unfold_norm=null or model.norm=auto",
        )
    if config.init_from is None and config.backbone.weights in (None, "none"):
        raise ConfigError(
            f"trainer.unfold_norm={crops}, but no weights are loaded: random batch norms are not folded",
            hint="set trainer.unfold_norm=null, or init_from=deeplabv3_mobilenetv2_voc_google",
        )


def check_optimizer(config: schema.TrainConfig) -> None:
    """Raise ConfigError for settings of the optimizer that do not go together."""
    optimizer, schedule = config.optimizer, config.schedule
    if isinstance(optimizer, schema.SGDSettings) and optimizer.nesterov and not optimizer.momentum:
        raise ConfigError(
            "optimizer.nesterov=true has no effect with optimizer.momentum=0", hint="leave it unset"
        )
    if config.trainer.find_lr and config.trainer.scale_lr is not None:
        raise ConfigError(
            f"trainer.find_lr=true and trainer.scale_lr={config.trainer.scale_lr}: set only one of them",
            hint="the learning rate that is found is that of the run's own batch",
        )
    if not isinstance(optimizer, schema.TorchOptimizerSettings):
        return
    check_algorithm(optimizer.algorithm, optimizer.settings)
    if optimizer.algorithm == "Rprop" and (optimizer.weight_decay or schedule.name != "constant"):
        raise ConfigError(
            "optimizer.algorithm=Rprop uses optimizer.lr in its first step only, and has no weight decay",
            hint="set schedule=constant optimizer.weight_decay=0",
        )
    if optimizer.algorithm == "Rprop" and config.trainer.find_lr:
        raise ConfigError(
            "trainer.find_lr=true, but optimizer.algorithm=Rprop uses optimizer.lr in its first step only",
            hint="set optimizer.lr",
        )


def check_schedule(schedule: schema.ScheduleSettings, *, length_is_known: bool) -> None:
    """Raise ConfigError for a schedule whose settings do not go together. length_is_known: whether max_iters
    is not yet to be computed from trainer.epochs.
    """
    if length_is_known and schedule.warmup_iters >= schedule.max_iters:
        raise ConfigError(
            f"schedule.warmup_iters={schedule.warmup_iters} must be smaller than "
            f"schedule.max_iters={schedule.max_iters}"
        )
    if schedule.warmup_iters and schedule.warmup == "constant" and schedule.warmup_factor is None:
        raise ConfigError(
            "schedule.warmup=constant needs schedule.warmup_factor", hint="as in schedule.warmup_factor=0.1"
        )
    if schedule.warmup_iters and isinstance(schedule, schema.OneCycleSettings):
        raise ConfigError(
            f"schedule.warmup_iters={schedule.warmup_iters}, but schedule=one_cycle has its own warm-up",
            hint="set schedule.rise and schedule.start_factor, and schedule.warmup_iters=0",
        )
    milestones = schedule.milestones if isinstance(schedule, schema.MultistepSettings) else []
    if any(after <= before for before, after in itertools.pairwise(milestones)):
        raise ConfigError(
            f"schedule.milestones={milestones} is not increasing",
            hint="as in 'schedule.milestones=[0.6,0.9]'",
        )


def check_augment(augment: schema.AugmentSettings) -> None:
    if isinstance(augment, schema.StandardAugmentSettings):
        check_standard_augment(augment)
    if isinstance(augment, schema.AlbumentationsSettings):
        check_transforms(augment.transforms)


def check_standard_augment(augment: schema.StandardAugmentSettings) -> None:
    if augment.scale_min > augment.scale_max:
        raise ConfigError(
            f"augment.scale_min={augment.scale_min} is above augment.scale_max={augment.scale_max}"
        )
    if len(augment.blur_sigma) != 2 or augment.blur_sigma[0] > augment.blur_sigma[1]:
        raise ConfigError(
            f"augment.blur_sigma={augment.blur_sigma} must be [least,most]",
            hint="as in 'augment.blur_sigma=[0.1,2.0]'",
        )


def check_transforms(transforms: list[dict[str, Any]]) -> None:
    """Raise ConfigError for what is not a description of transforms. The names and arguments are checked by
    what builds them: that needs the library.
    """
    counted = 0
    waiting: list[tuple[str, Any, int]] = [("augment.transforms", transforms, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        counted += 1
        if counted > MOST_TRANSFORM_VALUES or depth > MOST_TRANSFORM_DEPTH:
            raise ConfigError(
                f"augment.transforms has more than {MOST_TRANSFORM_VALUES} values, or more than "
                f"{MOST_TRANSFORM_DEPTH} inside each other"
            )
        if isinstance(value, dict):
            for name, part in value.items():
                if not isinstance(name, str) or name.startswith("_"):
                    raise ConfigError(f"{key}: {name!r:.60} is not the name of an argument")
                waiting.append((f"{key}.{name}", part, depth + 1))
        elif isinstance(value, list):
            waiting += [(f"{key}[{index}]", part, depth + 1) for index, part in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={value} is not a finite number")
        elif value is not None and not isinstance(value, bool | int | float | str):
            raise ConfigError(f"{key}={value!r:.60} must be a number, a text, true, false or null")
    for index, one in enumerate(transforms):
        if not isinstance(one.get("name"), str):
            raise ConfigError(
                f"augment.transforms[{index}] has no name",
                hint="as in 'augment.transforms=[{name: HorizontalFlip, p: 0.5}]'",
            )


def norm_sees_one_value(config: schema.TrainConfig) -> bool:
    """Whether some trained batch norm has a single value per channel and image."""
    size, stride = config.augment.crop_size, config.backbone.output_stride
    learns = config.model.norm not in ("frozen", "group")
    return learns and config.model.norm_sees_one_value(crop_size=size, output_stride=stride)


def check_channels(channels: list[int] | None) -> None:
    if channels is not None and len(channels) != 3:
        raise ConfigError(
            f"dataset.channels={channels} must be three indices: of red, green and blue",
            hint="as in 'dataset.channels=[0,1,2]'",
        )


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
        hint = "auto is the first GPU; in the shell, CUDA_VISIBLE_DEVICES=1 chooses another one"
        raise ConfigError(
            f"trainer.devices={devices} is not one of auto, cpu, or a number of processes from 1", hint=hint
        )
    return int(devices)
