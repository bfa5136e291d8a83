"""The data set of a config, opened with all its problems noted and examined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabx.config import schema
from deeplabx.dataset.check.examine import Split, findings_of, stated_of
from deeplabx.dataset.check.facts import Facts
from deeplabx.dataset.check.finding import Finding, Level
from deeplabx.dataset.check.stated import Stated
from deeplabx.dataset.class_table import classes_in
from deeplabx.dataset.files import LabelledFiles
from deeplabx.dataset.problems import collecting
from deeplabx.dataset.readable import ReadableSet
from deeplabx.errors import DataError
from deeplabx.run.build import dataset_of
from deeplabx.run.scanning import scanned


@dataclass(frozen=True)
class CheckedData:
    """What a check read and found. stated: None where labels are not files."""

    splits: list[Split]
    facts: list[Facts]
    findings: list[Finding]
    stated: Stated | None

    @property
    def files(self) -> dict[str, LabelledFiles]:
        """The splits whose labels are files, by name."""
        own = {split.name: split.samples.samples for split in self.splits if split.samples is not None}
        return {name: files for name, files in own.items() if isinstance(files, LabelledFiles)}

    def of_level(self, level: Level) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]


def check_data(
    dataset: schema.DatasetSettings,
    *,
    splits: Sequence[str],
    workers: int | str,
) -> CheckedData:
    """Open these splits, read every sample and look for faults. The first split is the one that is trained
    on.

    Raises ConfigError for wrong settings and ResourceError when a worker is lost; what is wrong with the
    data is a finding.
    """
    opened = [opened_split(dataset, split) for split in splits]
    samples = [split.samples for split in opened if split.samples is not None]
    facts = scanned(samples, workers=workers, words="check")
    return examined(dataset, opened, facts)


def examined(dataset: schema.DatasetSettings, opened: list[Split], facts: list[Facts]) -> CheckedData:
    classes = classes_in(Path(dataset.root or "/") / "classes.yaml")
    found = findings_of(opened, facts, classes=classes)
    readable = [split for split in opened if split.samples is not None]
    return CheckedData(opened, facts, found, stated_of(readable, classes=classes))


def opened_split(dataset: schema.DatasetSettings, split: str) -> Split:
    """A split with its problems: those that were reported, and the one that it could not be opened for."""
    samples: ReadableSet | None = None
    with collecting() as problems:
        try:
            samples = dataset_of(dataset, split=split)
        except DataError as error:
            problems.append(error)
    return Split(split, samples, problems)
