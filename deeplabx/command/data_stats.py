"""deeplabx data stats: what the splits of a data set hold, in the terminal, as JSON and as a page."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deeplabx.command.job import Job
from deeplabx.config import schema
from deeplabx.dataset.statistics import SplitStatistics, plain, suggested_crop, summed
from deeplabx.dataset.writing import place_for
from deeplabx.engine.durable import replace
from deeplabx.errors import DataError
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.stats_page import terminal_text, write_stats_page
from deeplabx.run.build import dataset_of
from deeplabx.run.scanning import scanned, split_names


def main(job: Job) -> None:
    """Print the statistics and write stats.json and stats.html into `out`."""
    config: schema.DataStatsConfig = job.config
    with ended_by_signals("stopped, nothing was written"):
        splits = [
            dataset_of(config.dataset, split=name) for name in split_names(config.dataset, config.splits)
        ]
        facts = scanned(splits, workers=config.workers, words="read")
        classes, palette = splits[0].classes, splits[0].palette
        found = [summed(facts, split=one.split, num_classes=len(classes)) for one in splits]
        if config.dataset.on_bad == "abort":
            refuse_unreadable(found)
        training = next((one for one in found if one.split == config.dataset.train_split), found[0])
        name = config.dataset.name
        write_json(job.folder / "stats.json", name, classes, found, training)
        write_stats_page(job.folder / "stats.html", name, classes, palette, found, training=training)
    for words in dict.fromkeys(words for one in splits for words in one.left_out):
        print(words, file=sys.stderr)
    print(terminal_text(name, classes, found, training=training))
    print(f"\nwritten to {job.folder / 'stats.html'} and stats.json")


def refuse_unreadable(found: Sequence[SplitStatistics]) -> None:
    """Raise the DataError of the first sample that cannot be used, with the number of such samples."""
    for one in found:
        if one.problems:
            first = one.problems[0]
            raise DataError(
                f"{one.unreadable:,} of {one.images:,} images of split {one.split} cannot be used, the "
                f"first: {first.message}",
                hint=first.hint or "dataset.on_bad=skip counts the others",
            )


def write_json(
    path: Path,
    name: str,
    classes: Sequence[str],
    found: Sequence[SplitStatistics],
    training: SplitStatistics,
) -> None:
    table = {
        "dataset": name,
        "classes": list(classes),
        "splits": {one.split: plain(one, classes) for one in found},
        "suggested": {
            "of_split": training.split,
            "augment.crop_size": suggested_crop(training.sizes),
            "loss.class_weights": training.class_weights(),
        },
    }
    replace(place_for(path), json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
