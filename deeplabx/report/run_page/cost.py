"""What the model and the run cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deeplabx.dataset.json_file import nan_number, number
from deeplabx.errors import byte_words
from deeplabx.report.page import Bars, Block, Cell, Code, Details, Fixed, Section, Table, Text
from deeplabx.report.run_page.facts import Facts

EXPLAINED = (
    "Multiply-adds are those of the convolutions, in all passes for the first image, which has that size. "
    "Images per second is prediction alone, from the median time of an image; memory is the process's peak."
)


def cost_section(facts: Facts) -> list[Section]:
    blocks = [*of_model(facts.cost), *of_variants(facts.variants)]
    return [Section("Cost", blocks)] if blocks else []


def of_model(cost: Mapping[str, Any]) -> list[Block]:
    if not cost:
        return []
    height, width = number(cost.get("height")), number(cost.get("width"))
    size = f" at {width:.0f} x {height:.0f}" if height and width else ""
    parameters, adds = number(cost.get("parameters")), number(cost.get("multiply_adds"))
    speed, memory = number(cost.get("images_per_second")), number(cost.get("peak_memory"))
    threads = number(cost.get("threads"))
    rows: list[list[Cell]] = [
        ["parameters", None if parameters is None else f"{parameters / 1e6:.2f} million"],
        [f"multiply-adds{size}", None if adds is None else f"{adds / 1e9:.2f} billion"],
        ["images per second", None if speed is None else f"{speed:.4g}"],
        ["peak memory", None if memory is None else byte_words(int(memory))],
        ["measured on", str(cost.get("device", ""))[:200] or None],
        ["threads", None if threads is None else int(threads)],
    ]
    return [Table(["cost", "value"], rows), Text(EXPLAINED, quiet=True)]


def of_variants(variants: Mapping[str, Any]) -> list[Block]:
    """What `deeplabx report RUN variants=true` has measured."""
    found = [one for one in as_list(variants.get("rows")) if isinstance(one, dict)]
    if not found:
        return []
    first_miou, first_seconds = (
        nan_number(found[0].get("miou")),
        nan_number(found[0].get("seconds_per_image")),
    )
    rows: list[list[Cell]] = []
    for one in found:
        miou, seconds = nan_number(one.get("miou")), nan_number(one.get("seconds_per_image"))
        rows.append(
            [
                str(one.get("name", ""))[:100],
                Fixed(miou),
                Fixed(miou - first_miou),
                Fixed(seconds, 3),
                Fixed(seconds / first_seconds if first_seconds > 0 else math.nan, 2),
            ]
        )
    images, whole = number(variants.get("images")), number(variants.get("of"))
    words = f"Measured with step {str(variants.get('step'))[:20]} on {str(variants.get('device'))[:100]}"
    if images is not None and whole is not None:
        words += f" on {images:,.0f} of the {whole:,.0f} images of {str(variants.get('split'))[:100]}"
        words += (
            "" if images == whole else ", spread evenly over it: the mIoU of so few is not that of the split"
        )
    columns = ["variant", "mIoU", "gain", "seconds per image", "relative time"]
    settings: list[list[Cell]] = [
        [str(one.get("name", ""))[:100], Code(" ".join(map(str, as_list(one.get("settings"))))[:300])]
        for one in found[1:]
    ]
    more = Details("Their settings for deeplabx eval", [Table(["variant", "settings"], settings)])
    return [Section("Cost against gain", [Table(columns, rows), Text(f"{words}.", quiet=True), more])]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- where the time of a run went ---------------------------------------------------------------------------


def time_section(facts: Facts) -> list[Section]:
    if not facts.is_run or facts.batch_size is None:
        return []
    computing, waiting = training_seconds(facts.history.steps, batch_size=facts.batch_size)
    if not computing + waiting:
        return []
    parts = {"computing steps": computing, "waiting for data": waiting}
    words = "Computing and waiting are summed from metrics.jsonl."
    one = number(facts.cost.get("evaluation_seconds"))
    if one is not None and facts.history.evaluations:
        parts["evaluating"] = one * len(facts.history.evaluations)
        words += f" Evaluating: {len(facts.history.evaluations)} times {one:.1f} s, the time of the best one."
    rest = None if facts.seconds is None else facts.seconds - sum(parts.values())
    if rest is not None and rest >= 0:
        parts["start, saving, rest"] = rest
        words += f" The run took {facts.seconds:,.0f} s."
    total = sum(parts.values())
    chart = Bars(
        "Where the time went",
        list(parts),
        list(parts.values()),
        texts=[f"{value:,.0f} s ({value / total:.0%})" for value in parts.values()],
        axis="seconds",
    )
    return [Section("Time", [chart, Text(words, quiet=True)])]


def training_seconds(lines: Sequence[Mapping[str, Any]], *, batch_size: int) -> tuple[float, float]:
    """Seconds of computing and of waiting for data, by what each line says of the steps since the one
    before.
    """
    computing = waiting = before = 0.0
    for line in lines:
        step, speed = nan_number(line.get("step")), nan_number(line.get("images_per_second"))
        share = number(line.get("data_wait")) or 0.0
        if speed > 0 and step > before:
            seconds = (step - before) * batch_size / speed
            computing, waiting = computing + seconds * (1 - share), waiting + seconds * share
        before = step
    return computing, waiting
