"""What a run may be told: one dataclass per group of settings and per command; beside each setting its
meaning and range, from which help and docs/settings.md are made.

Settings that all options of a group share have their defaults here, so that an option needs no YAML file; the
defaults of an option's own settings are in conf/<group>/<option>.yaml (those of a loss are here, because a
loss can be a part of a composite one), those of a command in conf/<command>.yaml. Standard library only: a
wrong setting is answered before torch is imported, help before Hydra is.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

from deeplabx.config.fields import MISSING, choice, choice_or_number, nested, number, setting

MOST_IMAGES = 65_536  # of a batch: the addresses of more would fill the memory before the first step

# --- model ------------------------------------------------------------------------------------------------


@dataclass
class ModelRecommended:
    """What a model is published with; the backbone takes it from here by interpolation."""

    output_stride: int = choice(
        8,
        16,
        32,
        default=16,
        words="recommended backbone.output_stride",
        source="v1 and v2: 8; v3 and v3+: 16, for which they state their atrous rates",
    )


@dataclass
class ModelSettings:
    """Settings of every model."""

    name: str = MISSING
    align_corners: bool = setting(
        default=True,
        words="whether resizes align corners; false suits weights of torchvision, VainF and mmsegmentation",
        source="true in the released code of v3 and v3+",
    )
    norm: str = choice(
        "auto",
        "batch",
        "sync",
        "group",
        "frozen",
        default="auto",
        builder=False,
        words="norm layers; auto: sync on several GPUs, else batch; frozen: batch norm stays as loaded",
    )
    norm_momentum: float | None = number(
        above=0,
        at_most=1,
        default=None,
        builder=False,
        words="weight of the newest batch in batch norm's statistics; null: 0.1, which suits short runs",
        source="v3 and v3+: 0.0003 (decay 0.9997)",
    )
    auxiliary_weight: float | None = number(
        above=0,
        default=None,
        words="loss weight of an auxiliary head, such as 0.4; on the features before the last block; null: "
        "no such head",
        source="1612.01105, section 3.3",
    )
    recommended: ModelRecommended = nested(
        ModelRecommended, builder=False, words="what the model is published with"
    )

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        """Whether some batch norm sees a single value of each training image: its features are 1 x 1."""
        return ceil(crop_size / output_stride) == 1


@dataclass
class DeepLabV1Settings(ModelSettings):
    fc6: str = choice(
        "large_fov",
        "7x7",
        words="first layer of the head; large_fov: 3x3 at rate 12 of 1024 channels; 7x7: at rate 4 of 4096",
        source="v1, table 2",
    )


@dataclass
class DeepLabV2Settings(ModelSettings):
    atrous_rates: list[int] = number(
        at_least=1,
        at_most=1000,
        words="atrous rates of the classifiers at output stride 8; scaled by 8 / output_stride; "
        "[2,4,8,12] is ASPP-S",
        source="ASPP-L (v2, section 4.1.2)",
    )
    scales: list[float] = number(
        above=0,
        at_most=2,
        words="scales of the image that the network sees; several are fused by their largest logit, each "
        "with a loss",
        source="v2, section 4.1.2: [1.0,0.75,0.5]",
    )

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        return ceil(crop_size * min(self.scales) / output_stride) == 1


@dataclass
class ASPPSettings(ModelSettings):
    """DeepLabv3 and v3+: ASPP with image pooling."""

    separable: bool | None = setting(
        default=None,
        parts=("aspp",),
        words="depthwise separable 3x3 convolutions in the head; null: as the backbone states",
    )
    atrous_rates: list[int] | None = number(
        at_least=1,
        at_most=1000,
        default=None,
        parts=("aspp",),
        words="atrous rates of ASPP at output stride 16; scaled by 16 / output_stride; null: the paper's "
        "[6,12,18] (of deeplabv3 on mobilenetv2: none)",
        source="v3, section 4.1",
    )
    image_pooling: int | str | None = choice_or_number(
        "none",
        at_least=8,
        at_most=100_000,
        default=None,
        parts=("aspp",),
        words="side in pixels of the squares that image pooling averages; null: the whole image; none: no "
        "image pooling",
        source="the released code: the crop of training, such as 769",
    )
    channels: int = number(
        at_least=1,
        at_most=65_536,
        default=256,
        parts=("aspp", "head_convolution"),
        words="channels of ASPP and of what follows it",
        source="v3, section 3.3; mmsegmentation's models have 512",
    )
    projection_kernel: int = choice(
        1,
        3,
        default=1,
        parts=("aspp",),
        words="kernel size of the convolution after ASPP's concatenation",
        source="1 in the paper, 3 in mmsegmentation",
    )

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        """Image pooling over the whole crop leaves a single value to the norm behind it."""
        if self.image_pooling == "none":
            return ModelSettings.norm_sees_one_value(self, crop_size=crop_size, output_stride=output_stride)
        features = ceil(crop_size / output_stride)
        return self.image_pooling is None or ceil(int(self.image_pooling) / output_stride) >= features


@dataclass
class DeepLabV3Settings(ASPPSettings):
    aspp: bool = setting(
        words="ASPP before the classifier; false: the classifier alone, after a cascade of blocks "
        "(backbone.blocks=7)",
        source="v3, section 3.2",
    )
    head_convolution: bool = setting(
        words="a 3x3 convolution after ASPP",
        source="torchvision's models have it, the paper's do not",
    )

    def norm_sees_one_value(self, *, crop_size: int, output_stride: int) -> bool:
        owner = ASPPSettings if self.aspp else ModelSettings
        return owner.norm_sees_one_value(self, crop_size=crop_size, output_stride=output_stride)


@dataclass
class DeepLabV3PlusSettings(ASPPSettings):
    decoder_convolutions: int = number(
        at_least=1,
        at_most=3,
        words="number of 3x3 convolutions in the decoder",
        source="v3+, table 2",
    )


@dataclass
class LRASPPSettings(ModelSettings):
    channels: int = number(
        at_least=1, at_most=65_536, words="channels of the head", source="the released models"
    )
    pooling: int | None = number(
        at_least=8,
        at_most=100_000,
        default=None,
        words="side in pixels of the squares whose mean the gate sees; null: the whole image",
        source="the released models: 769",
    )
    pooling_stride: list[int] = number(
        at_least=1,
        at_most=1000,
        words="[down,across]: distance between those squares, in features",
        source="the released models: [4,5] at output stride 32",
    )


# --- backbone ---------------------------------------------------------------------------------------------


@dataclass
class BackboneSettings:
    """Settings of every backbone. The number of input channels is not one: the data set states it."""

    name: str = MISSING
    output_stride: int = choice(
        8,
        16,
        32,
        default="${model.recommended.output_stride}",
        words="side of the image / side of the last features; strides beyond it become atrous rates",
        source="v3, section 3.1",
    )
    weights: str | None = setting(
        default=None,
        builder=False,
        path=True,
        words="initial weights: imagenet (downloaded once), a path, or none; init_from beats them",
    )


@dataclass
class ResNetSettings(BackboneSettings):
    multi_grid: list[int] | None = number(
        at_least=1,
        at_most=1000,
        default=None,
        words="factor on the atrous rate of each unit of the last block; null: [1,2,4] under deeplabv3 and "
        "deeplabv3plus ([1,2] of resnet18), no factors elsewhere",
        source="v3, sections 3.2.1 and 4.1",
    )
    blocks: int = number(
        at_least=4,
        at_most=7,
        words="number of residual blocks; above 4: copies of the last one in cascade",
        source="v3, section 3.2",
    )


@dataclass
class MobileNetV2Settings(BackboneSettings):
    width: float = number(above=0, at_most=4, words="factor on every number of channels")


@dataclass
class MobileNetV3Settings(BackboneSettings):
    reduced_tail: bool = setting(
        words="half the channels in the last block",
        source="the released segmentation models (1905.02244, section 6.4)",
    )
    dilate_strided: bool = setting(
        words="a unit that lost its stride takes the new atrous rate itself; false: the unit after it does",
        source="true in torchvision's published segmentation models",
    )


@dataclass
class TimmSettings(BackboneSettings):
    model: str = setting(words="name of the network, such as convnext_tiny, as timm.list_models() gives it")


# --- dataset ----------------------------------------------------------------------------------------------


RECOMMENDED_BY = (
    "voc and cityscapes: v3 and v3+; ade20k, coco_stuff and pascal_context: mmsegmentation's DeepLab configs"
)


@dataclass
class DatasetRecommended:
    """What a data set is published with; the other groups take it from here by interpolation."""

    crop_size: int = number(
        at_least=8,
        default=353,
        words="recommended augment.crop_size",
        source=RECOMMENDED_BY,
    )
    batch_size: int = number(
        at_least=1,
        at_most=MOST_IMAGES,
        default=8,
        words="recommended trainer.batch_size",
        source=RECOMMENDED_BY,
    )
    max_iters: int = number(
        at_least=1,
        default=1000,
        words="recommended schedule.max_iters",
        source=RECOMMENDED_BY,
    )
    lr: float = number(
        above=0,
        default=0.01,
        words="recommended optimizer.lr of SGD",
        source=RECOMMENDED_BY,
    )
    eval_crop: list[int] | None = number(
        at_least=8,
        default=None,
        words="recommended eval.crop; null: images are not padded",
        source="voc and cityscapes: the released code of v3 and v3+",
    )


@dataclass
class DatasetSettings:
    """Settings of every data set."""

    name: str = MISSING
    root: str | None = setting(
        default=None,
        path=True,
        words="folder of the data set; null for generated data",
    )
    train_split: str = setting(default="train", builder=False, words="split that is trained on")
    split: str = setting(default="val", builder=False, words="split that is evaluated")
    recommended: DatasetRecommended = nested(
        DatasetRecommended, builder=False, words="what the data set is published with"
    )
    on_bad: str = choice(
        "abort",
        "skip",
        default="abort",
        builder=False,
        words="what an image or label that cannot be read does; skip: the next image takes its place",
    )
    channels: list[int] | None = number(
        at_least=0,
        at_most=1024,
        default=None,
        builder=False,
        words="indices of an image file's channels that become red, green and blue, such as [0,1,2]; null: "
        "files have three, or grey",
    )


@dataclass
class ShapesSettings(DatasetSettings):
    train_images: int = number(at_least=1, words="number of generated images in split train")
    val_images: int = number(at_least=1, words="number of generated images in split val")


@dataclass
class VOCSettings(DatasetSettings):
    sbd_root: str | None = setting(
        default=None,
        path=True,
        words="SBD's folder `dataset`, for the split train_aug; null: searched beside VOCdevkit",
    )


@dataclass
class PascalContextSettings(DatasetSettings):
    background: bool = setting(
        words="whether pixels of none of the 59 classes are a class; background, the first of 60"
    )


@dataclass
class FolderSettings(DatasetSettings):
    format: str = choice(
        "masks",
        "beside",
        "coco",
        "labelme",
        "list",
        words="how the labels are stored; masks: files in masks/; beside: files beside their images; coco, "
        "labelme: JSON; list: pairs in a CSV or text file",
    )
    annotations: str | None = setting(
        default=None,
        words="file of all images, which is then split; a JSON (coco) or a list (list) below root; null: one "
        "for each split, or the only one",
    )
    unlabelled: str = choice(
        "background",
        "ignore",
        words="what pixels outside all shapes become; background: a class, first unless classes.yaml has it",
    )
    mask_suffix: str = setting(words="end of a mask's name after its image's, such as _mask")
    mask_alpha: str = choice(
        "refuse",
        "void",
        "keep",
        words="what transparent pixels of a mask are; refuse: an error; void: ignored; keep: the value below",
    )
    val_fraction: float | None = number(
        above=0,
        at_most=0.9,
        default=None,
        words="share of the images in a seeded split val, such as 0.2; null: the folder has its own splits",
    )
    folds: int | None = number(
        at_least=2,
        at_most=1000,
        default=None,
        words="number of folds for cross-validation; val is dataset.fold, train the others; null: none",
    )
    fold: int | None = number(at_least=0, default=None, words="which of dataset.folds is val, from 0")
    group: str | None = setting(
        default=None,
        words="regular expression that finds an image's group in its path; a group is in one split only",
    )
    split_seed: int = number(at_least=0, words="seed of dataset.val_fraction and dataset.folds")


# --- augment, loss, optimizer, schedule ---------------------------------------------------------------------


@dataclass
class AugmentSettings:
    """Settings of every augmentation."""

    name: str = MISSING
    crop_size: int = number(
        at_least=8,
        default="${dataset.recommended.crop_size}",
        words="side in pixels of the square crops that are trained on",
    )
    mix: str | None = choice(
        "cutmix",
        "classmix",
        default=None,
        builder=False,
        words="what is pasted from another image of the batch; cutmix: a rectangle; classmix: half of its "
        "classes; null: nothing",
        source="cutmix 1905.04899, classmix 2007.07936",
    )
    mix_probability: float = number(
        above=0,
        at_most=1,
        default=0.5,
        builder=False,
        words="share of the images into which augment.mix pastes another",
    )
    class_sampling: float = number(
        at_least=0,
        at_most=1,
        default=0.0,
        builder=False,
        words="share of the samples that are drawn by class; each class equally often, then an image and a "
        "crop that show it; the labels are counted first",
    )


@dataclass
class CroppingAugmentSettings(AugmentSettings):
    """Settings of augmentations that end with a random crop."""

    cat_max_ratio: float | None = number(
        above=0,
        below=1,
        default=None,
        words="largest share of one class in a crop, such as 0.75; up to 10 crops are drawn; null: any share",
        source="mmsegmentation: 0.75",
    )


@dataclass
class StandardAugmentSettings(CroppingAugmentSettings):
    scale_min: float = number(
        above=0, at_most=10, words="smallest random scale of an image", source="v3, section 4.1"
    )
    scale_max: float = number(
        above=0, at_most=10, words="largest random scale of an image", source="v3, section 4.1"
    )
    flip: float = number(at_least=0, at_most=1, words="probability of a horizontal flip")
    flip_vertical: float = number(at_least=0, at_most=1, words="probability of a vertical flip")
    turn: float = number(at_least=0, at_most=1, words="probability of a turn by 90, 180 or 270 degrees")
    rotation: float = number(
        at_least=0,
        at_most=180,
        words="largest rotation in degrees, either way; outside the image: mean pixel and ignore; 0: none",
    )
    jitter: float = number(
        at_least=0,
        at_most=1,
        words="probability that colours are changed; by the brightness, contrast, saturation and hue below",
    )
    brightness: float = number(
        at_least=0, below=1, words="jitter of brightness; a factor of 1 - value to 1 + value"
    )
    contrast: float = number(
        at_least=0, below=1, words="jitter of contrast; a factor of 1 - value to 1 + value"
    )
    saturation: float = number(
        at_least=0,
        at_most=1,
        words="jitter of saturation; a factor of 1 - value to 1 + value; RGB images only",
    )
    hue: float = number(
        at_least=0,
        at_most=0.5,
        words="jitter of the hue; a shift of up to this share of the circle; RGB images only",
    )
    grey: float = number(at_least=0, at_most=1, words="probability that colours are removed; RGB images only")
    blur: float = number(at_least=0, at_most=1, words="probability of a Gaussian blur")
    blur_sigma: list[float] = number(
        above=0, at_most=50, words="[least,most] sigma of the blur, in pixels of the crop"
    )
    noise: float = number(at_least=0, at_most=1, words="probability of noise")
    noise_std: float = number(
        above=0, at_most=255, words="largest standard deviation of the noise, in grey levels of 0 to 255"
    )
    cutout: float = number(
        at_least=0,
        at_most=1,
        words="probability that a square is hidden; its image: mean pixel; its label: ignore",
        source="1708.04552; there for whole images, whose label stays",
    )
    cutout_size: float = number(
        above=0, at_most=1, words="side of that square, as a share of the crop's side"
    )


@dataclass
class AlbumentationsSettings(CroppingAugmentSettings):
    transforms: list[dict[str, Any]] = setting(
        words="transforms in their order, each with its name and arguments; of albumentations 2.0.8; the "
        "result is padded and cropped to crop_size",
    )


@dataclass
class LossSettings:
    """Settings of every loss."""

    name: str = MISSING


@dataclass
class ClassWeightedLossSettings(LossSettings):
    class_weights: list[float] | None = number(
        above=0,
        default=None,
        words="weight of each class, in the data set's order, such as [1.0,2.5]; null: equal",
    )
    class_balance: str | None = choice(
        "median_frequency",
        "enet",
        "effective_number",
        default=None,
        builder=False,
        words="how classes are weighed by their pixels; counted once in the training labels; null: equal",
        source="median_frequency 1411.4734, enet 1606.02147, effective_number 1901.05555",
    )


@dataclass
class CrossEntropySettings(ClassWeightedLossSettings):
    keep_priors: bool = setting(
        default=False,
        words="class weights change what is learned, not how often a class is predicted",
        source="after 2007.07314",
    )
    label_smoothing: float = number(
        at_least=0,
        below=1,
        default=0.0,
        words="share of each pixel's label that is spread over all classes, such as 0.1",
        source="1512.00567, section 7",
    )


@dataclass
class OHEMSettings(CrossEntropySettings):
    share: float = number(
        above=0,
        at_most=1,
        default=0.25,
        words="share of the pixels that count, those with the largest loss",
        source="the released code of v3+: top_k_percent_pixels, with 0.25 as its example",
    )
    anneal_steps: int = number(
        at_least=0,
        default=0,
        words="steps over which that share falls linearly from 1; 0: it is used from the first step on",
        source="the released code of v3+: hard_example_mining_step",
    )
    exact: bool = setting(
        default=True,
        words="each image gives its share; false: each pass, as the released code, whatever it holds",
    )


@dataclass
class FocalSettings(ClassWeightedLossSettings):
    gamma: float = number(
        at_least=0,
        at_most=20,
        default=2.0,
        words="how much less easy pixels count: the power of 1 - p; 0: not less, which is cross-entropy",
        source="1708.02002, section 5.1",
    )


@dataclass
class BoundarySettings(CrossEntropySettings):
    amount: float = number(
        at_least=0, at_most=1000, default=2.0, words="what a boundary adds to a pixel's factor of 1"
    )
    sigma: float = number(
        above=0,
        at_most=50,
        default=5.0,
        words="standard deviation, in pixels, of how that falls with the distance",
        source="1505.04597, section 3: about 5",
    )
    ignored_edges: bool = setting(
        default=False,
        words="whether the edge of ignored pixels is a boundary; as in VOC, where boundaries are ignored",
    )


@dataclass
class DiceSettings(LossSettings):
    smooth: float = number(
        at_least=0, at_most=1e6, default=1.0, words="pixels added to numerator and denominator of Dice"
    )


@dataclass
class TverskySettings(LossSettings):
    alpha: float = number(
        at_least=0,
        at_most=1000,
        default=0.3,
        words="weight of false positives",
        source="1706.05721, section 3",
    )
    beta: float = number(
        above=0,
        at_most=1000,
        default=0.7,
        words="weight of false negatives",
        source="1706.05721, section 3",
    )
    smooth: float = number(
        at_least=0, at_most=1e6, default=1.0, words="pixels added to numerator and denominator"
    )


@dataclass
class LovaszSettings(LossSettings):
    pass


@dataclass
class RMISettings(LossSettings):
    cross_entropy_weight: float = number(
        above=0,
        below=1,
        default=0.5,
        words="weight of the binary cross-entropy; the region term has the rest",
        source="1910.12037: 0.5",
    )
    radius: int = number(
        at_least=1,
        at_most=10,
        default=3,
        words="side of a region, in downsampled pixels",
        source="1910.12037: 3",
    )
    downsampling: int = number(
        at_least=1,
        at_most=32,
        default=3,
        words="factor by which labels and prediction are averaged first",
        source="the released code's default; the paper also has 4",
    )


@dataclass
class CompositeSettings(LossSettings):
    parts: list[dict[str, Any]] = setting(
        words="losses that are added up; each with its name, its weight (1) and its settings",
    )


@dataclass
class LossPartSettings:
    """What a part of a composite loss has beside the settings of its loss."""

    weight: float = number(above=0, at_most=1e6, default=1.0, words="factor of a loss in a composite one")


@dataclass
class OptimizerSettings:
    """Settings of every optimizer. None is passed to a builder: the run puts lr and weight decay into each
    group of parameters.
    """

    name: str = MISSING
    lr: float = number(
        above=0,
        default="${dataset.recommended.lr}",
        builder=False,
        words="base learning rate, which the schedule multiplies",
    )
    weight_decay: float = number(
        at_least=0,
        default=1e-4,
        builder=False,
        words="weight decay, of all parameters but those of optimizer.no_decay",
        source="v3 and v3+: 1e-4 with ResNet, 4e-5 with Xception and MobileNetV2",
    )
    no_decay: list[str] | None = choice(
        "norm",
        "bias",
        "depthwise",
        default=["norm", "bias", "depthwise"],
        builder=False,
        words="kinds of parameters without weight decay; norm: norm layers and other vectors; bias: "
        "of convolutions; depthwise: kernels; null: all are decayed",
        source="all three in the released code of v3 and v3+; [bias] in that of v1 and v2",
    )
    layer_decay: float | None = number(
        at_least=0.01,  # its powers over a hundred units are still numbers
        below=1,
        default=None,
        builder=False,
        words="factor on the learning rate from each unit of the backbone to the one before it; such as "
        "0.75; the last unit has it once; null: none",
        source="1801.06146 and 2003.10555; 2106.08254",
    )


@dataclass
class SGDSettings(OptimizerSettings):
    momentum: float = number(at_least=0, at_most=1, words="momentum of SGD")
    nesterov: bool = setting(words="Nesterov's momentum, as PyTorch has it")


@dataclass
class TorchOptimizerSettings(OptimizerSettings):
    algorithm: str = setting(
        words="name of the algorithm; ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, NAdam, RAdam, "
        "RMSprop, Rprop or SGD"
    )
    settings: dict[str, Any] = setting(
        default={},
        words="its settings beside lr and weight_decay, as PyTorch names them, such as {momentum: 0.9}",
    )


@dataclass
class AdamWSettings(OptimizerSettings):
    beta1: float = number(at_least=0, below=1, words="decay of the running mean of the gradients")
    beta2: float = number(at_least=0, below=1, words="decay of the running mean of their squares")


@dataclass
class ScheduleSettings:
    """Settings of every schedule."""

    name: str = MISSING
    max_iters: int = number(
        at_least=1,
        default="${dataset.recommended.max_iters}",
        words="number of optimizer steps; trainer.epochs replaces it",
    )
    warmup_iters: int = number(at_least=0, default=0, builder=False, words="steps of warm-up; 0: none")
    warmup: str = choice(
        "linear",
        "constant",
        default="linear",
        builder=False,
        words="linear: the schedule times a ramp up to 1; constant: a small learning rate, then the schedule "
        "from its first step",
        source="constant: slow_start_step of the released code of v3 and v3+",
    )
    warmup_factor: float | None = number(
        above=0,
        at_most=1,
        default=None,
        builder=False,
        words="factor on the learning rate at the start of warm-up; null: 1 / warmup_iters (linear only)",
    )


@dataclass
class PolySettings(ScheduleSettings):
    power: float = number(
        at_least=0, words="power of 1 - step / max_iters", source="ParseNet; v2, section 4.1"
    )
    end_factor: float = number(
        at_least=0,
        at_most=1,
        words="share of the learning rate that it falls to; 0: the last step is just above zero",
        source="0 in the papers; end_learning_rate of the released code, eta_min / lr of mmsegmentation",
    )


@dataclass
class StepSettings(ScheduleSettings):
    every: int = number(at_least=1, words="steps after which the learning rate falls", source="v1, section 4")
    factor: float = number(
        above=0, at_most=1, words="factor by which it falls each time", source="v1, section 4"
    )


@dataclass
class MultistepSettings(ScheduleSettings):
    milestones: list[float] = number(
        above=0,
        below=1,
        words="shares of the steps after which the learning rate falls, increasing, such as [0.6,0.9]",
    )
    factor: float = number(above=0, at_most=1, words="factor by which it falls each time")


@dataclass
class CosineSettings(ScheduleSettings):
    end_factor: float = number(
        at_least=0,
        at_most=1,
        words="share of the learning rate that it falls to; 0: the last step is just above zero",
        source="1608.03983, equation 5",
    )


@dataclass
class OneCycleSettings(ScheduleSettings):
    rise: float = number(
        above=0, below=1, words="share of the steps in which the learning rate rises", source="PyTorch: 0.3"
    )
    start_factor: float = number(
        above=0, at_most=1, words="factor of the first step", source="PyTorch: 1 / 25"
    )
    end_factor: float = number(
        above=0, at_most=1, words="factor of the last step", source="PyTorch: 1 / 250,000"
    )
    shape: str = choice(
        "cosine",
        "linear",
        words="shape of rise and fall",
        source="linear in 1708.07120, cosine in PyTorch and fastai",
    )


# --- tracker ------------------------------------------------------------------------------------------------


@dataclass
class TrackerSettings:
    """Settings of every tracker. All may change when a run is resumed: see `is_free_on_resume`."""

    name: str = MISSING


@dataclass
class MLflowSettings(TrackerSettings):
    tracking_uri: str | None = setting(
        default=None,
        words="where runs are recorded; sqlite:///FILE, or http://HOST:PORT of a server; null: "
        "outputs/mlflow/mlflow.db",
    )
    experiment: str = setting(words="experiment that the run belongs to; it is made if it is not there")


@dataclass
class WandBSettings(TrackerSettings):
    project: str = setting(words="project that the run belongs to")
    mode: str = choice(
        "offline",
        "online",
        words="offline: files in the run's folder, for `wandb sync`; online: sent as the run goes",
    )
    entity: str | None = setting(default=None, words="user or team of the project; null: the account's own")


# --- what belongs to no group -------------------------------------------------------------------------------


@dataclass
class TrainerConfig:
    batch_size: int = number(
        at_least=1,
        at_most=MOST_IMAGES,
        words="images per optimizer step; over all devices and accumulated passes",
    )
    accumulate: int = number(
        at_least=1, words="passes that each batch is split into; the gradient is that of the whole batch"
    )
    scale_lr: str | None = choice(
        "linear",
        "sqrt",
        default=None,
        words="scale optimizer.lr to the batch size; from trainer.lr_batch_size; sqrt is usual for Adam and "
        "AdamW; null: as it is",
        source="linear 1706.02677",
    )
    lr_batch_size: int | None = number(
        at_least=1,
        at_most=MOST_IMAGES,
        default=None,
        words="images per step that optimizer.lr is meant for; null: the recipe's batch, else the data set's",
    )
    find_lr: bool = setting(
        default=False,
        words="find optimizer.lr by a range test before the first step; it replaces the one that is set",
        source="1506.01186",
    )
    find_lr_steps: int = number(
        at_least=50, at_most=10_000, default=100, words="largest number of steps of that test"
    )
    epochs: float | None = number(
        above=0, default=None, words="length of the run in epochs; replaces schedule.max_iters"
    )
    devices: str = setting(
        words="auto, cpu or N processes; auto: the first GPU, else the CPU; N: each on a GPU if there are any"
    )
    precision: str = choice(
        "auto",
        "fp32",
        "tf32",
        "bf16",
        "fp16",
        words="precision of the computation; auto: bf16 if the device supports it; tf32: float32 whose "
        "products have 10-bit mantissas",
    )
    deterministic: bool = setting(
        words="on GPUs, use only deterministic kernels; false: cuDNN may choose faster ones",
    )
    backend: str = choice(
        "auto",
        "gloo",
        words="how several processes exchange gradients; auto: NCCL on GPUs, gloo on CPUs; gloo: slow, for "
        "tests, also of several processes on one GPU",
    )
    workers: int | str = choice_or_number(
        "auto",
        at_least=0,
        at_most=256,
        words="processes that load images, for each device; auto: from cores, memory and device",
    )
    head_lr_factor: float = number(
        above=0,
        words="learning rate of the head relative to the rest; of deeplabv1 and v2: of the classifier",
        source="v1 and v2: 10; v3 and v3+: 1",
    )
    head_bias_lr_factor: float | None = number(
        above=0,
        default=None,
        words="the same for the head's biases; null: as head_lr_factor",
        source="v2: 20",
    )
    clip_norm: float | None = number(
        above=0, default=None, words="largest norm of the gradient; a longer one is scaled to it; null: none"
    )
    ema_decay: float | None = number(
        above=0,
        below=1,
        default=None,
        words="decay of the EMA weights, such as 0.999; they are evaluated and saved; null: no EMA",
    )
    swa_start: float | None = number(
        above=0,
        below=1,
        default=None,
        words="share of the run after which SWA averages weights; such as 0.75; the average is evaluated and "
        "saved; null: no SWA",
        source="1803.05407",
    )
    swa_every: int = number(at_least=1, default=1, words="steps between the weights that SWA averages")
    patience: int | None = number(
        at_least=1,
        default=None,
        words="evaluations without a better mIoU after which a run ends; null: it has its whole length",
    )
    freeze_stride: int | None = choice(
        2,
        4,
        8,
        16,
        32,
        default=None,
        words="freeze the backbone's layers up to this stride; 32: the whole backbone; null: none",
    )
    freeze_backbone_norm: bool = setting(
        words="freeze the backbone's batch norms, statistics and affine; those of the head are trained"
    )
    unfold_norm: int | None = number(
        at_least=2,
        at_most=2048,  # one process measures, and the others wait for it
        default=None,
        words="measure the statistics of folded batch norms; over this number of crops, such as 128, before "
        "step 0; null: they stay folded",
    )
    on_nonfinite: str = choice(
        "abort",
        "skip",
        words="what a loss or gradient that is not finite does; skip: that step is skipped, and logged",
    )
    max_restarts: int = number(
        at_least=0, at_most=1000, words="how often the processes are restarted after one died"
    )
    eval_every: int | None = number(
        at_least=1, default=None, words="steps between evaluations; null: five evaluations in a run"
    )
    save_every: int = number(at_least=1, words="steps between checkpoints")
    log_every: int = number(at_least=1, words="steps between lines of the log")
    samples: int = number(at_least=0, words="images drawn at each evaluation")


@dataclass
class EvalConfig:
    scales: list[float] = number(
        above=0, at_most=10, words="scales of the image whose probabilities are averaged"
    )
    flip: bool = setting(words="average with the horizontally flipped image")
    window: int | str | None = choice_or_number(
        "auto",
        at_least=8,
        default=None,
        words="side in pixels of overlapping square windows; null: the whole image; auto: windows for images "
        "that do not fit into the free memory",
    )
    crop: list[int] | None = number(
        at_least=8,
        default=None,
        words="[height,width] that smaller images are padded to; null: the data set's recommended.eval_crop",
    )
    details: bool = setting(
        words="also measure boundaries, object sizes and calibration; for the report; false is faster"
    )
    crf: bool = setting(
        words="refine the prediction with the fully connected CRF", source="v1, section 3.2; v2, section 3.3"
    )
    crf_iterations: int = number(at_least=0, at_most=1000, words="iterations of the CRF", source="v1 and v2")
    crf_position: list[float] = number(
        at_least=0,
        at_most=10_000,
        words="[weight,pixels] of the CRF's position kernel; it removes small regions",
        source="published with v2; v1: [3,3]",
    )
    crf_bilateral: list[float] = number(
        at_least=0,
        at_most=10_000,
        words="[weight,pixels,grey levels] of the CRF's bilateral kernel; it follows edges",
        source="published with v2; v1 searched [5-10,50-100,3-10]",
    )


# --- commands -----------------------------------------------------------------------------------------------


@dataclass
class TrainConfig:
    """What a group or section is stands here, once; another command may state what it is there."""

    model: ModelSettings = nested(ModelSettings, words="network that classifies the backbone's features")
    backbone: BackboneSettings = nested(BackboneSettings, words="network that computes the features")
    dataset: DatasetSettings = nested(DatasetSettings, words="images and labels")
    augment: AugmentSettings = nested(AugmentSettings, words="random changes to the training images")
    loss: LossSettings = nested(LossSettings, words="what training minimises")
    optimizer: OptimizerSettings = nested(OptimizerSettings, words="how a gradient changes the weights")
    schedule: ScheduleSettings = nested(ScheduleSettings, words="learning rate over the steps of a run")
    tracker: TrackerSettings = nested(TrackerSettings, words="where a run is recorded beside its own folder")
    trainer: TrainerConfig = nested(TrainerConfig, words="how a run computes, evaluates and saves")
    eval: EvalConfig = nested(EvalConfig, words="how a model is evaluated, and how it predicts")
    seed: int = number(
        at_least=0,
        at_most=2**31 - 1,
        words="seed of new weights, data order, augmentation and dropout",
    )
    resume: bool = setting(words="continue from the newest checkpoint in the run's folder")
    init_from: str | None = setting(
        default=None,
        path=True,
        words="weights to start from; a run, a checkpoint, a file or a name from `deeplabx weights list`; "
        "tensors are taken by name and shape",
    )
    init_from_partial: bool = setting(
        words="start from weights that fill less than half of the tensors; init_from: of the model's; "
        "backbone.weights: of the backbone's"
    )
    accept_changed_images: bool = setting(
        words="continue although the list of training images has changed; a later resume compares again"
    )
    stages: dict[str, Any] | None = setting(
        default=None,
        words="stages of the run, by name, in their order; each with the settings that differ in it; {}: "
        "none",
        source="v3, section 4.1: output stride 16, then 8 with frozen batch norm",
    )


@dataclass
class SlurmConfig:
    """What each job of a sweep asks SLURM for."""

    partition: str | None = setting(default=None, words="SLURM partition of the jobs; null: SLURM's default")
    minutes: int = number(
        at_least=1, default=1440, words="time limit of a job; one that reaches it is saved and continues"
    )
    gpus: int = number(at_least=0, at_most=64, default=0, words="GPUs of a job")
    cpus: int = number(at_least=1, at_most=1024, default=4, words="CPU cores of a job")
    memory: float | None = number(above=0, default=None, words="memory of a job in GB; null: SLURM's default")
    extra: list[str] | None = setting(
        default=None, words="further options of sbatch, as in [account=vision,qos=low]; null: none"
    )


@dataclass
class SweepConfig:
    """How the jobs of -m are run. It belongs to the sweep: no run's config has it."""

    jobs: int | None = number(
        at_least=1,
        at_most=1000,
        default=None,
        words="jobs at a time; each on a GPU, or a share of the cores; null: one, on SLURM all of a grid",
    )
    launcher: str = choice(
        "local", "slurm", default="local", words="where jobs run; slurm: each is submitted (extra `slurm`)"
    )
    trials: int | None = number(
        at_least=1,
        at_most=100_000,
        default=None,
        words="number of jobs of a search with Optuna (extra `search`); null: every combination",
    )
    sampler: str = choice(
        "tpe", "random", default="tpe", words="how a search chooses values; tpe: learns from finished jobs"
    )
    seed: int = number(at_least=0, at_most=2**31 - 1, default=0, words="seed of the search")
    prune: bool = setting(
        default=False,
        words="stop jobs of a search below the median mIoU; of the finished ones at the same step, once five "
        "are",
    )
    slurm: SlurmConfig = nested(SlurmConfig, words="what a job asks SLURM for")


