"""deeplabx compare: which of several evaluations is better, by how much, and how sure that is."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.config import schema
from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import replace
from deeplabx.errors import ConfigError, printable
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.compare.comparison import Comparison, compared, entry_named
from deeplabx.report.compare.entries import Evaluated, alike, entries_of
from deeplabx.report.compare.page import write_compare_page
from deeplabx.report.compare.tables import csv_text, plain, terminal_text
from deeplabx.run.compared_images import examples_of
from deeplabx.run.evaluated import IGNORED, evaluations_of


def main(job: Job) -> None:
    """Print the table and write compare.csv, compare.json and compare.html into `out`."""
    config: schema.CompareConfig = job.config
    with ended_by_signals("stopped, nothing was written"):
        evaluated, words = read(config.runs)
        entries = entries_of(alike(evaluated), ignored=IGNORED)
        baseline = None if config.baseline is None else entry_named(entries, config.baseline)
        comparison = compared(entries, baseline=baseline, resamples=config.resamples, seed=config.seed)
        examples = examples_of(comparison, most=config.images)
        title = title_of(comparison)
        table = plain(comparison, words=words)
        text = json.dumps(table, indent=2, allow_nan=False)
        replace(place_for(job.folder / "compare.json"), text + "\n")
        replace(place_for(job.folder / "compare.csv"), csv_text(comparison))
        write_compare_page(job.folder / "compare.html", title, comparison, examples, words=words)
    for line in words:
        print(f"warning: {printable(line)}", file=sys.stderr)
    print(terminal_text(comparison, title=title, words=[]))
    print(f"\nwritten to {job.folder / 'compare.html'}, compare.csv and compare.json")


def read(runs: Sequence[str]) -> tuple[list[Evaluated], list[str]]:
    """The evaluations of all folders, and what is said of jobs that are left out. Raises ConfigError for a
    folder that is given twice.
    """
    found: dict[Path, Evaluated] = {}
    said: list[str] = []
    for run in runs:
        evaluated, words = evaluations_of(Path(run))
        said += words
        for one in evaluated:
            place = one.folder.resolve()
            if place in found:
                raise ConfigError(
                    f"{one.folder} is given twice",
                    hint="name each folder once; a sweep already includes its jobs",
                )
            found[place] = one
    return list(found.values()), said


def title_of(comparison: Comparison) -> str:
    reference = comparison.reference
    record = reference.runs[0].record
    images = sum(len(reference.of_fold(fold)[0].record.names) for fold in reference.folds)
    folds = f" in {len(reference.folds)} folds" if len(reference.folds) > 1 else ""
    where = f"split {record.split} of {record.dataset}, {images:,} images{folds}"
    return f"{len(comparison.rows)} entries on {where}"
