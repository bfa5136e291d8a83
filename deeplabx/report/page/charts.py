"""Charts as the elements of an SVG, which blocks.html writes. Colours that follow the page's light or dark
are classes of page.css.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from deeplabx.process.terminal import columns
from deeplabx.report.page.blocks import Bars, Colour, Heatmap, Histogram, Intervals, Lines, Point, Scatter

WIDTH = 480  # of every chart, in its own units; a page shows it as wide as there is room
LETTER = 7.6  # width of a letter
ROW = 24  # height of a bar with its gap
MOST_LABEL = 22  # columns of a name beside a bar
HEIGHT = 220  # of the area of a histogram or of curves
SERIES = 6  # colours of curves in page.css


class Part(NamedTuple):
    """An element. words: its text; title: what is shown where the pointer rests on it."""

    tag: str
    attributes: dict[str, str]
    words: str = ""
    title: str = ""


class Drawing(NamedTuple):
    """A chart. title and description are for those who cannot see it."""

    title: str
    description: str
    height: int
    parts: list[Part]
    width: int = WIDTH


# --- axes ---------------------------------------------------------------------------------------------------


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers that enclose low..high: multiples of 1, 2 or 5 times a power of 10.

    Numbers that differ by no more than the noise of their arithmetic count as one, with room around it.
    """
    largest = max(abs(low), abs(high))
    if not high - low > max(1e-9 * largest, 1e-300):
        room = max(0.5, 0.1 * largest)
        low, high = (low - room, high + room) if largest > 1e-300 else (0.0, 1.0)
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def number_words(value: float) -> str:
    """A number on an axis: 0.25, 12, 1,500, 20 k, 3 M."""
    for unit, words in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        size = 1e3 if words == "k" else unit
        if abs(value) >= unit:
            return f"{value / size:.4g} {words}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def shortened(name: str, most: int = MOST_LABEL) -> str:
    """A name of at most `most` columns."""
    if columns(name) <= most:
        return name
    while columns(name) > most - 1:
        name = name[:-1]
    return f"{name}…"


def numbers(**values: float) -> dict[str, str]:
    """Attributes that are lengths."""
    return {name: f"{value:.1f}" for name, value in values.items()}


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "tick") -> Part:
    return Part("text", {"class": kind, **numbers(x=x, y=y), "text-anchor": anchor}, words)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Part:
    return Part("line", {"class": kind, **numbers(x1=x1, y1=y1, x2=x2, y2=y2)})


def rect(x: float, y: float, width: float, height: float, *, colour: Colour | None, title: str) -> Part:
    fill = {"class": "fill"} if colour is None else {"class": "own", "fill": hex_colour(colour)}
    return Part("rect", {**fill, **numbers(x=x, y=y, width=width, height=height, rx=2)}, title=title)


def hex_colour(colour: Colour) -> str:
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


# --- charts -------------------------------------------------------------------------------------------------


def bars(chart: Bars) -> Drawing:
    texts = list(chart.texts or map(number_words, chart.values))
    left = 12 + LETTER * max((columns(shortened(name)) for name in chart.names), default=0)
    right = WIDTH - 10 - LETTER * max(map(columns, texts), default=0)
    marks = ticks(0, max(chart.values, default=1))
    bottom = ROW * len(chart.names) + 6

    def across(value: float) -> float:
        return left + (right - left) * value / marks[-1]

    parts = [line(across(mark), 2, across(mark), bottom, "grid") for mark in marks]
    parts += [text(across(mark), bottom + 15, number_words(mark), anchor="middle") for mark in marks]
    if chart.axis:
        parts.append(text((left + right) / 2, bottom + 33, chart.axis, anchor="middle", kind="axis"))
    colours: Sequence[Colour | None] = chart.colours or [None] * len(chart.names)
    for row, (name, value, words, colour) in enumerate(
        zip(chart.names, chart.values, texts, colours, strict=True)
    ):
        top = 4 + ROW * row
        wide = max(1.0, across(value) - left) if value > 0 else 0.0
        parts.append(text(left - 8, top + 14, shortened(name), anchor="end", kind="name"))
        parts.append(rect(left, top + 2, wide, ROW - 8, colour=colour, title=f"{name}: {words}"))
        parts.append(text(left + wide + 6, top + 14, words))
    described = "; ".join(f"{name} {words}" for name, words in zip(chart.names, texts, strict=True))
    return Drawing(chart.title, described, bottom + (42 if chart.axis else 22), parts)


