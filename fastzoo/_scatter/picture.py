"""The picture of a comparison: accuracy against bytes or latency, the front, and what others published."""

from __future__ import annotations

import io
import itertools
import json
import math
import textwrap
from typing import TYPE_CHECKING, Any

from fastzoo._scatter.labels import Labels, Marks, Point, Segment, Text, plain
from fastzoo._scatter.scene import FEW, NAMES, Scene, caption, label, percent, short, title
from fastzoo.compare import Row
from fastzoo.data.literature import Published
from fastzoo.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = {"fastgrnn": "#0072B2", "fastrnn": "#009E73", "ugrnn": "#56B4E9", "gru": "#D55E00", "lstm": "#CC79A7"}
OTHER_COLOUR = "#E69F00"
INK, GREY = "#2b3440", "#7a828c"
MARKERS = {"int8": "o", "fp32": "s"}
WIDEST = 44  # letters of an entry in a legend of three columns ..
WIDE = 72  # .. and of two
DECADES, POINTS = 0.6, 2.0  # the least that the axes span: powers of ten, points of a percentage
DPI = 130
LEVEL: dict[str, Any] = {"color": GREY, "lw": 0.9, "ls": (0, (4, 4))}
PAIR: dict[str, Any] = {"alpha": 0.45, "lw": 1.0}
HOLLOW: dict[str, Any] = {"color": "white", "mec": GREY, "mew": 1.2, "ms": 5.5}
_UNITS = {"bytes": "weights", "latency": "latency of one window, median"}


