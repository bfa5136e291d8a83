"""Images in two splits, frames of one sequence in two splits, and classes in one."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplabx.dataset.check.across_splits import (
    ALIKE,
    most_alike,
    of_classes,
    of_images,
    of_split_itself,
)
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.scan import with_image


def photo(seed: int) -> np.ndarray:
    """Smooth shapes and fine structure, as photos have them."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(
        rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def facts(split: str, name: str, image: np.ndarray, *, digest: str = "") -> Facts:
    one = Facts(split, 0, Path(f"{split}/{name}.jpg"), Path(f"{split}/{name}.png"), digest=digest.encode())
    return with_image(one, image)


def kinds(training: list[Facts], evaluated: list[Facts]) -> list[str]:
    return [finding.kind for finding in of_images(training, evaluated)]


def changed(image: np.ndarray, how: str) -> np.ndarray:
    if how == "mirrored":
        return np.ascontiguousarray(image[:, ::-1])
    if how == "resized":
        return cv2.resize(image, (90, 70), interpolation=cv2.INTER_AREA)
    if how == "brighter":
        return np.clip(image * 1.15 + 9, 0, 255).astype(np.uint8)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 35])[1], 1))


@pytest.mark.parametrize("how", ["mirrored", "resized", "brighter", "compressed"])
def test_a_changed_copy_is_found_and_other_images_are_not(how: str) -> None:
    training = [facts("train", f"t{seed}a", photo(seed)) for seed in range(12)]
    evaluated = [facts("val", f"v{seed}b", photo(seed)) for seed in range(20, 30)]
    assert kinds(training, evaluated) == []
    assert max(pair.alike for pair in most_alike(evaluated, training)) < ALIKE - 0.2
    evaluated.append(facts("val", "copy", changed(photo(3), how)))
    (finding,) = of_images(training, evaluated)
    assert finding.kind == "near_duplicate_across_splits"
    assert finding.files == (Path("val/copy.jpg"),)
    assert finding.details["remove"] == ["train/t3a.jpg"]


def test_files_of_one_content_are_duplicates_whatever_their_names() -> None:
    training = [facts("train", f"t{seed}a", photo(seed), digest=str(seed)) for seed in range(4)]
    evaluated = [facts("val", "other", photo(2), digest="2")]
    assert kinds(training, evaluated) == ["duplicate_across_splits"]
    again = [*training, facts("train", "again", photo(1), digest="1")]
    assert [found.kind for found in of_split_itself(again)] == ["duplicate_in_split"]


def sequences(split: str, frames: range, *, shared: float) -> list[Facts]:
    """Frames of four clips: each is partly the clip's scene, partly new."""
    found = []
    for clip in range(4):
        for frame in frames:
            own = photo(1000 + 100 * clip + frame)
            image = cv2.addWeighted(photo(clip), shared, own, 1 - shared, 0)
            found.append(facts(split, f"clip{clip}x_{frame:05d}", image))
    return found


def test_a_clip_in_both_splits_is_noticed_though_no_frame_is_a_copy() -> None:
    training, evaluated = (
        sequences("train", range(6), shared=0.45),
        sequences("val", range(50, 55), shared=0.45),
    )
    assert max(pair.alike for pair in most_alike(evaluated, training)) < ALIKE
    assert kinds(training, evaluated) == ["sequence_across_splits"]


def test_equal_beginnings_of_names_alone_say_nothing() -> None:
    """As of VOC, whose names begin with the year."""
    assert kinds(sequences("train", range(6), shared=0), sequences("val", range(50, 55), shared=0)) == []


def test_flat_images_are_not_compared() -> None:
    flat = np.full((60, 80, 3), 128, np.uint8)
    assert kinds([facts("train", "a", flat)], [facts("val", "b", flat)]) == []


def with_pixels(split: str, *pixels: int) -> Facts:
    return replace(Facts(split, 0), pixels=np.array(pixels, np.int64))


def test_classes_of_one_split_and_of_none_are_named() -> None:
    splits = {"train": [with_pixels("train", 5, 1, 0, 0, 3)], "val": [with_pixels("val", 2, 0, 1, 0, 0)]}
    found = {finding.kind: finding for finding in of_classes(splits, ["a", "b", "c", "d"])}
    assert found["class_never_occurs"].details["classes"] == ["d"]
    only = [
        finding.details for finding in of_classes(splits, ["a", "b", "c", "d"]) if "split" in finding.details
    ]
    assert only == [{"split": "train", "classes": ["b"]}, {"split": "val", "classes": ["c"]}]
