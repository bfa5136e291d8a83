"""The quick check before a training."""

from pathlib import Path

import pytest

from benchmarks.planted_faults import settings
from deeplabx.dataset.check.quick import KINDS, quick_check
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of, open_dataset
from tests.dataset.check.planted import FAULTS, Planted
from tests.dataset.check.test_planted import made_up

COMMAND = "deeplabx data check dataset=folder"


def lines_of(data: Planted) -> list[str]:
    training, evaluated = (dataset_of(settings(data.root), split=split) for split in ("train", "val"))
    return quick_check(training, evaluated, command=COMMAND)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("compressed_mask", "zero_255", "smooth_edges")]
)
def test_what_training_would_not_notice_is_said(kind: str, tmp_path: Path) -> None:
    data = made_up(kind, tmp_path)
    data.write()
    FAULTS[kind](data)
    *found, last = lines_of(data)
    assert len(found) == 1
    assert found[0].startswith("warning: of 9 samples checked: ")
    assert last == f"{COMMAND} checks all samples and shows them"


def test_a_sample_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    data = made_up("unreadable", tmp_path)
    data.write()
    FAULTS["id_out_of_range"](data)
    with pytest.raises(DataError, match="neither a class nor void"):
        lines_of(data)


def test_data_without_faults_and_generated_data_get_no_line(tmp_path: Path) -> None:
    data = made_up("clean", tmp_path)
    data.write()
    assert lines_of(data) == []
    shapes = open_dataset("shapes", split="train", root=None, train_images=4, val_images=2)
    assert quick_check(shapes, shapes, command=COMMAND) == []
