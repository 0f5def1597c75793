"""Draw the charts of the page that compares runs, as HTML and SVG.

Lines are SVG that stretches with the page. Dots, names and numbers are HTML at per cents of the chart, so that they
keep their size on a narrow screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .report_noise import Difference, mean_and_deviation
from .report_runs import Comparison, FinishedRun

COLORS = 8  # colours for groups beside the baseline; the others are grey
HEIGHT, LINE = 340, 15  # of a chart and of a name beside it, in pixels
MOST_POINTS = 150  # of a curve
MOST_THIN = 60  # runs that get a thin curve of their own beside the mean of their group
STRETCH = 'preserveAspectRatio="none" aria-hidden="true"'
Line = list[tuple[float, float]]  # points (x, y) of a curve


def key_classes(comparison: Comparison) -> list[str]:
    """Return the CSS class of each group's colour."""
    others = [i for i in range(len(comparison.groups)) if i != comparison.baseline]
    colors = {group: f"k{k}" if k < COLORS else "rest" for k, group in enumerate(others)}
    return [colors.get(group, "base") for group in range(len(comparison.groups))]


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, logarithmic or not, with ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], most: int = 6, least: float = 1e-6) -> "Axis":
        """Return an axis that shows all `values`, with at most `most` round ticks. It is at least `least` long."""
        low = min(values)
        high = max(values)
        missing = max(0.0, least - (high - low))
        low, high = low - missing / 2, high + missing / 2
        margin = 0.04 * (high - low)
        low, high = low - margin, high + margin
        step = round_step((high - low) / most)
        first = math.ceil(low / step)
        ticks = tuple(step * k for k in range(first, math.floor(high / step) + 1))
        return cls(low, high, ticks)

    @classmethod
    def logarithmic(cls, values: Sequence[float]) -> "Axis":
        """Return a logarithmic axis that shows all `values`, which are positive."""
        low, high = min(values) / 1.15, max(values) * 1.15
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for parts in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), [1 + k / 10 for k in range(90)]):
            ticks = [part * 10.0**k for k in decades for part in parts if low <= part * 10.0**k <= high]
            if len(ticks) >= 3:
                break
        every = math.ceil(len(ticks) / 7)
        return cls(low, high, tuple(ticks[::every]), True)

    def place(self, value: float) -> float:
        """Return where a value lies, in per cent of the axis."""
        if self.is_log:
            return 100 * math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * (value - self.low) / (self.high - self.low)


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, ... and their tenths, hundredths, ... that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(part * power for part in (1, 2, 5, 10) if part * power >= least * (1 - 1e-9))


def tick_text(value: float) -> str:
    text = f"{value:.6g}"
    return "0" if float(text) == 0 else text.replace("-", "\u2212")


def grid(axis: Axis) -> str:
    """Return the grid lines of a strip."""
    return "".join(f'<s style="left:{axis.place(tick):.2f}%"></s>' for tick in axis.ticks)


def tick_row(axis: Axis, sign: bool = False) -> str:
    """Return the numbers under a column of strips."""
    marks = "".join(
        f'<span style="left:{axis.place(tick):.2f}%">{"+" if sign and tick > 1e-9 else ""}{tick_text(tick)}</span>'
        for tick in axis.ticks
    )
    return f'<div class="ticks">{marks}</div>'


def score_strip(axis: Axis, scores: Sequence[float]) -> str:
    """Return a dot for each score, in per cent, and a line at their mean."""
    known = [100 * score for score in scores if not math.isnan(score)]
    dots = "".join(f'<i style="left:{axis.place(score):.2f}%"></i>' for score in known)
    mean = f'<b style="left:{axis.place(sum(known) / len(known)):.2f}%"></b>' if len(known) > 1 else ""
    return f'<div class="strip">{grid(axis)}{mean}{dots}</div>'