@dataclass
class CheckpointConfig:
    """A command that starts from a checkpoint's own config: only overrides replace what is stored there."""

    ckpt: str = setting(
        path=True,
        words="run folder, step folder or known weights; a run gives its best checkpoint",
    )
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    trainer: TrainerConfig = nested(TrainerConfig)
    eval: EvalConfig = nested(EvalConfig)


@dataclass
class EvaluateConfig(CheckpointConfig):
    dataset: DatasetSettings = nested(DatasetSettings)


@dataclass
class PredictConfig(CheckpointConfig):
    dataset: DatasetSettings = nested(DatasetSettings)
    input: list[str] = setting(
        path=True,
        words="images, folders, videos; patterns in quotes; lists of paths (.txt)",
    )
    out: str = setting(path=True, words="folder to write to; a prediction that was stopped there continues")
    save: list[str] = choice(
        "ids",
        "colour",
        "overlay",
        "probabilities",
        "polygons",
        words="ids, colour, overlay, probabilities, polygons; what is written of each image",
    )
    submission: str | None = choice(
        "voc_comp5",
        "voc_comp6",
        "cityscapes",
        default=None,
        words="voc_comp5, voc_comp6 or cityscapes; a test server's layout too; comp5: trained on VOC's "
        "images alone; comp6: on others too, such as ImageNet's",
    )
    batch_size: int | str = choice_or_number(
        "auto",
        at_least=1,
        at_most=1024,
        words="most images of a size at once; auto: one on a CPU, on a GPU as memory allows",
    )


