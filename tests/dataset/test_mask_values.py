"""Hints about classes.yaml: what they say is written, and then the masks are read."""

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from deeplabx.dataset.check.single_class import refuse_single_class
from deeplabx.dataset.folder import Folder
from deeplabx.dataset.mask_values import as_python, id_table, in_yaml
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import MOST_HINT, DataError, printable

RNG = np.random.default_rng(0)
STREETS = [tuple(colour) for colour in RNG.choice(256, (34, 3)).tolist()]
CITY = [(0, 0, 0), *STREETS[:4]]


def ids(*values: int, dtype: type = np.uint8) -> list[Image.Image]:
    """Six masks in which each of the values occurs in all."""
    return [
        Image.fromarray(RNG.permutation(np.resize(np.array(values, dtype), 40 * 30)).reshape(30, 40))
        for _ in range(6)
    ]


def colours(*values: Sequence[int]) -> list[Image.Image]:
    return [Image.fromarray(np.array(values, np.uint8)[np.array(mask)]) for mask in ids(*range(len(values)))]


def palette() -> list[Image.Image]:
    masks = ids(0, 1, 2)
    for mask in masks:
        mask.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    return masks


def one_bit() -> list[Image.Image]:
    return [mask.point(lambda value: 255 * value).convert("1") for mask in ids(0, 1)]


def seldom(value: int) -> list[Image.Image]:
    """The value occurs in one mask only, which is not looked at for a hint."""
    masks = [Image.new("L", (40, 30))] * 40
    return [*masks[:39], *ids(0, value)[:1], *masks[39:]]


def saved(root: Path, masks: list[Image.Image]) -> Path:
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir(parents=True)
    for number, mask in enumerate(masks):
        mask.save(root / "masks/train" / f"{number:02d}.png")
        Image.new("RGB", mask.size).save(root / "images/train" / f"{number:02d}.png")
    return root


def follow(error: DataError, root: Path) -> None:
    """Do what the hint says."""
    lines = error.hint.splitlines()
    assert len(lines) <= MOST_HINT
    assert all(printable(line) == line for line in lines)  # nothing is cut off
    table = root / "classes.yaml"
    if found := re.match(r"write the output of: python3 (.*)$", lines[0]):
        subprocess.run(f"{shlex.quote(sys.executable)} {found[1]}", shell=True, check=True)
    elif found := re.match(r"write (classes: .*)$", lines[0]):
        table.write_text(found[1])
    elif found := re.search(
        r"in classes.yaml, write (classes: .*), in place of classes and label_map$", error.hint
    ):
        keep = [line for line in table.read_text().splitlines() if line.startswith("ignore")]
        table.write_text("\n".join([found[1], *keep]))
    elif found := re.search(
        r"write (classes: .*) in classes.yaml, without ignore and label_map$", error.hint
    ):
        table.write_text(found[1])
    elif found := re.search(r"in classes.yaml, write (ignore: .*) if they are void; ", error.hint):
        keep = [line for line in table.read_text().splitlines() if not line.startswith("ignore")]
        table.write_text("\n".join([*keep, found[1]]))
    else:
        raise AssertionError(f"nothing to follow in {error.hint!r}")


def read(root: Path) -> list[np.ndarray]:
    """All labels, as training reads them."""
    samples = ReadableSet(Folder(root=str(root), split="train"))
    refuse_single_class(samples)
    return [samples.label(index) for index in range(len(samples))]


def after_hints(root: Path, *, most: int) -> tuple[list[np.ndarray], int]:
    """The labels, and how many hints were followed."""
    for rounds in range(most + 1):
        try:
            return read(root), rounds
        except DataError as error:
            if rounds == most:
                raise
            follow(error, root)
    raise AssertionError


def pairs_of_values(root: Path, labels: list[np.ndarray]) -> dict[object, set[int]]:
    """The train ids that each value in the masks became, read without the project."""
    became: dict[object, set[int]] = {}
    for number, label in enumerate(labels):
        raw = np.array(Image.open(root / "masks/train" / f"{number:02d}.png")).astype(int)
        raw = raw.reshape(*raw.shape[:2], -1)
        both = np.unique(
            np.concatenate([raw, label[..., None]], axis=2).reshape(-1, raw.shape[2] + 1), axis=0
        )
        for *value, train_id in both.tolist():
            became.setdefault(tuple(value), set()).add(train_id)
    return became


