import pytest
import torch

import deeplabx
from deeplabx.optimizer import build_optimizer, parameter_groups


def test_norm_and_bias_are_not_decayed_and_the_head_has_its_factor() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=3)
    groups = {group["group"]: group for group in parameter_groups(model, lr=0.1, weight_decay=1e-4, head_lr_factor=10)}
    assert set(groups) == {"backbone", "backbone_no_decay", "head", "head_no_decay"}
    assert groups["backbone"]["base_lr"] == 0.1
    assert groups["head"]["base_lr"] == groups["head_no_decay"]["base_lr"] == 1.0
    for label, group in groups.items():
        assert group["weight_decay"] == (0.0 if label.endswith("no_decay") else 1e-4)
        for name in group["names"]:
            assert name.startswith("backbone.") == label.startswith("backbone")
            is_kernel = isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.Conv2d) and name.endswith("weight")
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
    assert [group["group"] for group in parameter_groups(model, lr=0.1, weight_decay=0)] == ["backbone", "head", "head_no_decay"]


def test_sgd_takes_the_step_of_the_formula() -> None:
    model = torch.nn.Linear(2, 2, bias=False)
    before = model.weight.detach().clone()
    optimizer = build_optimizer("sgd", model, lr=0.5, weight_decay=0.1, momentum=0.9)
    velocity = torch.zeros(2, 2)
    for _ in range(3):
        optimizer.zero_grad()
        model.weight.sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + (1 + 0.1 * before)
        before = before - 0.5 * velocity
    assert model.weight.detach().numpy() == pytest.approx(before.numpy(), rel=1e-5)
