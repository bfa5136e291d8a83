import re

from deeplabx.command.show import show
from tests.conftest import compose_plain


def test_show_tells_the_papers_numbers() -> None:
    text = show(compose_plain("model=deeplabv3", "backbone=mobilenetv2", command="show"))
    assert "2,113,557" in text
    assert "320 channels at stride 16, 24 at stride 4" in text
    assert "2.74 billion at 513 x 513" in text


def test_show_tells_strides_rates_and_both_counts() -> None:
    text = show(
        compose_plain(
            "model=deeplabv3", "backbone=resnet101_beta", "backbone.output_stride=8", command="show"
        )
    )
    assert "252.25 billion at 513 x 513" in text
    assert "275.94 billion, as the papers count" in text
    assert "3x3 at rates 12, 24, 36" in text
    assert re.search(r"^ +8 +16 +512 +1$", text, re.MULTILINE)  # multi-grid 4 of the last block


def test_several_scales_are_counted_and_told_once() -> None:
    one, three = (
        show(compose_plain("model=deeplabv2", "backbone=resnet18", f"model.scales={scales}", command="show"))
        for scales in ("[1]", "[1,0.5]")
    )
    assert "3x3 at rates 6, 12, 18, 24\n" in three
    assert one.splitlines()[10:] == three.splitlines()[10:]  # strides and rates
    assert one.splitlines()[3] != three.splitlines()[3]  # multiply-adds


def test_other_channels_and_other_kernels_are_shown() -> None:
    text = show(
        compose_plain("model=deeplabv1", "backbone=vgg16", "model.fc6=7x7", "in_channels=4", command="show")
    )
    assert "7x7 at rates 4\n" in text
    assert f"{134_346_581 + 64 * 9:,}" in text
