"""Where the numbers come from: weights, data, settings and machine."""

from deeplabx.report.page import Block, Cell, Command, Details, Section, Table
from deeplabx.report.run_page.facts import Facts

SHOWN = (
    *("deeplabx", "python", "torch", "platform", "device", "driver", "cuda", "cudnn", "cpu", "processes"),
    *("threads", "workers", "precision", "deterministic"),
)


def origin_section(facts: Facts) -> list[Section]:
    blocks: list[Block] = []
    if facts.again:
        blocks.append(Command(facts.again, "The same again:"))
    rows: list[list[Cell]] = [[name, value] for name, value in facts.origin]
    if rows:
        blocks.append(Table(["origin", "value"], rows))
    machine: list[list[Cell]] = [
        [name, plain(facts.environment[name])] for name in SHOWN if facts.environment.get(name) is not None
    ]
    if machine:
        blocks.append(Table(["environment", "value"], machine))
    if facts.config:
        blocks.append(Details("The whole config", [Command(facts.config)]))
    return [Section("Provenance", blocks)] if blocks else []


def plain(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)[:300]
