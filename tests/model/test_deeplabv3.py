import pytest
import torch
from torch import nn

import deeplabx
from deeplabx.errors import ConfigError


def rates_of(model: nn.Module, block: int) -> list[int]:
    units = [model.get_submodule(f"backbone.layer{block}.{unit}.conv2") for unit in range(3)]
    return [unit.dilation[0] for unit in units if isinstance(unit, nn.Conv2d)]


def test_the_cascade_doubles_the_rate_with_every_block() -> None:
    with torch.device("meta"):
        settings = {"blocks": 7, "multi_grid": (1, 2, 1)}
        model = deeplabx.build_model(
            "deeplabv3", backbone="resnet50_beta", num_classes=21, aspp=False, backbone_settings=settings
        )
    assert {
        block: rates_of(model, block) for block in (4, 5, 6, 7)
    } == {  # figure 3 and section 4.2, at output stride 16
        4: [2, 4, 2],
        5: [4, 8, 4],
        6: [8, 16, 8],
        7: [16, 32, 16],
    }
    assert isinstance(model.get_submodule("aspp"), nn.Identity)


def test_a_cascade_of_seven_blocks_computes_logits_and_gradients() -> None:
    model = deeplabx.build_model(
        "deeplabv3", backbone="resnet18", num_classes=3, aspp=False, backbone_settings={"blocks": 7}
    )
    model(torch.randn(2, 3, 33, 47)).sum().backward()
    last = model.get_submodule("backbone.layer7.1.conv1").weight
    assert isinstance(last, nn.Parameter)
    assert model.get_submodule("classify").weight.shape == (3, 512, 1, 1)
    assert last.grad is not None


def kernels(model: nn.Module) -> set[int]:
    return {module.weight.shape[0] for module in model.modules() if isinstance(module, nn.Conv2d)}


@pytest.mark.parametrize("model", ["deeplabv3", "deeplabv3plus"])
def test_channels_are_those_of_the_whole_head(model: str) -> None:
    with torch.device("meta"):
        network = deeplabx.build_model(
            model, backbone="resnet18", num_classes=3, channels=40, separable=False
        )
    assert kernels(network.get_submodule("aspp")) == {40}
    assert model == "deeplabv3" or kernels(network.get_submodule("decoder")) == {48, 40}
    assert network.get_submodule("classify").weight.shape == (3, 40, 1, 1)


def test_the_3x3_of_the_head_has_its_channels_with_and_without_aspp() -> None:
    with torch.device("meta"):
        for aspp, inputs in ((True, 40), (False, 512)):
            model = deeplabx.build_model(
                "deeplabv3", backbone="resnet18", num_classes=3, aspp=aspp, head_convolution=True, channels=40
            )
            assert model.get_submodule("convolution.0").weight.shape == (40, inputs, 3, 3)
            assert model.get_submodule("classify").weight.shape == (3, 40, 1, 1)


@pytest.mark.parametrize("blocks", [3, 8])
def test_other_numbers_of_blocks_are_refused(blocks: int) -> None:
    with pytest.raises(ConfigError, match=f"backbone.blocks={blocks} is not 4 to 7"):
        deeplabx.build_model(
            "deeplabv3", backbone="resnet18", num_classes=3, backbone_settings={"blocks": blocks}
        )
