"""The picture of a comparison: accuracy against bytes or latency, the front, and what others published."""

from __future__ import annotations

import io
import itertools
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fastzoo.compare import Row
from fastzoo.data.literature import Published
from fastzoo.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

Point = tuple[float, float]
Segment = tuple[Point, Point]

COLOURS = {"fastgrnn": "#0072B2", "fastrnn": "#009E73", "ugrnn": "#56B4E9", "gru": "#D55E00", "lstm": "#CC79A7"}
OTHER_COLOUR = "#E69F00"
INK, GREY = "#2b3440", "#7a828c"
MARKERS = {"int8": "o", "fp32": "s"}
NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}
BELOW = 0.08  # published results so much below the best are told in words, not drawn
FEW = 10  # points whose names are written in full, each
WIDEST = 44  # letters of an entry in a legend of three columns ..
WIDE = 72  # .. and of two
DECADES, POINTS = 0.6, 2.0  # the least that the axes span: powers of ten, points of a percentage
DPI = 130
LEVEL: dict[str, Any] = {"color": GREY, "lw": 0.9, "ls": (0, (4, 4))}
PAIR: dict[str, Any] = {"alpha": 0.45, "lw": 1.0}
HOLLOW: dict[str, Any] = {"color": "white", "mec": GREY, "mew": 1.2, "ms": 5.5}
_UNITS = {"bytes": "weights", "latency": "latency of one window, median"}


@dataclass(frozen=True)
class Scene:
    """What is drawn: everything that the picture's numbers depend on.

    Args:
        dataset: id.
        by: ``"bytes"`` or ``"latency"``.
        metric: ``"accuracy"`` or ``"macro_f1"``.
        rows: ours; those without a number are left out.
        published: of others, in the same metric.
    """

    dataset: str
    by: str
    metric: str
    rows: Sequence[Row]
    published: Sequence[Published]

    @property
    def points(self) -> list[Row]:
        """Those of ours that have both numbers."""
        return [row for row in self.rows if row.value is not None and row.cost(self.by) is not None]

    @property
    def variant(self) -> str:
        """Our data in a few words."""
        return self.variant_of(self.points)

    def variant_of(self, rows: Iterable[Row]) -> str:
        """The data of some of ours in a few words."""
        return " and ".join(sorted({short(row.variant) for row in rows if row.variant})) or self.dataset

    @property
    def floor(self) -> float:
        """What lies below is not drawn."""
        values = [row.value or 0.0 for row in self.points]
        best = max([*values, *(other.value for other in self.published)])
        return min([*values, best - BELOW])

    def cost(self, other: Published) -> float | None:
        """The size or latency of a published result."""
        return other.bytes if self.by == "bytes" else other.latency_us

    @property
    def elsewhere(self) -> list[Published]:
        """Published results with a size, or latency, that are drawn as points."""
        return [one for one in self.published if self.cost(one) is not None and one.value >= self.floor]

    @property
    def levels(self) -> list[Published]:
        """Published results without a size, drawn as lines; beside latencies they say nothing."""
        if self.by != "bytes":
            return []
        return [one for one in self.published if one.bytes is None and one.value >= self.floor]

    @property
    def hidden(self) -> list[Published]:
        """Published results that are too far below."""
        shown = self.by == "bytes"
        return [one for one in self.published if (shown or self.cost(one) is not None) and one.value < self.floor]

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """Among many points: int8 and fp32 of one model, which are joined by a line and named once."""
        if len(self.points) <= FEW:
            return []
        wide = {_stem(row): row for row in self.points if row.precision == "fp32"}
        return [(row, wide[_stem(row)]) for row in self.points if row.precision == "int8" and _stem(row) in wide]

    def numbers(self) -> dict[str, Any]:
        """Everything drawn, as JSON: by this two pictures are compared."""
        return {
            "title": title(self),
            "caption": caption(self),
            "points": [[row.name, row.cost(self.by), row.value, row.on_front] for row in self.points],
            "published": [[one.model, self.cost(one), one.value] for one in (*self.elsewhere, *self.levels)],
        }


def short(variant: str | None) -> str:
    """A variant up to its first stop: "HAPT windows"."""
    text = (variant or "").replace(";", ":").replace(",", ":").partition(":")[0]
    return text if len(text) <= 64 else text[:61].rstrip() + "..."


def title(scene: Scene) -> str:
    """Above the picture."""
    against = "bytes of weights" if scene.by == "bytes" else "latency"
    name = NAMES[scene.metric]
    return f"{scene.dataset}: test {name} against {against}"


