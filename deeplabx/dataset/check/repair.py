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

from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.files import LEFT_OUT
from deeplabx.dataset.check.finding import Finding, Level
from deeplabx.dataset.check.known_values import INSTANCES
from deeplabx.dataset.check.mended import certain, free_void, ids_of_colours, train_ids, with_void
from deeplabx.dataset.check.scan import without_data
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.stored import is_image, stored_label
from deeplabx.dataset.check.value_table import Table
from deeplabx.dataset.contract import IGNORE_INDEX, WIDE_IGNORE_INDEX
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.image_file import read_stored, turned
from deeplabx.dataset.label_file import fitting
from deeplabx.dataset.labels import MAX_CLASSES, packed, voc_palette
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
    # Images and labels of the samples that are left out; with its split, an image that stays in another one.
    removed: set[Path | tuple[str, Path]]
    not_mended: set[Path]  # images and labels with an error that has no repair
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
    refuse_among_samples(out, facts)
    plan = plan_of(findings, stated, own_void=any(has_own_void(own) for own in files.values()))
    refuse_table(plan.table)
    out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    left_out: list[Path] = []
    shown: list[Shown] = []
    names = Names()
    for number, one in enumerate(facts, start=1):
        if progress is not None:
            progress(number, len(facts))
        assert one.image is not None
        assert one.label is not None
        if {one.image, one.label, (one.split, one.image)} & plan.removed:
            left_out.append(one.image)
            continue
        kinds = list(dict.fromkeys([*plan.by_file.get(one.image, []), *plan.by_file.get(one.label, [])]))
        place = names.of(one)
        if {one.image, one.label} & plan.not_mended and is_image(files[one.split]):
            link_sample(one, out, place)
            counts["with an error that has no repair"] += 1
            continue
        done = repaired_sample(one, files[one.split], plan, kinds, out, place)
        if done is None:
            left_out.append(one.image)
            continue
        counts.update(kinds or ["as they were"])
        of_table = [plan.table_kind] if plan.table_kind else []
        new = [kind for kind in [*kinds, *of_table] if sum(other.kind == kind for other in shown) < SHOWN]
        shown += [Shown(kind, plan.words[kind], *done) for kind in new]
    if len(left_out) == len(facts):
        raise DataError("no sample would be left, so no copy was written")
    ignore = WIDE_IGNORE_INDEX if len(plan.table.names) > 254 else IGNORE_INDEX
    found = Repaired(
        dict(counts), left_out, plan.table.names, palette_of(plan.table.names, stated), ignore, shown
    )
    # Last: without its table of classes, a copy that was interrupted cannot be trained on.
    write_classes_yaml(out / "classes.yaml", plan.table, stated)
    record = {"done": found.counts, "left_out": [str(path) for path in left_out]}
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return found


def is_repairable(findings: Sequence[Finding]) -> bool:
    return any(finding.repair for finding in findings)


def refuse_occupied(out: Path) -> None:
    """Raise DataError unless `out` is new or empty."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"out={out} already exists; nothing was written", hint="use a new folder")


def refuse_among_samples(out: Path, facts: Sequence[Facts]) -> None:
    """Raise DataError where `out` is in a folder of the data set's files: the copy would be part of it."""
    folders = {path.parent for one in facts for path in (one.image, one.label) if path is not None}
    inside = {folder.resolve() for folder in folders} & {out.resolve(), *out.resolve().parents}
    if inside:
        raise DataError(
            f"out={out} is below {min(inside)}, where the data set has files; nothing was written",
            hint="use a folder outside the data set",
        )


def has_own_void(files: LabelledFiles) -> bool:
    return files.mask_alpha == "void" or not is_image(files)


def plan_of(findings: Sequence[Finding], stated: Stated, *, own_void: bool = False) -> Plan:
    """own_void: whether labels have void pixels that are no raw value, as transparent ones are."""
    with_table = [finding for finding in findings if "classes_yaml" in finding.details]
    table = (Table.from_plain(with_table[0].details["classes_yaml"]) if with_table else None) or Table(
        list(stated.names), stated.meaning, stated.by_colour
    )
    words = {finding.kind: finding.repair for finding in findings}
    removed: set[Path | tuple[str, Path]] = set()
    not_mended: set[Path] = set()
    by_file: dict[Path, list[str]] = {}
    colours: dict[int, str] = {}
    needs_void = own_void
    for finding in findings:
        if not finding.repair:
            not_mended |= set(finding.files) if finding.level == Level.ERROR else set()
            continue
        if finding.repair == LEFT_OUT:
            removed |= set(finding.files)
        split = finding.details.get("remove_from")
        for path in map(Path, finding.details.get("remove", ())):
            removed.add((split, path) if split else path)
        if finding.kind in (*DAMAGED, "instance_ids", "colours_among_ids", "resized_mask", "no_data"):
            needs_void = needs_void or finding.kind in (*DAMAGED, "no_data", "colours_among_ids")
            for path in finding.files:
                by_file.setdefault(path, []).append(finding.kind)
        for text, name in finding.details.get("colours", {}).items():
            red, green, blue = map(int, text.split(","))
            colours[packed((red, green, blue))] = name
    if needs_void and "ignore" not in table.meaning.values():
        table.meaning[free_void(table)] = "ignore"
    return Plan(table, with_table[0].kind if with_table else "", words, removed, not_mended, by_file, colours)


