"""Your own images and masks wherever they are below a folder, as a list says: train.csv or train.txt, each
line with the path of an image and that of its mask.
"""

import csv
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from deeplabx.dataset.class_table import ClassTable
from deeplabx.dataset.files import LabelledFiles, Pairs, complete
from deeplabx.dataset.listing import Names, contents, leads_out, nfc, numbered_lines
from deeplabx.dataset.problems import report
from deeplabx.dataset.splits import Partition, file_of_all, indices_of
from deeplabx.errors import DataError, printable, quoted

SUFFIXES = (".csv", ".txt", ".tsv")
DELIMITERS = (",", ";", "\t", " ")
IMAGE_COLUMNS = (
    "image",
    "images",
    "img",
    "image_path",
    "img_path",
    "image_file",
    "file_name",
    "filename",
    "file",
)
LABEL_COLUMNS = (
    "label",
    "labels",
    "mask",
    "masks",
    "label_path",
    "mask_path",
    "label_file",
    "mask_file",
    "annotation",
)
PATH_MARKS = set("./\\")  # what a path has, and the name of a column has not
LONGEST_LINE = 10_000  # characters
EXAMPLE = "a line is scans/a.jpg,labels/a.png, relative to dataset.root"


class Row(NamedTuple):
    line: int
    image: str
    label: str


class ListFiles(LabelledFiles):
    """One split of the folder `base`. annotations: the one list of all images, below it."""

    def __init__(
        self,
        *,
        base: Path,
        split: str,
        partition: Partition,
        annotations: str | None = None,
        mask_alpha: str = "refuse",
    ) -> None:
        path = list_of(base, split, partition, annotations)
        rows, words = rows_of(path, base)
        names = [nfc(row.image) for row in rows]
        refuse_doubles(path, rows, names)
        order = list(range(len(rows)))
        if partition.setting:
            order.sort(key=lambda index: names[index])
            chosen = indices_of([names[index] for index in order], split, partition, where=path)
            order = [order[index] for index in chosen]
        files = Names()
        pairs: Pairs = [
            (files.path(base, rows[index].image), files.path(base, rows[index].label)) for index in order
        ]
        pairs = complete(pairs, where=path, hint=EXAMPLE)
        table = ClassTable.read(base / "classes.yaml", masks=[label for _, label in pairs])
        super().__init__(pairs, label_map=table.label_map)
        self.classes, self.palette, self.ignore_index = table.names, table.palette, table.ignore_index
        self.mask_alpha, self.left_out = mask_alpha, words


def refuse_doubles(path: Path, rows: list[Row], names: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, name in zip(rows, names, strict=True):
        if name in seen:
            report(
                DataError(f"{path}: {quoted(row.image)} is on line {seen[name]} and again on line {row.line}")
            )
            return
        seen[name] = row.line


def list_of(base: Path, split: str, partition: Partition, annotations: str | None) -> Path:
    """The list of a split, or the one of all images where they are split here."""
    if annotations is not None:
        return file_of_all(base, annotations, partition, what="list")
    if partition.setting:
        found = sorted(path for path in base.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
        what = f"{partition.setting} splits one list of all images"
        hint = "set dataset.annotations to one of them, as in all.csv"
    else:
        found = [path for suffix in SUFFIXES if (path := base / f"{split}{suffix}").is_file()]
        what = f"the list of split {split} is {split}.csv or {split}.txt"
        hint = f"{EXAMPLE}; one list of all images is split with dataset.val_fraction=0.2"
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:4])
        raise DataError(f"{what}, but {base} has {names or 'none'}; {contents(base)}", hint=hint)
    return found[0]


# --- reading ------------------------------------------------------------------------------------------------


def rows_of(path: Path, base: Path) -> tuple[list[Row], list[str]]:
    """The rows of a list, their paths relative to `base`; and a line where its first one names the columns in
    words that are not known. Raises DataError.
    """
    numbered = numbered_lines(path)
    lines = [line for _, line in numbered]
    if any(len(line) > LONGEST_LINE for line in lines):
        raise DataError(f"{path}: a line has more than {LONGEST_LINE} characters")
    delimiter = delimiter_of(lines)
    try:
        # Each line on its own, so that an unclosed quote cannot swallow the lines after it.
        table = [
            next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
            for line in lines
        ]
    except csv.Error as error:
        raise DataError(f"{path} is not a list of two columns: {error}", hint=EXAMPLE) from None
    image, label, first = columns_of(table, path)
    rows = []
    for (number, line), cells in zip(numbered[first:], table[first:], strict=True):
        if len(cells) <= max(image, label) or (len(cells) != len(table[0])):
            raise DataError(
                f"{path}: line {number} has {len(cells)} columns, the first has {len(table[0])}: "
                f"{line[:80]!r}",
                hint=f"{EXAMPLE}; quote paths that hold {delimiter!r}",
            )
        rows.append(Row(number, inside(cells[image], base, path), inside(cells[label], base, path)))
    if not rows:
        raise DataError(f"{path} lists no images", hint=EXAMPLE)
    known = not first or table[0][image].strip().lower() in IMAGE_COLUMNS
    head = f"{path}: the first line is taken as the names of the columns: {lines[0][:80]}"
    return rows, [] if known else [printable(head)]


def delimiter_of(lines: list[str]) -> str:
    """The first of DELIMITERS that splits the first line in two or more."""
    for delimiter in DELIMITERS:
        try:
            if len([cell for cell in next(csv.reader([lines[0]], delimiter=delimiter)) if cell]) > 1:
                return delimiter
        except csv.Error:
            continue  # a quote that this delimiter tears apart; reading says so, if none fits
    return DELIMITERS[0]


def columns_of(table: list[list[str]], path: Path) -> tuple[int, int, int]:
    """The columns of image and label, and the first row of data."""
    head = [cell.strip().lower() for cell in table[0]]
    images, labels = (
        [index for index, cell in enumerate(head) if cell in known]
        for known in (IMAGE_COLUMNS, LABEL_COLUMNS)
    )
    if len(images) == len(labels) == 1:
        return images[0], labels[0], 1
    if len(head) == 2 and any(set(cell) & PATH_MARKS for cell in head):
        return 0, 1, 0
    if len(head) == 2 and not images and not labels:
        return 0, 1, 1
    raise DataError(
        f"{path} has {len(head)} columns: {', '.join(table[0])[:120]}; which are image and label?",
        hint=f"use two columns, or a first line that names them image and label; {EXAMPLE}",
    )


def inside(name: str, base: Path, path: Path) -> str:
    """A path relative to the data set's folder, with one / between folders and without ./"""
    name = name.strip().replace("\\", "/")
    if not name:
        raise DataError(f"{path}: a path is empty", hint=EXAMPLE)
    absolute = Path(name).is_absolute() and Path(name).is_relative_to(base.absolute())
    found = Path(name).relative_to(base.absolute()).as_posix() if absolute else name
    if leads_out(found):
        raise DataError(
            f"{path}: {name!r} leads out of the data set's folder",
            hint="paths are relative to dataset.root, without .. and without a / at the start",
        )
    return PurePosixPath(found).as_posix()
