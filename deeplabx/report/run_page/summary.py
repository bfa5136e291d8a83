"""What matters most: the numbers, what is wrong, and the next commands."""

from deeplabx.errors import listed
from deeplabx.report.page import Block, Card, Cell, Command, Fixed, Names, Section, Table, Text, Tiles
from deeplabx.report.run_page.facts import Facts
from deeplabx.report.statistics import LEVEL, Bootstrap

MOST_NAMES = 12  # classes that a sentence lists


def summary(facts: Facts, interval: Bootstrap | None) -> Section:
    return Section("Summary", [*tiles(facts, interval), *interval_words(interval), *settings(facts)])


def tiles(facts: Facts, interval: Bootstrap | None) -> list[Block]:
    found = facts.metrics
    shown: list[tuple[str, Cell]] = []
    if found is not None:
        shown.append(("mIoU", Fixed(found.miou)))
        if interval is not None:
            shown.append((f"{LEVEL:.0%} interval", f"{interval.miou.low:.4f}–{interval.miou.high:.4f}"))
        shown += [
            ("pixel accuracy", Fixed(found.pixel_accuracy)),
            ("mean class accuracy", Fixed(found.mean_class_accuracy)),
        ]
        if facts.step is not None:
            shown.append(("step", facts.step))
        images = len(facts.record.names) if facts.record is not None else found.images
        shown.append((f"images of {facts.record.split}" if facts.record is not None else "images", images))
    if facts.is_run:
        shown.append(("run", facts.status.split(":")[0].split(",")[0]))
    tiles = Tiles(shown, {"run": facts.level, "mIoU": "note"})
    if found is not None:
        return (
            [tiles, Text(facts.status)] if facts.is_run and facts.level not in ("good", "error") else [tiles]
        )
    if not facts.is_run:
        return [Text("The files with the result of this evaluation cannot be read.")]
    words = "There is no evaluation yet, so this page has only what the run has logged."
    return [tiles, Text(facts.status), Text(words)]


def interval_words(interval: Bootstrap | None) -> list[Block]:
    if interval is None:
        return []
    words = (
        f"The {LEVEL:.0%} intervals come from a bootstrap over {interval.units:,} {interval.over}, with "
        f"{interval.resamples:,} resamples: they say how much the numbers would vary with other "
        f"{interval.over} like these, not with another seed of the training."
    )
    more = f"{interval.words[:1].upper()}{interval.words[1:]}." if interval.words else ""
    return [Text(f"{words} {more}".strip(), quiet=True)]


def settings(facts: Facts) -> list[Block]:
    rows = [[name, value] for name, value in facts.settings]
    return [Table(["evaluated with", "value"], rows)] if rows else []


def commands(facts: Facts) -> list[Section]:
    if not facts.commands:
        return []
    return [Section("Next", [Command(line, f"{words}:") for words, line in facts.commands])]


# --- what is wrong ------------------------------------------------------------------------------------------


def warnings(facts: Facts) -> list[Section]:
    """A card for each, or no section."""
    cards = [Card("warning", sentence) for sentence in facts.problems]
    if facts.is_run and facts.level == "error":
        cards.insert(0, Card("error", facts.status))
    for alarm in facts.alarms:
        step = Text(f"At step {alarm.step:,}.", quiet=True)
        cards.append(Card("warning", alarm.message, [Text(alarm.hint), step]))
    if facts.unreadable:
        count = len(facts.unreadable)
        title = f"{count:,} {'image' if count == 1 else 'images'} could not be read, and were left out"
        cards.append(Card("warning", title, [Names(list(facts.unreadable))]))
    cards += class_cards(facts)
    if facts.record is not None and facts.record.details is None:
        hint = "eval.details=true measures them: boundaries, objects by size, calibration."
        cards.append(Card("note", "Details were not measured, as eval.details=false asked", [Text(hint)]))
    return [Section(f"Warnings ({len(cards)})", cards)] if cards else []


def class_cards(facts: Facts) -> list[Card]:
    if facts.metrics is None:
        return []
    cards = []
    missed = [name for name, iou in facts.metrics.per_class_iou.items() if iou == 0]
    if missed:
        hint = "Not one of their pixels was predicted correctly. The tables below say what they were "
        hint += "predicted as; deeplabx data stats says how many pixels the training images have of them."
        cards.append(Card("warning", f"IoU 0: {listed(missed, MOST_NAMES)}", [Text(hint)]))
    if facts.metrics.absent:
        title = f"Neither labelled nor predicted: {listed(facts.metrics.absent, MOST_NAMES)}"
        cards.append(Card("note", title, [Text("They do not count in the mIoU.")]))
    return cards
