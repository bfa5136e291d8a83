"""The quick form of a check, before a training: a few samples of each split."""

import time
from collections.abc import Iterator

from deeplabx.dataset.check.examine import Split, findings_of
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Level
from deeplabx.dataset.check.scan import facts_of
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.readable import ReadableSet

SAMPLES = {"training": 48, "evaluated": 16}
SECONDS = 2.0  # after which no further sample is read
# What a few samples can show, and training would not notice.
KINDS = (
    "smooth_edges",
    "compressed_mask",
    "class_order",
    "no_data",
    "constant_image",
    "void_label",
)


def quick_check(training: ReadableSet, evaluated: ReadableSet, *, command: str) -> list[str]:
    """Lines for the log about faults in a few samples from all parts of both splits; nothing for generated
    data. command: that checks all samples.

    Raises the DataError of a sample that cannot be read, unless such samples are skipped.
    """
    sets = dict(zip(SAMPLES, (training, evaluated), strict=True))
    if not all(isinstance(samples.samples, LabelledFiles) for samples in sets.values()):
        return []
    until = time.monotonic() + SECONDS
    facts: list[Facts] = []
    for samples, count in zip(sets.values(), SAMPLES.values(), strict=True):
        facts += read_some(samples, count, until=until)
    found = findings_of([Split(one.split, one, []) for one in sets.values()], facts)
    lines = [
        f"warning: of {len(facts)} samples checked: {one.words}; {one.fix}"
        for one in found
        if one.kind in KINDS and one.level != Level.NOTE
    ]
    return [*lines, f"{command} checks all samples and shows them"] if lines else []


def read_some(samples: ReadableSet, count: int, *, until: float) -> Iterator[Facts]:
    for index in range(0, len(samples), max(1, -(-len(samples) // count))):
        if time.monotonic() > until:
            return
        facts = facts_of(samples, index)
        if facts.problems and not samples.skip_unreadable:
            raise facts.problems[0]
        yield facts
