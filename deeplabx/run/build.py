"""From a config to objects: the only place where the name of an option becomes what it builds."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from deeplabx import registry
from deeplabx.augment.mix import REGIONS, Mix
from deeplabx.backbone.contract import Backbone
from deeplabx.backbone.normalization import Normalization
from deeplabx.config import loss_parts, schema
from deeplabx.config.fields import builder_settings
from deeplabx.dataset.contract import SegmentationSet, label_dtype
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.loader import Augment, Batch, training_batches
from deeplabx.dataset.readable import ReadableSet, opened_split
from deeplabx.engine.doctor import RunDoctor
from deeplabx.engine.log import Log, RunLog
from deeplabx.engine.predictor import Predictor
from deeplabx.engine.state import AUTOCAST, TrainState
from deeplabx.errors import ConfigError
from deeplabx.loss.contract import Loss
from deeplabx.model.contract import DeepLab
from deeplabx.model.crf import DenseCRF
from deeplabx.model.freeze import freeze_up_to
from deeplabx.model.norm import apply_norm, freeze_norm
from deeplabx.optimizer.groups import layer_factors, parameter_groups
from deeplabx.process.distributed import is_main, rank, world_size
from deeplabx.process.memory import memory_words
from deeplabx.process.signals import ignore_signals
from deeplabx.run import contracts
from deeplabx.run.class_sampling import class_sampling_of
from deeplabx.schedule.contract import Schedule
from deeplabx.schedule.warmup import linear, slow_start
from deeplabx.tracker.contract import Run, Tracker

# What an option of a group must be an instance of; the others are functions.
CONTRACTS: dict[str, type] = {
    "model": DeepLab,
    "backbone": Backbone,
    "dataset": SegmentationSet,
    "loss": Loss,
    "optimizer": torch.optim.Optimizer,
    "tracker": Tracker,
}


def built(group: str, name: str, /, *arguments: Any, **settings: Any) -> Any:
    """What an option's builder makes. Raises ConfigError where that is not what the group's options are."""
    made = registry.build(group, name, *arguments, **settings)
    contract = CONTRACTS.get(group, object)
    if not isinstance(made, contract):
        raise ConfigError(
            f"{group}={name} builds a {type(made).__name__}, which does not extend {contract.__name__}",
            hint=f"{contract.__module__}.{contract.__name__} says what it must do",
        )
    return made


# --- models -------------------------------------------------------------------------------------------------


def build_model(
    name: str,
    *,
    backbone: str,
    num_classes: int,
    output_stride: int | None = None,
    in_channels: int = 3,
    norm: str = "batch",
    norm_momentum: float | None = None,
    backbone_settings: Mapping[str, Any] | None = None,
    **settings: Any,
) -> DeepLab:
    """A randomly initialised model: `build_model("deeplabv3plus", backbone="resnet101", num_classes=21)`.

    Called on normalised images N x in_channels x H x W it gives logits N x num_classes x H x W.
    output_stride: 8, 16 or 32; None for that of the paper, 8 for v1 and v2, 16 for v3 and v3+. norm: batch,
    group, or frozen (statistics and affine stay as loaded). norm_momentum: weight of the newest batch in
    batch norm's statistics, None for 0.1. `settings` are the model's own, such as atrous_rates;
    `backbone_settings` the backbone's, such as multi_grid.
    """
    model: type[DeepLab] = registry.option("model", name).builder  # type: ignore[assignment]
    option = registry.option("backbone", backbone)
    given = {key: value for key, value in (backbone_settings or {}).items() if value is not None}
    if output_stride is not None:
        given["output_stride"] = output_stride
    published = {"output_stride": model.reference_stride, "multi_grid": model.multi_grid}
    defaults = {key: value for key, value in published.items() if key in option.setting_names}
    network = built("backbone", backbone, in_channels=in_channels, **{**defaults, **given})
    if not option.built_in:
        contracts.refuse_other_backbone(backbone, network, in_channels=in_channels)
    made = built("model", name, network, num_classes=num_classes, **settings)
    if not registry.option("model", name).built_in:
        contracts.refuse_other_model(name, made, num_classes=num_classes, in_channels=in_channels)
    return apply_norm(made, norm=norm, momentum=norm_momentum)


def model_of(
    config: schema.TrainConfig | schema.ShowConfig | schema.DataPreviewConfig,
    *,
    num_classes: int,
    in_channels: int,
) -> DeepLab:
    """The model that `config.model` and `config.backbone` describe, randomly initialised."""
    return build_model(
        config.model.name,
        backbone=config.backbone.name,
        num_classes=num_classes,
        in_channels=in_channels,
        norm=config.model.norm,
        norm_momentum=config.model.norm_momentum,
        backbone_settings=builder_settings(config.backbone),
        **builder_settings(config.model),
    )


def meta_network(settings: Mapping[str, Any], *, num_classes: int = 1) -> nn.Module:
    """The network of `deeplabx train` settings such as {"model": "deeplabv3", "backbone": "resnet50",
    "model.aspp": False}, on the meta device: names and shapes without memory. Without a model it is the
    backbone.
    """
    of_backbone, of_model = (
        {key.removeprefix(group): value for key, value in settings.items() if key.startswith(group)}
        for group in ("backbone.", "model.")
    )
    with torch.device("meta"):
        if "model" not in settings:
            return built("backbone", settings["backbone"], **{"output_stride": 32, **of_backbone})
        return build_model(
            settings["model"],
            backbone=settings["backbone"],
            num_classes=num_classes,
            backbone_settings=of_backbone,
            **of_model,
        )


def freeze(trainer: schema.TrainerConfig, model: DeepLab) -> None:
    """Freeze what is to stay as loaded. After batch norms were synchronized: that would thaw them."""
    if trainer.freeze_backbone_norm:
        freeze_norm(model.backbone)
    if trainer.freeze_stride is not None:
        freeze_up_to(model, trainer.freeze_stride)


# --- data ---------------------------------------------------------------------------------------------------


def dataset_of(config: schema.DatasetSettings, *, split: str) -> ReadableSet:
    """One split of the data set. Raises DataError when its files are not as expected."""
    skip = config.on_bad == "skip"
    found = open_dataset(config.name, split=split, skip_unreadable=skip, **builder_settings(config))
    if config.channels is not None:
        if not isinstance(found.samples, LabelledFiles) or found.samples.has_own_reader:
            raise ConfigError(
                f"dataset.channels={config.channels}, but dataset={config.name} does not use it",
                hint="leave it unset",
            )
        found.samples.image_channels = config.channels
    return found


def open_dataset(name: str, *, split: str, skip_unreadable: bool = False, **settings: Any) -> ReadableSet:
    """One split of a data set by its name. `settings` are its own, such as root."""

    def builder(**given: Any) -> SegmentationSet:
        made: SegmentationSet = built("dataset", name, **given)
        if not registry.option("dataset", name).built_in:
            contracts.refuse_other_set(name, made)
        return made

    return opened_split(builder, split=split, skip_unreadable=skip_unreadable, **settings)


def augment_of(config: schema.AugmentSettings, *, pad_pixel: Sequence[int], ignore_index: int) -> Augment:
    settings = builder_settings(config)
    made = built("augment", config.name, pad_pixel=tuple(pad_pixel), ignore_index=ignore_index, **settings)
    if not registry.option("augment", config.name).built_in:
        contracts.refuse_other_augment(
            config.name,
            made,
            crop_size=config.crop_size,
            channels=len(pad_pixel),
            label_dtype=label_dtype(ignore_index),
        )
    return made


def refuse_augment(config: schema.TrainConfig, training: ReadableSet, normalization: Normalization) -> None:
    """Raise ConfigError for an augmentation that does not work on this data, before anything is counted or
    written.
    """
    augment_of(config.augment, pad_pixel=normalization.pad_pixel, ignore_index=training.ignore_index)
    mix_of(config, ignore_index=training.ignore_index)


def batches_of(
    config: schema.TrainConfig,
    training: ReadableSet,
    normalization: Normalization,
    *,
    device: torch.device,
    first_step: int,
    workers: int,
    shared_memory: bool = True,
) -> Generator[Batch | None]:
    """This process's augmented batches of the steps from first_step to the end of the run; None for each
    second in which the next one has not arrived. All processes must call it.
    """
    augment = augment_of(
        config.augment, pad_pixel=normalization.pad_pixel, ignore_index=training.ignore_index
    )
    return training_batches(
        training,
        augment,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        first_step=first_step,
        last_step=config.schedule.max_iters,
        workers=workers,
        pin_memory=device.type == "cuda",
        worker_init=ignore_signals,
        rank=rank(),
        world_size=world_size(),
        shared_memory=shared_memory,
        memory=memory_words,
        mix=mix_of(config, ignore_index=training.ignore_index),
        sampling=class_sampling_of(config.augment, training, workers=workers),
    )


def mix_of(config: schema.TrainConfig, *, ignore_index: int) -> Mix | None:
    """What is pasted between the images of one process's part of a batch; None for nothing."""
    augment = config.augment
    if augment.mix is None:
        return None
    if config.trainer.batch_size < 2 * world_size():
        raise ConfigError(
            f"augment.mix={augment.mix} needs at least 2 images for each process, but "
            f"trainer.batch_size={config.trainer.batch_size} over {world_size()} processes is fewer",
            hint=f"set trainer.batch_size={2 * world_size()} or augment.mix=null",
        )
    return Mix(REGIONS[augment.mix], p=augment.mix_probability, ignore_index=ignore_index)


