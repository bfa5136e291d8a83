"""The page of `data check`: what was found, with an image of each fault."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabx.dataset.check.finding import Finding, Level
from deeplabx.dataset.contract import Palette
from deeplabx.dataset.statistics import SplitStatistics
from deeplabx.report.fault_figures import SIDE, coloured, example_section
from deeplabx.report.label_overlay import fitted
from deeplabx.report.lenient import ReadLabel
from deeplabx.report.page import (
    Block,
    Card,
    Cell,
    Command,
    Details,
    Figure,
    Gallery,
    Names,
    Section,
    Share,
    Swatch,
    Table,
    Text,
    Tiles,
    write_page,
)

MOST_EXAMPLES = 4  # of a finding that are shown


class BeforeAfter(NamedTuple):
    """What a repair does to a file.

    words: what changed. image: uint8 RGB H x W x 3, or None. before, after: of the mask, ids H x W (each gets
    a colour of its own, the same in both) or uint8 colours H x W x 3.
    """

    words: str
    image: np.ndarray | None
    before: np.ndarray
    after: np.ndarray


def write_check_page(
    path: Path,
    name: str,
    splits: Sequence[SplitStatistics],
    findings: Sequence[Finding],
    *,
    classes: Sequence[str],
    palette: Palette,
    repairs: Mapping[str, Sequence[BeforeAfter]] | None = None,
    repair_command: str = "",
    read_label: ReadLabel | None = None,
) -> None:
    """Write the page in place of an older one.

    name: of the data set. splits: what `deeplabx.dataset.statistics.summed` says of each that was checked.
    repairs: what was done, by `Finding.kind`. repair_command: the command line that repairs, shown if a
    finding can be repaired. read_label: how the data set reads the stored values of a mask, as `stored_label`
    does; None: masks are read as image files.

    Findings are shown in their order, errors first. Files are read again for their figures, however damaged.
    """
    order = list(Level)
    ranked = sorted(findings, key=lambda one: order.index(one.level))
    counts = Counter(one.level for one in ranked)
    images = sum(one.images for one in splits)
    sections = [Section("Summary", summary_blocks(splits, counts, classes, ranked, repair_command))]
    for level in Level:
        own = [one for one in ranked if one.level == level]
        if own:
            cards = [finding_card(one, (repairs or {}).get(one.kind, ()), read_label) for one in own]
            sections.append(Section(f"{level.capitalize()}s ({len(own)})", cards))
    sections.append(Section("Classes", class_blocks(splits, classes, palette)))
    write_page(path, f"Check of {name}", sections, words=verdict(counts, images=images))


def verdict(counts: Mapping[Level, int], *, images: int) -> str:
    """What follows from the findings, in one sentence."""
    errors, warnings = counts.get(Level.ERROR, 0), counts.get(Level.WARNING, 0)
    if errors:
        return f"{plural(errors, 'error')}: training on these files would fail or go wrong."
    if warnings:
        return f"No errors; look at {plural(warnings, 'warning')} before you train."
    return f"No faults were found in {plural(images, 'image')} with their masks."


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def summary_blocks(
    splits: Sequence[SplitStatistics],
    counts: Mapping[Level, int],
    classes: Sequence[str],
    findings: Sequence[Finding],
    repair_command: str,
) -> list[Block]:
    unreadable = sum(one.unreadable for one in splits)
    shown: list[tuple[str, Cell]] = [(f"images of {one.split}", one.images) for one in splits]
    shown += [("classes", len(classes))]
    shown += [("images that cannot be used", unreadable)] if unreadable else []
    shown += [(f"{level}s", counts.get(level, 0)) for level in Level]
    levels = {f"{level}s": str(level) for level in Level if counts.get(level)}
    if not counts.get(Level.ERROR):
        levels["errors"] = "good"
    blocks: list[Block] = [Tiles(shown, {**levels, "images that cannot be used": "error"})]
    rows: list[list[Cell]] = [
        [one.words, str(one.level), len(one.files) or None, "yes" if one.repair else "no"] for one in findings
    ]
    if rows:
        blocks.append(Table(["finding", "level", "files", "can be repaired"], rows))
    if repair_command and any(one.repair for one in findings):
        blocks.append(Command(repair_command, "Repair what can be repaired:"))
    return blocks


def finding_card(finding: Finding, repairs: Sequence[BeforeAfter], read_label: ReadLabel | None) -> Card:
    blocks: list[Block] = [Text(finding.fix)] if finding.fix else []
    if finding.repair:
        blocks.append(Text(f"fix=true: {finding.repair}"))
    if finding.files:
        names = Names([str(path) for path in finding.files])
        blocks.append(Section(plural(len(finding.files), "file"), [names]))
    for example in finding.examples[:MOST_EXAMPLES]:
        blocks.append(example_section(example, read_label=read_label))
    more = len(finding.examples) - MOST_EXAMPLES
    if more > 0:
        blocks.append(Text(f"{plural(more, 'further example')} of these files not shown here.", quiet=True))
    if repairs:
        blocks.append(Section("Before and after", [block for one in repairs for block in repair_blocks(one)]))
    if finding.details:
        rows = [[str(key), detail_words(value)] for key, value in finding.details.items()]
        blocks.append(Details("Numbers", [Table(["what", "value"], rows)]))
    return Card(str(finding.level), finding.words, blocks)


def detail_words(value: object) -> Cell:
    if isinstance(value, str | int | float) or value is None:
        return value
    words = str(value)
    return words if len(words) <= 300 else f"{words[:300]} …"


def repair_blocks(repair: BeforeAfter) -> list[Block]:
    image = [] if repair.image is None else [Figure(fitted(repair.image, side=SIDE), "image", most=SIDE)]
    masks = [
        Figure(coloured(fitted(mask, side=SIDE, exact=True)), words, exact=True, most=SIDE)
        for mask, words in ((repair.before, "before"), (repair.after, "after"))
    ]
    return [Text(repair.words), Gallery([*image, *masks])]


def class_blocks(splits: Sequence[SplitStatistics], classes: Sequence[str], palette: Palette) -> list[Block]:
    """Which classes the masks hold that could be read."""
    columns = ["class"]
    for one in splits:
        columns += [f"{one.split}: share", "images"]
    rows: list[list[Cell]] = []
    for at, name in enumerate(classes):
        shares = [cell for one in splits for cell in (Share(float(one.shares[at])), int(one.holding[at]))]
        rows.append([Swatch(palette[at], name), *shares])
    void = [cell for one in splits for cell in (Share(one.void), int(one.holding[-1]))]
    rows.append([Swatch((255, 255, 255), "void", hatched=True), *void])
    words = "Class shares are of the valid pixels, the void share is of all pixels. "
    return [Table(columns, rows), Text(f"{words}The page of deeplabx data stats says more.", quiet=True)]
