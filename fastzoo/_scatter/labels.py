"""Where the names of points go: beside them, on neither other names nor points, across few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Point = tuple[float, float]
Segment = tuple[Point, Point]

LEADER: dict[str, Any] = {"color": "#7a828c", "lw": 0.6, "zorder": 2.5}


class Marks(NamedTuple):
    """What was drawn: points, which text must not cover, and lines, which it should not cross."""

    points: list[Point]
    lines: list[Segment]


class Text(NamedTuple):
    """A label and the point that it belongs to; no x: it belongs to a line from left to right."""

    x: float | None
    y: float
    words: str
    style: Mapping[str, Any]


class Labels:
    """Puts text beside points so that it covers neither other text nor points, and crosses few lines."""

    def __init__(self, figure: Figure, axes: Axes, marks: Marks) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

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
                0, 0, plain(words), transform=None, va="center", ha="center", zorder=5, path_effects=halo, **style
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
        self.axes.plot([x0, x1], [y0, y1], **LEADER)


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


def plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