# --- one sample ---------------------------------------------------------------------------------------------


class Names:
    """Where the samples are in the copy: <split>/<name of the image>, with a number where two would be
    equal.
    """

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def of(self, one: Facts) -> Path:
        assert one.image is not None
        own = nfc(f"{one.split}/{one.image.stem}")
        key, number = own, 1
        while key in self.taken:
            number += 1
            key = f"{own}_{number}"
        self.taken.add(key)
        return Path(one.split) / f"{one.image.stem}{key.removeprefix(own)}"


def repaired_sample(
    one: Facts, files: LabelledFiles, plan: Plan, kinds: list[str], out: Path, place: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Write or link a sample; its image, its raw values before, and its train ids after. None where no
    class is certain.
    """
    assert one.image is not None
    assert one.label is not None
    raw = stored_label(files, one.label, alpha="void")
    values = raw.values if raw.values.ndim == 3 else raw.values.astype(np.int32)
    before = values
    if "instance_ids" in kinds:
        values = np.where(values >= INSTANCES, values // INSTANCES, values)
    if "colours_among_ids" in kinds:
        values = ids_of_colours(values, plan.table, plan.colours)
    if set(kinds) & set(DAMAGED):
        snapped = certain(values, plan.table, smooth="smooth_edges" in kinds)
        if snapped is None:
            return None
        values = snapped
    if raw.void is not None and files.mask_alpha != "keep":
        values = with_void(values, raw.void, plan.table)
    image, orientation = read_stored(one.image, channels=files.image_channels)
    # Links keep EXIF and the number of channels; what is written is upright and has those that are used.
    image_changed = files.image_channels is not None or "resized_mask" in kinds
    changed = values is not before or raw.void is not None or raw.bits == 1 or not is_image(files)
    if "resized_mask" in kinds:
        image, values = turned(image, orientation), turned(values, raw.orientation)
        height, width = values.shape[:2]
        interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=interpolation)
    else:
        turn_image, turn_label = fitting(
            (one.image, (image.shape[1], image.shape[0]), orientation),
            (one.label, (values.shape[1], values.shape[0]), raw.orientation),
        )
        image = turned(image, orientation if turn_image else 1)
        values = turned(values, raw.orientation if turn_label else 1)
    if "no_data" in kinds:
        empty = without_data(image, 0) | without_data(image, 255)
        values, changed = with_void(values, empty, plan.table), True
    turns = orientation != 1 or raw.orientation != 1
    image_changed, changed = image_changed or (changed and turns), changed or (image_changed and turns)
    to_image = Path("images") / place.with_name(f"{place.name}{one.image.suffix.lower()}")
    to_label = Path("masks") / place.with_name(f"{place.name}.png")
    if image_changed:
        write_png(out / to_image.with_name(f"{place.name}.png"), image)
    else:
        link(out / to_image, one.image)
    if changed:
        write_png(out / to_label, values)
    else:
        link(out / to_label.with_name(f"{place.name}{one.label.suffix.lower()}"), one.label)
    return image, before, train_ids(values, plan.table)


def link_sample(one: Facts, out: Path, place: Path) -> None:
    """A sample as it is, whose faults a person has to mend: the copy has them too."""
    for folder, path in (("images", one.image), ("masks", one.label)):
        assert path is not None
        link(out / folder / place.with_name(f"{place.name}{path.suffix.lower()}"), path)


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


def refuse_table(table: Table) -> None:
    """Raise DataError for classes that a classes.yaml cannot have."""
    if not 2 <= len(table.names) <= MAX_CLASSES:
        raise DataError(f"{len(table.names)} classes would be left; there must be 2 to {MAX_CLASSES}")
    if "ignore" in table.names:
        raise DataError(
            "a class is named ignore, which means void in the label_map of the copy; no copy was written",
            hint="rename the class",
        )


def write_classes_yaml(path: Path, table: Table, stated: Stated) -> None:
    """The table of classes, which `dataset=folder` reads."""
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