@dataclass
class ExportConfig(CheckpointConfig):
    dataset: DatasetSettings = nested(DatasetSettings)
    out: str = setting(path=True, words="folder to write, new or empty")
    format: str = choice(
        "onnx",
        "torch_export",
        "openvino",
        "safetensors",
        words="kind of file; safetensors: the weights alone, for which deeplabx builds the network",
    )
    preprocess: bool = setting(
        words="it takes decoded uint8 images N x H x W x C; and normalises them itself; false: normalised "
        "float32 N x C x H x W",
    )
    output: str = choice(
        "logits",
        "ids",
        words="what the file gives, at the input's height and width; of ids, scales, windows and "
        "probabilities cannot be made",
    )
    int8: bool = setting(words="also a file of 8-bit integers (onnx, openvino); its mIoU is measured")
    max_loss: float = number(
        at_least=0, at_most=1, words="largest mIoU that int8 may lose on dataset.split; beyond it, no file"
    )
    calibration_images: int = number(
        at_least=1,
        at_most=MOST_IMAGES,
        words="training images that set the ranges of int8; of dataset.train_split, drawn by the run's seed",
    )
    check_split: bool = setting(
        words="evaluate model and file on dataset.split where it is there; false: compare images only"
    )


@dataclass
class ServerConfig:
    host: str = setting(
        words="address to listen on; 127.0.0.1: this machine alone; 0.0.0.0: everyone who can reach it"
    )
    port: int = number(at_least=0, at_most=65_535, words="port to listen on; 0: any free one; it is printed")
    max_bytes: int = number(at_least=1, at_most=2**30, words="size in bytes of the largest image file")
    max_pixels: int = number(
        at_least=1, at_most=300_000_000, words="number of pixels of the largest image; read from its header"
    )
    queue: int = number(
        at_least=1,
        at_most=1000,
        words="images accepted at a time; one is predicted, the others arrive, wait or are sent back",
    )
    timeout: float = number(
        above=0,
        at_most=86_400,
        words="seconds for sending an image; as many for waiting for the answer, and for receiving it",
    )


