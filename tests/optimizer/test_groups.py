"""Which parameter has which rates, compared with what modules are and the order in which they run."""

import pytest
import torch
from torch import Tensor, nn

import deeplabx
from deeplabx.backbone.contract import Backbone
from deeplabx.errors import ConfigError
from deeplabx.model.contract import DeepLab
from deeplabx.optimizer.groups import layer_factors, parameter_groups
from deeplabx.run.build import model_of, optimizer_of, state_of
from deeplabx.run.opening import group_words
from tests.conftest import TINY, Compose

# By the papers: the stem's convolutions, then residual units, convolutions, blocks (Xception: of entry,
# middle and exit flow) or stages (EfficientNet).
UNITS = {
    "resnet18": 1 + 8,
    "resnet50": 1 + 16,
    "resnet101_beta": 1 + 33,
    "vgg16": 13,
    "mobilenetv2": 1 + 17,
    "mobilenetv3_large": 1 + 15 + 1,
    "xception41": 2 + 3 + 8 + 2,
    "xception65": 2 + 3 + 16 + 2,
    "efficientnet_lite0": 1 + 7,
}


def built(backbone: str) -> DeepLab:
    settings = {"model": "resnet18d"} if backbone == "timm" else {}
    if settings:
        pytest.importorskip("timm")
    return deeplabx.build_model(
        "deeplabv3plus", backbone=backbone, num_classes=3, backbone_settings=settings, output_stride=16
    )


def in_execution_order(backbone: Backbone) -> list[nn.Module]:
    """The convolutions and norms of a backbone as a forward pass calls them."""
    found: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: found.append(module))
        for module in backbone.modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, 65, 65))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "mobilenetv2", "mobilenetv3_large", "xception41",
                                  "efficientnet_lite0", "timm"])  # fmt: skip
def test_layer_decay_grows_along_the_forward_pass(name: str) -> None:
    model = built(name)
    units = model.backbone.units()
    factors = layer_factors(units, 0.5)
    assert set(factors) == set(model.backbone.parameters())
    assert len(units) == UNITS.get(name, 5)  # timm: stem and four stages
    assert sorted(set(factors.values())) == [0.5 ** (number + 1) for number in range(len(units))][::-1]
    order = [factors[parameter] for module in in_execution_order(model.backbone)
             for parameter in module.parameters()]  # fmt: skip
    assert order == sorted(order)


@pytest.mark.parametrize("name", UNITS)
def test_units_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        assert len(built(name).backbone.units()) == UNITS[name]


def test_every_group_has_its_layers_rate(compose: Compose) -> None:
    config = compose(
        *TINY,
        "backbone=resnet18",
        "optimizer.layer_decay=0.5",
        "optimizer.lr=0.8",
        "trainer.head_lr_factor=10",
    )
    model = model_of(config, num_classes=3, in_channels=3)
    rates = {
        name: group["base_lr"]
        for group in optimizer_of(config, model).param_groups
        for name in group["names"]
    }
    assert rates.keys() == dict(model.named_parameters()).keys()
    assert rates["backbone.conv1.weight"] == rates["backbone.bn1.bias"] == 0.8 * 0.5**9
    assert rates["backbone.layer1.0.conv1.weight"] == 0.8 * 0.5**8
    assert rates["backbone.layer4.0.bn2.weight"] == 0.8 * 0.5**2
    assert rates["backbone.layer4.1.conv2.weight"] == 0.8 * 0.5
    assert all(rate == 8.0 for name, rate in rates.items() if not name.startswith("backbone."))


def kinds(model: nn.Module) -> dict[str, str]:
    """What each parameter is, by the class of its module."""
    found = {}
    for owner, module in model.named_modules():
        for last, _ in module.named_parameters(recurse=False):
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                kind = "norm"
            elif last == "bias":
                kind = "bias"
            else:
                assert isinstance(module, nn.Conv2d)
                kind = "depthwise" if module.groups == module.in_channels > 1 else "kernel"
            found[f"{owner}.{last}"] = kind
    return found


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    "no_decay", [["norm", "bias", "depthwise"], ["bias"], ["norm"], ["depthwise", "bias"], []]
)
def test_only_the_kinds_of_no_decay_are_not_decayed(no_decay: list[str], norm: str) -> None:
    with torch.device("meta"):
        model = deeplabx.build_model("deeplabv3plus", backbone="mobilenetv2", num_classes=3, norm=norm)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, no_decay=no_decay)
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    expected = {name: 0.0 if kind in no_decay else 0.1 for name, kind in kinds(model).items()}
    assert decays == expected


