import re

from deeplabx.backbone import BACKBONES
from deeplabx.show import backbone_table, show
from tests.conftest import compose_plain


def test_show_tells_the_papers_numbers() -> None:
    text = show(compose_plain("model=deeplabv3", "backbone=mobilenetv2", command="show"))
    assert "2,113,557" in text
    assert "320 channels at stride 16, 24 at stride 4" in text
    assert "2.74 billion at 513 x 513" in text


def test_show_tells_strides_rates_and_both_counts() -> None:
    text = show(compose_plain("model=deeplabv3", "backbone=resnet101_beta", "backbone.output_stride=8", command="show"))
    assert "252.25 billion at 513 x 513" in text
    assert "275.94 billion, as the papers count" in text
    assert "3x3 at rates 12, 24, 36" in text
    assert re.search(r"^ +8 +16 +512 +1$", text, re.MULTILINE)  # multi-grid 4 of the last block


def test_the_table_of_backbones_has_a_line_for_each() -> None:
    lines = backbone_table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(BACKBONES)
    assert "37,867,312" in next(line for line in lines if line.startswith("xception65"))