@dataclass
class ServeConfig(CheckpointConfig):
    dataset: DatasetSettings = nested(DatasetSettings)
    serve: ServerConfig = nested(ServerConfig, words="who is served, and how much")


# What may change when a run is resumed, because its weights do not depend on it.
FREE_ON_RESUME = (
    "resume",
    "accept_changed_images",
    "dataset.root",
    "dataset.sbd_root",
    "trainer.workers",
    "trainer.devices",
    "trainer.backend",
    "trainer.max_restarts",
    "trainer.on_nonfinite",
    "trainer.patience",
    "trainer.eval_every",
    "trainer.save_every",
    "trainer.log_every",
    "trainer.samples",
    "eval.details",
)


def is_free_on_resume(key: str) -> bool:
    """Whether a setting may change when a run is resumed; of a tracker, from outside the project too, all."""
    return key in FREE_ON_RESUME or key.startswith("tracker.")


@dataclass
class ResumeConfig:
    run: str = setting(path=True, words="folder of the run")
    dataset: DatasetSettings = nested(DatasetSettings)
    tracker: TrackerSettings = nested(TrackerSettings)
    trainer: TrainerConfig = nested(TrainerConfig)
    accept_changed_images: bool = setting(
        words="continue although the list of training images has changed; a later resume compares again"
    )


