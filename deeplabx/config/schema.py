"""What a run may be told: one dataclass per group of settings and per command, the range beside each setting.

Settings that all options of a group share have their defaults here, so that an option needs no YAML file; the
defaults of an option's own settings are in conf/<group>/<option>.yaml, those of a command in
conf/<command>.yaml. No torch here: a wrong setting is answered before torch is imported.
"""

from dataclasses import dataclass
from math import ceil

from omegaconf import MISSING

from deeplabx.config.fields import choice, nested, number, setting

# --- model ------------------------------------------------------------------------------------------------


@dataclass
class ModelRecommended:
    """What a model is published with; the backbone takes it from here by interpolation."""

    output_stride: int = choice(8, 16, 32, default=16)


@dataclass
class ModelSettings:
    """Settings of every model."""

    name: str = MISSING
    align_corners: bool = True  # of every resize
    # auto: sync on several GPUs, else batch
    norm: str = choice("auto", "batch", "sync", "group", "frozen", default="auto", builder=False)
    # weight of the newest batch in batch norm's statistics; None: 0.1, which suits short runs; the papers' is
    # 0.0003
    norm_momentum: float | None = number(above=0, at_most=1, default=None, builder=False)
    # as 0.4: weight of the loss of a second head on the features before the last block; None: no such head
    auxiliary_weight: float | None = number(above=0, default=None)
    recommended: ModelRecommended = nested(ModelRecommended, builder=False)

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        """Whether some batch norm sees a single value of each training image: its features are 1 x 1."""
        return ceil(crop_size / output_stride) == 1


@dataclass
class DeepLabV1Settings(ModelSettings):
    fc6: str = choice("large_fov", "7x7")


@dataclass
class DeepLabV2Settings(ModelSettings):
    atrous_rates: list[int] = number(
        at_least=1, at_most=1000
    )  # at output stride 8; scaled by 8 / output_stride
    scales: list[float] = number(above=0, at_most=2)  # of the images that the network sees

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        return ceil(crop_size * min(self.scales) / output_stride) == 1


@dataclass
class ASPPSettings(ModelSettings):
    """DeepLabv3 and v3+: ASPP with image pooling."""

    separable: bool | None = setting(default=None, parts=("aspp",))  # None: as the backbone states
    # at output stride 16; scaled by 16 / output_stride; None: those of the paper
    atrous_rates: list[int] | None = number(at_least=1, at_most=1000, default=None, parts=("aspp",))
    # side in pixels of what is averaged; None: the whole image
    image_pooling: int | None = number(at_least=8, at_most=100_000, default=None, parts=("aspp",))
    # of ASPP and what follows it
    channels: int = number(at_least=1, at_most=65_536, default=256, parts=("aspp", "head_convolution"))
    projection_kernel: int = choice(1, 3, default=1, parts=("aspp",))  # side of ASPP's last convolution

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        """Image pooling over the whole crop leaves a single value to the norm behind it."""
        features = ceil(crop_size / output_stride)
        return self.image_pooling is None or ceil(self.image_pooling / output_stride) >= features


@dataclass
class DeepLabV3Settings(ASPPSettings):
    aspp: bool = MISSING
    head_convolution: bool = MISSING

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        owner = ASPPSettings if self.aspp else ModelSettings
        return owner.norm_sees_one_value(self, crop_size=crop_size, output_stride=output_stride)


@dataclass
class DeepLabV3PlusSettings(ASPPSettings):
    decoder_convolutions: int = number(at_least=1, at_most=3)


@dataclass
class LRASPPSettings(ModelSettings):
    channels: int = number(at_least=1, at_most=65_536)
    # side in pixels of what is averaged; None: the whole image
    pooling: int | None = number(at_least=8, at_most=100_000, default=None)
    pooling_stride: list[int] = number(at_least=1, at_most=1000)  # down and across, in features


# --- backbone ---------------------------------------------------------------------------------------------


@dataclass
class BackboneSettings:
    """Settings of every backbone. The number of input channels is not one: the data set states it."""

    name: str = MISSING
    output_stride: int = choice(8, 16, 32, default="${model.recommended.output_stride}")
    weights: str | None = setting(default=None, builder=False, path=True)  # imagenet | PATH | none


@dataclass
class ResNetSettings(BackboneSettings):
    # one rate per unit of the last block; None: as the model says
    multi_grid: list[int] | None = number(at_least=1, at_most=1000, default=None)
    blocks: int = number(at_least=4, at_most=7)


@dataclass
class MobileNetV2Settings(BackboneSettings):
    width: float = number(above=0, at_most=4)


@dataclass
class MobileNetV3Settings(BackboneSettings):
    reduced_tail: bool = MISSING
    dilate_strided: bool = MISSING


@dataclass
class TimmSettings(BackboneSettings):
    model: str = MISSING


# --- dataset ----------------------------------------------------------------------------------------------


@dataclass
class DatasetRecommended:
    """What a data set is published with; the other groups take it from here by interpolation."""

    crop_size: int = number(at_least=8, default=353)
    batch_size: int = number(at_least=1, default=8)
    max_iters: int = number(at_least=1, default=1000)
    lr: float = number(above=0, default=0.01)
    eval_crop: list[int] | None = number(at_least=8, default=None)


