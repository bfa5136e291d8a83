from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabx.dataset import voc
from deeplabx.dataset.cityscapes import CLASS_TABLE, Cityscapes
from deeplabx.dataset.submission import (
    completeness,
    expected_names,
    place_of,
    refuse_two_of_a_name,
    save_submitted,
)
from deeplabx.engine.metrics import confusion_matrix, metrics
from deeplabx.errors import DataError
from tests.conftest import Root


def saved(folder: Path, server: str, image: Path, ids: np.ndarray) -> Path:
    path = folder / place_of(server, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_submitted(path, ids, server=server)
    return path


def test_the_official_scorer_finds_a_cityscapes_submission_and_scores_it_as_we_do(
    fake_root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which the scorer needs and numpy 2.4 has no more.
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    import torch
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official  # noqa: N813

    split = Cityscapes(root=str(fake_root("cityscapes")), split="val")
    confusion = torch.zeros(19, 19, dtype=torch.int64)
    drawn = np.random.default_rng(0)
    for (image, _), (_, label) in zip(
        split.pairs, (split[index] for index in range(len(split))), strict=True
    ):
        guessed = drawn.integers(0, 19, label.shape).astype(np.uint8)
        ids = np.where((label < 19) & (drawn.random(label.shape) < 0.7), label, guessed)
        saved(tmp_path, "cityscapes", image, ids)
        counts = (torch.from_numpy(one.astype(np.int64)) for one in (ids, label))
        confusion += confusion_matrix(*counts, num_classes=19, ignore_index=255)
    official.args.predictionPath, official.args.predictionWalk = str(tmp_path / "results"), None
    official.args.quiet, official.args.JSONOutput, official.args.evalInstLevelScore = True, False, False
    labels = [str(label) for _, label in split.pairs]
    found = [official.getPrediction(official.args, label) for label in labels]
    theirs = official.evaluateImgLists(found, labels, official.args)
    assert theirs["averageScoreClasses"] == metrics(confusion, split.classes).miou


def test_cityscapes_files_hold_label_ids_in_grey(tmp_path: Path) -> None:
    ids = np.arange(19, dtype=np.uint8)[None]
    path = saved(tmp_path, "cityscapes", Path("x/berlin_000000_000019_leftImg8bit.png"), ids)
    assert path == tmp_path / "results/berlin_000000_000019_leftImg8bit.png"
    with Image.open(path) as image:
        assert image.mode == "L"
        assert np.array(image).tolist() == [[label.label_id for label in CLASS_TABLE]]


@pytest.mark.parametrize("competition", ["comp5", "comp6"])
def test_voc_files_are_indexed_in_vocs_colours(tmp_path: Path, competition: str) -> None:
    ids = np.arange(21, dtype=np.uint8)[None]
    path = saved(tmp_path, f"voc_{competition}", Path("x/2008_000006.jpg"), ids)
    assert path == tmp_path / f"results/VOC2012/Segmentation/{competition}_test_cls/2008_000006.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array(image).tolist() == [list(range(21))]
        assert np.array(image.convert("RGB"))[0, 15].tolist() == [192, 128, 128]  # a person, in VOC's colours


def test_what_a_submission_lacks_is_counted_and_named(fake_root: Root) -> None:
    expected = expected_names("voc_comp5", str(fake_root("voc")), "val")
    assert expected
    year = voc.year_folder(fake_root("voc"))
    assert expected == voc.split_names(year, "val")
    said = completeness("voc_comp5", [*expected[1:], "other"], expected=expected, split="val")
    assert said == [
        f"submission: {len(expected) - 1} of {len(expected)} images of split val",
        f"submission: 1 missing: {expected[0]}",
        "submission: 1 not of this split: other",
    ]


def test_the_frames_of_a_cityscapes_split_are_expected(fake_root: Root) -> None:
    root = fake_root("cityscapes")
    split = Cityscapes(root=str(root), split="val")
    expected = expected_names("cityscapes", str(root), "val")
    assert expected == [image.stem for image, _ in split.pairs]


def test_without_the_data_set_the_number_of_test_images_is_said() -> None:
    assert expected_names("cityscapes", None, "test") is None
    names = ["berlin_000000_000019_leftImg8bit", "holiday"]
    counted, odd = completeness("cityscapes", names, expected=None, split="test")
    assert "2 images; the test set of Cityscapes has 1525" in counted
    assert odd == "submission: 1 names are none of Cityscapes: holiday"


def test_two_images_of_one_name_are_no_submission() -> None:
    with pytest.raises(DataError, match=r"a/x\.png and b/x\.jpg would be one file of the submission"):
        refuse_two_of_a_name([Path("a/x.png"), Path("a/y.png"), Path("b/x.jpg")])