def caption(scene: Scene) -> str:
    """What must be said beside the numbers."""
    parts = [f"fastzoo: {scene.variant}, test split."]
    pairs = scene.pairs
    for row in scene.points:
        full = _full_name(row, pairs)
        if (name := _name(row, scene, pairs)) != full:
            parts.append(f"Names leave out the data set: {name} is {full}.")
            break
    if pairs:
        parts.append("A thin line joins int8 and fp32 of one model.")
    if variants := sorted({one.variant for one in (*scene.elsewhere, *scene.levels)}):
        parts.append(f"Published by others: {'; '.join(variants)}. Where the data differ, compare with care.")
    if scene.by == "bytes":
        parts.append("fastzoo counts dense weights: int8 with their scales, biases in fp32; not the graph around them.")
        if counted := sorted({one.counted for one in scene.elsewhere if one.counted}):
            parts.append(f"Others count: {'; '.join(counted)}.")
        if scene.levels:
            parts.append("Dashed: no bytes were published.")
    else:
        parts.append(f"fastzoo: one thread, {'; '.join(sorted({row.machine or '' for row in scene.points}))}.")
        if devices := sorted({one.device for one in scene.elsewhere if one.device}):
            parts.append(f"Others: {'; '.join(devices)}.")
    if scene.hidden:
        names = ", ".join(f"{one.model} {_percent(one.value)}" for one in scene.hidden)
        parts.append(f"Below the picture: {names}.")
    if sources := sorted({one.source.partition(", table")[0] for one in (*scene.elsewhere, *scene.levels)}):
        parts.append(f"Sources: {'; '.join(sources)}.")
    return " ".join(parts)


def draw(scene: Scene, kind: str = "png") -> bytes:
    """The picture; a PNG carries :meth:`Scene.numbers` as its text ``fastzoo``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_type = require("matplotlib.figure", extra="train", purpose="drawing a comparison").Figure
    lines = textwrap.wrap(_plain(caption(scene)), 152)
    entries = _legend(scene)
    longest = max(len(str(entry.get_label())) for entry in entries)
    columns = 3 if longest <= WIDEST else 2 if longest <= WIDE else 1
    words, rows = 0.15 * len(lines), math.ceil(len(entries) / columns)
    low = 0.75 + 0.19 * rows + words
    texts = _texts(scene)
    height = 4.9 + 0.1 * min(max(len(texts) - FEW, 0), 20) + low
    figure: Figure = figure_type(figsize=(9, height))
    axes = figure.add_axes((0.085, low / height, 0.875, (height - low - 0.42) / height))
    figure.text(0.015, 0.09 / height, "\n".join(lines), fontsize=7.5, color=GREY, va="bottom", linespacing=1.3)
    figure.legend(
        handles=entries, ncols=columns, fontsize=8, frameon=False, loc="lower left", labelcolor=INK,
        bbox_to_anchor=(0.01, (0.16 + words) / height), handlelength=1.6, columnspacing=1.4, borderpad=0,
        borderaxespad=0,
    )  # fmt: skip
    axes.set_title(_plain(title(scene)), fontsize=12, loc="left", color=INK)
    _axes(axes, scene)
    _Labels(figure, axes, _marks(axes, scene)).place(texts)
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


class Marks(NamedTuple):
    """What was drawn: points, which text must not cover, and lines, which it should not cross."""

    points: list[Point]
    lines: list[Segment]


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
        entry.set_label(_plain(f"fastzoo {entry.get_label()}, {scene.variant_of(rows)}"))
    if any(row.on_front for row in scene.points):
        entries.append(Line2D([], [], color=INK, alpha=0.5, lw=1.2, label="fastzoo: none better at no more cost"))
    for kind, marker in _kinds(scene).items():
        entries.append(Line2D([], [], **HOLLOW, marker=marker, ls="", label=_plain(f"published: {kind}")))
    for kind in sorted({short(one.variant) for one in scene.levels}):
        entries.append(Line2D([], [], **LEVEL, label=_plain(f"published: {kind}")))
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
    found = [Text(*_place(row, scene), _name(row, scene, pairs), {"color": INK, "fontsize": 8.5}) for row in own]
    for one in scene.elsewhere:
        weight = "bold" if one.model == "FastGRNN" else "normal"
        found.append(
            Text(scene.cost(one), 100 * one.value, one.model, {"color": GREY, "fontsize": 7.5, "fontweight": weight})
        )
    for one in scene.levels:
        size = f" ({one.parameters / 1000:.3g} k parameters)" if one.parameters else ""
        words = f"{one.model} {_percent(one.value)}{size}"
        found.append(Text(None, 100 * one.value, words, {"color": GREY, "fontsize": 7.5}))
    return found


def _stem(row: Row) -> str:
    """The bundle's name."""
    return row.name.removesuffix(f"-{row.precision}")


def _full_name(row: Row, pairs: Sequence[tuple[Row, Row]]) -> str:
    """As it is loaded; where one name stands for both precisions, the bundle's."""
    return _stem(row) if any(row in pair for pair in pairs) else row.name


def _name(row: Row, scene: Scene, pairs: Sequence[tuple[Row, Row]]) -> str:
    """Its name; among many without that of the data set, which stands in the title."""
    name = _full_name(row, pairs)
    return name if len(scene.points) <= FEW else name.replace(f"-{scene.dataset}", "", 1)


class Text(NamedTuple):
    """A label and the point that it belongs to; no x: it belongs to a line from left to right."""

    x: float | None
    y: float
    words: str
    style: Mapping[str, Any]