@dataclass
class DatasetSettings:
    """Settings of every data set."""

    name: str = MISSING
    root: str | None = setting(default=None, path=True)
    train_split: str = setting(default="train", builder=False)
    split: str = setting(default="val", builder=False)  # the split that is evaluated
    recommended: DatasetRecommended = nested(DatasetRecommended, builder=False)
    on_bad: str = choice(
        "abort", "skip", default="abort", builder=False
    )  # an image or label that cannot be read


@dataclass
class ShapesSettings(DatasetSettings):
    train_images: int = number(at_least=1)
    val_images: int = number(at_least=1)


@dataclass
class VOCSettings(DatasetSettings):
    sbd_root: str | None = setting(default=None, path=True)


@dataclass
class FolderSettings(DatasetSettings):
    val_fraction: float | None = number(above=0, at_most=0.9, default=None)
    split_seed: int = number(at_least=0)
    mask_suffix: str = MISSING


# --- augment, loss, optimizer, schedule ---------------------------------------------------------------------


@dataclass
class AugmentSettings:
    """Settings of every augmentation."""

    name: str = MISSING
    crop_size: int = number(at_least=8, default="${dataset.recommended.crop_size}")


@dataclass
class StandardAugmentSettings(AugmentSettings):
    scale_min: float = number(above=0, at_most=10)
    scale_max: float = number(above=0, at_most=10)
    flip: float = number(at_least=0, at_most=1)


@dataclass
class LossSettings:
    """Settings of every loss."""

    name: str = MISSING


@dataclass
class ClassWeightedLossSettings(LossSettings):
    class_weights: list[float] | None = number(above=0, default=None)  # one per class; None: all alike
    # how class_weights are computed from the training labels before the run begins; None: they are not
    class_balance: str | None = choice(
        "median_frequency", "enet", "effective_number", default=None, builder=False
    )


@dataclass
class CrossEntropySettings(ClassWeightedLossSettings):
    keep_priors: bool = False


@dataclass
class OptimizerSettings:
    """Settings of every optimizer. The run gives both to each group of parameters; builders read them
    there.
    """

    name: str = MISSING
    lr: float = number(above=0, default="${dataset.recommended.lr}", builder=False)
    weight_decay: float = number(at_least=0, default=1e-4, builder=False)


@dataclass
class SGDSettings(OptimizerSettings):
    momentum: float = number(at_least=0, at_most=1)


@dataclass
class AdamWSettings(OptimizerSettings):
    beta1: float = number(at_least=0, below=1)
    beta2: float = number(at_least=0, below=1)


@dataclass
class ScheduleSettings:
    """Settings of every schedule."""

    name: str = MISSING
    max_iters: int = number(at_least=1, default="${dataset.recommended.max_iters}")
    warmup_iters: int = number(at_least=0, default=0)


@dataclass
class PolySettings(ScheduleSettings):
    power: float = number(at_least=0)


@dataclass
class StepSettings(ScheduleSettings):
    every: int = number(at_least=1)
    factor: float = number(above=0, at_most=1)


# --- what belongs to no group -------------------------------------------------------------------------------


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
    )  # of the EMA weights; None: there are none
    # the backbone up to this stride does not change; 32: all of it
    freeze_stride: int | None = choice(2, 4, 8, 16, 32, default=None)
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


# --- commands -----------------------------------------------------------------------------------------------


@dataclass
class TrainConfig:
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    dataset: DatasetSettings = nested(DatasetSettings)
    augment: AugmentSettings = nested(AugmentSettings)
    loss: LossSettings = nested(LossSettings)
    optimizer: OptimizerSettings = nested(OptimizerSettings)
    schedule: ScheduleSettings = nested(ScheduleSettings)
    trainer: TrainerConfig = nested(TrainerConfig)
    eval: EvalConfig = nested(EvalConfig)
    seed: int = number(at_least=0, at_most=2**31 - 1)
    resume: bool = MISSING
    init_from: str | None = setting(default=None, path=True)


@dataclass
class CheckpointConfig:
    """A command that starts from a checkpoint's own config: only overrides replace what is stored there."""

    ckpt: str = setting(path=True)
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    trainer: TrainerConfig = nested(TrainerConfig)
    eval: EvalConfig = nested(EvalConfig)


@dataclass
class EvaluateConfig(CheckpointConfig):
    dataset: DatasetSettings = nested(DatasetSettings)


@dataclass
class PredictConfig(CheckpointConfig):
    input: str = setting(path=True)
    out: str = setting(path=True)


@dataclass
class ResumeConfig:
    run: str = setting(path=True)
    dataset: DatasetSettings = nested(DatasetSettings)
    trainer: TrainerConfig = nested(TrainerConfig)


@dataclass
class ExtendConfig(ResumeConfig):
    schedule: ScheduleSettings = nested(ScheduleSettings)


@dataclass
class ShowConfig:
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    num_classes: int = number(at_least=1)
    in_channels: int = number(at_least=1, at_most=1024)
    size: int = number(at_least=8)


@dataclass
class DataFakeConfig:
    dataset: DatasetSettings = nested(DatasetSettings)
    out: str = setting(path=True)
    images: int = number(at_least=1)
    seed: int = number(at_least=0, at_most=2**31 - 1)


@dataclass
class WeightsConfig:
    """Another program's file, and the settings that replace what its importer says of the network."""

    source: str = setting(path=True)
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    dataset: DatasetSettings = nested(DatasetSettings)


@dataclass
class WeightsImportConfig(WeightsConfig):
    out: str = setting(path=True)


@dataclass
class WeightsVerifyConfig(WeightsConfig):
    ckpt: str | None = setting(default=None, path=True)