def frame(
    x_marks: Sequence[float], y_marks: Sequence[float], *, x_axis: str, y_axis: str
) -> tuple[list[Part], tuple[float, float, float, float]]:
    """Axes with their ticks, and the left, top, right and bottom of the area inside them."""
    left = 16 + LETTER * max(len(number_words(mark)) for mark in y_marks)
    top, right, bottom = (24.0 if y_axis else 10.0), WIDTH - 16.0, HEIGHT - 20.0
    parts = []
    for mark in y_marks:
        y = bottom - (bottom - top) * (mark - y_marks[0]) / (y_marks[-1] - y_marks[0])
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, number_words(mark), anchor="end")]
    for mark in x_marks:
        x = left + (right - left) * (mark - x_marks[0]) / (x_marks[-1] - x_marks[0])
        parts += [
            line(x, bottom, x, bottom + 4, "edge"),
            text(x, bottom + 18, number_words(mark), anchor="middle"),
        ]
    parts.append(line(left, bottom, right, bottom, "edge"))
    if y_axis:
        parts.append(text(4, 12, y_axis, kind="axis"))
    if x_axis:
        parts.append(text((left + right) / 2, bottom + 36, x_axis, anchor="middle", kind="axis"))
    return parts, (left, top, right, bottom)


def histogram(chart: Histogram) -> Drawing:
    x_marks = ticks(chart.edges[0], chart.edges[-1])
    y_marks = [mark for mark in ticks(0, max(1, *chart.counts)) if mark == int(mark)]
    parts, (left, top, right, bottom) = frame(x_marks, y_marks, x_axis=chart.axis, y_axis=chart.counted)

    def across(value: float) -> float:
        return left + (right - left) * (value - x_marks[0]) / (x_marks[-1] - x_marks[0])

    for low, high, count in zip(chart.edges, chart.edges[1:], chart.counts, strict=False):
        if count:
            tall = max(1.0, (bottom - top) * count / y_marks[-1])
            words = f"{number_words(low)} to {number_words(high)}: {count:,}"
            wide = max(1.0, across(high) - across(low) - 1)
            parts.append(rect(across(low) + 0.5, bottom - tall, wide, tall, colour=None, title=words))
    described = f"{sum(chart.counts):,} values from {number_words(chart.edges[0])} to "
    described += number_words(chart.edges[-1])
    return Drawing(chart.title, described, HEIGHT + (22 if chart.axis else 4), parts)


