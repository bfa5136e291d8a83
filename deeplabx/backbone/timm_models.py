"""Every timm network with features at strides 4, 8 and the output stride, randomly initialised: nothing is
downloaded.
"""

import difflib
from collections.abc import Iterable
from math import ceil
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplabx.backbone.contract import Backbone, Features
from deeplabx.backbone.normalization import Normalization
from deeplabx.errors import ConfigError, printable

FIT = "resnet50d, convnext_tiny or efficientnet_b0"  # work at every output stride
# height and width of the image that a network is tested on: halved repeatedly, they are sometimes odd and
# sometimes even
PROBE = (75, 97)
# raised by timm for an output stride or an image size that a network does not support; found by trying one
# network of each timm module
CANNOT = (AssertionError, RuntimeError, TypeError)


class TimmBackbone(Backbone):
    """A features-only network of timm. `state_dict` uses the names of timm's full network, so that timm's
    weights can be loaded.

    padded: whether images are padded to a multiple of the output stride, for networks that round sizes down
    or accept no other sizes. children: for each child of `network`, its name in timm's full network.
    """

    atrous_branches = True
    keeps_foreign_names = True

    def __init__(self, network: Any, *, output_stride: int, children: dict[str, str]) -> None:
        super().__init__()
        self.output_stride = output_stride
        self.children_of_timm = children
        self.norms_of_timm = separate_activations(network)
        self.network = network
        self.padded = False
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
        # At output stride 8 several levels have stride 8; the first one has it at every output stride.
        low_level = max(level for level, stride in enumerate(strides) if stride == 4)
        self.levels = low_level, low_level + 1, len(strides) - 2, len(strides) - 1
        self.strides = [strides[level] for level in self.levels]
        self.low_level_channels, self.middle_channels, self.auxiliary_channels, self.channels = (
            channels[level] for level in self.levels
        )
        mean, std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]  # of pixels in 0..1
        self.normalization = Normalization(
            mean=tuple(255 * value for value in mean), std=tuple(255 * value for value in std)
        )
        # ASPP and decoder use separable convolutions if the network itself does.
        self.separable = any(
            module.groups == module.in_channels > 1
            for module in network.modules()
            if isinstance(module, nn.Conv2d)
        )
        self.register_state_dict_post_hook(rename_to_timms)
        self.register_load_state_dict_pre_hook(rename_to_ours)

    def forward(self, images: Tensor) -> Features:
        height, width = images.shape[-2:]
        if self.padded:
            images = F.pad(images, (0, -width % self.output_stride, 0, -height % self.output_stride))
        found = self.network(images)
        sizes = [(ceil(height / stride), ceil(width / stride)) for stride in self.strides]
        levels = [found[level] for level in self.levels]
        if self.padded:
            levels = [
                level[..., :rows, :columns] for level, (rows, columns) in zip(levels, sizes, strict=True)
            ]
        return Features(*levels)

    def layers(self) -> Iterable[tuple[nn.Module, int]]:
        """Raises ConfigError for a network whose children timm does not run in sequence: their order is then
        unknown.
        """
        first, *others = self.network.feature_info.reduction()
        chained = others == [min(first * 2**level, self.output_stride) for level in range(1, len(others) + 1)]
        if not (chained and hasattr(self.network, "return_layers")):
            raise ConfigError(
                "timm does not say in which order the layers of this network run, which "
                "trainer.freeze_stride and optimizer.layer_decay need",
                hint="leave them unset (trainer.freeze_stride=32 freezes the whole network), or use "
                "resnet50d or convnext_tiny",
            )
        stride = first
        for name, child in self.network.named_children():
            yield child, stride
            stride = 2 if name in self.network.return_layers else 1

    def name_of_timm(self, name: str) -> str:
        """The name in timm's full network of a tensor of `network`."""
        owner, _, tensor = name.rpartition(".")
        norm = owner.removesuffix(".0")
        child, _, rest = (f"{norm}.{tensor}" if norm in self.norms_of_timm else name).partition(".")
        return f"{self.children_of_timm.get(child, child)}.{rest}".strip(".")


def separate_activations(network: nn.Module) -> set[str]:
    """Replace each timm norm that includes an activation by `Sequential(norm, dropout, activation)`; return
    the names of the replaced modules.

    Freezing, synchronising or replacing such a norm would otherwise remove the activation as well.
    """
    from timm.layers import BatchNormAct2d

    names = set()
    for parent_name, parent in list(network.named_modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, BatchNormAct2d):
                dropout, activation = module.drop, module.act
                del module.drop, module.act
                module.__class__ = nn.BatchNorm2d
                setattr(parent, name, nn.Sequential(module, dropout, activation))
                names.add(f"{parent_name}.{name}".lstrip("."))
    return names


