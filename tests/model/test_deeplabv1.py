import pytest
import torch
from torch import nn

import deeplabx
from deeplabx.loss.cross_entropy import CrossEntropy
from deeplabx.model.contract import DeepLab
from tests.engine.states import IMAGES, LABELS, state_of, taken


def without_dropout(model: DeepLab) -> DeepLab:
    """A v1 whose training mode computes what evaluation computes."""
    for module in model.modules():
        module.training = False
    model.training = True
    return model


@pytest.mark.parametrize(
    ("fc6", "output_stride", "kernel_size", "rate"),
    [("large_fov", 8, 3, 12), ("large_fov", 16, 3, 6), ("7x7", 8, 7, 4), ("7x7", 32, 7, 1)],
)
def test_fc6_sees_the_same_field_at_every_output_stride(
    fc6: str, output_stride: int, kernel_size: int, rate: int
) -> None:
    with torch.device("meta"):
        model = deeplabx.build_model(
            "deeplabv1", backbone="vgg16", num_classes=21, output_stride=output_stride, fc6=fc6
        )
    layer = model.get_submodule("classifier.fc6")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.kernel_size[0], layer.dilation[0], layer.out_channels) == (
        kernel_size,
        rate,
        1024 if fc6 == "large_fov" else 4096,
    )


def test_vgg_at_stride_8_is_the_papers() -> None:
    with torch.device("meta"):
        features = deeplabx.build_model("deeplabv1", backbone="vgg16", num_classes=21).get_submodule(
            "backbone.features"
        )
    pools = [module.stride for module in features.modules() if isinstance(module, nn.MaxPool2d)]
    rates = [module.dilation[0] for module in features.modules() if isinstance(module, nn.Conv2d)]
    assert pools == [2, 2, 2, 1, 1]
    assert rates == [1] * 10 + [2] * 3


@pytest.mark.parametrize("backbone", ["vgg16", "resnet18"])
def test_in_training_the_logits_are_those_of_every_eighth_pixel(backbone: str) -> None:
    torch.manual_seed(0)
    model = without_dropout(deeplabx.build_model("deeplabv1", backbone=backbone, num_classes=4))
    images = torch.randn(1, 3, 33, 41)  # 8 k + 1
    with torch.no_grad():
        coarse = model(images)
        dense = model.eval()(images)
    assert coarse.shape == (1, 4, 5, 6)
    assert torch.allclose(dense[:, :, ::8, ::8], coarse, atol=1e-5)


def test_the_loss_is_that_of_every_eighth_label() -> None:
    torch.manual_seed(0)
    model = deeplabx.build_model("deeplabv1", backbone="resnet18", num_classes=4, norm="frozen")
    with torch.no_grad():
        logits = without_dropout(model)(model.backbone.normalization(IMAGES[2:]))
    labels = LABELS[2:, ::8, ::8].long()
    expected = float(CrossEntropy()(logits, labels, ignore_index=255)) / int((labels != 255).sum())
    assert taken(state_of(model), IMAGES[2:], LABELS[2:]).loss == pytest.approx(expected, rel=1e-5)
