"""A line chart as inline SVG, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Line = tuple[Sequence[float], Sequence[float]]  # x values, y values

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 12, 44  # margins
POINTS = 600  # more than the plot has pixels to show
COLOURS = 8
LETTER = 6.6  # width of one in the legend, about


def line_chart(
    lines: Mapping[str, Line], *, x_label: str = "", y_label: str = "", log_y: bool = False
) -> str:
    """SVG of ``lines`` (name -> x, y) with axes and legend, without points that are not finite.

    The page has to define the colours ``--c0`` … ``--c7``, ``--line``, ``--soft``, ``--page``.
    """
    drawn = {name: _clean(x, y, log_y) for name, (x, y) in lines.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return "<p>No points to draw.</p>"
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x_low, x_high = _span(min(xs), max(xs))
    y_low, y_high = _span(min(ys), max(ys))
    step = _step(y_low, y_high)
    if not log_y:  # whole steps, so that the topmost line carries its number
        y_low, y_high = math.floor(y_low / step) * step, math.ceil(y_high / step) * step

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    wide = WIDTH - LEFT - RIGHT
    columns = min(4, max(1, int(wide / (36 + LETTER * max(map(len, drawn))))))  # of the legend
    height = HEIGHT + (4 + 20 * math.ceil(len(drawn) / columns) if len(drawn) > 1 else 0)
    # how a page's script finds values back from places
    found = f'data-area="{LEFT} {HEIGHT - BOTTOM} {WIDTH - RIGHT} {TOP}" '
    found += f'data-range="{x_low:.6g} {y_low:.6g} {x_high:.6g} {y_high:.6g}"'
    found += ' data-log="1"' if log_y else ""
    label = escape(y_label, quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}" {found}>']
    for y in _log_ticks(y_low, y_high) if log_y else _ticks(y_low, y_high, step):
        text = _number(10**y if log_y else y)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}" '
            f'stroke="var(--line)"/><text x="{LEFT - 8}" y="{down(y) + 4:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    for x in _ticks(x_low, x_high):
        parts.append(
            f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{_number(x)}</text>"
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f'{escape(x_label)}</text><text transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) '
        f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )
    for i, (name, points) in enumerate(drawn.items()):
        colour = f"var(--c{i % COLOURS})"
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        last_x, last_y = points[-1]
        last = f"{_number(10**last_y if log_y else last_y)} at {_number(last_x)}"
        number = mark = ""
        if len(drawn) > COLOURS:  # a colour alone does not tell which
            number = f"{i} "
            mark = f'<text x="{across(last_x) + 5:.1f}" y="{down(last_y) + 4:.1f}">{i}</text>'
        parts.append(
            f'<g><title>{escape(name)}: {last}</title><polyline data-name="{escape(name)}" '
            f'points="{path}" fill="none" '
            f'stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
            f'<circle cx="{across(last_x):.1f}" cy="{down(last_y):.1f}" r="3" fill="{colour}"/>'
            f"{mark}</g>"
        )
        if len(drawn) == 1:
            continue  # the axis says what it is
        x, y = LEFT + i % columns * (wide // columns), HEIGHT + 20 * (i // columns) + 14
        parts.append(
            f'<rect x="{x}" y="{y - 9}" width="14" height="4" rx="2" fill="{colour}"/>'
            f'<text x="{x + 20}" y="{y - 2}">{number}{escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def histogram(values: Sequence[float], *, x_label: str = "", y_label: str = "") -> str:
    """SVG of how many of the finite ``values`` fall into each of a few equal bins."""
    x = [float(v) for v in values if math.isfinite(v)]
    if not x:
        return "<p>No values to count.</p>"
    low, high = (min(x), max(x)) if max(x) > min(x) else (min(x) - 0.5, max(x) + 0.5)
    count = min(30, max(1, math.ceil(2 * len(x) ** (1 / 3))))  # Rice's rule
    width, bins = (high - low) / count, [0] * count
    for v in x:
        bins[min(count - 1, int((v - low) / width))] += 1
    top = max(bins)
    unit, floor = (WIDTH - LEFT - RIGHT) / count, HEIGHT - BOTTOM
    label = escape(y_label, quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for y in sorted({round(t) for t in _ticks(0, top)} | {0}):
        place = floor - y / top * (floor - TOP)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" '
            f'stroke="var(--line)"/><text x="{LEFT - 8}" y="{place + 4:.1f}" '
            f'text-anchor="end">{_number(y)}</text>'
        )
    for i, n in enumerate(bins):
        tall = n / top * (floor - TOP)
        span = f"{_number(low + i * width)} to {_number(low + (i + 1) * width)}: {n}"
        parts.append(
            f'<rect x="{LEFT + i * unit + 1:.1f}" y="{floor - tall:.1f}" width="{unit - 2:.1f}" '
            f'height="{tall:.1f}" fill="var(--c0)"><title>{span}</title></rect>'
        )
    for v in _ticks(low, high):
        place = LEFT + (v - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        parts.append(
            f'<text x="{place:.1f}" y="{floor + 18}" text-anchor="middle">{_number(v)}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f'{escape(x_label)}</text><text transform="translate(12 {(TOP + floor) / 2}) '
        f'rotate(-90)" text-anchor="middle">{label}</text></svg>'
    )
    return "".join(parts)


def _clean(x: Sequence[float], y: Sequence[float], log_y: bool) -> list[tuple[float, float]]:
    """Finite points (their logarithm with ``log_y``), thinned to what can be seen by averaging."""
    points = [
        (float(a), math.log10(b) if log_y else float(b))
        for a, b in zip(x, y, strict=True)
        if math.isfinite(a) and math.isfinite(b) and (b > 0 or not log_y)
    ]
    size = math.ceil(len(points) / POINTS)
    if size <= 1:
        return points
    bins = [points[i : i + size] for i in range(0, len(points), size)]
    return [tuple(sum(v) / len(b) for v in zip(*b, strict=True)) for b in bins]  # type: ignore[misc]


def _span(low: float, high: float) -> tuple[float, float]:
    """A range that is never empty, and starts at 0 when it nearly does."""
    if high <= low:
        return low - 0.5, high + 0.5
    return (0.0, high) if 0 < low < 0.05 * high else (low, high)


def _step(low: float, high: float) -> float:
    """The round distance of about five values within [low, high]."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)


def _ticks(low: float, high: float, step: float | None = None) -> list[float]:
    """The multiples of ``step`` (of a round one) within [low, high]."""
    step = step or _step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Logarithms of 1, 2, 5, 10, … within [low, high]; of powers of ten when these are many."""
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    marks = [k + math.log10(m) for k in decades for m in steps]
    return [mark for mark in marks if low <= mark <= high]


def _number(value: float) -> str:
    """A tick's number, short: thousands as k, millions as M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.3g}"
