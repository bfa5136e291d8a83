"""Why the raw values of masks are not those that the data set states, and the table that would be right.

First what a single mask shows of itself, then what the values of the other masks have in common.
"""

from collections.abc import Sequence
from dataclasses import replace

from deeplabx.dataset.check.colour_values import colours_among_ids, of_colours
from deeplabx.dataset.check.damage import damaged_edges, peaks
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Finding
from deeplabx.dataset.check.id_values import of_ids, palettes_differ
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.check.value_table import Table
from deeplabx.dataset.contract import IGNORE_INDEX


def of_values(facts: Sequence[Facts], stated: Stated) -> list[Finding]:
    """The findings about raw values; none where each is stated and no mask is damaged."""
    with_mask = [one for one in facts if one.label is not None and one.raw]
    damaged = [*damaged_edges(with_mask, stated)]
    hit = {path for finding in damaged for path in finding.files}
    rest = [one for one in with_mask if one.label not in hit]
    if not rest and not stated.by_colour:  # what most pixels hold
        rest = [replace(one, raw=peaks(with_mask, stated, by_colour=one.by_colour)) for one in with_mask[:1]]
    colours = [one for one in rest if one.by_colour]
    ids = [one for one in rest if not one.by_colour]
    found = list(damaged)
    if stated.by_colour or not ids:
        found += of_colours(colours, stated)
    else:
        found += of_ids(ids, stated)
        found += palettes_differ(ids, stated)
        if colours:
            found.append(colours_among_ids(colours, stated))
    return found


def table_in_order(facts: Sequence[Facts], stated: Stated) -> Table | None:
    """The table of classes in order, where the data set's own cannot be read whole and the ids fit its
    names.
    """
    found = {raw for one in facts for raw in one.raw}
    if stated.train_ids or not stated.names or any(one.by_colour for one in facts if one.raw):
        return None
    if not found <= {*range(len(stated.names)), IGNORE_INDEX}:
        return None
    meaning = dict(enumerate(stated.names))
    return Table(
        list(stated.names), meaning | ({} if IGNORE_INDEX in meaning else {IGNORE_INDEX: "ignore"}), False
    )
