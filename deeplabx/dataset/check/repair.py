"""A repaired copy of a data set: a folder data set with links to the files that are right, new files in
place of those that are not, and a classes.yaml. Nothing in the source is changed.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image

from deeplabx.dataset.check.edges import packed as packed_pixels
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.files import LEFT_OUT
from deeplabx.dataset.check.finding import Finding
from deeplabx.dataset.check.known_values import INSTANCES
from deeplabx.dataset.check.scan import without_data
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.stored import is_image, stored_label
from deeplabx.dataset.check.values import APART, Table, distance
from deeplabx.dataset.contract import IGNORE_INDEX, WIDE_IGNORE_INDEX
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import read_stored, turned
from deeplabx.dataset.labels import MAX_CLASSES, packed, unpacked, voc_palette
from deeplabx.dataset.listing import nfc
from deeplabx.dataset.writing import place_for
from deeplabx.errors import DataError

DAMAGED = ("lossy_mask", "compressed_mask", "smooth_edges")
SHOWN = 3  # before and after, of each kind of repair
RECORD = "repairs.json"


class Shown(NamedTuple):
    """A sample before and after its repair."""

    kind: str  # of the finding
    words: str
    image: np.ndarray  # uint8 H x W x 3
    before: np.ndarray  # raw values as stored: ids H x W, or colours H x W x 3
    after: np.ndarray  # train ids H x W


class Repaired(NamedTuple):
    """What was done. counts: samples by what was done to them."""

    counts: dict[str, int]
    left_out: list[Path]  # images that are not in the copy
    names: list[str]
    palette: list[tuple[int, int, int]]
    ignore_index: int
    shown: list[Shown]

    def colours_of(self, ids: np.ndarray) -> np.ndarray:
        """uint8 H x W x 3 of train ids; void is white."""
        table = np.full((WIDE_IGNORE_INDEX + 1, 3), 255, np.uint8)
        table[: len(self.palette)] = self.palette
        return table[ids]


class Plan(NamedTuple):
    """What is done to each sample."""

    table: Table
    table_kind: str  # of the finding that it mends; empty where it is the data set's own
    words: dict[str, str]  # what is done, by kind of finding
    removed: set[Path]  # images and labels of the samples that are left out
    by_file: dict[Path, list[str]]  # kinds of repairs, by image or label
    colours: dict[int, str]  # class by packed colour, of masks of colours among masks of ids


def repair(
    findings: Sequence[Finding],
    facts: Sequence[Facts],
    files: Mapping[str, LabelledFiles],
    stated: Stated,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Write the repaired copy into `out`, which must be new or empty. files: by split.

    Raises DataError where no finding can be repaired, or where no class would be left.
    """
    if not is_repairable(findings):
        raise DataError("nothing that was found can be repaired automatically; nothing was written")
    refuse_occupied(out)
    plan = plan_of(findings, stated)
    out.mkdir(parents=True, exist_ok=True)
    write_classes_yaml(out / "classes.yaml", plan.table, stated)
    counts: Counter[str] = Counter()
    left_out: list[Path] = []
    shown: list[Shown] = []
    names = Names()
    for number, one in enumerate(facts, start=1):
        if progress is not None:
            progress(number, len(facts))
        assert one.image is not None
        assert one.label is not None
        if {one.image, one.label} & plan.removed:
            left_out.append(one.image)
            continue
        kinds = [*plan.by_file.get(one.image, []), *plan.by_file.get(one.label, [])]
        place = names.of(one)
        done = repaired_sample(one, files[one.split], plan, kinds, out, place, stated)
        if done is None:
            left_out.append(one.image)
            continue
        counts.update(kinds or ["unchanged"])
        of_table = [plan.table_kind] if plan.table_kind else []
        new = [kind for kind in [*kinds, *of_table] if sum(other.kind == kind for other in shown) < SHOWN]
        shown += [Shown(kind, plan.words[kind], *done) for kind in new]
    if len(left_out) == len(facts):
        raise DataError(f"no sample would be left; {out} holds only its classes.yaml")
    ignore = WIDE_IGNORE_INDEX if len(plan.table.names) > 254 else IGNORE_INDEX
    found = Repaired(
        dict(counts), left_out, plan.table.names, palette_of(plan.table.names, stated), ignore, shown
    )
    record = {"done": found.counts, "left_out": [str(path) for path in left_out]}
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return found


def is_repairable(findings: Sequence[Finding]) -> bool:
    return any(finding.repair for finding in findings)


