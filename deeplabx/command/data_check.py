"""deeplabx data check: the faults of a data set by cause, how to mend them, and a repaired copy."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deeplabx.command.compose import composed
from deeplabx.command.job import Job
from deeplabx.command.quoting import unquoted
from deeplabx.config import checks, schema
from deeplabx.dataset.check.finding import Finding, Level, number
from deeplabx.dataset.check.repair import Repaired, is_repairable, refuse_occupied, repair
from deeplabx.dataset.check.stored import stored_label
from deeplabx.dataset.statistics import summed
from deeplabx.dataset.writing import place_for
from deeplabx.engine import durable
from deeplabx.errors import DataError, printable
from deeplabx.process.signals import ended_by_signals
from deeplabx.report.check_page import BeforeAfter, write_check_page
from deeplabx.run.checked_data import CheckedData, check_data
from deeplabx.run.scanning import split_names

NAMED = 2  # files of a finding in the terminal


def main(job: Job) -> None:
    """Print what was found and write check.json and check.html into `out`; with fix=true, the repaired copy
    too.

    Raises DataError where training would go wrong: on the copy, if there is one.
    """
    config: schema.DataCheckConfig = job.config
    out = job.folder
    if config.fix:
        refuse_occupied(out)
    with ended_by_signals("stopped"):
        found = checked(config, config.dataset)
        print(text_of(found, name=config.dataset.name))
        repaired: Repaired | None = None
        failed: DataError | None = None
        try:
            repaired = repaired_copy(found, out) if config.fix else None
        except DataError as error:
            failed = error
        write_json(out / "check.json", config, found, repaired)
        write_page(out / "check.html", config, found, repaired, overrides=job.overrides)
        if failed is not None:
            raise failed
        if repaired is not None:
            print(f"\n{repaired_text(repaired, out)}")
            found = checked(config, folder_at(out, config.dataset))
            print(f"\nthe copy, checked again: {text_of(found, name='folder')}")
        elif config.fix:
            print("\nnothing of this can be repaired automatically; no copy was written")
    print(f"\nwritten to {out / 'check.html'} and check.json")
    errors = found.of_level(Level.ERROR)
    if errors:
        raise DataError(
            f"training on {'the copy' if repaired else 'this data set'} would go wrong: "
            f"{number(errors, 'error')}, the first: {errors[0].words}",
            hint=errors[0].fix,
            kind=errors[0].kind,
        )
    if repaired is not None:
        print(f"next: {training_command(config.dataset, out)}")


def repaired_copy(found: CheckedData, out: Path) -> Repaired | None:
    """None where nothing can be repaired, as of labels that are not files."""
    if found.stated is None or not is_repairable(found.findings):
        return None
    with tqdm(
        total=len(found.facts), desc="repair", unit="image", leave=False, disable=not sys.stderr.isatty()
    ) as bar:
        return repair(
            found.findings,
            found.facts,
            found.files,
            found.stated,
            out,
            progress=lambda done, _: advance(bar, done),
        )


def advance(bar: "tqdm[Any]", done: int) -> None:
    bar.update(done - bar.n)


def checked(config: schema.DataCheckConfig, dataset: schema.DatasetSettings) -> CheckedData:
    return check_data(dataset, splits=split_names(dataset, config.splits), workers=config.workers)


def folder_at(out: Path, dataset: schema.DatasetSettings) -> schema.DatasetSettings:
    """The settings of the repaired copy."""
    folder: schema.DatasetSettings = checks.checked(composed("data check", ["dataset=folder"])).dataset
    return replace(folder, root=str(out), train_split=dataset.train_split, split=dataset.split)


def training_command(dataset: schema.DatasetSettings, out: Path) -> str:
    """For the copy, whose splits have the names that they had."""
    names = {"train_split": (dataset.train_split, "train"), "split": (dataset.split, "val")}
    splits = [f" dataset.{key}={shlex.quote(own)}" for key, (own, usual) in names.items() if own != usual]
    return f"deeplabx train dataset=folder dataset.root={shlex.quote(str(out))}{''.join(splits)}"


# --- in the terminal ----------------------------------------------------------------------------------------


def text_of(found: CheckedData, *, name: str) -> str:
    """The findings, errors first, with what to do about each."""
    images = ", ".join(
        f"{sum(one.split == split.name for one in found.facts)} of {split.name}" for split in found.splits
    )
    counts = ", ".join(number(found.of_level(level), str(level)) for level in Level)
    lines = [f"{name}: {images}; {counts}"]
    for finding in found.findings:
        lines += ["", f"{finding.level}: {finding.words}  [{finding.kind}]"]
        lines += [f"  {line}" for line in finding.fix.splitlines()]
        if finding.files:
            more = len(finding.files) - NAMED
            names = ", ".join(str(path) for path in finding.files[:NAMED])
            lines.append(f"  {names}{f', and {more} more' if more > 0 else ''}")
        if finding.repair:
            lines.append(f"  fix=true: {finding.repair}")
    return "\n".join(printable(line) for line in lines)


def repaired_text(repaired: Repaired, out: Path) -> str:
    done = ", ".join(f"{count:,} {kind}" for kind, count in sorted(repaired.counts.items()))
    lines = [
        f"repaired copy in {out}, by samples: {done}",
        "it has links to the unchanged files, so keep the data set where it is",
    ]
    if repaired.left_out:
        more = ", ..." if len(repaired.left_out) > NAMED else ""
        first = ", ".join(str(path) for path in repaired.left_out[:NAMED])
        count = number(repaired.left_out, "sample")
        lines.append(f"left out of it: {count}, listed in repairs.json: {first}{more}")
    return "\n".join(printable(line) for line in lines)


# --- files --------------------------------------------------------------------------------------------------


def write_json(
    path: Path, config: schema.DataCheckConfig, found: CheckedData, repaired: Repaired | None
) -> None:
    counts = {str(level): len(found.of_level(level)) for level in Level}
    splits = {split.name: sum(one.split == split.name for one in found.facts) for split in found.splits}
    table = {
        "dataset": config.dataset.name,
        "root": config.dataset.root,
        "images": splits,
        "counts": counts,
        "findings": [plain(finding) for finding in found.findings],
        "repaired": None
        if repaired is None
        else {"done": repaired.counts, "left_out": [str(one) for one in repaired.left_out]},
    }
    durable.replace(place_for(path), json.dumps(table, indent=2, allow_nan=False) + "\n")


def plain(finding: Finding) -> dict[str, Any]:
    found = asdict(finding)
    found["level"] = str(finding.level)
    found["files"] = [str(path) for path in finding.files]
    found["examples"] = [
        {**asdict(one), "image": text_or_none(one.image), "label": text_or_none(one.label)}
        for one in finding.examples
    ]
    return found


def text_or_none(path: Path | None) -> str | None:
    return None if path is None else str(path)


def write_page(
    path: Path,
    config: schema.DataCheckConfig,
    found: CheckedData,
    repaired: Repaired | None,
    *,
    overrides: Sequence[str],
) -> None:
    opened = [split for split in found.splits if split.samples is not None]
    samples = opened[0].samples if opened else None
    classes = list(samples.classes) if samples else []
    by_path = {one.label: found.files[one.split] for one in found.facts if one.split in found.files}

    def reader(label: Path) -> np.ndarray:
        if label not in by_path:
            raise DataError(f"{label} is no label of a sample")
        return stored_label(by_path[label], label).values

    write_check_page(
        path,
        config.dataset.name,
        [summed(found.facts, split=split.name, num_classes=len(classes)) for split in opened],
        found.findings,
        classes=classes,
        palette=samples.palette if samples else [],
        repairs=before_and_after(repaired) if repaired else None,
        repair_command=repair_command(overrides),
        read_label=reader,
    )


def repair_command(overrides: Sequence[str]) -> str:
    """The same command line, which writes a copy. Paths lose Hydra's quotes, which the command line puts
    there.
    """
    pairs = [one.partition("=") for one in overrides if not one.startswith(("fix=", "out="))]
    own = [f"{key}{sign}{unquoted(value)}" for key, sign, value in pairs]
    return shlex.join(["deeplabx", "data", "check", *own, "fix=true", "out=DIR"])


def before_and_after(repaired: Repaired) -> Mapping[str, Sequence[BeforeAfter]]:
    found: dict[str, list[BeforeAfter]] = {}
    for one in repaired.shown:
        found.setdefault(one.kind, []).append(
            BeforeAfter(one.words, one.image, one.before, repaired.colours_of(one.after))
        )
    return found
