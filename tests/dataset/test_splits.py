"""Splits that are made here: a partition, groups intact, balanced, seeded, and stable."""

import re
import time
from collections import defaultdict

import numpy as np
import pytest

from deeplabx.dataset import splits
from deeplabx.dataset.problems import collecting
from deeplabx.dataset.splits import Partition, cut, indices_of
from deeplabx.errors import DataError


def folds_of(names: list[str], partition: Partition) -> list[int]:
    """The fold of each image: the one whose val it is in. Checks that it is in one, and else in train."""
    assert partition.folds is not None
    fold_of = [-1] * len(names)
    for fold in range(partition.folds):
        chosen = partition._replace(fold=fold)
        val, train = (indices_of(names, split, chosen, where="images") for split in ("val", "train"))
        assert sorted(val + train) == list(range(len(names)))
        assert val
        assert train == sorted(train)
        for index in val:
            assert fold_of[index] == -1
            fold_of[index] = fold
    assert -1 not in fold_of
    return fold_of


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("count", [10, 11, 57, 200])
def test_folds_are_a_partition_of_equal_parts(count: int, folds: int) -> None:
    fold_of = folds_of([f"{number}.jpg" for number in range(count)], Partition(folds=folds))
    sizes = np.bincount(fold_of, minlength=folds)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_in_two_folds_and_they_are_balanced(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 40)
    names = [f"day/patient{group}_{number}.jpg" for group, size in enumerate(sizes) for number in range(size)]
    names = [names[index] for index in rng.permutation(len(names))]
    folds = int(rng.integers(2, 7))
    fold_of = folds_of(names, Partition(folds=folds, group=r"/(patient\d+)_", split_seed=seed))
    folds_of_group = defaultdict(set)
    for name, fold in zip(names, fold_of, strict=True):
        folds_of_group[name.split("_")[0]].add(fold)
    assert len(folds_of_group) == 40
    assert all(len(found) == 1 for found in folds_of_group.values())
    counts = np.bincount(fold_of, minlength=folds)
    assert np.abs(counts - len(names) / folds).max() <= sizes.max()


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_a_grouped_share(fraction: float) -> None:
    names = [f"{group}_{number}" for group in range(50) for number in range(1 + group % 5)]
    partition = Partition(fraction, group=r"^(\d+)_")
    val, train = (indices_of(names, split, partition, where="") for split in ("val", "train"))
    assert sorted(val + train) == list(range(len(names)))
    groups = [{names[index].split("_")[0] for index in part} for part in (val, train)]
    assert not groups[0] & groups[1]
    assert abs(len(val) - fraction * len(names)) <= 5


@pytest.mark.parametrize("group", [None, r"^(\d+)_"])
def test_splits_depend_on_names_and_seed_not_on_order(group: str | None) -> None:
    names = [f"{number // 3}_{number}" for number in range(60)]
    partition = Partition(folds=4, group=group)
    fold_of = dict(zip(names, folds_of(names, partition), strict=True))
    assert dict(zip(names[::-1], folds_of(names[::-1], partition), strict=True)) == fold_of
    assert dict(zip(names, folds_of(names, partition._replace(split_seed=1)), strict=True)) != fold_of


@pytest.mark.parametrize("group", [None, r"^(\d+)_"])
def test_an_image_that_is_added_moves_few_others(group: str | None) -> None:
    names = [f"{number // 3}_{number}" for number in range(300)]
    partition = Partition(folds=5, group=group)
    before = dict(zip(names, folds_of(names, partition), strict=True))
    for number in range(20):
        after = folds_of([*names, f"{1000 + number}_new"], partition)
        moved = sum(fold != before[name] for name, fold in zip(names, after, strict=False))
        assert moved <= (5 - 1) * (1 if group is None else 3)  # a group at each of the cuts