def test_decayed_biases_of_the_head_keep_their_learning_rate() -> None:
    with torch.device("meta"):
        model = deeplabx.build_model("deeplabv1", backbone="vgg16", num_classes=3)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.1, head_bias_lr_factor=20, no_decay=[])
    (biases,) = [group for group in groups if group["group"].startswith("head_bias")]
    assert (biases["weight_decay"], biases["base_lr"]) == (0.1, 20)
    assert biases["names"] == ["classifier.classify.bias"]


def test_other_vectors_are_treated_as_norms() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.linear = nn.Parameter(torch.ones(3)), nn.Linear(3, 3)

        def in_head(self, parameter: str) -> bool:
            return False

    def decayed(*no_decay: str) -> set[str]:
        groups = parameter_groups(Scaled(), lr=1, weight_decay=1, no_decay=no_decay)
        return {name for group in groups if group["weight_decay"] for name in group["names"]}

    assert decayed("bias") == {"scale", "linear.weight"}
    assert decayed("norm") == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "optimizer.layer_decay=1",
            "optimizer.layer_decay=1.0 is out of range: it must be at least 0.01 and below 1",
        ),
        ("optimizer.layer_decay=1e-300", "optimizer.layer_decay=1e-300 is out of range"),
        ("optimizer.no_decay=[norms]", r"no_decay=norms is not one of norm, .*Did you mean norm\?"),
        ("optimizer.no_decay=[]", r"optimizer.no_decay=\[\] is empty"),
        (
            "optimizer.momentum=0 optimizer.nesterov=true",
            "nesterov=true has no effect with optimizer.momentum=0",
        ),
    ],
)
def test_wrong_settings_of_groups_are_errors(compose: Compose, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose(*override.split())


def test_a_backbone_without_layers_cannot_decay_by_layer(compose: Compose) -> None:
    config = compose(*TINY, "optimizer.layer_decay=0.5")
    model = model_of(config, num_classes=3, in_channels=3)

    def layers() -> list[tuple[nn.Module, int]]:
        raise NotImplementedError

    model.backbone.layers = layers  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="backbone=mobilenetv2 does not list its layers"):
        optimizer_of(config, model)


def test_the_logged_learning_rate_is_the_one_before_layer_decay(compose: Compose) -> None:
    config = compose(*TINY, "optimizer.layer_decay=0.5", "optimizer.lr=0.25")
    model = model_of(config, num_classes=3, in_channels=3)
    assert state_of(config, model, ignore_index=255, device=torch.device("cpu")).lr == 0.25


def test_the_keys_of_factors_are_parameters() -> None:
    layer = nn.Linear(2, 2)
    factors: dict[Tensor, float] = layer_factors([[layer]], 0.5)
    assert factors[layer.weight] == 0.5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], []),
        (
            ["trainer.head_lr_factor=10", "optimizer.no_decay=[bias]"],
            [
                "parameter groups: the head's learning rate is 10 times that of the rest; no weight decay of "
                "bias"
            ],
        ),
        (
            ["optimizer.layer_decay=0.5"],
            ["parameter groups: layer decay 0.5 over 18 units of the backbone, smallest factor 3.81e-06"],
        ),
        (["optimizer.no_decay=null"], ["parameter groups: all parameters are decayed"]),
    ],
)
def test_the_log_says_groups_that_are_not_the_default(
    compose: Compose, overrides: list[str], words: list[str]
) -> None:
    config = compose(*TINY, *overrides)
    model = model_of(config, num_classes=3, in_channels=3)
    state = state_of(config, model, ignore_index=255, device=torch.device("cpu"))
    assert group_words(config, state) == words
