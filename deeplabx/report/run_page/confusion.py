"""Which class is mistaken for which: the confusion matrix, and the largest confusions with examples."""

from typing import NamedTuple

import numpy as np

from deeplabx.errors import DeeplabxError
from deeplabx.report.page import Block, Cell, Gallery, Heatmap, Section, Share, Swatch, Table, Text
from deeplabx.report.run_page.examples import Examples, crop_around, cropped, figures
from deeplabx.report.run_page.facts import Facts
from deeplabx.report.run_page.images import legend

MOST_SHOWN = 30  # classes in the matrix
WORST = 10
CROP_SIDE = 220  # pixels of a figure
OTHERS = "all others"


class Confusion(NamedTuple):
    """Pixels labelled `label` that are predicted as `predicted`. share: of the label's pixels."""

    label: int
    predicted: int
    pixels: int
    share: float


def confusion_section(facts: Facts, examples: Examples) -> list[Section]:
    if facts.record is None:
        return []
    matrix = facts.record.counts.confusion()
    blocks: list[Block] = [*heatmap(matrix, facts.record.classes)]
    worst = worst_confusions(matrix)
    if not worst:
        return [Section("Confusions", [*blocks, Text("No pixel is predicted as another class.")])]
    blocks.append(Section("Largest confusions", [worst_table(facts, worst)]))
    if facts.samples is None:
        blocks.append(Text(f"No examples: {facts.no_images}"))
    else:
        blocks += [*legend(facts), *(example_section(facts, examples, one) for one in worst)]
    return [Section("Confusions", blocks)]


def heatmap(matrix: np.ndarray, classes: list[str]) -> list[Block]:
    """Rows in shares of the label's pixels. Of many classes the most frequent; the others are one column."""
    labelled = matrix.sum(axis=1)
    used = labelled + matrix.sum(axis=0)
    order = np.argsort(-used, kind="stable")
    shown = np.sort(order[:MOST_SHOWN])
    counts = matrix[np.ix_(shown, shown)].astype(np.float64)
    names = [classes[index] for index in shown]
    columns, words = list(names), "Each row: how the pixels with that label were predicted, in percent."
    if len(shown) < len(classes):
        rest = matrix[shown].sum(axis=1) - counts.sum(axis=1)
        counts = np.concatenate([counts, rest[:, None]], axis=1)
        columns.append(OTHERS)
        words += (
            f" Of {len(classes)} classes, the {len(shown)} with the most pixels are shown; predictions of "
        )
        words += "the others are in the last column."
    with np.errstate(invalid="ignore"):
        values = np.where(labelled[shown, None] > 0, counts / labelled[shown, None], np.nan)
    chart = Heatmap("Confusion matrix", names, columns, values.tolist(), "predicted", "label")
    return [chart, Text(words, quiet=True)]


def worst_confusions(matrix: np.ndarray) -> list[Confusion]:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST]
    found = []
    for label, predicted in zip(*np.unravel_index(order, matrix.shape), strict=True):
        pixels = int(matrix[label, predicted])
        if label != predicted and pixels:
            share = pixels / int(matrix[label].sum())
            found.append(Confusion(int(label), int(predicted), pixels, share))
    return found


def worst_table(facts: Facts, worst: list[Confusion]) -> Table:
    assert facts.record is not None
    classes, palette = facts.record.classes, facts.record.palette
    rows: list[list[Cell]] = [
        [
            Swatch(palette[one.label], classes[one.label]),
            Swatch(palette[one.predicted], classes[one.predicted]),
            one.pixels,
            Share(one.share),
            int((facts.record.counts.pixels_of(one.label, one.predicted) > 0).sum()),
        ]
        for one in worst
    ]
    return Table(["label", "predicted as", "pixels", "of the label", "images"], rows)


def example_section(facts: Facts, examples: Examples, one: Confusion) -> Section:
    """Where it is largest, in the image that has most of it."""
    record = facts.record
    assert record is not None
    label, predicted = record.classes[one.label], record.classes[one.predicted]
    title = f"{label} mistaken for {predicted}"
    pixels = np.where(examples.has_prediction, record.counts.pixels_of(one.label, one.predicted), 0)
    if not pixels.any():
        return Section(title, [Text("No prediction was kept of an image that has it.", quiet=True)])
    position = int(pixels.argmax())
    try:
        found = examples.at(position)
    except DeeplabxError as error:
        return Section(title, [Text(f"No example: {error.message}")])
    where = (found.label == one.label) & (found.predicted == one.predicted)
    if not where.any():  # thin, and lost where the prediction was shrunk
        words = f"The most are in {found.name}, where they are thinner than the kept prediction shows."
        return Section(title, [Text(words, quiet=True)])
    shown = figures(
        cropped(found, crop_around(where)),
        record.palette,
        ignore_index=record.ignore_index,
        captions=("image", f"label: {label}", f"prediction: {predicted}"),
        side=CROP_SIDE,
    )
    words = f"{found.name}: {int(pixels[position]):,} of the {one.pixels:,} pixels"
    return Section(title, [Gallery(shown, words, columns=3)])