KINDS: dict[str, tuple[list[Image.Image], int, int]] = {
    "0 and 1": (ids(0, 1), 2, 0),
    "0 and 255": (ids(0, 255), 2, 0),
    "0, 127 and 255": (ids(0, 127, 255), 3, 0),
    "0 to 4": (ids(*range(5)), 5, 0),
    "1 to 5": (ids(*range(1, 6)), 5, 0),
    "0 to 2 and void": (ids(0, 1, 2, 255), 3, 1),
    "1, 3, 7 and void": (ids(1, 3, 7, 255), 3, 1),
    "150 classes and void": (ids(*range(150), 255), 151, 0),  # 255 may be void or not: it is named
    "300 classes": (ids(*range(300), dtype=np.uint16), 300, 0),
    "16 bits": (ids(0, 1000, 40000, dtype=np.uint16), 3, 0),
    "16 bits and void": (ids(0, 7, 300, 65535, dtype=np.uint16), 3, 1),
    "palette": (palette(), 3, 0),
    "one bit": (one_bit(), 2, 0),
    "5 colours": (colours(*CITY), 5, 0),
    "colours 0 and 255": (colours((0, 0, 0), (255, 255, 255)), 2, 0),
    "no black": (colours(*STREETS[:3]), 3, 0),
    "34 colours": (colours(*STREETS), 34, 0),
    "255 in one mask": (seldom(255), 2, 0),
    "1 in one mask": (seldom(1), 2, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_table_is_written_as_the_hint_says(tmp_path: Path, kind: str) -> None:
    masks, classes, void = KINDS[kind]
    root = saved(tmp_path, masks)
    labels, rounds = after_hints(root, most=2)
    assert rounds == (2 if kind == "255 in one mask" else 1)
    became = pairs_of_values(root, labels)
    assert all(len(train_ids) == 1 for train_ids in became.values())
    train_ids = [next(iter(found)) for found in became.values()]
    ignore_index = Folder(root=str(root), split="train").ignore_index
    assert train_ids.count(ignore_index) == void
    assert sorted(train_id for train_id in train_ids if train_id != ignore_index) == list(range(classes))


TABLES: dict[str, tuple[str, list[Image.Image], dict[tuple[int, ...], int]]] = {
    "0 and 255": ("classes: [background, object]", ids(0, 255), {(0,): 0, (255,): 1}),
    "0, 127 and 255": ("classes: [a, b, c]", ids(0, 127, 255), {(0,): 0, (127,): 1, (255,): 2}),
    "1 to 3": ("classes: [a, b, c]", ids(1, 2, 3), {(1,): 0, (2,): 1, (3,): 2}),
    "the background is not named": ("classes: [cat, dog]", ids(0, 1, 2), {(0,): 0, (1,): 1, (2,): 2}),
    "void": ("classes: [background, object]", ids(0, 1, 255), {(0,): 0, (1,): 1, (255,): 255}),
    "two void values": (
        "classes: [background, object]\nignore: [255]",
        ids(0, 1, 9, 255),
        {(0,): 0, (1,): 1, (9,): 255, (255,): 255},
    ),
    "a class is ignored": ("classes: [background, object]\nignore: [255]", ids(0, 255), {(0,): 0, (255,): 1}),
    "label_map of other values": (
        "classes: [a, b]\nlabel_map: {0: a, 1: b}",
        ids(0, 255),
        {(0,): 0, (255,): 1},
    ),
    "names that YAML reads otherwise": ("classes: ['no', 'a: b, {c']", ids(5, 6), {(5,): 0, (6,): 1}),
    "colours": ("classes: [background, object]", colours((0, 0, 0), (9, 9, 9)), {(0, 0, 0): 0, (9, 9, 9): 1}),
    "a void colour": (
        "classes: {a: [0, 0, 0], b: [9, 9, 9]}",
        colours((0, 0, 0), (9, 9, 9), (255, 255, 255)),
        {(0, 0, 0): 0, (9, 9, 9): 1, (255, 255, 255): 255},
    ),
    "16 bits": (
        "classes: [a, b]\nlabel_map: {7: a, 1000: b}",
        ids(7, 1000, 65535, dtype=np.uint16),
        {(7,): 0, (1000,): 1, (65535,): 255},
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_does_not_fit_is_changed_as_the_hint_says(tmp_path: Path, kind: str) -> None:
    table, masks, expected = TABLES[kind]
    root = saved(tmp_path, masks)
    (root / "classes.yaml").write_text(table)
    labels, rounds = after_hints(root, most=1)
    assert rounds == 1
    assert pairs_of_values(root, labels) == {value: {train_id} for value, train_id in expected.items()}


@pytest.mark.parametrize(
    ("table", "names", "known"),
    [
        ("{0: background, 255: object}", ["background", "object"], {0: 0, 255: 1}),
        ("{background: 0, object: 255}", ["background", "object"], {0: 0, 255: 1}),
        ("{255: object, 0: background}", ["background", "object"], {0: 0, 255: 1}),
        ("{10: b, 9: a, 100: c}", ["a", "b", "c"], {9: 0, 10: 1, 100: 2}),
        ("{0: a, 1: b, 2: b, 255: ignore}", ["a", "b"], {0: 0, 1: 1, 2: 1, 255: 255}),
        ("{a: 0, b: 1, ignore: 255}", ["a", "b"], {0: 0, 1: 1, 255: 255}),
        ("{0: a, 65535: b}", ["a", "b"], {0: 0, 65535: 1}),
        ("{0: фон, 1: 道路, 2: می‌خواهم}", ["фон", "道路", "می‌خواهم"], {0: 0, 1: 1, 2: 2}),
        ("{0: no, 1: 'yes'}", ["no", "yes"], {0: 0, 1: 1}),
    ],
)
def test_classes_may_be_a_table_of_ids(
    tmp_path: Path, table: str, names: list[str], known: dict[int, int]
) -> None:
    root = saved(tmp_path, ids(0, 1))
    (root / "classes.yaml").write_text(f"classes: {table}", encoding="utf-8")
    samples = Folder(root=str(root), split="train")
    assert samples.classes == names
    assert samples.label_map.known == known


def test_names_of_colours_may_be_numbers(tmp_path: Path) -> None:
    root = saved(tmp_path, colours((0, 0, 0), (9, 9, 9)))
    for table in ("{0: [0, 0, 0], 1: [9, 9, 9]}", "{0: '#000000', 1: '#090909'}", "{0: '0,0,0', 1: '9,9,9'}"):
        (root / "classes.yaml").write_text(f"classes: {table}")
        assert Folder(root=str(root), split="train").classes == ["0", "1"]


def test_a_table_may_be_written_on_two_systems(tmp_path: Path) -> None:
    root = saved(tmp_path, ids(0, 1))
    (root / "classes.yaml").write_text(
        "classes: [a, \u00e9]\nlabel_map: {0: a, 1: e\u0301}", encoding="utf-8"
    )
    assert Folder(root=str(root), split="train").classes == ["a", "\u00e9"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_in_another_encoding_is_refused_in_words(tmp_path: Path, encoding: str) -> None:
    root = saved(tmp_path, ids(0, 1))
    (root / "classes.yaml").write_text("classes: [a, Straße]", encoding=encoding)
    with pytest.raises(DataError, match="it is not UTF-8\nsave it as UTF-8"):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("name", ["classes.yml", "classes.yaml.txt"])
def test_a_table_of_another_name_is_noticed(tmp_path: Path, name: str) -> None:
    root = saved(tmp_path, ids(0, 1))
    (root / name).write_text("classes: [a, b]")
    with pytest.raises(DataError, match=f"is missing.*\nrename .*{name} to classes.yaml"):
        Folder(root=str(root), split="train")


@pytest.mark.parametrize("kind", ["smooth edges", "instances"])
def test_masks_that_hold_no_classes_are_described(tmp_path: Path, kind: str) -> None:
    if kind == "instances":
        masks = ids(*range(0, 1300), dtype=np.uint16)
        masks = [Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40))]
    else:
        circle = np.hypot(*np.mgrid[-100:100, -100:100]) < 60
        masks = [
            Image.fromarray((circle * 255).astype(np.uint8)).resize((400, 400), Image.Resampling.BILINEAR)
        ]
    root = saved(tmp_path, masks)
    with pytest.raises(
        DataError, match=r"the masks hold \d+ values, too many for classes: .*\n.*one value per"
    ):
        Folder(root=str(root), split="train")


def test_a_damaged_mask_does_not_hide_what_the_others_hold(tmp_path: Path) -> None:
    root = saved(tmp_path, ids(0, 255))
    (root / "masks/train/00.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"they hold 0, 255\)\nwrite classes: {0: background, 255: object}"):
        Folder(root=str(root), split="train")
    for path in (root / "masks/train").iterdir():
        path.write_bytes(b"no")
    with pytest.raises(DataError, match=r"masks/train/00.png: .*not a"):
        Folder(root=str(root), split="train")


def test_runs_and_tables() -> None:
    assert as_python([0, 1, 2, 3, 7, 9, 10]) == "*range(0, 4), 7, 9, 10"
    assert id_table([0], names=[]) == {0: "background", 1: "object"}
    assert id_table([255], names=[]) == {0: "background", 255: "object"}
    assert id_table([0, 1, 2, 255], names=["a", "b", "c", "d"])[255] == "d"
    assert yaml.safe_load(in_yaml({0: "a: b", 1: "no"})) == {"classes": {0: "a: b", 1: "no"}}


@pytest.mark.parametrize("table", ["", "classes: [background, vessel]\n"])
def test_white_of_one_bit_beside_masks_of_0_and_255_is_one_class(tmp_path: Path, table: str) -> None:
    """A program that shrinks files saved some of the masks with one bit."""
    root = saved(tmp_path, [*ids(0, 255)[:3], *one_bit()[:3]])
    if table:
        (root / "classes.yaml").write_text(table)
    labels, rounds = after_hints(root, most=1)
    assert rounds == 1
    for number, label in enumerate(labels):
        shown = np.array(Image.open(root / "masks/train" / f"{number:02d}.png").convert("L"))
        assert (label == shown // 255).all()