class _Labels:
    """Puts text beside points so that it covers neither other text nor points, and crosses few lines."""

    def __init__(self, figure: Figure, axes: Axes, marks: Marks) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        figure.set_dpi(DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        self.axes, self.renderer = axes, canvas.get_renderer()
        self.frame: Bbox = axes.get_window_extent(self.renderer)
        self.taken: list[Bbox] = []
        self.dots = [self._box(px - 7, py - 7, px + 7, py + 7) for px, py in map(self._pixels, marks.points)]
        self.lines = [(self._pixels(start), self._pixels(end)) for start, end in marks.lines]

    def _pixels(self, point: Point) -> Point:
        px, py = self.axes.transData.transform(point)
        return float(px), float(py)

    @staticmethod
    def _box(x0: float, y0: float, x1: float, y1: float) -> Bbox:
        from matplotlib.transforms import Bbox

        return Bbox.from_extents(min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1)

    def place(self, texts: Sequence[Text]) -> None:
        """Each at the best of the places around its point; where none is free, the point goes without a name."""
        from matplotlib.patheffects import withStroke

        halo = [withStroke(linewidth=2.2, foreground="white")]  # keeps a name legible on a line
        for x, y, words, style in texts:
            text = self.axes.text(
                0, 0, _plain(words), transform=None, va="center", ha="center", zorder=5, path_effects=halo, **style
            )
            box = text.get_window_extent(self.renderer)
            spot = self._pixels((self.axes.get_xlim()[0] if x is None else x, y))
            places = _beside_line if x is None else _around
            free: list[tuple[int, int, Bbox, bool]] = []
            for order, (cx, cy, far) in enumerate(places(*spot, box.width, box.height, self.frame)):
                half, rise = box.width / 2, box.height / 2
                there = self._box(cx - half, cy - rise, cx + half, cy + rise)
                inside = self.frame.contains(there.x0, there.y0) and self.frame.contains(there.x1, there.y1)
                if inside and not any(there.overlaps(other) for other in (*self.taken, *self.dots)):
                    free.append((order + 9 * self._crossings(spot, there, far), order, there, far))
            if not free:
                text.remove()
                continue
            _, _, there, far = min(free, key=lambda place: place[:2])
            text.set_position(((there.x0 + there.x1) / 2, (there.y0 + there.y1) / 2))
            self.taken.append(there.padded(2))
            if far:
                self._leader(spot, there)

    def _crossings(self, spot: Point, box: Bbox, far: bool) -> int:
        """Lines that a text in ``box`` would cross, and texts and points that its leader would."""
        crossed = sum(_meet(line, box) for line in self.lines)
        if far:
            leader = spot, _nearest(spot, box)
            own = (dot for dot in self.dots if not dot.contains(*spot))
            crossed += sum(_meet(leader, other) for other in (*self.taken, *own))
        return crossed

    def _leader(self, spot: Point, box: Bbox) -> None:
        """A thin line from a point to a name that stands away from it."""
        line = spot, _nearest(spot, box)
        self.lines.append(line)
        (x0, y0), (x1, y1) = self.axes.transData.inverted().transform(line)
        self.axes.plot([x0, x1], [y0, y1], color=GREY, lw=0.6, zorder=2.5)


def _nearest(spot: Point, box: Bbox) -> Point:
    """Where a leader from a point meets a box."""
    return min(max(spot[0], box.x0), box.x1), min(max(spot[1], box.y0), box.y1)


def _meet(line: Segment, box: Bbox) -> bool:
    """Whether a straight line touches a box: what is left of it between the sides, in each direction, in turn."""
    first, last = 0.0, 1.0
    for start, end, low, high in zip(*line, box.min, box.max, strict=True):
        if start == end:
            if not low <= start <= high:
                return False
            continue
        near, far = sorted(((low - start) / (end - start), (high - start) / (end - start)))
        first, last = max(first, near), min(last, far)
    return first <= last


def _around(px: float, py: float, width: float, height: float, frame: Bbox) -> Iterator[tuple[float, float, bool]]:
    """Centres of a text around a point: right, above, below, left, then further and further away; whether it is far."""
    for ring, gap in enumerate((11.0, 24.0, 42.0, 66.0, 96.0, 130.0)):
        for dx, dy in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            aside = gap if dy == 0 else gap / 2
            yield px + dx * (aside + width / 2), py + dy * (gap + height / 2), ring > 0


def _beside_line(px: float, py: float, width: float, height: float, frame: Bbox) -> Iterator[tuple[float, float, bool]]:
    """Centres of a text above or below a horizontal line, from the left end on."""
    for step in range(11):
        for side in (1, -1):
            yield frame.x0 + 6 + step * frame.width / 12 + width / 2, py + side * (height / 2 + 4), False


def _amount(value: float, by: str) -> str:
    if by == "latency":
        return f"{value / 1000:g} ms" if value >= 1000 else f"{value:g} us"
    for size, unit in ((1e6, "MB"), (1000, "kB")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