def refuse_occupied(out: Path) -> None:
    """Raise DataError unless `out` is new or empty."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"out={out} already exists; nothing was written", hint="use a new folder")


def plan_of(findings: Sequence[Finding], stated: Stated) -> Plan:
    with_table = [finding for finding in findings if "classes_yaml" in finding.details]
    table = (
        table_of(with_table[0])
        if with_table
        else Table(list(stated.names), meaning_of(stated), stated.by_colour)
    )
    words = {finding.kind: finding.repair for finding in findings}
    removed: set[Path] = set()
    by_file: dict[Path, list[str]] = {}
    colours: dict[int, str] = {}
    needs_void = False
    for finding in findings:
        if not finding.repair:
            continue
        if finding.repair == LEFT_OUT:
            removed |= set(finding.files)
        removed |= {Path(path) for path in finding.details.get("remove", ())}
        if finding.kind in (*DAMAGED, "instance_ids", "colours_among_ids", "resized_mask", "no_data"):
            needs_void = needs_void or finding.kind in (*DAMAGED, "no_data")
            for path in finding.files:
                by_file.setdefault(path, []).append(finding.kind)
        for text, name in finding.details.get("colours", {}).items():
            red, green, blue = map(int, text.split(","))
            colours[packed((red, green, blue))] = name
    if needs_void and "ignore" not in table.meaning.values():
        table.meaning[free_void(table)] = "ignore"
    return Plan(table, with_table[0].kind if with_table else "", words, removed, by_file, colours)


def table_of(finding: Finding) -> Table:
    plain = finding.details["classes_yaml"]
    by_colour = any(isinstance(raw, str) for raw in plain["label_map"])
    meaning = {
        packed(tuple(map(int, raw.split(",")))) if by_colour else int(raw): name  # type: ignore[arg-type]
        for raw, name in plain["label_map"].items()
    }
    return Table(list(plain["classes"]), meaning, by_colour)


def meaning_of(stated: Stated) -> dict[int, str]:
    return {
        raw: "ignore" if train_id == stated.ignore_index else stated.names[train_id]
        for raw, train_id in stated.train_ids.items()
    }


def free_void(table: Table) -> int:
    """A raw value for void that no class has."""
    if table.by_colour:
        return next(raw for raw in (0xFFFFFF, 0xE0E0C0, *range(1, 1 << 24)) if raw not in table.meaning)
    return next(raw for raw in (IGNORE_INDEX, WIDE_IGNORE_INDEX, *range(256)) if raw not in table.meaning)


def void_of(table: Table) -> int:
    return max(raw for raw, name in table.meaning.items() if name == "ignore")


# --- one sample ---------------------------------------------------------------------------------------------


class Names:
    """Where the samples are in the copy: <split>/<name of the image>, with a number where two would be
    equal.
    """

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def of(self, one: Facts) -> Path:
        assert one.image is not None
        key = nfc(f"{one.split}/{one.image.stem}")
        self.taken[key] += 1
        again = f"_{self.taken[key]}" if self.taken[key] > 1 else ""
        return Path(one.split) / f"{one.image.stem}{again}"


def repaired_sample(
    one: Facts, files: LabelledFiles, plan: Plan, kinds: list[str], out: Path, place: Path, stated: Stated
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Write or link a sample; its image, its raw values before, and its train ids after. None where its class
    cannot be told.
    """
    assert one.image is not None
    assert one.label is not None
    raw = stored_label(files, one.label)
    values = raw.values
    if "instance_ids" in kinds:
        values = np.where(values >= INSTANCES, values // INSTANCES, values)
    if "colours_among_ids" in kinds:
        values = ids_of_colours(values, plan)
    if set(kinds) & set(DAMAGED):
        snapped = certain(values, plan.table, smooth="smooth_edges" in kinds)
        if snapped is None:
            return None
        values = snapped
    image, orientation = read_stored(one.image, channels=files.image_channels)
    if "resized_mask" in kinds:
        image = turned(image, orientation)
        values, orientation = raw._replace(values=values).upright().values, 1
        height, width = values.shape[:2]
        interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=interpolation)
    if "no_data" in kinds:
        empty = without_data(image, 0) | without_data(image, 255)
        values = values.copy()
        values[empty] = unpacked(void_of(plan.table)) if plan.table.by_colour else void_of(plan.table)
    to_image = Path("images") / place.with_name(f"{place.name}{one.image.suffix.lower()}")
    to_label = Path("masks") / place.with_name(f"{place.name}.png")
    if "resized_mask" in kinds:
        write_png(out / to_image.with_suffix(".png"), image)
    else:
        link(out / to_image, one.image)
    if values is raw.values and is_image(files):
        link(out / to_label.with_suffix(one.label.suffix.lower()), one.label)
    else:
        write_png(out / to_label, values)
    shown = image if image.shape[2] == 3 else image[..., :1].repeat(3, axis=2)
    return shown, raw.values, train_ids(values, plan.table)


def train_ids(values: np.ndarray, table: Table) -> np.ndarray:
    """uint16 H x W: the index of the class of each value; what is void or not in the table is 65535."""
    index_of = {name: index for index, name in enumerate(table.names)}
    flat = packed_pixels(values) if values.ndim == 3 else values
    found, where = np.unique(flat, return_inverse=True)
    ids = [index_of.get(table.meaning.get(raw, "ignore"), WIDE_IGNORE_INDEX) for raw in found.tolist()]
    return np.array(ids, np.uint16)[where].reshape(flat.shape)