@dataclass
class ExtendConfig(ResumeConfig):
    schedule: ScheduleSettings = nested(ScheduleSettings)


@dataclass
class ReportConfig:
    """Everything else is in the run's folder: only overrides replace what is stored there."""

    run: str = setting(path=True, words="folder of a run or of an evaluation")
    dataset: DatasetSettings = nested(DatasetSettings)
    variants: bool = setting(
        words="measure output stride 8, scales and flip; what they cost on this machine and gain on the "
        "evaluated split; kept in variants.json"
    )
    variant_images: int = number(
        at_least=1, at_most=MOST_IMAGES, words="images that they are measured on; spread over the split"
    )


@dataclass
class SweepResumeConfig:
    folder: str = setting(path=True, words="folder of the sweep")
    sweep: SweepConfig = nested(SweepConfig, words="how the jobs of -m are run")


@dataclass
class SweepShowConfig:
    folder: str = setting(path=True, words="folder of the sweep")


@dataclass
class ShowConfig:
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    num_classes: int = number(at_least=1, words="number of classes of the model")
    in_channels: int = number(at_least=1, at_most=1024, words="number of channels of the images")
    size: int = number(at_least=8, words="side in pixels of the image whose multiply-adds are counted")


@dataclass
class DataFakeConfig:
    dataset: DatasetSettings = nested(DatasetSettings, words="data set whose layout is written")
    out: str = setting(path=True, words="folder to write")
    images: int = number(at_least=1, at_most=MOST_IMAGES, words="number of images in each split")
    seed: int = number(at_least=0, at_most=2**31 - 1, words="seed of the images")