def rename_to_timms(
    backbone: TimmBackbone, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    for name in backbone.network.state_dict():
        state_dict[prefix + backbone.name_of_timm(name)] = state_dict.pop(f"{prefix}network.{name}")


def rename_to_ours(backbone: TimmBackbone, state_dict: dict[str, Any], prefix: str, *unused: Any) -> None:
    for name in backbone.network.state_dict():
        theirs = prefix + backbone.name_of_timm(name)
        if theirs in state_dict:
            state_dict[f"{prefix}network.{name}"] = state_dict.pop(theirs)


def timm_backbone(*, model: str, output_stride: int, in_channels: int = 3) -> TimmBackbone:
    """timm's network `model`. Raises ConfigError, with an alternative, if it cannot serve as a backbone."""
    timm = library()
    if not timm.is_model(model) or ":" in model:
        near = difflib.get_close_matches(model.partition(".")[0], timm.list_models(), n=3)
        raise ConfigError(
            f"backbone.model={model} is not a model of timm {timm.__version__}",
            hint=f"did you mean {', '.join(near)}?"
            if near
            else "python -c 'import timm; print(timm.list_models())' lists them",
        )
    # On the CPU even if the default device is `meta`: some timm networks read values from tensors while they
    # are built, and the test below runs the network.
    with torch.device("cpu"):
        try:
            backbone = fitting(model, output_stride=output_stride, in_channels=in_channels)
        except ConfigError as error:
            raise ConfigError(
                error.message, hint=alternative(model, output_stride=output_stride, in_channels=in_channels)
            ) from None
    return backbone.to(torch.get_default_device())


def library() -> ModuleType:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision does not match this torch
        raise ConfigError(f"backbone=timm needs timm: {reason(error)}", hint="pip install timm") from None
    return timm


def fitting(model: str, *, output_stride: int, in_channels: int) -> TimmBackbone:
    """The network, tested on an image of odd size. Raises ConfigError without a hint if its features are not
    those of a `Backbone`.
    """
    timm = library()
    # Many networks support output stride 32 only and do not accept the setting.
    settings = {} if output_stride == 32 else {"output_stride": output_stride}
    try:
        network = timm.create_model(
            model, pretrained=False, features_only=True, in_chans=in_channels, **settings
        )
        whole = timm.create_model(model, pretrained=False)
    except CANNOT as error:
        raise ConfigError(
            f"timm cannot build backbone.model={model} at output stride {output_stride}: {reason(error)}"
        ) from None
    strides = network.feature_info.reduction()
    if not {4, 8} <= set(strides) or strides[-1] != output_stride:
        found = ", ".join(str(stride) for stride in strides)
        raise ConfigError(
            f"backbone.model={model} has features at strides {found}; it must have 4, 8 and, as the last, "
            f"{output_stride}"
        )
    backbone = TimmBackbone(
        network, output_stride=output_stride, children=names_of_children(network, whole)
    ).eval()
    misfit = misfit_of(backbone, in_channels=in_channels)
    if misfit:
        backbone.padded = True
        if misfit_of(backbone, in_channels=in_channels):
            raise ConfigError(
                f"backbone.model={model} does not support every image size: for {PROBE[0]} x {PROBE[1]} "
                f"pixels {misfit}"
            )
    return backbone.train()


def names_of_children(network: nn.Module, whole: nn.Module) -> dict[str, str]:
    """For each child of a features-only network, its name in the full network.

    timm either flattens Sequentials ('stages.0' becomes 'stages_0') or wraps the full network as one child,
    for which the name is empty.
    """
    kept = dict(whole.named_children())
    taken_apart = {
        f"{name}_{part}": f"{name}.{part}"
        for name, child in kept.items()
        for part, _ in child.named_children()
    }
    return {name: name if name in kept else taken_apart.get(name, "") for name, _ in network.named_children()}


def misfit_of(backbone: TimmBackbone, *, in_channels: int) -> str:
    """What is wrong with the features of an image of odd size; empty if their shapes are right."""
    try:
        with torch.no_grad():
            features = backbone(torch.zeros(1, in_channels, *PROBE))
    except CANNOT as error:
        return f"it raises {reason(error)}"
    channels = (
        backbone.low_level_channels,
        backbone.middle_channels,
        backbone.auxiliary_channels,
        backbone.channels,
    )
    for level, number, stride in zip(features, channels, backbone.strides, strict=True):
        expected = (number, *(ceil(side / stride) for side in PROBE))
        if tuple(level.shape[1:]) != expected:
            return f"its features at stride {stride} are {tuple(level.shape[1:])}, not {expected}"
    return ""


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, 150)


def alternative(model: str, *, output_stride: int, in_channels: int) -> str:
    """A hint on what to use instead of a network that does not work at this output stride."""
    if output_stride < 32:
        try:
            fitting(model, output_stride=32, in_channels=in_channels)
        except ConfigError:
            pass
        else:
            return f"set backbone.output_stride=32, or use a network such as {FIT}"
    return f"use a convolutional network such as {FIT}"