def ids_of_colours(values: np.ndarray, plan: Plan) -> np.ndarray:
    """Raw ids of a mask of colours."""
    raw_of = {name: raw for raw, name in reversed(plan.table.meaning.items())}
    flat = packed_pixels(values)
    found, where = np.unique(flat, return_inverse=True)
    ids = [raw_of[plan.colours.get(colour, "ignore")] for colour in found.tolist()]
    return np.array(ids, np.int32)[where].reshape(flat.shape)


def certain(values: np.ndarray, table: Table, *, smooth: bool) -> np.ndarray | None:
    """The values of a damaged mask whose class is certain; the others are void. None where compression noise
    may reach from the value of one class to another's.

    Compression moves values a little: each is taken for the nearest of the table. A pixel is certain if it
    lies in a square of 3 x 3 equal pixels, as the ramp between two classes has none; of compressed colours,
    7 x 7, and not at its border.
    """
    known = sorted(table.meaning)
    void = void_of(table)
    side, border = 3, 0
    if not smooth:
        near = min(
            (distance(a, b, by_colour=table.by_colour) for i, a in enumerate(known) for b in known[:i]),
            default=0,
        )
        if near < APART:
            return None
        # JPEG stores hues at half the size: what lies between two classes can be a third one, and borders
        # move.
        side, border = (7, 2) if table.by_colour else (3, 0)
        values = nearest_known(values, known, within=near / 3, void=void, by_colour=table.by_colour)
    flat = packed_pixels(values) if values.ndim == 3 else values.astype(np.int32)
    solid = np.zeros(flat.shape, bool)
    for raw in known:
        own = np.pad((flat == raw).astype(np.uint8), side)  # opening must not see beyond the border
        inside = cv2.erode(own, np.ones((side, side), np.uint8))
        grown = cv2.dilate(inside, np.ones((side - 2 * border,) * 2, np.uint8))
        solid |= grown[side:-side, side:-side] > 0
    kept = np.array(values, copy=True)
    kept[~solid] = unpacked(void) if table.by_colour else void
    return kept


def nearest_known(
    values: np.ndarray, known: Sequence[int], *, within: float, void: int, by_colour: bool
) -> np.ndarray:
    """Each value as the nearest one of `known`; void where none is near enough."""
    flat = packed_pixels(values) if by_colour else values
    found, where = np.unique(flat, return_inverse=True)
    channels = np.array([unpacked(raw) if by_colour else (raw,) for raw in found.tolist()], np.int64)
    centres = np.array([unpacked(raw) if by_colour else (raw,) for raw in known], np.int64)
    chosen = np.empty(len(found), np.int64)
    for begin in range(0, len(found), 4096):
        part = slice(begin, begin + 4096)
        apart = np.abs(channels[part, None] - centres[None]).max(axis=2)
        best = apart.argmin(axis=1)
        near = apart[np.arange(len(best)), best] <= within
        chosen[part] = np.where(near, np.array(known)[best], void)
    ids = chosen[where].reshape(flat.shape)
    if not by_colour:
        return ids.astype(np.int32)
    return np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=2).astype(np.uint8)


# --- files --------------------------------------------------------------------------------------------------


def link(place: Path, target: Path) -> None:
    place_for(place).symlink_to(target.absolute())


def write_png(path: Path, values: np.ndarray) -> None:
    """An image, or a mask of colours or of ids; ids above 255 take 16 bits."""
    if values.ndim == 2:
        values = values.astype(np.uint8 if values.max(initial=0) <= 255 else np.uint16)
    Image.fromarray(values).save(place_for(path), format="PNG")


def palette_of(names: Sequence[str], stated: Stated) -> list[tuple[int, int, int]]:
    """The colours of the data set's own classes; VOC's where there are others."""
    own = dict(zip(stated.names, stated.palette, strict=False))
    return [own.get(name, colour) for name, colour in zip(names, voc_palette(len(names)), strict=True)]


def write_classes_yaml(path: Path, table: Table, stated: Stated) -> None:
    """The table of classes, which `dataset=folder` reads."""
    if not 2 <= len(table.names) <= MAX_CLASSES:
        raise DataError(f"{len(table.names)} classes would be left; there must be 2 to {MAX_CLASSES}")
    palette = palette_of(table.names, stated)
    colours = len(set(palette)) == len(palette)
    classes: Any = (
        {name: list(colour) for name, colour in zip(table.names, palette, strict=True)}
        if colours
        else table.names
    )
    text = yaml.safe_dump(
        {"classes": classes, "label_map": table.to_plain()["label_map"]},
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
    )
    place_for(path).write_text(text, encoding="utf-8")