@dataclass
class DataCheckConfig:
    dataset: DatasetSettings = nested(DatasetSettings, words="data set that is checked")
    splits: list[str] | None = setting(
        default=None,
        words="splits that are checked, the training split first; null: dataset.train_split, dataset.split",
    )
    workers: int | str = choice_or_number(
        "auto",
        at_least=0,
        at_most=256,
        words="processes that read images and labels; auto: one for each core",
    )
    fix: bool = setting(words="write a repaired copy into `out`; the data set itself is never changed")
    out: str = setting(path=True, words="folder to write check.json, check.html and the copy to")


@dataclass
class DataStatsConfig:
    dataset: DatasetSettings = nested(DatasetSettings, words="data set that is counted")
    splits: list[str] | None = setting(
        default=None, words="splits that are counted; null: dataset.train_split and dataset.split"
    )
    workers: int | str = choice_or_number(
        "auto",
        at_least=0,
        at_most=256,
        words="processes that read images and labels; auto: one for each core",
    )
    out: str = setting(path=True, words="folder to write stats.json and stats.html to")


@dataclass
class DataPreviewConfig:
    """What decides what a training sees: the backbone states the mean pixel with which crops are padded."""

    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    dataset: DatasetSettings = nested(DatasetSettings, words="data set whose training images are shown")
    augment: AugmentSettings = nested(AugmentSettings, words="random changes that are shown")
    images: int = number(at_least=1, at_most=100, words="number of training images that are shown")
    epoch: int = number(
        at_least=0,
        at_most=2**31 - 1,
        words="epoch of the training whose first samples are shown; counted from 0",
    )
    seed: int = number(at_least=0, at_most=2**31 - 1, words="seed of data order and augmentation")
    out: str = setting(path=True, words="folder to write preview.html and preview.png to")


