"""deeplabx data check: the faults of a data set by cause, how to mend them, and a repaired copy."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deeplabx.command.compose import composed
from deeplabx.command.job import Job
from deeplabx.config import checks, schema
from deeplabx.dataset.check.finding import Finding, Level
from deeplabx.dataset.check.repair import Repaired, repair, repairable
from deeplabx.dataset.writing import place_for
from deeplabx.engine import durable
from deeplabx.errors import DataError, printable
from deeplabx.process.distributed import share_of_cores
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.check_page import write_check_page
from deeplabx.run.checked_data import CheckedData, check_data

MOST_WORKERS = 16  # of auto
NAMED = 3  # files of a finding in the terminal


def main(job: Job) -> None:
    """Print what was found and write check.json and check.html into `out`; with fix=true, the repaired copy too.

    Raises DataError where training would go wrong: of the copy, if there is one.
    """
    config: schema.DataCheckConfig = job.config
    out = Path(config.out)
    with ended_by_signals("stopped"):
        found = checked(config.dataset, config)
        print(text_of(found, name=config.dataset.name))
        repaired = None
        if config.fix and repairable(found.findings):
            repaired = repaired_copy(found, out)
        write_json(out / "check.json", found, repaired)
        write_check_page(out / "check.html", **about(found, config.dataset.name), repaired=repaired)
        print(f"\nwritten to {out / 'check.html'} and check.json")
        if repaired is not None:
            found = checked(folder_at(out, config.dataset), config)
            print(f"\nthe repaired copy: {text_of(found, name='folder')}")
            print(f"\nnext: deeplabx train dataset=folder dataset.root={out}")
        elif config.fix:
            print("nothing that was found can be repaired automatically")
    errors = found.of_level(Level.ERROR)
    if errors:
        what = "the repaired copy" if repaired is not None else "this data set"
        repair_words = (
            "" if config.fix or not repairable(found.findings) else "; fix=true out=DIR writes a copy"
        )
        raise DataError(
            f"training on {what} would go wrong: {len(errors)} error{'s' if len(errors) > 1 else ''}, the first: "
            f"{errors[0].kind}",
            hint=f"see {out / 'check.html'}{repair_words}",
            kind=errors[0].kind,
        )
