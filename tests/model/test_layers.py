import torch
from torch import nn

from deeplabx.model.layers import freeze_norm, resize


def test_align_corners_keeps_the_corners() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    y = resize(x, (9, 13), align_corners=True)
    assert torch.equal(y[..., ::4, ::4], x)


def test_a_frozen_norm_changes_neither_statistics_nor_affine() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    freeze_norm(model)
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0)
    model.train()
    for _ in range(3):
        model(torch.randn(2, 3, 5, 5)).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    assert not model[1].training