def gain_strip(axis: Axis, gain: Difference | None) -> str:
    """Return a gain as a dot with its interval, and a line at zero. The dot is hollow if noise may explain the gain."""
    zero = f'<u style="left:{axis.place(0):.2f}%"></u>'
    drawn = ""
    if gain is not None:
        value, margin = 100 * gain.value, 100 * (gain.margin or 0)
        low, high = (min(100.0, max(0.0, axis.place(value + side))) for side in (-margin, margin))
        bar = f'<em style="left:{low:.2f}%;width:{high - low:.2f}%"></em>' if gain.margin else ""
        solid = "" if gain.is_noise is False else ' class="hollow"'
        drawn = f'{bar}<i{solid} style="left:{axis.place(value):.2f}%"></i>'
    return f'<div class="strip">{grid(axis)}{zero}{drawn}</div>'


def curves(comparison: Comparison, column: str, factor: float = 1) -> str:
    """Return the curves of a column of log_epoch.csv over epochs; "" if no group has two values.

    A thick line is the mean of a group over the epochs that all its runs have, a thin one is a run. A single value is a
    dot.
    """
    lines = [[_points(run, column, factor) for run in group.runs] for group in comparison.groups]
    means = [_mean_line(group) for group in lines]
    if max(map(len, means)) < 2:
        return ""
    thin = sum(len(group) for group in lines) <= MOST_THIN
    shown = [line for line in ([line for group in lines for line in group] if thin else means) if line]
    last = max(line[-1][0] for line in shown)
    # the first epochs of each line would flatten the rest
    vertical = Axis.over([y for line in shown for x, y in line if x >= 0.25 * line[-1][0]])
    ticks = (tick for tick in Axis.over((0, last), 7).ticks if 0 <= tick <= last and tick == round(tick))
    horizontal = Axis(0, last, tuple(ticks))
    keys = key_classes(comparison)
    order = sorted(range(len(lines)), key=lambda i: (keys[i] != "rest", i != comparison.baseline, -i))
    drawn = ""
    for i in order:
        own = [line for line in lines[i] if line] if thin and len(lines[i]) > 1 else []
        paths = "".join(f'<path class="thin" d="{_path(line, horizontal, vertical)}"/>' for line in own)
        dot = ' class="dot"' if len(means[i]) == 1 else ""
        paths += f'<path{dot} d="{_path(means[i], horizontal, vertical)}"/>' if means[i] else ""
        drawn += f'<g class="{keys[i]}" data-g="{i}">{paths}</g>'
    ends = {i: vertical.place(line[-1][1]) for i, line in enumerate(means) if line}
    return _chart(comparison, horizontal, vertical, f'<svg viewBox="0 0 100 100" {STRETCH}>{drawn}</svg>', ends)


def _points(run: FinishedRun, column: str, factor: float) -> Line:
    return [(row["epoch"], factor * row[column]) for row in run.epochs if row.get(column) is not None]


def _mean_line(lines: Sequence[Line]) -> Line:
    known = [dict(line) for line in lines if line]
    if not known:
        return []
    common = sorted(set(known[0]).intersection(*known[1:]))
    return [(x, sum(line[x] for line in known) / len(known)) for x in common]


def _path(line: Line, horizontal: Axis, vertical: Axis) -> str:
    every = math.ceil(len(line) / MOST_POINTS)
    kept = line[::every] + (line[-1:] if (len(line) - 1) % every else [])
    places = [(horizontal.place(x), min(300.0, max(-200.0, 100 - vertical.place(y)))) for x, y in kept]
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in places) + ("h0" if len(places) == 1 else "")


