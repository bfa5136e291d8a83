import pytest

from deeplabx.command.backbone_table import backbone_table
from deeplabx.command.yaml_files import choices
from deeplabx.registry import GROUPS, OPTIONS, option
from tests.conftest import Deeplabx


def test_list_prints_groups_and_options(deeplabx: Deeplabx) -> None:
    ended = deeplabx("list")
    assert [line.split()[0] for line in ended.out.splitlines()] == [*GROUPS, "recipe"]
    assert f"backbone   {' '.join(choices('backbone'))}\n" in ended.out
    assert "xception65" in ended.out


def test_list_says_what_options_are(deeplabx: Deeplabx) -> None:
    ended = deeplabx("list", "recipe", "dataset")
    assert (ended.code, ended.err) == (0, "")
    assert "val mIoU 79.79" in ended.out  # of a recipe, from the head of its file
    assert "splits train val trainval train_aug" in ended.out


def test_an_unknown_group_is_told_the_nearest(deeplabx: Deeplabx) -> None:
    ended = deeplabx("list", "backbones")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("deeplabx: backbones is not a group. Did you mean backbone?\n")


def test_the_table_of_backbones_counts_each() -> None:
    lines = backbone_table([option("backbone", "resnet18"), option("backbone", "timm")]).splitlines()
    name, parameters, channels, low_level, *_ = lines[1].split()
    assert (name, channels, low_level) == ("resnet18", "512", "64")
    assert parameters == f"{11_689_512 - 513_000:,}"  # torchvision's, without its classifier
    assert lines[2].startswith("timm ")


@pytest.mark.slow
def test_every_backbone_has_a_line_in_the_table(deeplabx: Deeplabx) -> None:
    table = deeplabx("list", "backbone").out.partition("\n\n")[2]
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(OPTIONS["backbone"])
    assert "37,867,312" in next(line for line in table.splitlines() if line.startswith("xception65"))