def lines(chart: Lines) -> Drawing:
    pairs = {
        name: [(x, y) for x, y in zip(*curve, strict=True) if math.isfinite(x)]
        for name, curve in chart.series.items()
    }
    xs = [x for points in pairs.values() for x, _ in points] or [0.0, 1.0]
    ys = [y for points in pairs.values() for _, y in points if math.isfinite(y)] or [0.0, 1.0]
    x_marks, y_marks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    parts, (left, top, right, bottom) = frame(x_marks, y_marks, x_axis=chart.x_axis, y_axis=chart.y_axis)

    def place(x: float, y: float) -> str:
        across = (x - x_marks[0]) / (x_marks[-1] - x_marks[0])
        up = (y - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return f"{left + (right - left) * across:.1f},{bottom - (bottom - top) * up:.1f}"

    behind = [name for name in pairs if name in chart.behind]
    before = [name for name in pairs if name not in chart.behind]
    kinds = dict.fromkeys(behind, "line behind")
    kinds |= {name: f"line s{number % SERIES}" for number, name in enumerate(before)}
    for name in (*behind, *before):
        for part in unbroken(pairs[name]):
            places = [place(x, y) for x, y in part]
            if len(places) == 1:
                places *= 2  # a round cap makes a dot of it
            parts.append(Part("polyline", {"class": kinds[name], "points": " ".join(places)}, title=name))
            for (x, y), one in zip(part, places, strict=False):
                if chart.dots and name in before:
                    words = f"{name}: {number_words(y)} at {number_words(x)}"
                    attributes = {"class": f"{kinds[name]} dot", "points": f"{one} {one}"}
                    parts.append(Part("polyline", attributes, title=words))
    described = f"{len(pairs)} curves of {chart.y_axis or 'values'} over {chart.x_axis or 'steps'}"
    height = HEIGHT + (22 if chart.x_axis else 4)
    if len(pairs) > 1:
        for number, name in enumerate((*before, *behind)):
            y = height + 10 + 18 * number
            parts.append(line(left, y - 4, left + 18, y - 4, kinds[name]))
            parts.append(text(left + 24, y, shortened(name, 50), kind="name"))
        height += 18 * len(pairs) + 4
    return Drawing(chart.title, described, height, parts)


def unbroken(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The stretches of a curve between its gaps."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            found[-1].append((x, y))
        elif found[-1]:
            found.append([])
    return [part for part in found if part]


SQUARE, FINE = 30, 24  # side of a heatmap's square, and where there are more than COARSE columns
COARSE = 14
MOST_COLUMN = 14  # columns of the name above a column


def heatmap(chart: Heatmap) -> Drawing:
    """Squares as strong as the root of their share, so that small shares are seen; each with its percent."""
    side = SQUARE if len(chart.columns) <= COARSE else FINE
    left = 28 + LETTER * max((columns(shortened(name)) for name in chart.rows), default=0)
    above = [shortened(name, MOST_COLUMN) for name in chart.columns]
    top = 30 + LETTER * max(map(columns, above), default=0)
    right, bottom = left + side * len(chart.columns), top + side * len(chart.rows)
    parts = []
    if chart.x_axis:
        parts.append(text(right, 14, chart.x_axis, anchor="end", kind="axis"))
    if chart.y_axis:
        parts.append(text(4, top - 8, chart.y_axis, kind="axis"))
    for number, name in enumerate(above):
        x, y = left + side * (number + 0.5) + 4, top - 6
        turned = {"class": "name", "transform": f"translate({x:.1f} {y:.1f}) rotate(-90)"}
        parts.append(Part("text", turned, name))
    for row, (name, values) in enumerate(zip(chart.rows, chart.values, strict=True)):
        y = top + side * row
        parts.append(text(left - 8, y + side / 2 + 4, shortened(name), anchor="end", kind="name"))
        for column, (other, value) in enumerate(zip(chart.columns, values, strict=True)):
            x = left + side * column
            parts += square(x, y, side, value, right=name == other, title=f"{name} as {other}")
    return Drawing(
        chart.title,
        f"{len(chart.rows)} rows and {len(chart.columns)} columns; the table below has the numbers",
        round(bottom + 8),
        parts,
        round(right + 8),
    )


def square(x: float, y: float, side: int, value: float, *, right: bool, title: str) -> list[Part]:
    if not math.isfinite(value):
        shown = {
            "class": "none",
            "fill": "url(#hatch)",
            **numbers(x=x + 1, y=y + 1, width=side - 2, height=side - 2),
        }
        return [Part("rect", shown, title=f"{title}: none")]
    strength = math.sqrt(min(1.0, max(0.0, value)))
    shown = {"class": "right" if right else "wrong", "fill-opacity": f"{strength:.3f}"}
    shown |= numbers(x=x + 0.5, y=y + 0.5, width=side - 1, height=side - 1)
    found = [Part("rect", shown, title=f"{title}: {100 * value:.2f} %")]
    if value >= 0.005:
        found.append(
            text(x + side / 2, y + side / 2 + 4, f"{100 * value:.0f}", anchor="middle", kind="value")
        )
    return found


# --- points and intervals -----------------------------------------------------------------------------------


def pareto_front(points: Sequence[Point], *, less: bool) -> list[Point]:
    """The points that no other one dominates, by x: as good in x and y, and better in one of them."""
    sign = -1 if less else 1

    def dominates(other: Point, point: Point) -> bool:
        gains = sign * (other.x - point.x), other.y - point.y
        return min(gains) >= 0 and max(gains) > 0

    front = [one for one in points if not any(dominates(other, one) for other in points)]
    return sorted(front, key=lambda one: (one.x, one.y))


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose low..high, above 0: 1, 2 and 5 times powers of 10, or the powers alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1,)):
        marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        below = max((mark for mark in marks if mark <= low), default=marks[0])
        above = min((mark for mark in marks if mark >= high), default=marks[-1])
        found = [mark for mark in marks if below <= mark <= above]
        if len(found) <= 7:
            break
    return found if len(found) > 1 else [found[0], found[0] * 10]


