"""report.html: what a run or an evaluation has found, from the files in its folder."""

from pathlib import Path

from deeplabx.report.page import Block, write_page
from deeplabx.report.run_page.boundaries import boundary_section
from deeplabx.report.run_page.calibration import calibration_section
from deeplabx.report.run_page.classes import class_table
from deeplabx.report.run_page.confusion import confusion_section
from deeplabx.report.run_page.cost import cost_section, time_section
from deeplabx.report.run_page.curves import curves
from deeplabx.report.run_page.examples import Examples
from deeplabx.report.run_page.facts import Facts
from deeplabx.report.run_page.images import image_section
from deeplabx.report.run_page.objects import object_section
from deeplabx.report.run_page.origin import origin_section
from deeplabx.report.run_page.summary import commands, summary, warnings
from deeplabx.report.statistics import bootstrap

__all__ = ["Facts", "write_run_page"]


def write_run_page(path: Path, facts: Facts) -> None:
    """Write the page in place of an older one. Raises DataError where `path` is a link or a folder."""
    write_page(path, facts.title, sections(facts), words=facts.words)


def sections(facts: Facts) -> list[Block]:
    interval = None if facts.record is None else bootstrap(facts.record)
    found: list[Block] = [summary(facts, interval), *warnings(facts), *commands(facts), *curves(facts)]
    found += class_table(facts, interval)
    if facts.record is not None:
        examples = Examples(facts)
        found += [*confusion_section(facts, examples), *image_section(facts, examples)]
        found += [*boundary_section(facts), *object_section(facts), *calibration_section(facts)]
    return [*found, *cost_section(facts), *time_section(facts), *origin_section(facts)]
