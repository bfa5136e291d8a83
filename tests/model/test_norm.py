import pytest
import torch
from torch import nn

import deeplabx
from deeplabx.model.norm import freeze_norm, group_norm, set_momentum


def test_a_frozen_norm_changes_neither_statistics_nor_affine() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    freeze_norm(model)
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0
    )
    model.train()
    for _ in range(3):
        model(torch.randn(2, 3, 5, 5)).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    assert not model[1].training


def test_frozen_norms_of_a_whole_model_are_bit_equal_after_training_steps() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="resnet18", num_classes=3, norm="frozen")
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    before = {name: [tensor.clone() for tensor in norm.state_dict().values()] for name, norm in norms.items()}
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1
    )
    for _ in range(3):
        model.train()(torch.randn(2, 3, 33, 33)).square().mean().backward()
        optimizer.step()
    assert len(norms) == 20 + 6 + 3  # ResNet-18, ASPP, decoder
    for name, norm in norms.items():
        assert all(
            torch.equal(old, new) for old, new in zip(before[name], norm.state_dict().values(), strict=True)
        ), name


def test_group_norm_takes_the_place_and_the_affine_of_every_batch_norm() -> None:
    last = nn.BatchNorm2d(64)
    nn.init.zeros_(last.weight)
    model = nn.Sequential(nn.Conv2d(3, 24, 1), nn.Sequential(nn.BatchNorm2d(24, eps=1e-3)), last)
    group_norm(model)
    first, second = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert (first.num_groups, first.eps) == (8, 1e-3)  # 24 channels: 8 is what 32 and 24 share
    assert second.num_groups == 32
    assert torch.equal(second.weight, torch.zeros(64))


def test_a_image_under_group_norm_does_not_see_the_others_of_its_batch() -> None:
    model = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=3, norm="group")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = torch.randn(2, 3, 33, 33)
    assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0003, 0.5])
def test_the_statistics_follow_as_fast_as_said(momentum: float) -> None:
    norm = nn.BatchNorm2d(1)
    set_momentum(norm, momentum)
    norm(torch.full((2, 1, 3, 3), 8.0))
    assert float(norm.running_mean) == pytest.approx(8 * momentum)  # type: ignore[arg-type]