def published_classes(name: str) -> tuple[list[str], list[tuple[int, int, int]]] | None:
    """Names and colours of a data set whose classes are fixed; None of one whose files name them."""
    builder: Callable[..., Any] = registry.option("dataset", name).builder
    classes = getattr(builder, "classes", None)
    return None if classes is None else (classes, builder.palette)  # type: ignore[attr-defined]


def normalization_of(model: DeepLab, samples: ReadableSet, of_weights: Normalization | None) -> Normalization:
    """How images are normalised: by the data set's own statistics, else as the weights were trained, else as
    the backbone is published. Raises ConfigError where that is not one value for each channel.
    """
    if samples.statistics is not None:
        found = Normalization(*samples.statistics)
    else:
        found = of_weights or model.backbone.normalization
    if len(found.mean) != samples.channels:
        raise ConfigError(
            f"the images have {samples.channels} channels, but mean and std have {len(found.mean)}",
            hint="a data set of other than 3 channels must state its statistics",
        )
    return found


# --- training and prediction --------------------------------------------------------------------------------


def loss_of(config: schema.LossSettings) -> Loss:
    settings = builder_settings(config)
    parts = loss_parts.parts_of(config, settings_of=registry.settings_of)
    if parts:  # of a composite loss, whose builder takes losses
        settings["parts"] = [(one.weight, loss_of(one.settings)) for one in parts]
    return built("loss", config.name, **settings)