def test_groups_of_any_sizes_are_cut_near_to_the_shares() -> None:
    rng = np.random.default_rng(0)
    for number in range(400):
        count = int(rng.integers(2, 30))
        folds = int(rng.integers(2, min(count, 8) + 1))
        sizes = (1 + rng.pareto(1, count) * 3).astype(int) if number % 2 else rng.integers(1, 30, count)
        order, shares = [str(index) for index in range(count)], [1 / folds] * folds
        part_of = cut(order, sizes.tolist(), shares)
        assert sorted(set(part_of.values())) == list(range(folds))  # none is empty
        assert [part_of[group] for group in order] == sorted(part_of.values())  # consecutive groups
        held = np.bincount([part_of[group] for group in order], weights=sizes)
        assert np.abs(held - sizes.sum() / folds).max() <= sizes.max()
        place = int(rng.integers(count + 1))
        more = cut([*order[:place], "new", *order[place:]], [*sizes[:place], 1, *sizes[place:]], shares)
        assert sum(more[group] != part_of[group] for group in order) <= folds - 1


def test_the_pattern_s_first_group_or_its_whole_match() -> None:
    names = ["a1_x", "a1_y", "b2_x", "b2_y"]
    for pattern in (r"^(..)_", r"^..", r"(?:a|b)\d", r"([ab])(\d)"):
        fold_of = folds_of(names, Partition(folds=2, group=pattern))
        assert fold_of[0] == fold_of[1] != fold_of[2] == fold_of[3]


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        (Partition(fold=1), "dataset.fold=1 without dataset.folds"),
        (
            Partition(folds=3),
            r"dataset.folds=3 needs dataset.fold, from 0 to 2\nall of them: -m dataset.fold=0,1,2",
        ),
        (Partition(folds=3, fold=3), "dataset.fold=3 is not one of the 3 folds, 0 to 2"),
        (Partition(0.2, folds=3, fold=0), "dataset.folds=3 and dataset.val_fraction=0.2: set only one"),
        (Partition(group="x"), "dataset.group has no effect without"),
        (Partition(folds=5, fold=0), "holds 4 images, too few for dataset.folds=5"),
        (Partition(folds=3, fold=0, group="^."), "holds 2 groups, too few for dataset.folds=3"),
        (Partition(0.5, group="^.*(_)"), "holds 1 groups, too few for dataset.val_fraction=0.5"),
        (Partition(0.5, group="("), "dataset.group=. is not a regular expression: .*\nsuch as"),
        (Partition(0.5, group="z"), "matches none of the 4 images below .*: 4 do not match, the first: a1_x"),
        (
            Partition(0.5, group="a(.)"),
            "matches not all of the 4 images below .*: 2 do not match, the first: b2_x",
        ),
        (Partition(0.5, group="(z*)"), "matches none of"),
    ],
)
def test_what_cannot_be_split_is_an_error_in_words(partition: Partition, words: str) -> None:
    with pytest.raises(DataError, match=words):
        indices_of(["a1_x", "a1_y", "b2_x", "b2_y"], "val", partition, where="images")


def test_images_that_do_not_match_are_left_out_where_problems_are_collected() -> None:
    with collecting() as problems:
        parts = [
            indices_of(["a1", "b1", "c", "d1"], split, Partition(0.5, group=r".(?=\d)"), where="images")
            for split in ("val", "train")
        ]
    assert len(problems) == 2
    assert sorted(parts[0] + parts[1]) == [0, 1, 3]


def test_another_split_is_not_made() -> None:
    with pytest.raises(
        DataError, match="dataset split test: dataset.val_fraction=0.5 makes train and val only"
    ):
        indices_of(["a", "b"], "test", Partition(0.5), where="images")


def test_a_pattern_that_would_take_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "LONGEST_SEARCH", 0.2)
    begun = time.monotonic()
    with pytest.raises(DataError, match=re.escape("dataset.group=^(a+)+$ takes longer than 0.2 s")):
        indices_of(["a" * 60 + "b", "a"], "val", Partition(0.5, group="^(a+)+$"), where="images")
    assert time.monotonic() - begun < 5
    assert indices_of(["a", "b"], "val", Partition(0.5, group="."), where="images")  # the timer is off
    time.sleep(0.3)


def test_a_very_long_name_is_refused() -> None:
    with pytest.raises(DataError, match="has more than 1000 characters"):
        indices_of(["a" * 1001, "b"], "val", Partition(0.5, group="."), where="images")