def _chart(comparison: Comparison, horizontal: Axis, vertical: Axis, drawn: str, ends: dict[int, float]) -> str:
    """Return a chart with its axes. `ends` are heights in per cent at which the names of groups stand at the right."""
    keys = key_classes(comparison)
    rules, left, below = "", "", ""
    for tick in vertical.ticks:
        at = f'style="bottom:{vertical.place(tick):.2f}%"'
        rules += f"<s {at}></s>"
        left += f'<span class="y" {at}>{tick_text(tick)}</span>'
    for tick in horizontal.ticks:
        below += f'<span class="x" style="left:{horizontal.place(tick):.2f}%">{tick_text(tick)}</span>'
    fits = len(ends) * LINE <= HEIGHT
    named = {i: place for i, place in ends.items() if fits or keys[i] != "rest"}
    names = "".join(
        f'<span class="end {keys[i]}" data-g="{i}" style="bottom:{place:.2f}%">{escape(comparison.name(i))}</span>'
        for i, place in spread(named, 100 * LINE / HEIGHT).items()
    )
    return f'<div class="chart"><div class="plot">{rules}{drawn}{left}{below}{names}</div></div>'


def spread(places: dict[int, float], gap: float) -> dict[int, float]:
    """Return places from 0 to 100, moved as little as needed so that neighbours are `gap` apart."""
    order = sorted(places, key=places.get)
    blocks: list[tuple[list[int], float]] = []  # names that touch, and where their middle wants to be
    for name in order:
        blocks.append(([name], places[name]))
        while len(blocks) > 1:
            (below, low), (above, high) = blocks[-2:]
            if high - low >= gap * (len(below) + len(above)) / 2:
                break
            middle = (low * len(below) + high * len(above)) / (len(below) + len(above))
            blocks[-2:] = [(below + above, middle)]
    found = {}
    for names, middle in blocks:
        half = gap * (len(names) - 1) / 2
        middle = max(half, min(100 - half, middle))
        found |= {name: middle - half + gap * k for k, name in enumerate(names)}
    return found


def operations_chart(comparison: Comparison) -> str:
    """Return the mean IoU of the groups against the operations of their networks; "" if these do not differ."""
    points = {}
    for i, group in enumerate(comparison.groups):
        macs = group.mean_of("macs")
        mean, deviation = mean_and_deviation(group.scores())
        if macs is not None and not math.isnan(mean):
            points[i] = macs / 1e9, 100 * mean, 0.0 if math.isnan(deviation) else 100 * deviation
    if len({round(macs, 3) for macs, _, _ in points.values()}) < 2:
        return ""
    horizontal = Axis.logarithmic([macs for macs, _, _ in points.values()])
    vertical = Axis.over([mean + side for _, mean, deviation in points.values() for side in (-deviation, deviation)])
    keys = key_classes(comparison)
    drawn = ""
    columns: dict[float, dict[int, float]] = {}  # the groups that are named, by the cost of their networks
    for i in sorted(points, key=lambda i: -points[i][1]):
        column = columns.setdefault(round(points[i][0], 3), {})
        if not column or i == comparison.baseline:
            column[i] = vertical.place(points[i][1])
    named = {i: place for column in columns.values() for i, place in column.items()}
    order = sorted(named, key=lambda i: (keys[i] == "rest", i))[: HEIGHT // LINE]  # as many as fit below each other
    heights = spread({i: named[i] for i in order}, 100 * LINE / HEIGHT)
    for i, (macs, mean, deviation) in points.items():
        x, y = horizontal.place(macs), vertical.place(mean)
        low, high = vertical.place(mean - deviation), vertical.place(mean + deviation)
        bar = f'<em style="left:{x:.2f}%;bottom:{low:.2f}%;height:{high - low:.2f}%"></em>' if deviation else ""
        side = " left" if x > 60 else ""
        name = escape(comparison.name(i))
        place = f"left:{x:.2f}%;bottom:{heights.get(i, y):.2f}%"
        said = f'<span class="at{side}" style="{place}">{name}</span>' if i in heights else ""
        dot = f'<i style="left:{x:.2f}%;bottom:{y:.2f}%" title="{name}"></i>'
        drawn += f'<span class="{keys[i]}" data-g="{i}">{bar}{dot}{said}</span>'
    return _chart(comparison, horizontal, vertical, f'<div class="points">{drawn}</div>', {})
