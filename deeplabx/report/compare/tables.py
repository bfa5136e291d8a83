"""A comparison as text for a terminal, as CSV and as JSON."""

import csv
import io
import math
from typing import Any

from deeplabx.errors import byte_words, printable
from deeplabx.process.terminal import columns, padded
from deeplabx.report.compare.comparison import Comparison, Row, notes, one_machine
from deeplabx.report.compare.entries import NUMBERS, Entry
from deeplabx.report.page.charts import number_words
from deeplabx.report.statistics import Interval


def points(value: float | None, *, sign: bool = False) -> str:
    """An IoU, or a difference of two, in percent: the field's points."""
    if value is None:
        return ""
    rounded = round(100 * value, 2) + 0.0  # without the sign of -0.00
    return f"{rounded:+.2f}" if sign and rounded else f"{rounded:.2f}"


def interval_words(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{points(interval.low, sign=True)} to {points(interval.high, sign=True)}"


def p_words(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def cost_words(entry: Entry, *, same_machine: bool) -> list[str]:
    """Parameters, multiply-adds, images/s and memory; empty where unknown."""
    parameters, adds, speed, memory = (entry.cost(name) for name in NUMBERS)
    return [
        "" if parameters is None else number_words(parameters),
        "" if adds is None else number_words(adds),
        "" if speed is None else f"{speed:.3g}{'' if same_machine else '*'}",
        "" if memory is None else byte_words(memory),
    ]


# --- terminal -----------------------------------------------------------------------------------------------


HEAD = (
    "",
    "mIoU %",
    "±",
    "n",
    "difference",
    "95 % interval",
    "p",
    "parameters",
    "mult-adds",
    "images/s",
    "memory",
)


def terminal_text(comparison: Comparison, *, title: str, words: list[str]) -> str:
    """The table, best first, with a verdict below each entry. words: further notes."""
    same = one_machine(comparison)
    rows = [
        [
            printable(row.entry.name, 200),
            points(row.entry.miou),
            points(row.entry.std),
            str(len(row.entry.runs)),
            "" if row.against is None else points(row.against.miou, sign=True),
            "" if row.against is None else interval_words(row.against.interval),
            p_words(row.p),
            *cost_words(row.entry, same_machine=same),
        ]
        for row in comparison.rows
    ]
    used = [at for at in range(len(HEAD)) if at == 0 or any(row[at] for row in rows)]
    widths = {at: max(columns(one[at]) for one in [list(HEAD), *rows]) for at in used}

    def line(cells: list[str]) -> str:
        shown = [padded(cells[at], widths[at]) if at == 0 else cells[at].rjust(widths[at]) for at in used]
        return "  ".join(shown).rstrip()

    verdicts = [f"  {row.verdict(baseline=comparison.baseline)}" for row in comparison.rows]
    body = [text for row, verdict in zip(rows, verdicts, strict=True) for text in (line(row), verdict)]
    below = [printable(one) for one in [*notes(comparison), *words]]
    return "\n".join([printable(title), "", line(list(HEAD)), *body, "", *below])


# --- files --------------------------------------------------------------------------------------------------


def plain_row(row: Row, comparison: Comparison) -> dict[str, Any]:
    entry, against = row.entry, row.against
    return {
        "name": entry.name,
        "miou": entry.miou,
        "std": entry.std,
        "n": len(entry.runs),
        "difference": None if against is None else against.miou,
        "low": None if against is None else against.interval.low,
        "high": None if against is None else against.interval.high,
        "p": None if against is None else against.p,
        "p_holm": row.p,
        "sure_better": None if against is None else against.sure,
        "verdict": row.verdict(baseline=comparison.baseline),
        **{name: entry.cost(name) for name in NUMBERS},
        "machine": entry.machine,
    }


def csv_text(comparison: Comparison) -> str:
    """A line for each entry; fractions, not percent."""
    rows = [plain_row(row, comparison) for row in comparison.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()  # names may be no UTF-8


def plain(comparison: Comparison, *, words: list[str]) -> dict[str, Any]:
    """Everything as JSON-ready data."""
    first = comparison.reference.runs[0].record
    return {
        "dataset": first.dataset,
        "split": first.split,
        "images": sum(
            len(comparison.reference.of_fold(fold)[0].record.names) for fold in comparison.reference.folds
        ),
        "reference": comparison.reference.name,
        "baseline": comparison.baseline,
        "resamples": comparison.resamples,
        "seed": comparison.seed,
        "notes": [*notes(comparison), *words],
        "entries": [
            {
                **plain_row(row, comparison),
                "settings": {name: plain_value(value) for name, value in row.entry.settings.items()},
                "runs": [
                    {
                        "folder": str(run.folder),
                        "seed": plain_value(run.seed),
                        "fold": plain_value(run.fold),
                        "step": run.record.step,
                        "miou": run.miou,
                    }
                    for run in row.entry.runs
                ],
                "per_class": {} if row.against is None else class_rows(row),
            }
            for row in comparison.rows
        ],
    }


def plain_value(value: Any) -> Any:
    """A setting as JSON has it; as text where JSON has no such value."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [plain_value(one) for one in value]
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def class_rows(row: Row) -> dict[str, dict[str, float | None]]:
    """Difference, interval and p of each class; None where there is none."""
    against = row.against
    assert against is not None
    found = {}
    for name, value in against.per_class.items():
        interval = against.class_intervals[name]
        found[name] = {
            "difference": value,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "p": against.class_p[name],
        }
    return found