def schedule_of(config: schema.ScheduleSettings) -> Schedule:
    """The factor on the learning rate in each step, warm-up included."""
    builder = registry.option("schedule", config.name).builder
    settings, steps, start = builder_settings(config), config.warmup_iters, config.warmup_factor
    if steps and config.warmup == "constant":
        assert start is not None, "check_schedule requires it"
        rest = partial(builder, **{**settings, "max_iters": config.max_iters - steps})
        return partial(slow_start, schedule=rest, warmup_iters=steps, warmup_factor=start)
    whole = partial(builder, **settings)
    return partial(linear, schedule=whole, warmup_iters=steps, warmup_factor=start) if steps else whole


def optimizer_of(config: schema.TrainConfig, model: DeepLab) -> torch.optim.Optimizer:
    groups = parameter_groups(
        model,
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        head_lr_factor=config.trainer.head_lr_factor,
        head_bias_lr_factor=config.trainer.head_bias_lr_factor,
        no_decay=config.optimizer.no_decay or (),
        layer_factors=layer_factors_of(config, model),
    )
    return built("optimizer", config.optimizer.name, groups, **builder_settings(config.optimizer))


def layer_factors_of(config: schema.TrainConfig, model: DeepLab) -> dict[Tensor, float] | None:
    """The factor that optimizer.layer_decay gives each parameter of the backbone; None for none."""
    decay = config.optimizer.layer_decay
    if decay is None:
        return None
    try:
        return layer_factors(model.backbone.units(), decay)
    except NotImplementedError:
        raise ConfigError(
            f"optimizer.layer_decay={decay}, but backbone={config.backbone.name} does not list its layers",
            hint="its class needs the method `layers`, as deeplabx.backbone.contract.Backbone says",
        ) from None


def state_of(
    config: schema.TrainConfig, model: DeepLab, *, ignore_index: int, device: torch.device
) -> TrainState:
    trainer, share = config.trainer, config.trainer.swa_start
    return TrainState(
        model,
        optimizer_of(config, model),
        loss=loss_of(config.loss),
        schedule=schedule_of(config.schedule),
        max_iters=config.schedule.max_iters,
        normalization=model.backbone.normalization,
        ignore_index=ignore_index,
        device=device,
        seed=config.seed,
        precision=config.trainer.precision,
        accumulate=config.trainer.accumulate,
        clip_norm=config.trainer.clip_norm,
        on_nonfinite=config.trainer.on_nonfinite,
        ema_decay=trainer.ema_decay,
        swa_start=None if share is None else max(1, ceil(share * config.schedule.max_iters)),
        swa_every=trainer.swa_every,
        patience=trainer.patience,
        deterministic=config.trainer.deterministic,
    )


def predictor_of(
    model: nn.Module,
    config: schema.TrainConfig,
    normalization: Normalization,
    *,
    num_classes: int,
    device: torch.device,
    precision: str,
) -> Predictor:
    crop = config.eval.crop or config.dataset.recommended.eval_crop
    crf = DenseCRF(config.eval.crf_iterations, *config.eval.crf_position, *config.eval.crf_bilateral)
    return Predictor(
        model,
        normalization,
        device,
        scales=config.eval.scales,
        flip=config.eval.flip,
        window=config.eval.window,
        training_crop=config.augment.crop_size,
        num_classes=num_classes,
        crop=(crop[0], crop[1]) if crop else None,
        crf=crf if config.eval.crf else None,
        dtype=AUTOCAST.get(precision),
        tf32=precision == "tf32",
    )


def log_of(config: schema.TrainConfig, tracked: Run, tracker: Tracker, doctor: RunDoctor) -> Log:
    """The run's log in the main process, a silent one in the others. tracker: one that has begun."""
    if not is_main():
        return Log()
    return RunLog(
        tracked.folder,
        first_step=tracked.first_step,
        max_iters=config.schedule.max_iters,
        batch_size=config.trainer.batch_size,
        log_every=config.trainer.log_every,
        doctor=doctor,
        tracked=tracked,
        tracker=tracker,
    )
