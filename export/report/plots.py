"""Small plots as inline SVG, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from fastzoo.export.network import Floats

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40
COLOURS = 8


class Line(NamedTuple):
    """A curve over time; what is not finite is a gap."""

    name: str
    values: Floats  # [T]
    bold: bool = False


class Bar(NamedTuple):
    """A length, and a longer one behind it."""

    name: str
    value: float
    longer: float
    kind: int = 0


def lines(title: str, curves: Sequence[Line], down: str, along: str) -> str:
    """Curves with their key below; empty where nothing is finite."""
    every = np.concatenate([curve.values for curve in curves]) if curves else np.zeros(0)
    finite = every[np.isfinite(every)]
    if not len(finite):
        return ""
    ticks = _ticks(min(0.0, float(finite.min())) if finite.min() < 10 else float(finite.min()), float(finite.max()))
    low, high, steps = ticks[0], ticks[-1], len(curves[0].values)

    def across(t: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * t / max(steps - 1, 1)

    def upwards(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    shapes = [f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}">']
    for tick in ticks:
        y = upwards(tick)
        shapes.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        shapes.append(f'<text class="soft" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for t in _ticks(0.0, float(steps - 1)):
        if t <= steps - 1 and t == int(t):
            shapes.append(f'<path class="axis" d="M{across(t):.1f} {HEIGHT - BOTTOM}v4"/>')
            place = f'x="{across(t):.1f}" y="{HEIGHT - BOTTOM + 17}"'
            shapes.append(f'<text class="soft" {place} text-anchor="middle">{t:g}</text>')
    shapes.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    shapes.append(f'<text class="soft" x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{escape(along)}</text>')
    turned = f'transform="translate(13 {(HEIGHT - BOTTOM + TOP) / 2:g}) rotate(-90)"'
    shapes.append(f'<text class="soft" {turned} text-anchor="middle">{escape(down)}</text>')
    keys = []
    for i, curve in enumerate(curves):
        colour = f"var(--line{i % COLOURS})"
        weight = "line bold" if curve.bold else "line"
        path, pen = [], "M"
        for t, value in enumerate(curve.values.tolist()):
            if math.isfinite(value):
                path.append(f"{pen}{across(t):.1f} {upwards(value):.1f}")
            pen = "L" if math.isfinite(value) else "M"
        shapes.append(f'<path class="{weight}" style="stroke:{colour}" d="{"".join(path)}"/>')
        keys.append(f'<span class="key line" style="border-color:{colour}"></span>{escape(curve.name)}')
    shapes.append("</svg>")
    return "\n".join(shapes) + f"\n<figcaption>{''.join(keys)}</figcaption>"


def bars(title: str, rows: Sequence[Bar], unit: str, kinds: Mapping[int, str]) -> str:
    """Bars one below the other, in the colour of their kind; the longer one is a thin line."""
    most = max((row.longer for row in rows), default=0.0)
    if most <= 0:
        return ""
    left, height = 12 + 7.4 * max(len(row.name) for row in rows), 24
    full = WIDTH - left - 110
    total = height * len(rows) + 6
    shapes = [f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {total}">']
    for i, row in enumerate(rows):
        y, colour = height * i + 4, f"var(--line{row.kind % COLOURS})"
        length, further = full * row.value / most, full * row.longer / most
        shapes.append(f'<text x="{left - 7:.1f}" y="{y + 13}" text-anchor="end">{escape(row.name)}</text>')
        shapes.append(f'<rect x="{left:.1f}" y="{y}" width="{length:.1f}" height="17" rx="2" style="fill:{colour}"/>')
        whisker = f"M{left + length:.1f} {y + 8.5}H{left + further:.1f}m0 -4v8"
        shapes.append(f'<path class="line" style="stroke:{colour}" d="{whisker}"/>')
        shapes.append(f'<text x="{left + further + 7:.1f}" y="{y + 13}">{_figure(row.value)} {escape(unit)}</text>')
    shapes.append("</svg>")
    keys = "".join(f'<span class="key" style="background:var(--line{k % COLOURS})"></span>{escape(name)}'
                   for k, name in kinds.items())  # fmt: skip
    return "\n".join(shapes) + f"\n<figcaption>{keys}</figcaption>"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from below ``low`` to above ``high``."""
    span = max(high - low, 1e-9)
    rough = span / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [round(i * step, 10) for i in range(first, last + 1)]