@dataclass
class CompareConfig:
    runs: list[str] = setting(
        path=True, words="folders of runs, of `deeplabx eval`, of sweeps; of a sweep, its finished jobs"
    )
    baseline: str | None = setting(
        default=None,
        path=True,
        words="folder or entry that all others are compared with; null: the best one",
    )
    resamples: int = number(
        at_least=200, at_most=100_000, words="number of resamples of the images; for intervals and p"
    )
    seed: int = number(at_least=0, at_most=2**31 - 1, words="seed of the resamples")
    images: int = number(
        at_least=0,
        at_most=50,
        words="images shown of those that differ most; in each direction; 0: none",
    )
    out: str = setting(path=True, words="folder to write compare.html, compare.csv and compare.json to")


@dataclass
class WeightsConfig:
    """Another program's file, and the settings that replace what its importer says of the network."""

    source: str = setting(
        path=True, words="file or folder of weights, or a name from `deeplabx weights list`"
    )
    model: ModelSettings = nested(ModelSettings)
    backbone: BackboneSettings = nested(BackboneSettings)
    dataset: DatasetSettings = nested(
        DatasetSettings, words="data set that names the classes, if their number does not identify it"
    )


@dataclass
class WeightsImportConfig(WeightsConfig):
    out: str = setting(path=True, words="folder to write, new or empty")


@dataclass
class WeightsVerifyConfig(WeightsConfig):
    ckpt: str | None = setting(
        default=None,
        path=True,
        words="what `deeplabx weights import` made of the file; each tensor is compared",
    )