def draw(scene: Scene, kind: str = "png") -> bytes:
    """The picture; a PNG carries :meth:`Scene.numbers` as its text ``fastzoo``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_type = require("matplotlib.figure", extra="train", purpose="drawing a comparison").Figure
    lines = textwrap.wrap(plain(caption(scene)), 152)
    entries = _legend(scene)
    longest = max(len(str(entry.get_label())) for entry in entries)
    columns = 3 if longest <= WIDEST else 2 if longest <= WIDE else 1
    words, rows = 0.15 * len(lines), math.ceil(len(entries) / columns)
    low = 0.75 + 0.19 * rows + words
    texts = _texts(scene)
    height = 4.9 + 0.1 * min(max(len(texts) - FEW, 0), 20) + low
    figure: Figure = figure_type(figsize=(9, height), dpi=DPI)
    axes = figure.add_axes((0.085, low / height, 0.875, (height - low - 0.42) / height))
    figure.text(0.015, 0.09 / height, "\n".join(lines), fontsize=7.5, color=GREY, va="bottom", linespacing=1.3)
    figure.legend(
        handles=entries, ncols=columns, fontsize=8, frameon=False, loc="lower left", labelcolor=INK,
        bbox_to_anchor=(0.01, (0.16 + words) / height), handlelength=1.6, columnspacing=1.4, borderpad=0,
        borderaxespad=0,
    )  # fmt: skip
    axes.set_title(plain(title(scene)), fontsize=12, loc="left", color=INK)
    _axes(axes, scene)
    Labels(figure, axes, _marks(axes, scene)).place(texts)
    content = io.BytesIO()
    metadata = {"fastzoo": json.dumps(scene.numbers(), sort_keys=True)} if kind == "png" else None
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    return content.getvalue()


def _axes(axes: Axes, scene: Scene) -> None:
    """Limits, ticks and names."""
    costs = [row.cost(scene.by) or 1.0 for row in scene.points] + [scene.cost(one) or 1.0 for one in scene.elsewhere]
    values = [row.value or 0.0 for row in scene.points] + [one.value for one in (*scene.elsewhere, *scene.levels)]
    low, high = min(costs), max(costs)
    span = max(math.log10(high / low), DECADES)
    spare = (span - math.log10(high / low)) / 2
    axes.set_xscale("log")
    axes.set_xlim(low / 10 ** (0.12 * span + spare), high * 10 ** (0.14 * span + spare))
    bottom, top = 100 * min(values), 100 * max(values)
    room = max(top - bottom, POINTS)
    spare = (room - (top - bottom)) / 2
    axes.set_ylim(bottom - spare - 0.09 * room, min(top + spare + 0.09 * room, max(top + 0.03 * room, 100.2)))
    left, right = axes.get_xlim()
    for digits in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10**e for e in range(10) for digit in digits if left <= digit * 10**e <= right]
        if len(ticks) > 3:
            break
    axes.set_xticks(ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: _amount(value, scene.by))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel(_UNITS[scene.by], color=INK)
    axes.set_ylabel(f"test {NAMES[scene.metric]}", color=INK)
    axes.grid(color="#e6e9ed", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def _marks(axes: Axes, scene: Scene) -> Marks:
    """Draw points, front, levels, and what joins the precisions of a model."""
    left, right = axes.get_xlim()
    segments: list[Segment] = []
    front = [_place(row, scene) for row in scene.points if row.on_front]
    if front:
        axes.step(
            *zip(*front, (right, front[-1][1]), strict=True), where="post", color=INK, lw=1.2, alpha=0.5, zorder=2
        )
        for (x0, y0), (x1, y1) in itertools.pairwise([*front, (right, front[-1][1])]):
            segments += [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1))]
    for one in scene.levels:
        axes.axhline(100 * one.value, **LEVEL, alpha=0.7, zorder=1)
        segments.append(((left, 100 * one.value), (right, 100 * one.value)))
    for pair in scene.pairs:
        (x0, y0), (x1, y1) = (_place(row, scene) for row in pair)
        axes.plot([x0, x1], [y0, y1], color=COLOURS.get(pair[0].cell, OTHER_COLOUR), **PAIR, zorder=1.5)
    kinds = _kinds(scene)
    points: list[Point] = []
    for one in scene.elsewhere:
        points.append((scene.cost(one) or 0.0, 100 * one.value))
        axes.plot(*points[-1], **HOLLOW, marker=kinds[_kind(one, scene.by)], zorder=3)
    for row in scene.points:
        size: dict[str, Any] = {"ms": 9, "mec": INK} if row.on_front else {"ms": 7, "mec": "white"}
        points.append(_place(row, scene))
        axes.plot(*points[-1], **_style(row.cell, row.precision), **size, zorder=4)
    return Marks(points, segments)


def _place(row: Row, scene: Scene) -> Point:
    return row.cost(scene.by) or 0.0, 100 * (row.value or 0)


def _legend(scene: Scene) -> list[Line2D]:
    """What marks, colours and lines mean, each with the data behind it."""
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], **_style(cell, precision), ms=7, mec="white", ls="", label=f"{cell} {precision}")
        for cell, precision in sorted({(row.cell, row.precision) for row in scene.points}, key=_legend_order)
    ]
    for entry in entries:
        rows = (row for row in scene.points if f"{row.cell} {row.precision}" == entry.get_label())
        entry.set_label(plain(f"fastzoo {entry.get_label()}, {scene.variant_of(rows)}"))
    if any(row.on_front for row in scene.points):
        entries.append(Line2D([], [], color=INK, alpha=0.5, lw=1.2, label="fastzoo: none better at no more cost"))
    for kind, marker in _kinds(scene).items():
        entries.append(Line2D([], [], **HOLLOW, marker=marker, ls="", label=plain(f"published: {kind}")))
    for kind in sorted({short(one.variant) for one in scene.levels}):
        entries.append(Line2D([], [], **LEVEL, label=plain(f"published: {kind}")))
    return entries


def _legend_order(of: tuple[str, str]) -> tuple[int, str, bool]:
    """Cells as in :data:`COLOURS`, then those of others; int8 before fp32."""
    cell, precision = of
    return [*COLOURS, cell].index(cell), cell, precision != "int8"


def _style(cell: str, precision: str) -> dict[str, Any]:
    return {"color": COLOURS.get(cell, OTHER_COLOUR), "marker": MARKERS.get(precision, "o")}


def _kinds(scene: Scene) -> dict[str, str]:
    """The marker of each kind of published result."""
    kinds = dict.fromkeys(_kind(one, scene.by) for one in scene.elsewhere)
    return dict(zip(kinds, "D^vP*" * len(kinds), strict=False))


def _kind(one: Published, by: str) -> str:
    """How a published point is called in the legend."""
    return short(one.variant) if by == "bytes" else f"{short(one.variant)}, on {one.device}"


def _texts(scene: Scene) -> list[Text]:
    """Labels, the most important first; that of a line has no x."""
    pairs = scene.pairs
    unnamed = {wide.name for _, wide in pairs}
    front = {row.name for row in scene.points if row.on_front}
    front |= {small.name for small, wide in pairs if wide.name in front}
    own = sorted((row for row in scene.points if row.name not in unnamed), key=lambda row: row.name not in front)
    found = [Text(*_place(row, scene), label(row, scene, pairs), {"color": INK, "fontsize": 8.5}) for row in own]
    for one in scene.elsewhere:
        weight = "bold" if one.model == "FastGRNN" else "normal"
        found.append(
            Text(scene.cost(one), 100 * one.value, one.model, {"color": GREY, "fontsize": 7.5, "fontweight": weight})
        )
    for one in scene.levels:
        size = f" ({one.parameters / 1000:.3g} k parameters)" if one.parameters else ""
        words = f"{one.model} {percent(one.value)}{size}"
        found.append(Text(None, 100 * one.value, words, {"color": GREY, "fontsize": 7.5}))
    return found


def _amount(value: float, by: str) -> str:
    if by == "latency":
        return f"{value / 1000:g} ms" if value >= 1000 else f"{value:g} us"
    for size, unit in ((1e6, "MB"), (1000, "kB")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"
