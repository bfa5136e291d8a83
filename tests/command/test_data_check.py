"""deeplabx data check, from the command line to its files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Deeplabx
from tests.dataset.check.planted import FAULTS, Planted
from tests.dataset.check.test_planted import made_up
from tests.report.page.parsed import Parsed

DATA = os.environ.get("DEEPLABX_TEST_DATA")
CHECK = ("data", "check", "dataset=folder", "dataset.root=own", "workers=0")


def planted(kind: str, root: Path) -> Planted:
    data = made_up(kind, root)
    data.write()
    FAULTS[kind](data)
    return data


def test_a_good_data_set_ends_with_0(deeplabx: Deeplabx, tmp_path: Path) -> None:
    made_up("clean", tmp_path / "own").write()
    ended = deeplabx(*CHECK, "out=found")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("folder: 6 of train, 3 of val; 0 errors, 0 warnings, 0 notes\n")
    table = json.loads((tmp_path / "found/check.json").read_text(encoding="utf-8"))
    assert (table["counts"], table["findings"]) == ({"error": 0, "warning": 0, "note": 0}, [])
    page = Parsed((tmp_path / "found/check.html").read_text(encoding="utf-8"))
    assert page.problems == []


def test_an_error_ends_with_3_and_says_cause_and_fix(deeplabx: Deeplabx, tmp_path: Path) -> None:
    planted("off_by_one", tmp_path / "own")
    ended = deeplabx(*CHECK, "out=found")
    assert ended.code == 3
    assert "error: the masks hold ids from 1 to 5 and no 0" in ended.out
    assert "[off_by_one]" in ended.out
    assert ended.err.splitlines() == [
        "deeplabx: training on this data set would go wrong: 1 error, the first: the masks hold ids from 1 "
        "to 5 and no 0, but 5 classes have the ids 0 to 4",
        "  map 1 to the first class in label_map, 2 to the second, and so on",
    ]
    (finding,) = json.loads((tmp_path / "found/check.json").read_text(encoding="utf-8"))["findings"]
    assert (finding["kind"], finding["level"], len(finding["files"])) == ("off_by_one", "error", 9)
    assert finding["details"]["classes_yaml"]["label_map"]["1"] == "background"


def test_a_repaired_copy_is_a_data_set_of_links(deeplabx: Deeplabx, tmp_path: Path) -> None:
    data = planted("zero_255", tmp_path / "own")
    ended = deeplabx(*CHECK, "fix=true", "out=copy")
    assert (ended.code, ended.err) == (0, "")
    assert "the copy, checked again: folder: 6 of train, 3 of val; 0 errors" in ended.out
    assert ended.out.splitlines()[-1] == f"next: deeplabx train dataset=folder dataset.root={tmp_path}/copy"
    masks = sorted((tmp_path / "copy/masks").rglob("*.png"))
    assert all(mask.is_symlink() for mask in masks)
    assert {mask.resolve() for mask in masks} == {data.mask_path(one) for one in data.samples}
    text = (tmp_path / "copy/check.html").read_text(encoding="utf-8")
    assert text.count("before") >= 1
    again = deeplabx(*CHECK, "fix=true", "out=copy")
    assert again.code == 3
    assert again.err.startswith("deeplabx: out=")
    assert "already exists; nothing was written" in again.err


def test_what_cannot_be_repaired_is_said_and_no_copy_is_written(deeplabx: Deeplabx, tmp_path: Path) -> None:
    planted("single_class", tmp_path / "own")
    ended = deeplabx(*CHECK, "fix=true", "out=copy")
    assert ended.code == 3
    assert "nothing of this can be repaired automatically; no copy was written" in ended.out
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["check.html", "check.json"]


def test_a_root_that_is_no_data_set_is_a_finding(deeplabx: Deeplabx, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    ended = deeplabx(*CHECK, "out=found")
    assert ended.code == 3
    assert "must contain images/ and masks/" in ended.err
    assert "Traceback" not in ended.err


def test_generated_shapes_have_no_fault(deeplabx: Deeplabx) -> None:
    ended = deeplabx(
        "data", "check", "dataset.train_images=20", "dataset.val_images=8", "workers=0", "out=found"
    )
    assert (ended.code, ended.err) == (0, "")


def test_names_that_are_markup_or_not_utf8_reach_page_and_json(deeplabx: Deeplabx, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "own" / kind / split).mkdir(parents=True)
    image, mask = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)
    mask[5:9, 5:9], image[3:12, 4:17] = 1, 200
    for split, name in (("train", "<script>alert(1)"), ("train", "caf\udce9"), ("val", "b")):
        Image.fromarray(image + len(name)).save(tmp_path / f"own/images/{split}/{name}.png")
        Image.fromarray(mask * 9).save(tmp_path / f"own/masks/{split}/{name}.png")
    (tmp_path / "own/classes.yaml").write_text("classes: [a, b]\n", encoding="utf-8")
    ended = deeplabx(*CHECK, "out=found")
    assert ended.code == 3
    page = (tmp_path / "found/check.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    json.loads((tmp_path / "found/check.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="needs DEEPLABX_TEST_DATA")
@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("camvid", {"sequence_across_splits"}),
        ("voc", {"class_never_occurs", "class_in_one_split", "no_data"}),
        ("cityscapes", {"class_never_occurs", "class_in_one_split"}),
    ],
)
def test_published_data_has_no_error(
    deeplabx: Deeplabx, tmp_path: Path, name: str, warnings: set[str]
) -> None:
    ended = deeplabx("data", "check", f"dataset={name}", f"dataset.root={DATA}/{name}", "out=found")
    assert ended.code == 0
    table = json.loads((tmp_path / "found/check.json").read_text(encoding="utf-8"))
    assert {one["kind"] for one in table["findings"] if one["level"] == "warning"} <= warnings


def test_where_no_sample_would_be_left_the_findings_are_written_all_the_same(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    data = planted("unreadable", tmp_path / "own")
    for one in data.samples:
        data.mask_path(one).write_bytes(b"damaged")
    ended = deeplabx(*CHECK, "fix=true", "out=copy")
    assert ended.code == 3
    assert ended.err.splitlines()[0].endswith("no sample would be left, so no copy was written")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["check.html", "check.json"]


def test_the_copy_of_splits_of_other_names_is_trained_on_by_these_names(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    planted("duplicate_in_split", tmp_path / "own")
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind / "train").rename(tmp_path / "own" / kind / "learn")
    ended = deeplabx(*CHECK, "fix=true", "out=copy", "dataset.train_split=learn")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].endswith("/copy dataset.train_split=learn")
    assert "it has links to the unchanged files" in ended.out


def test_the_page_has_the_command_line_that_repairs_with_all_its_settings(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    data = planted("zero_255", tmp_path / "own")
    for folder in ("images", "masks"):
        for path in sorted((data.root / folder).rglob("*.*")):
            name = path.name if folder == "images" else f"{path.stem}_m{path.suffix}"
            path.rename(data.root / folder / name)
        for split in ("train", "val"):
            (data.root / folder / split).rmdir()
    ended = deeplabx(*CHECK, "dataset.mask_suffix=_m", "dataset.val_fraction=0.4", "out=found")
    assert ended.code == 3
    page = Parsed((tmp_path / "found/check.html").read_text(encoding="utf-8"))
    expected = f"deeplabx {' '.join(CHECK)} dataset.mask_suffix=_m dataset.val_fraction=0.4 fix=true out=DIR"
    assert expected in page.inside["code"]
    assert deeplabx(*expected.replace("DIR", "copy").split()[1:]).code == 0


def test_a_mask_with_three_equal_channels_among_masks_of_ids_is_repaired(
    deeplabx: Deeplabx, tmp_path: Path
) -> None:
    data = made_up("grey", tmp_path / "own")
    data.write()
    one = data.samples[0]
    Image.fromarray(np.repeat(one.ids[..., None], 3, axis=2)).save(data.mask_path(one))
    ended = deeplabx(*CHECK, "fix=true", "out=copy")
    assert (ended.code, ended.err) == (0, "")
    assert "1 mask of colours among masks of ids, with three equal channels of ids" in ended.out
    with Image.open(tmp_path / f"copy/masks/{one.split}/{one.name}.png") as mask:
        assert (np.array(mask) == one.ids).all()