def scatter(chart: Scatter) -> Drawing:
    xs = [one.x for one in chart.points]
    ys = [value for one in chart.points for value in (one.y, one.low, one.high) if value is not None]
    x_marks = log_ticks(min(xs), max(xs)) if chart.logarithmic else ticks(min(xs), max(xs))
    y_marks = ticks(min(ys), max(ys))
    scale = math.log10 if chart.logarithmic else float
    left, top, right, bottom = 16 + LETTER * 6, (24.0 if chart.y_axis else 10.0), WIDTH - 26.0, HEIGHT + 40.0
    first, last = scale(x_marks[0]), scale(x_marks[-1])

    def across(value: float) -> float:
        return left + (right - left) * (scale(value) - first) / (last - first)

    def down(value: float) -> float:
        return bottom - (bottom - top) * (value - y_marks[0]) / (y_marks[-1] - y_marks[0])

    parts = []
    for mark in y_marks:
        parts += [line(left, down(mark), right, down(mark), "grid")]
        parts += [text(left - 6, down(mark) + 4, number_words(mark), anchor="end")]
    for mark in x_marks:
        parts += [line(across(mark), bottom, across(mark), bottom + 4, "edge")]
        parts += [text(across(mark), bottom + 18, number_words(mark), anchor="middle")]
    parts.append(line(left, bottom, right, bottom, "edge"))
    if chart.y_axis:
        parts.append(text(4, 12, chart.y_axis, kind="axis"))
    if chart.x_axis:
        parts.append(text((left + right) / 2, bottom + 36, chart.x_axis, anchor="middle", kind="axis"))
    front = pareto_front(chart.points, less=chart.less)
    if len(front) > 1:
        places = " ".join(f"{across(one.x):.1f},{down(one.y):.1f}" for one in front)
        parts.append(Part("polyline", {"class": "line s1", "points": places}, title="Pareto front"))
    for one in chart.points:
        if one.low is not None and one.high is not None:
            x = across(one.x)
            parts.append(line(x, down(one.low), x, down(one.high), "line s0"))
            parts += [line(x - 4, down(end), x + 4, down(end), "line s0") for end in (one.low, one.high)]
    taken: list[tuple[float, float, float]] = []
    for one in sorted(chart.points, key=lambda point: -point.y):
        x, y = across(one.x), down(one.y)
        words = f"{one.name}: {number_words(one.y)} at {number_words(one.x)}"
        kind = "line s1" if one in front else "line s0"
        parts.append(
            Part(
                "polyline",
                {"class": f"{kind} point", "points": f"{x:.1f},{y:.1f} {x:.1f},{y:.1f}"},
                title=words,
            )
        )
        parts.append(label(one.name, x, y, taken, left=left, right=right, top=top, bottom=bottom))
    described = "; ".join(
        f"{one.name} {number_words(one.y)} at {number_words(one.x)}" for one in chart.points
    )
    if len(front) > 1:
        described += f". Pareto front: {', '.join(one.name for one in front)}"
    return Drawing(chart.title, described, round(bottom + (44 if chart.x_axis else 24)), parts)


def label(
    name: str,
    x: float,
    y: float,
    taken: list[tuple[float, float, float]],
    *,
    left: float,
    right: float,
    top: float,
    bottom: float,
) -> Part:
    """The name of a point beside it, where no name stands yet if there is such a place. taken: left, right
    and baseline of the names that stand.
    """
    shown = shortened(name)
    wide = LETTER * columns(shown)
    offsets = (-8, 18, -22, 32, -36, 46, -50, 60)
    sides = ((x + 8, "start"), (x - 8, "end"))
    for down in offsets:
        for at, anchor in sides:
            low, high = (at, at + wide) if anchor == "start" else (at - wide, at)
            free = all(high < one or low > other or abs(y + down - line) > 13 for one, other, line in taken)
            if left <= low and high <= right + 12 and top <= y + down <= bottom - 2 and free:
                taken.append((low, high, y + down))
                return text(at, y + down, shown, anchor=anchor, kind="name")
    return text(x, y - 8, shown, anchor="start" if x < (left + right) / 2 else "end", kind="name")


def intervals(chart: Intervals) -> Drawing:
    left = 12 + LETTER * max((columns(shortened(name)) for name in chart.names), default=0)
    values = [0.0, *chart.values, *(end for pair in chart.ends if pair is not None for end in pair)]
    marks = ticks(min(values), max(values))
    right, bottom = WIDTH - 70.0, ROW * len(chart.names) + 6.0

    def across(value: float) -> float:
        return left + (right - left) * (value - marks[0]) / (marks[-1] - marks[0])

    parts = [line(across(mark), 2, across(mark), bottom, "edge" if mark == 0 else "grid") for mark in marks]
    parts += [text(across(mark), bottom + 15, number_words(mark), anchor="middle") for mark in marks]
    if chart.axis:
        parts.append(text((left + right) / 2, bottom + 33, chart.axis, anchor="middle", kind="axis"))
    described = []
    for row, (name, value, pair) in enumerate(zip(chart.names, chart.values, chart.ends, strict=True)):
        y = 14.0 + ROW * row
        words = f"{name}: {value:+.2f}"
        kind = "line s0"
        if pair is not None:
            words += f", {pair[0]:+.2f} to {pair[1]:+.2f}"
            kind = "line s2" if pair[0] > 0 else "line s4" if pair[1] < 0 else "line s0"
            parts.append(line(across(pair[0]), y, across(pair[1]), y, kind))
            parts += [line(across(end), y - 4, across(end), y + 4, kind) for end in pair]
        place = f"{across(value):.1f},{y:.1f}"
        parts.append(Part("polyline", {"class": f"{kind} point", "points": f"{place} {place}"}, title=words))
        parts.append(text(left - 8, y + 4, shortened(name), anchor="end", kind="name"))
        parts.append(text(WIDTH - 4, y + 4, f"{value:+.2f}", anchor="end"))
        described.append(words)
    return Drawing(chart.title, "; ".join(described), round(bottom) + (42 if chart.axis else 22), parts)
