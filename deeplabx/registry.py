"""Every option of every group, declared once. Nothing of an option is imported before it is built.

To add one to the project: its file, a line in BUILT_IN, its YAML in conf/<group>/ and, where it has settings
of its own, their dataclass in config/schema.py, with the ranges; the YAML has the defaults. From outside the
project, call `register`; there the dataclass has the defaults too, and no YAML is needed.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from deeplabx.config import schema
from deeplabx.errors import ConfigError, nearest

Builder = Callable[..., Any]


@dataclass(frozen=True)
class Option:
    """One choice of a group. build: its builder, or "module:builder"; settings: the dataclass of its
    settings.
    """

    group: str
    name: str
    build: Builder | str
    settings: type
    words: str  # what it is, in one line
    module: str = __name__  # the module that registered it

    @property
    def built_in(self) -> bool:
        return self.module == __name__

    @property
    def builder(self) -> Builder:
        """The callable that makes it. Its keyword-only parameters have the names of the settings."""
        if not isinstance(self.build, str):
            return self.build
        module, _, name = self.build.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self.group}={self.name} cannot be imported from {self.build}: {error}"
            ) from error

    def refuse_unknown_settings(self, builder: Builder) -> None:
        """Raise ConfigError when `builder` does not take the settings of its option."""
        parameters = inspect.signature(builder).parameters.values()
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            return
        taken = {one.name for one in fields(self.settings) if one.metadata.get("builder", True)}
        unknown = taken - {"name"} - {one.name for one in parameters}
        if unknown:
            raise ConfigError(
                f"the builder of {self.group}={self.name} has no parameter {', '.join(sorted(unknown))}",
                hint="add it to the keyword-only parameters of the builder, or remove it from the settings",
            )

    @property
    def setting_names(self) -> set[str]:
        return {one.name for one in fields(self.settings)}


# What the settings of each group's options extend: those that all of them share.
GROUPS: dict[str, type] = {
    "model": schema.ModelSettings,
    "backbone": schema.BackboneSettings,
    "dataset": schema.DatasetSettings,
    "augment": schema.AugmentSettings,
    "loss": schema.LossSettings,
    "optimizer": schema.OptimizerSettings,
    "schedule": schema.ScheduleSettings,
    "tracker": schema.TrackerSettings,
}
OPTIONS: dict[str, dict[str, Option]] = {group: {} for group in GROUPS}


def register(group: str, name: str, *, build: Builder | str, settings: type, words: str) -> None:
    """Add an option to a group.

    build: a callable, or "module:callable" that is imported when it is built. settings: a dataclass that
    extends the group's; its fields have defaults, and the names of the builder's keyword-only parameters.
    words: what it is, in one line. A loss, for example::

        from dataclasses import dataclass

        import deeplabx
        from torch.nn.functional import cross_entropy
        from deeplabx.config.fields import number
        from deeplabx.config.schema import LossSettings
        from deeplabx.loss.contract import Loss

        @dataclass
        class PolySettings(LossSettings):
            epsilon: float = number(at_least=-1, at_most=10, default=1.0)

        class Poly(Loss):
            def __init__(self, *, epsilon):
                super().__init__()
                self.epsilon = epsilon

            def forward(self, logits, labels, *, ignore_index):
                losses = cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")
                return (losses + self.epsilon * (1 - (-losses).exp())).sum()

        deeplabx.register("loss", "poly1", build=Poly, settings=PolySettings, words="Poly-1 (2204.12511)")
        config = deeplabx.compose(["loss=poly1", "loss.epsilon=3"])

    Raises ConfigError for an unknown group, a name that is taken, settings that do not extend the group's or
    that a config cannot hold, and a callable that does not take them.
    """
    if group not in GROUPS:
        raise ConfigError(
            f"{group} is not a group.{nearest(group, GROUPS)}", hint=f"the groups are {', '.join(GROUPS)}"
        )
    if name in OPTIONS[group]:
        raise ConfigError(f"{group}={name} is already registered", hint="register it under another name")
    base = GROUPS[group]
    if not (
        isinstance(settings, type) and issubclass(settings, base) and "__dataclass_fields__" in vars(settings)
    ):
        raise ConfigError(
            f"the settings of {group}={name} are not a dataclass that extends {base.__name__}",
            hint=f"as in @dataclass class Settings(deeplabx.config.schema.{base.__name__})",
        )
    refuse_unholdable(settings, f"{group}={name}")
    module = str(sys._getframe(1).f_globals.get("__name__", "__main__"))
    added = Option(group, name, build, settings, words, module)
    if not isinstance(build, str):
        added.refuse_unknown_settings(build)
    OPTIONS[group][name] = added


def refuse_unholdable(settings: type, name: str) -> None:
    """Raise ConfigError where a config cannot hold one of the settings."""
    from omegaconf import OmegaConf  # here, because only what is registered from outside needs it
    from omegaconf.errors import OmegaConfBaseException

    try:
        OmegaConf.structured(settings)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"a setting of {name} cannot be held by a config: {reason}") from None


def option(group: str, name: str) -> Option:
    """The option of a group. Raises ConfigError, with the nearest name, when there is none."""
    if name not in OPTIONS[group]:
        raise ConfigError(
            f"{group}={name} is not known.{nearest(name, OPTIONS[group])}",
            hint=f"{group} can be {', '.join(sorted(OPTIONS[group]))}",
        )
    return OPTIONS[group][name]


def build(group: str, name: str, /, *arguments: Any, **settings: Any) -> Any:
    """What the option's builder makes of `settings`, such as `build("backbone", "resnet50",
    output_stride=16)`.
    """
    return option(group, name).builder(*arguments, **settings)


def families() -> dict[str, list[type]]:
    """The settings dataclasses of each group's options."""
    return {group: [one.settings for one in options.values()] for group, options in OPTIONS.items()}


def settings_of(group: str, name: str) -> type:
    """The settings dataclass of an option. Raises ConfigError when there is no such option."""
    return option(group, name).settings


RESNET, BACKBONE = schema.ResNetSettings, schema.BackboneSettings
BUILT_IN: tuple[tuple[str, str, str, type, str], ...] = (
    ("model", "deeplabv1", "deeplabx.model.deeplabv1:DeepLabV1", schema.DeepLabV1Settings,
     "DeepLabv1 (1412.7062): fc6 with a large field of view"),
    ("model", "deeplabv2", "deeplabx.model.deeplabv2:DeepLabV2", schema.DeepLabV2Settings,
     "DeepLabv2 (1606.00915): the sum of four classifiers at four rates"),
    ("model", "deeplabv3", "deeplabx.model.deeplabv3:DeepLabV3", schema.DeepLabV3Settings,
     "DeepLabv3 (1706.05587): ASPP with image pooling on the backbone's last features"),
    ("model", "deeplabv3plus", "deeplabx.model.deeplabv3plus:DeepLabV3Plus", schema.DeepLabV3PlusSettings,
     "DeepLabv3+ (1802.02611): DeepLabv3's head and a decoder with the stride-4 features"),
    ("model", "lraspp", "deeplabx.model.lraspp:LRASPP", schema.LRASPPSettings,
     "Lite R-ASPP (1905.02244, section 6.4): MobileNetV3's light head"),
    ("backbone", "mobilenetv2", "deeplabx.backbone.mobilenetv2:mobilenetv2", schema.MobileNetV2Settings,
     "MobileNetV2, parameter names as torchvision has them"),
    ("backbone", "mobilenetv3_large", "deeplabx.backbone.mobilenetv3:mobilenetv3_large",
     schema.MobileNetV3Settings,
     "MobileNetV3 large (1905.02244), parameter names as torchvision has them"),
    ("backbone", "mobilenetv3_small", "deeplabx.backbone.mobilenetv3:mobilenetv3_small",
     schema.MobileNetV3Settings,
     "MobileNetV3 small (1905.02244), parameter names as torchvision has them"),
    ("backbone", "resnet18", "deeplabx.backbone.resnet:resnet18", RESNET,
     "ResNet-18, parameter names as torchvision has them"),
    ("backbone", "resnet34", "deeplabx.backbone.resnet:resnet34", RESNET,
     "ResNet-34, parameter names as torchvision has them"),
    ("backbone", "resnet50", "deeplabx.backbone.resnet:resnet50", RESNET,
     "ResNet-50, parameter names as torchvision has them"),
    ("backbone", "resnet101", "deeplabx.backbone.resnet:resnet101", RESNET,
     "ResNet-101, parameter names as torchvision has them"),
    ("backbone", "resnet152", "deeplabx.backbone.resnet:resnet152", RESNET,
     "ResNet-152, parameter names as torchvision has them"),
    ("backbone", "resnet50_beta", "deeplabx.backbone.resnet:resnet50_beta", RESNET,
     "ResNet-50 as DeepLab has it: three 3x3 in the stem, the stride in the last unit of blocks 1-3"),
    ("backbone", "resnet101_beta", "deeplabx.backbone.resnet:resnet101_beta", RESNET,
     "ResNet-101 as DeepLab has it: three 3x3 in the stem, the stride in the last unit of blocks 1-3"),
    ("backbone", "resnet50_caffe", "deeplabx.backbone.resnet:resnet50_caffe", RESNET,
     "ResNet-50 as Caffe has it: the stride in a block's first 1x1, max-pooling in ceil mode"),
    ("backbone", "resnet101_caffe", "deeplabx.backbone.resnet:resnet101_caffe", RESNET,
     "ResNet-101 as Caffe has it, DeepLabv2's: the stride in a block's first 1x1, max-pooling in ceil mode"),
    ("backbone", "resnet50_keras", "deeplabx.backbone.resnet:resnet50_keras", RESNET,
     "ResNet-50 as Keras has it: Caffe's placement of the strides, without ceil mode"),
    ("backbone", "resnet50_v1c", "deeplabx.backbone.resnet:resnet50_v1c", RESNET,
     "ResNet-50 v1c: three 3x3 of 32, 32 and 64 channels in the stem (1812.01187, ResNet-C); "
     "mmsegmentation's"),
    ("backbone", "resnet101_v1c", "deeplabx.backbone.resnet:resnet101_v1c", RESNET,
     "ResNet-101 v1c: three 3x3 of 32, 32 and 64 channels in the stem (1812.01187, ResNet-C); "
     "mmsegmentation's"),
    ("backbone", "vgg16", "deeplabx.backbone.vgg:vgg16", BACKBONE,
     "VGG-16, parameter names as torchvision has them: the backbone of DeepLabv1 and v2"),
    ("backbone", "xception41", "deeplabx.backbone.xception:xception41", BACKBONE,
     "Aligned Xception-41 (v3+, section 3.2), parameter names as timm has them"),
    ("backbone", "xception65", "deeplabx.backbone.xception:xception65", BACKBONE,
     "Aligned Xception-65 (v3+, section 3.2), parameter names as timm has them"),
    ("backbone", "xception71", "deeplabx.backbone.xception:xception71", BACKBONE,
     "Aligned Xception-71 (v3+, section 3.2), parameter names as timm has them"),
    ("backbone", "efficientnet_lite0", "deeplabx.backbone.efficientnet_lite:efficientnet_lite0", BACKBONE,
     "EfficientNet-Lite0, parameter names as timm's tf_efficientnet_lite0 has them"),
    ("backbone", "timm", "deeplabx.backbone.timm_models:timm_backbone", schema.TimmSettings,
     "Any timm network with features at strides 4 and 8: backbone.model=convnext_tiny; needs the extra timm"),
    ("dataset", "shapes", "deeplabx.dataset.shapes:Shapes", schema.ShapesSettings,
     "Generated images of six shapes on textured ground: embedded, seeded, never stored"),
    ("dataset", "voc", "deeplabx.dataset.voc:VOC", schema.VOCSettings,
     "Pascal VOC 2012: root holds VOCdevkit, or is VOC2012; splits train val trainval train_aug (SBD)"),
    ("dataset", "cityscapes", "deeplabx.dataset.cityscapes:Cityscapes", schema.DatasetSettings,
     "Cityscapes: root holds leftImg8bit and gtFine; splits train val trainval train_coarse train_extra "
     "val_coarse"),
    ("dataset", "camvid", "deeplabx.dataset.camvid:CamVid", schema.DatasetSettings,
     "CamVid, the 11-class version: root holds train, trainannot, val, valannot, ..."),
    ("dataset", "ade20k", "deeplabx.dataset.ade20k:ADE20K", schema.DatasetSettings,
     "ADE20K's scene parsing benchmark, 150 classes: root holds images and annotations; splits train val"),
    ("dataset", "coco_stuff164k", "deeplabx.dataset.coco_stuff:COCOStuff164k", schema.DatasetSettings,
     "COCO-Stuff, 171 classes: root holds images and stuffthingmaps; splits train val"),
    ("dataset", "coco_stuff10k", "deeplabx.dataset.coco_stuff:COCOStuff10k", schema.DatasetSettings,
     "COCO-Stuff 10K v1.1, 171 classes: root holds images, annotations, imageLists; splits train val all"),
    ("dataset", "pascal_context", "deeplabx.dataset.pascal_context:PascalContext",
     schema.PascalContextSettings,
     "Pascal-Context, 59 classes: root holds VOCdevkit, or is VOC2010; splits train val"),
    ("dataset", "folder", "deeplabx.dataset.folder:folder", schema.FolderSettings,
     "Your own images and labels: masks, COCO JSON, LabelMe JSON or lists; root is their folder"),
    ("augment", "standard", "deeplabx.augment.standard:StandardAugment", schema.StandardAugmentSettings,
     "The DeepLab pipeline: random scale, pad with the mean pixel and ignore, random crop, flip"),
    ("augment", "albumentations", "deeplabx.augment.albumentations:AlbumentationsAugment",
     schema.AlbumentationsSettings,
     "Any transforms of albumentations 2.0.8, in augment.transforms; then pad and random crop"),
    ("augment", "driving", "deeplabx.augment.standard:StandardAugment", schema.StandardAugmentSettings,
     "Preset of standard for street scenes: scale, colour, blur; nearly no rotation"),
    ("augment", "medical", "deeplabx.augment.standard:StandardAugment", schema.StandardAugmentSettings,
     "Preset of standard for medical images: rotation, brightness, contrast, noise; no hue"),
    ("augment", "satellite", "deeplabx.augment.standard:StandardAugment", schema.StandardAugmentSettings,
     "Preset of standard for images from above: flips and turns in every direction, little scale"),
    ("loss", "cross_entropy", "deeplabx.loss.cross_entropy:CrossEntropy", schema.CrossEntropySettings,
     "Cross-entropy: the mean over the valid pixels of the whole batch, each times the weight of its class"),
    ("loss", "ohem", "deeplabx.loss.ohem:OHEM", schema.OHEMSettings,
     "Cross-entropy of a share of the pixels, the hardest ones of each image or pass"),
    ("loss", "focal", "deeplabx.loss.focal:Focal", schema.FocalSettings,
     "Focal loss (1708.02002): cross-entropy in which easy pixels count less"),
    ("loss", "boundary", "deeplabx.loss.boundary:Boundary", schema.BoundarySettings,
     "Cross-entropy that counts more near the labels' boundaries, after U-Net (1505.04597)"),
    ("loss", "dice", "deeplabx.loss.dice:Dice", schema.DiceSettings,
     "Dice loss (1707.03237) of each image's classes; the mean over images"),
    ("loss", "tversky", "deeplabx.loss.tversky:Tversky", schema.TverskySettings,
     "Tversky loss (1706.05721): Dice with its own weights of false positives and negatives"),
    ("loss", "rmi", "deeplabx.loss.rmi:RMI", schema.RMISettings,
     "Region Mutual Information (1910.12037) of each image, and binary cross-entropy"),
    ("loss", "lovasz", "deeplabx.loss.lovasz:LovaszSoftmax", schema.LovaszSettings,
     "Lovasz-softmax (1705.08790): 1 - IoU of each image's classes, differentiable; the mean over images"),
    ("loss", "composite", "deeplabx.loss.composite:Composite", schema.CompositeSettings,
     "A weighted sum of other losses, in loss.parts; each divided by pixels or images as on its own"),
    ("optimizer", "sgd", "deeplabx.optimizer.sgd:sgd", schema.SGDSettings,
     "SGD with momentum, the optimizer of the papers"),
    ("optimizer", "adamw", "deeplabx.optimizer.adamw:adamw", schema.AdamWSettings,
     "AdamW (1711.05101): weight decay apart from the gradient"),
    ("optimizer", "torch", "deeplabx.optimizer.torch_optim:torch_optimizer", schema.TorchOptimizerSettings,
     "An algorithm of torch.optim by name, such as RMSprop or NAdam"),
    ("schedule", "poly", "deeplabx.schedule.poly:poly", schema.PolySettings,
     "(1 - step / max_iters) ^ power"),
    ("schedule", "step", "deeplabx.schedule.step:staircase", schema.StepSettings,
     "A staircase: the learning rate times `factor` after each `every` steps (v1, section 4)"),
    ("schedule", "multistep", "deeplabx.schedule.multistep:multistep", schema.MultistepSettings,
     "The learning rate times `factor` at each milestone, a share of the steps"),
    ("schedule", "cosine", "deeplabx.schedule.cosine:cosine", schema.CosineSettings,
     "Half a period of the cosine (SGDR, 1608.03983, without restarts)"),
    ("schedule", "one_cycle", "deeplabx.schedule.one_cycle:one_cycle", schema.OneCycleSettings,
     "One cycle (1708.07120): up to the base learning rate, then far below the first one"),
    ("schedule", "constant", "deeplabx.schedule.constant:constant", schema.ScheduleSettings,
     "The base learning rate in every step"),
    ("tracker", "none", "deeplabx.tracker.none:none", schema.TrackerSettings,
     "Nothing beside the run's own folder, which has TensorBoard's files"),
    ("tracker", "mlflow", "deeplabx.tracker.mlflow:MLflow", schema.MLflowSettings,
     "MLflow: values, images, settings and config of each run; needs the extra mlflow"),
    ("tracker", "wandb", "deeplabx.tracker.wandb:WandB", schema.WandBSettings,
     "Weights & Biases: values, images, settings and config of each run; needs the extra wandb"),
)  # fmt: skip
OPTIONS.update({group: {row[1]: Option(*row) for row in BUILT_IN if row[0] == group} for group in GROUPS})
