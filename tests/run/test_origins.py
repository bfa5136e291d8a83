from pathlib import Path
from typing import Any

import pytest
import torch

from deeplabx.engine import checkpoint as checkpoints
from deeplabx.export.model_card import Origin
from deeplabx.run.data_record import DataRecord
from deeplabx.run.description import Description
from deeplabx.run.hand_over import without_path
from deeplabx.run.origins import origins_of
from tests.conftest import Compose
from tests.run.test_initial_weights import CLASSES, OTHERS

DATA = DataRecord.from_plain(
    {
        "given_root": None,
        "raw_values": None,
        "training": {"split": "train", "number": 8, "sha256": None},
        "evaluated": {"split": "val", "number": 3, "sha256": None},
        "accepted": [],
    }
)


@pytest.fixture
def origins(compose: Compose, tmp_path: Path) -> Any:
    """The origins of a checkpoint that is written with these settings into the folder `name`."""

    def written(name: str, *overrides: str, data: DataRecord | None = DATA, report: str = "") -> list[Origin]:
        config = compose(*overrides)
        palette = [(number, 0, 0) for number in range(len(CLASSES))]
        description = Description(config, CLASSES, palette, 255, OTHERS, data)
        checkpoints.write_untrained(
            tmp_path / name, {"w": torch.zeros(1)}, description=description.to_plain(), report=report
        )
        return origins_of(checkpoints.find(str(tmp_path / name)))

    return written


def names(found: list[Origin]) -> list[tuple[str, str]]:
    return [(one.part, one.name.partition(":")[0]) for one in found]


def test_own_training_from_scratch_has_code_and_images(origins: Any) -> None:
    found = origins("own")
    assert names(found) == [("code", "deeplabx"), ("images", "shapes, 8 of train")]
    assert not any(one.restricted for one in found)


def test_chain_of_starting_weights_is_followed_to_the_first(origins: Any, tmp_path: Path) -> None:
    """Cityscapes from a checkpoint of VOC from ImageNet: each is named, and each restricts."""
    origins("first", "dataset=voc", "dataset.root=x", "backbone.weights=imagenet")
    found = origins("second", "dataset=cityscapes", "dataset.root=x", f"init_from={tmp_path / 'first'}")
    assert names(found) == [
        ("code", "deeplabx"),
        ("images", "cityscapes, 8 of train"),
        ("images", "voc, 8 of train"),
        ("starting weights", "mobilenetv2_imagenet_torchvision_v1"),
        ("images of the starting weights", "ImageNet-1k"),
    ]
    assert [bool(one.restricted) for one in found] == [False, True, True, False, True]
    assert found[3].licence == "BSD-3-Clause"


def test_starting_weights_that_are_gone_are_named_and_flagged(origins: Any, tmp_path: Path) -> None:
    """By their name alone: a card is handed on, and a path is no one else's business."""
    found = origins("own", f"init_from={tmp_path / 'gone.pth'}")
    assert found[-1].name == "gone.pth"
    assert found[-1].restricted


def test_own_images_have_an_unknown_licence(origins: Any) -> None:
    assert "not known" in origins("own", "dataset=folder", "dataset.root=x")[1].restricted


@pytest.mark.parametrize(
    ("first_line", "licence"),
    [
        (
            "deeplabv3_mobilenetv2_voc_google: Google's DeepLabv3 on MobileNetV2",
            "Apache-2.0",
        ),
        (
            "some/folder: Google's DeepLabv3 on MobileNetV2",
            "Apache-2.0, if the file is the published one",
        ),
        ("some/file.pth: somebody's network", "see their publisher"),
    ],
)
def test_imported_weights_have_the_licence_of_their_publisher(
    origins: Any, first_line: str, licence: str
) -> None:
    found = origins("imported", "dataset=voc", "dataset.root=x", data=None, report=f"{first_line}\nmore\n")
    assert names(found)[2] == ("images", "voc, as its publisher says")
    assert found[1].licence == licence
    assert bool(found[1].restricted) == (licence != "Apache-2.0")


def test_a_checkpoint_that_starts_from_itself_ends(origins: Any, tmp_path: Path) -> None:
    found = origins("loop", f"init_from={tmp_path / 'loop'}")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("dataset.root='own data'", "dataset.root=PATH"),
        ("init_from=/home/someone/run", "init_from=PATH"),
        ("optimizer.lr=0.01", "optimizer.lr=0.01"),
    ],
)
def test_a_card_shows_no_path_of_the_machine(override: str, shown: str) -> None:
    assert without_path(override) == shown
