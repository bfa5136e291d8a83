import pytest
import torch
from torch import nn
from torch.nn import functional as F

import deeplabx
from deeplabx.loss.cross_entropy import CrossEntropy
from tests.engine.states import IMAGES, LABELS, state_of, taken


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [6, 12, 18, 24]), (16, [3, 6, 9, 12])])
@pytest.mark.parametrize(("backbone", "first"), [("vgg16", "fc6"), ("resnet50_caffe", "classify")])
def test_a_branch_per_rate_straight_to_classes_or_through_fc7(
    backbone: str, first: str, output_stride: int, rates: list[int]
) -> None:
    with torch.device("meta"):
        model = deeplabx.build_model(
            "deeplabv2", backbone=backbone, num_classes=21, output_stride=output_stride
        )
    branches = [model.get_submodule(f"aspp.{number}.{first}") for number in range(4)]
    assert [branch.dilation[0] for branch in branches if isinstance(branch, nn.Conv2d)] == rates
    assert len(list(model.get_submodule("aspp.0").children())) == (3 if backbone == "vgg16" else 1)


def test_logits_are_the_sum_of_the_branches() -> None:
    model = deeplabx.build_model("deeplabv2", backbone="resnet18", num_classes=4, atrous_rates=[2, 4]).eval()
    images = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        high = model.backbone(images).high
        first, second = (model.get_submodule(f"aspp.{number}.classify") for number in (0, 1))
        total = first(high) + second(high)
        assert torch.allclose(model(images)[:, :, ::8, ::8], total, atol=1e-6)


def test_several_scales_are_fused_by_the_largest_logit() -> None:
    torch.manual_seed(0)
    alone = deeplabx.build_model("deeplabv2", backbone="resnet18", num_classes=4).eval()
    several = deeplabx.build_model(
        "deeplabv2", backbone="resnet18", num_classes=4, scales=[1.0, 0.75, 0.5]
    ).eval()
    several.load_state_dict(alone.state_dict())  # the scales share all weights
    images = torch.randn(1, 3, 65, 81)
    with torch.no_grad():
        views = [
            images,
            *(
                F.interpolate(images, size, mode="bilinear", align_corners=True)
                for size in [(49, 61), (33, 41)]
            ),
        ]
        coarse = [
            sum(branch(alone.backbone(view).high) for branch in alone.get_submodule("aspp").children())
            for view in views
        ]
        resized = [F.interpolate(logits, (9, 11), mode="bilinear", align_corners=True) for logits in coarse]
        largest = torch.stack(resized).max(dim=0).values
        expected = F.interpolate(largest, (65, 81), mode="bilinear", align_corners=True)
        assert torch.allclose(several(images), expected, atol=1e-5)


@pytest.mark.parametrize("auxiliary", [None, 0.4])
def test_in_training_each_scale_has_a_loss_beside_the_fused_one(auxiliary: float | None) -> None:
    torch.manual_seed(0)
    model = deeplabx.build_model(
        "deeplabv2",
        backbone="resnet18",
        num_classes=4,
        scales=[1.0, 0.5],
        norm="frozen",
        auxiliary_weight=auxiliary,
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        outputs = model.train()(model.backbone.normalization(IMAGES))
    weights = [1.0, 1.0, 1.0] if auxiliary is None else [1.0, 1.0, 0.4, 1.0, 0.4]
    assert [tuple(logits.shape) for logits in outputs] == [(6, 4, 5, 5)] * len(weights)
    labels = LABELS[:, ::8, ::8].long()
    losses = [
        weight * CrossEntropy()(logits, labels, ignore_index=255)
        for weight, logits in zip(weights, outputs, strict=True)
    ]
    assert torch.equal(outputs[0], torch.maximum(outputs[1], outputs[2 if auxiliary is None else 3]))
    expected = float(sum(losses)) / int((labels != 255).sum())
    assert taken(state_of(model), IMAGES, LABELS).loss == pytest.approx(expected, rel=1e-5)
