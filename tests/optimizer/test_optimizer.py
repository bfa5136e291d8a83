from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import deeplabx
from deeplabx.optimizer.adamw import adamw
from deeplabx.optimizer.groups import parameter_groups
from deeplabx.optimizer.sgd import sgd
from tests.conftest import python

Build = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def test_norm_and_bias_are_not_decayed_and_the_head_has_its_factor() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=3)
    groups = {
        group["group"]: group
        for group in parameter_groups(model, lr=0.1, weight_decay=1e-4, head_lr_factor=10)
    }
    assert set(groups) == {"backbone", "backbone_no_decay", "head", "head_no_decay"}
    assert groups["backbone"]["base_lr"] == 0.1
    assert groups["head"]["base_lr"] == groups["head_no_decay"]["base_lr"] == 1.0
    for label, group in groups.items():
        assert group["weight_decay"] == (0.0 if label.endswith("no_decay") else 1e-4)
        for name in group["names"]:
            assert name.startswith("backbone.") == label.startswith("backbone")
            is_kernel = isinstance(
                model.get_submodule(name.rpartition(".")[0]), torch.nn.Conv2d
            ) and name.endswith("weight")
            assert is_kernel != label.endswith("no_decay"), name
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.parameters()))


def test_depthwise_kernels_are_not_decayed() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="xception41", num_classes=3)
    groups = {group["group"]: group["names"] for group in parameter_groups(model, lr=0.1, weight_decay=1e-4)}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            part = "backbone" if name.startswith("backbone") else "head"
            assert f"{name}.weight" in groups[f"{part}_no_decay" if module.groups > 1 else part]


def test_frozen_parameters_are_in_no_group() -> None:
    model = deeplabx.build_model("deeplabv3", backbone="resnet18", num_classes=3, norm="frozen")
    assert [group["group"] for group in parameter_groups(model, lr=0.1, weight_decay=0)] == [
        "backbone",
        "head",
        "head_no_decay",
    ]


def test_sgd_takes_the_step_of_the_formula() -> None:
    class Kernel(torch.nn.Linear):
        def in_head(self, parameter: str) -> bool:
            return False

    model = Kernel(2, 2, bias=False)
    before = model.weight.detach().clone()
    optimizer = sgd(parameter_groups(model, lr=0.5, weight_decay=0.1), momentum=0.9)
    velocity = torch.zeros(2, 2)
    for _ in range(3):
        optimizer.zero_grad()
        model.weight.sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + (1 + 0.1 * before)
        before = before - 0.5 * velocity
    assert model.weight.detach().numpy() == pytest.approx(before.numpy(), rel=1e-5)


def test_adamw_takes_the_step_of_the_paper() -> None:
    class Kernels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = torch.nn.Linear(3, 2, bias=False), torch.nn.Linear(3, 2)

        def in_head(self, parameter: str) -> bool:
            return parameter.startswith("head.")

    torch.manual_seed(0)
    model = Kernels()
    groups = parameter_groups(model, lr=0.1, weight_decay=0.5, head_lr_factor=10)
    optimizer = adamw(groups, beta1=0.8, beta2=0.95)
    expected = {name: value.detach().double() for name, value in model.named_parameters()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in expected.items()}
    images = torch.randn(4, 5, 3)
    for step, batch in enumerate(images, start=1):
        optimizer.zero_grad()
        (model.backbone(batch) * model.head(batch)).square().sum().backward()
        for name, value in model.named_parameters():
            assert value.grad is not None
            gradient, (first, second) = value.grad.double(), moments[name]
            first = 0.8 * first + 0.2 * gradient
            second = 0.95 * second + 0.05 * gradient**2
            moments[name] = first, second
            rate, decay = (1.0 if "head" in name else 0.1), (0.0 if "bias" in name else 0.5)
            update = first / (1 - 0.8**step) / ((second / (1 - 0.95**step)).sqrt() + 1e-8)
            expected[name] = expected[name] - rate * decay * expected[name] - rate * update
        optimizer.step()
        for name, value in model.named_parameters():
            assert torch.allclose(value.detach().double(), expected[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize(
    ("model", "backbone", "new"),
    [
        ("deeplabv1", "vgg16", ["classifier.classify"]),
        ("deeplabv2", "resnet18", ["aspp.0.classify", "aspp.1.classify"]),
    ],
)
def test_of_v1_and_v2_only_the_classifiers_have_the_heads_rates(
    model: str, backbone: str, new: list[str]
) -> None:
    rates: dict[str, Any] = {} if model == "deeplabv1" else {"atrous_rates": [6, 12]}
    network = deeplabx.build_model(model, backbone=backbone, num_classes=3, **rates)
    groups = {
        group["group"]: group
        for group in parameter_groups(
            network, lr=1e-3, weight_decay=5e-4, head_lr_factor=10, head_bias_lr_factor=20
        )
    }
    assert groups["head"]["names"] == [f"{name}.weight" for name in new]
    assert groups["head_bias"]["names"] == [f"{name}.bias" for name in new]
    assert [groups[label]["base_lr"] for label in ("backbone", "head", "head_bias")] == [1e-3, 1e-2, 2e-2]
    assert groups["head_bias"]["weight_decay"] == 0


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (partial(sgd, momentum=0.9), partial(torch.optim.SGD, momentum=0.9, fused=True)),
        (partial(adamw, beta1=0.9, beta2=0.99), partial(torch.optim.AdamW, betas=(0.9, 0.99), fused=True)),
    ],
)
def test_optimizers_take_the_steps_of_torchs_own(ours: Build, torchs: Build) -> None:
    results = []
    for build in (ours, torchs):
        weights = torch.linspace(-1, 1, 12).reshape(3, 4).clone().requires_grad_()
        optimizer = build([{"params": [weights], "lr": 0.1, "weight_decay": 0.01}])
        for number in range(6):
            optimizer.zero_grad()
            (weights.sin() * (number + 1)).sum().backward()
            optimizer.step()
            if number == 2:  # as a resumed run does
                state = optimizer.state_dict()
                optimizer = build([{"params": [weights], "lr": 0.1, "weight_decay": 0.01}])
                optimizer.load_state_dict(state)
        results.append(weights.detach().clone())
    assert torch.equal(*results)


STEPS = """
import sys, torch
from deeplabx.optimizer.adamw import adamw
from deeplabx.optimizer.sgd import sgd
for build in (lambda groups: sgd(groups, momentum=0.9), lambda groups: adamw(groups, beta1=0.9, beta2=0.99)):
    weights = torch.ones(2, requires_grad=True)
    optimizer = build([{"params": [weights], "lr": 0.1, "weight_decay": 0.0}])
    weights.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def test_no_optimizer_imports_the_compiler() -> None:
    ended = python("-c", STEPS, cwd=Path.cwd())
    assert ended == (0, "[]\n", "")
