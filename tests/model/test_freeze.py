"""Layers that do not change, on every backbone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.backbone.contract import Backbone
from deeplabx.command.yaml_files import choices
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.model.freeze import freeze_up_to
from deeplabx.model.norm import freeze_norm
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.optimizer.sgd import sgd
from deeplabx.registry import build

# More of the same units, and seconds each
DEEP = (
    "resnet34",
    "resnet101",
    "resnet152",
    "resnet101_beta",
    "resnet101_caffe",
    "resnet101_v1c",
    "xception65",
    "xception71",
)
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in choices("backbone")]
STRIDES = (2, 4, 8, 16)
SIDE = 129


def settings_of(name: str) -> dict[str, Any]:
    if name == "timm":
        pytest.importorskip("timm")
    return {"model": "resnet18d"} if name == "timm" else {}


def traced(backbone: Backbone) -> dict[str, int]:
    """The convolutions in the order in which they run, and the stride of what each gives."""
    strides: dict[str, int] = {}

    def note(name: str, output: Tensor) -> None:
        strides[name] = (
            round((SIDE - 1) / (output.shape[-1] - 1)) if output.shape[-1] > 1 else 0
        )  # 0: behind a pooling, of no stride

    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
    backbone.eval()(torch.zeros(1, 3, SIDE, SIDE))
    return strides


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_of_a_backbone_are_all_of_it_and_have_the_strides_that_are_traced(name: str) -> None:
    """At output stride 8 they are those of the network of stride 32. A unit is kept whole, so a few of its
    convolutions are finer than its end.
    """
    settings = settings_of(name)
    with torch.device("meta"):
        strides = traced(build("backbone", name, output_stride=32, **settings))
        backbone = build("backbone", name, output_stride=8, **settings)
    layers = [module for module, _ in backbone.layers()]
    assert {id(own) for layer in layers for own in layer.parameters()} == {
        id(own) for own in backbone.parameters()
    }
    order = list(strides)
    for stride in STRIDES:
        kept = {id(module) for layer in backbone.up_to(stride) for module in layer.modules()}
        frozen = [convolution for convolution in order if id(backbone.get_submodule(convolution)) in kept]
        assert all(strides[convolution] <= stride for convolution in frozen)
        assert frozen == order[: len(frozen)], "the layers up to a stride come first"
        rest = [convolution for convolution in order if convolution not in frozen]
        assert not rest or any(strides[convolution] > stride for convolution in rest[:6]), (
            "the unit after them is coarser"
        )
    assert backbone.up_to(32) == [backbone]


def step_of(model: DeepLab) -> None:
    """One step of plain SGD on noise; every gradient is kept."""
    optimizer = sgd(parameter_groups(model, lr=0.1, weight_decay=0.1), momentum=0.0)
    torch.manual_seed(0)
    model.train()(torch.randn(2, 3, 33, 33)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_all_but_what_is_frozen(name: str) -> None:
    settings = settings_of(name)
    model = deeplabx.build_model("lraspp", backbone=name, num_classes=3, backbone_settings=settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(
                module.weight, 0.5
            )  # of units that begin as the identity nothing but this weight would have a gradient
    frozen_modules = {id(module) for layer in model.backbone.up_to(4) for module in layer.modules()}
    owners = {
        f"{owner}.{own}": id(module)
        for owner, module in model.named_modules()
        for own, _ in module.named_parameters(recurse=False)
    }
    owners |= {
        f"{owner}.{own}": id(module)
        for owner, module in model.named_modules()
        for own, _ in module.named_buffers(recurse=False)
    }
    freeze_up_to(model, 4)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    before = {tensor: value.detach().clone() for tensor, value in tensors.items()}
    step_of(model)
    assert 0 < sum(owner in frozen_modules for owner in owners.values()) < len(owners)
    for tensor, value in tensors.items():
        frozen = owners[tensor] in frozen_modules
        assert torch.equal(value, before[tensor]) == frozen, tensor
        if isinstance(value, nn.Parameter):
            assert (value.grad is None) == frozen, tensor


def test_no_graph_is_built_for_a_frozen_beginning() -> None:
    model = deeplabx.build_model("lraspp", backbone="resnet18", num_classes=3)
    freeze_up_to(model, 8)
    features = model.train().backbone(torch.randn(2, 3, 33, 33))
    assert [feature.requires_grad for feature in features] == [
        False,
        False,
        True,
        True,
    ]  # of strides 4, 8, 16 and the last


def test_at_32_the_whole_backbone_is_frozen_also_the_blocks_of_a_cascade() -> None:
    model = deeplabx.build_model(
        "lraspp", backbone="resnet18", num_classes=3, backbone_settings={"blocks": 6}
    )
    freeze_up_to(model, 32)
    before = copy.deepcopy(model.backbone.state_dict())
    step_of(model)
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_norms_that_see_all_processes_are_frozen_too() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(
        deeplabx.build_model("lraspp", backbone="resnet18", num_classes=3)
    )
    freeze_norm(model.backbone)
    before = copy.deepcopy(model.backbone.state_dict())
    model.backbone.train()(torch.randn(2, 3, 33, 33))
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.project.modules())


def test_a_network_of_timm_that_is_no_chain_can_only_be_frozen_whole() -> None:
    pytest.importorskip("timm")
    backbone = build("backbone", "timm", output_stride=16, model="mobilenetv3_small_050")
    with pytest.raises(
        ConfigError,
        match=r"timm does not say in which order .*\nleave them unset \(trainer.freeze_stride=32 freezes",
    ):
        backbone.up_to(4)
    assert backbone.up_to(32) == [backbone]


def test_a_stride_that_nothing_is_as_fine_as_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deeplabx.build_model("lraspp", backbone="resnet18", num_classes=3)
    monkeypatch.setattr(type(model.backbone), "layers", lambda backbone: [(backbone, 4)])
    with pytest.raises(
        ConfigError, match=r"trainer.freeze_stride=2, but no layer .*\nset trainer.freeze_stride=4"
    ):
        freeze_up_to(model, 2)
