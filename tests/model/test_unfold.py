import copy

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.model.norm import folded_norms
from deeplabx.model.unfold import unfold_norm
from deeplabx.weights.tfjs import read_tfjs
from tests.conftest import Root
from tests.weights.importers import google_deeplabv3_mobilenetv2
from tests.weights.test_google import filled

DEAD = 1  # a channel of the first convolution that is the same everywhere


def fold(model: nn.Module) -> None:
    """Make every batch norm one whose statistics are in its kernel, scale and bias."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.zero_()  # type: ignore[union-attr]
            norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.normal_(norm.bias)


@pytest.fixture
def network() -> nn.Sequential:
    """Float64; the last norm sees one value of each image, as that of image pooling does."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.BatchNorm2d(6, eps=1e-3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(6, 4, 1, bias=False),
        nn.BatchNorm2d(4),
    ).double()
    fold(model)
    nn.init.zeros_(model.get_parameter("0.weight")[DEAD])
    return model.eval()


@pytest.fixture
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        3 * torch.randn(1, 3, 17, 17, generator=generator, dtype=torch.float64) + shift for shift in range(5)
    ]


def inputs_of_norms(model: nn.Module, images: list[Tensor]) -> dict[str, Tensor]:
    """What each batch norm sees in evaluation mode, of all images together."""
    seen: dict[str, Tensor] = {}
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, given, __, name=name: seen.update({name: given[0]}))
    with torch.no_grad():
        model(torch.cat(images))
    return seen


def test_the_network_computes_the_same_in_evaluation_mode(
    network: nn.Sequential, images: list[Tensor]
) -> None:
    others = torch.randn(3, 3, 21, 19, dtype=torch.float64)
    before = network(others)
    assert unfold_norm(network, images) == ["1", "4", "8"]
    assert not torch.equal(network[1].running_mean, torch.zeros(6, dtype=torch.float64))  # type: ignore[arg-type]
    torch.testing.assert_close(network(others), before, rtol=0, atol=1e-12)


def test_the_statistics_are_those_that_torch_accumulates(
    network: nn.Sequential, images: list[Tensor]
) -> None:
    seen = inputs_of_norms(network, images)
    unfold_norm(network, images)
    for name, values in seen.items():
        peer = nn.BatchNorm2d(values.shape[1], momentum=None).double().train()
        peer(values)
        norm = network.get_submodule(name)
        torch.testing.assert_close(norm.running_mean, peer.running_mean, rtol=0, atol=1e-13)
        torch.testing.assert_close(norm.running_var, peer.running_var, rtol=1e-12, atol=1e-13)


def test_a_channel_without_variance_stays_finite(network: nn.Sequential, images: list[Tensor]) -> None:
    unfold_norm(network, images)
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_var[DEAD] == 0
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    unfold_norm(network, images[:1])  # nothing is folded any more


def test_a_single_value_is_its_mean_and_has_no_variance(network: nn.Sequential, images: list[Tensor]) -> None:
    before = network(images[0])
    unfold_norm(network, images[:1])
    norm = network[8]
    assert isinstance(norm, nn.BatchNorm2d)
    assert not norm.running_var.any()  # type: ignore[union-attr]
    torch.testing.assert_close(network(images[0]), before, rtol=0, atol=1e-12)


def test_in_training_mode_the_measured_batch_gives_the_output_of_evaluation_mode() -> None:
    """But for the variance, which training mode divides by n and not by n - 1: 1 % in the last layers."""
    torch.manual_seed(0)
    model = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=3, output_stride=8)
    fold(model.backbone)
    images = torch.randn(4, 3, 49, 49)
    assert far(*features_in_both_modes(model.backbone, images)) > 0.3  # folded
    unfold_norm(model.backbone, [images])
    assert far(*features_in_both_modes(model.backbone, images)) < 0.05


def features_in_both_modes(backbone: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        evaluated = backbone.eval()(images)[-1]
        return copy.deepcopy(backbone).train()(images)[-1], evaluated


def far(one: Tensor, other: Tensor) -> float:
    """The difference as a share of the values."""
    return float((one - other).norm() / one.norm())


def test_norms_with_statistics_and_random_ones_stay_and_so_do_modes(
    network: nn.Sequential, images: list[Tensor]
) -> None:
    trained, new = network[1], network[8]
    assert isinstance(trained, nn.BatchNorm2d)
    assert isinstance(new, nn.BatchNorm2d)
    assert trained.running_mean is not None
    trained.running_mean[0] = 0.5
    new.reset_running_stats()  # as initialised: variance 1
    network.train()
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert unfold_norm(network, images) == ["4"]
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"4.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    assert [module.training for module in network] == [number != 2 for number in range(9)]
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_googles_network_computes_the_same(real_weights: Root) -> None:
    table = read_tfjs(real_weights("deeplabv3_mnv2_pascal_trainval_tfjs") / "model.json")
    model = filled(google_deeplabv3_mobilenetv2(table))
    number = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert len(folded_norms(model)) == number == 54
    images = torch.rand(4, 3, 129, 129) * 2 - 1
    with torch.no_grad():
        before = model(images)
        assert len(unfold_norm(model, list(images[:2].split(1)))) == number
        after = model(images)
    assert not folded_norms(model)
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    assert torch.equal(after.argmax(1), before.argmax(1))
