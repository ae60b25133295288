"""A layered drawing of an acyclic graph, from left to right. Knows boxes and wires, and nothing of networks.

Layers by the longest path, wires through the layers between as narrow bends, the order in each layer by barycentres,
heights by least squares: no two boxes overlap, and no wire runs through one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import NamedTuple

CHARACTER, BOLD = 0.62, 0.72  # its width, in font sizes
TITLE, SMALL, CHIP = 12.5, 9.0, 10.0  # font sizes, one unit is one pixel
BETWEEN, PORT, MARGIN = 14.0, 17.0, 10.0
BEND = 34.0  # the width that a wire needs to change its height
HEAD = 6.0
SWEEPS = 12
LEAST = 0.7  # of its size, below which a drawing is scrolled rather than made smaller


class Chip(NamedTuple):
    """What an operator holds: ``kind`` is a CSS class."""

    text: str
    kind: str


class Wire(NamedTuple):
    """What flows on a wire."""

    label: str = ""
    kind: str = "floats"


@dataclass(frozen=True)
class Box:
    """One operator; ``inputs`` and ``outputs`` name wires, ``kind`` is a CSS class, ``late`` puts it in the last layer.

    ``over`` is a small line above the title, ``number`` a small one behind it.
    """

    key: str
    title: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()
    over: str = ""
    number: str = ""
    hint: str = ""
    late: bool = False

    @property
    def width(self) -> float:
        """What its texts need."""
        title = BOLD * TITLE * len(self.title) + (CHARACTER * SMALL * (len(self.number) + 1) if self.number else 0.0)
        chips = [CHARACTER * CHIP * len(chip.text) + 8 for chip in self.chips]
        return round(max(26.0, title, CHARACTER * SMALL * len(self.over), *chips) + 13)

    @property
    def height(self) -> float:
        """What its texts and its wires need."""
        texts = 24 + (10 if self.over else 0) + 17 * len(self.chips)
        return max(texts, PORT * max(len(self.inputs), len(self.outputs)))


class Rect(NamedTuple):
    """Where a box lies."""

    x: float
    y: float
    width: float
    height: float


@dataclass(eq=False)
class _Item:
    """A box, or a bend of a wire, in a layer."""

    layer: int
    box: Box | None
    height: float
    y: float = 0.0  # of its middle
    sources: list[tuple[_Item, int]] = field(default_factory=list)  # with the number of their output
    targets: list[tuple[_Item, int]] = field(default_factory=list)  # with the number of its own output

    def outlet(self, number: int) -> float:
        """Where an output lies, from the middle."""
        count = len(self.box.outputs) if self.box else 1
        return self.height * ((number + 1) / (count + 1) - 0.5)


class Diagram:
    """Boxes and wires in their places.

    Args:
        boxes: in the order in which they run.
        wires: what is known of them, by name.
    """

    def __init__(self, boxes: Sequence[Box], wires: dict[str, Wire]) -> None:
        self.boxes, self.wires = tuple(boxes), wires
        self._columns = self._layered()
        _order(self._columns)
        _align(self._columns)
        self._spread()

    def svg(self, title: str) -> str:
        """The drawing; its colours are CSS classes."""
        shapes = [*self._wires(), *(line for box in self.boxes for line in self._box(box))]
        width, height = f"{self.width:.0f}", f"{self.height:.0f}"
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        style = f'style="width:100%;height:auto;max-width:{width}px;min-width:{LEAST * self.width:.0f}px"'
        head = f'<svg class="graph" role="img" aria-label="{escape(title)}" {size} {style}>'
        return "\n".join([head, *shapes, "</svg>"])

    def _layered(self) -> list[list[_Item]]:
        """A column of items for each layer."""
        made = {wire: box for box in self.boxes for wire in box.outputs}
        read: dict[str, list[Box]] = {}
        for box in self.boxes:
            for wire in box.inputs:
                read.setdefault(wire, []).append(box)
        layers = _layers(self.boxes, made, read)
        items = {box.key: _Item(layers[box.key], box, box.height) for box in self.boxes}
        columns: list[list[_Item]] = [[] for _ in range(max(layers.values(), default=0) + 1)]
        for box in self.boxes:
            columns[layers[box.key]].append(items[box.key])
        for box in self.boxes:
            for number, wire in enumerate(box.outputs):
                ends = [items[other.key] for other in read.get(wire, [])]
                at, outlet = items[box.key], number
                for layer in range(at.layer + 1, max((end.layer for end in ends), default=0) + 1):
                    for end in ends:
                        if end.layer == layer:
                            _join(at, outlet, end)
                    if any(end.layer > layer for end in ends):
                        bend = _Item(layer, None, 0.0)
                        columns[layer].append(bend)
                        _join(at, outlet, bend)
                        at, outlet = bend, 0
        return columns

    def _spread(self) -> None:
        """Widths of columns and of the gaps between them."""
        top = min((item.y - item.height / 2 for column in self._columns for item in column), default=0.0)
        bottom, x = 0.0, MARGIN
        self.rects: dict[str, Rect] = {}
        self._lefts, self._rights, self._bends = [], [], []
        for column in self._columns:
            width = max((item.box.width for item in column if item.box), default=0.0)
            stub, climb = 0.0, 0.0
            for item in column:
                item.y += MARGIN - top
                bottom = max(bottom, item.y + item.height / 2)
                if item.box:
                    left = x + (width - item.box.width) / 2
                    self.rects[item.box.key] = Rect(left, item.y - item.height / 2, item.box.width, item.height)
                    labels = [self.wires.get(wire, Wire()).label for wire in item.box.outputs]
                    stub = max(stub, *(CHARACTER * CHIP * len(label) + 9 for label in (*labels, "")))
            for item in column:
                climb = max(climb, *(abs(other.y - item.y) for other, _ in item.targets), 0.0)
            self._lefts.append(x)
            self._rights.append(x + width)
            self._bends.append(x + width + stub)
            x += width + stub + BEND + min(24.0, 0.08 * climb)
        self.width, self.height = (self._rights[-1] if self._rights else 0.0) + MARGIN, bottom + MARGIN

    def _wires(self) -> Iterator[str]:
        labels = []
        for layer, column in enumerate(self._columns):
            for item in column:
                begin = self.rects[item.box.key].x + item.box.width if item.box else self._lefts[layer]
                for outlet in sorted({number for _, number in item.targets}):
                    y = item.y + item.outlet(outlet)
                    name = item.box.outputs[outlet] if item.box else self._name(item)
                    wire = self.wires.get(name, Wire())
                    ends = [end for end, number in item.targets if number == outlet]
                    paths = [f"M{begin:.1f} {y:.1f}H{self._bends[layer]:.1f}"]
                    heads = []
                    for end in ends:
                        x, height = self._entry(end, item, outlet)
                        stop = x - HEAD if end.box else x
                        nearer = self._lefts[layer + 1] - 2 * HEAD if end.box else x
                        middle = (self._bends[layer] + nearer) / 2
                        paths.append(
                            f"M{self._bends[layer]:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {height:.1f} "
                            f"{nearer:.1f} {height:.1f}H{stop:.1f}"
                        )
                        if end.box:
                            heads.append(f"M{x:.1f} {height:.1f}l{-HEAD - 1:.1f} -3.5v7z")
                    yield f'<path class="wire {wire.kind}" d="{"".join(paths)}"/>'
                    if heads:
                        yield f'<path class="head {wire.kind}" d="{"".join(heads)}"/>'
                    if item.box and wire.label:
                        labels.append(
                            f'<text class="size {wire.kind}" x="{begin + 5:.1f}" y="{y + 3.5:.1f}">'
                            f"{escape(wire.label)}</text>"
                        )
        yield from labels

    def _name(self, bend: _Item) -> str:
        source, outlet = bend.sources[0]
        return source.box.outputs[outlet] if source.box else self._name(source)

    def _entry(self, item: _Item, source: _Item, outlet: int) -> tuple[float, float]:
        """Where a wire meets an item: wires come in from top to bottom, as they arrive."""
        if not item.box:
            return self._lefts[item.layer], item.y
        arriving = sorted(item.sources, key=lambda at: at[0].y + at[0].outlet(at[1]))
        place = (arriving.index((source, outlet)) + 1) / (len(arriving) + 1) - 0.5
        return self.rects[item.box.key].x, item.y + place * item.height

    def _box(self, box: Box) -> Iterator[str]:
        x, y, width, height = self.rects[box.key]
        middle = x + width / 2
        round_corners = min(height / 2, 14) if "pill" in box.kind else 5
        yield f'<g class="box {box.kind}" data-key="{escape(box.key)}"><title>{escape(box.hint or box.title)}</title>'
        yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_corners:g}"/>'
        texts = 24 + (10 if box.over else 0) + 17 * len(box.chips)
        line = y + (height - texts) / 2 + 16.5
        if box.over:
            yield f'<text class="over" x="{middle:.1f}" y="{line - 3:.1f}">{escape(box.over)}</text>'
            line += 10
        number = f'<tspan class="number" dy="2"> {escape(box.number)}</tspan>' if box.number else ""
        yield f'<text x="{middle:.1f}" y="{line:.1f}">{escape(box.title)}{number}</text>'
        for i, chip in enumerate(box.chips):
            wide = CHARACTER * CHIP * len(chip.text) + 8
            top = line + 6 + 17 * i
            yield f'<rect class="chip {chip.kind}" x="{middle - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
            yield f'height="14" rx="3"/><text class="chip" x="{middle:.1f}" y="{top + 10.5:.1f}">'
            yield f"{escape(chip.text)}</text>"
        yield "</g>"


def _join(source: _Item, outlet: int, target: _Item) -> None:
    source.targets.append((target, outlet))
    target.sources.append((source, outlet))


def _layers(boxes: Sequence[Box], made: dict[str, Box], read: dict[str, list[Box]]) -> dict[str, int]:
    """By the longest path from a source; then what gains or loses nothing by it moves towards its readers."""
    layers: dict[str, int] = {}
    for box in boxes:
        layers[box.key] = 1 + max((layers[made[wire].key] for wire in box.inputs if wire in made), default=-1)
    last = max(layers.values(), default=0)
    for box in reversed(boxes):
        readers = [other for wire in box.outputs for other in read.get(wire, [])]
        if not readers:
            layers[box.key] = last if box.late else layers[box.key]
        elif len(box.outputs) >= sum(wire in made for wire in box.inputs):
            layers[box.key] = min(layers[other.key] for other in readers) - 1
    return layers


def _order(columns: list[list[_Item]]) -> None:
    """Fewer crossings: each layer by the mean place of its neighbours, the best of some sweeps, then by swaps."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for at in range(len(columns)) if forward else reversed(range(len(columns))):
            places = (
                _places(columns[at - 1 if forward else at + 1])
                if 0 <= (at - 1 if forward else at + 1) < len(columns)
                else {}
            )
            columns[at].sort(key=_barycentre(columns[at], places, forward))
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best
    improved = True
    while improved:
        improved = False
        for column in columns:
            for i in range(len(column) - 1):
                column[i], column[i + 1] = column[i + 1], column[i]
                crossings = _crossings(columns)
                if crossings < fewest:
                    fewest, improved = crossings, True
                else:
                    column[i], column[i + 1] = column[i + 1], column[i]


def _places(column: Sequence[_Item]) -> dict[int, float]:
    return {id(item): float(i) for i, item in enumerate(column)}


def _barycentre(column: Sequence[_Item], places: dict[int, float], forward: bool) -> Callable[[_Item], float]:
    own = _places(column)

    def place(item: _Item) -> float:
        around = [
            places[id(other)] + ((number + 1) / (len(other.box.outputs) + 1) - 0.5 if forward and other.box else 0.0)
            for other, number in (item.sources if forward else item.targets)
            if id(other) in places
        ]
        return sum(around) / len(around) if around else own[id(item)]

    return place


def _crossings(columns: Sequence[Sequence[_Item]]) -> int:
    """How often two wires between neighbouring layers cross."""
    count = 0
    for left, right in pairwise(columns):
        places = _places(right)
        wires = sorted((i, number, places[id(end)]) for i, item in enumerate(left) for end, number in item.targets)
        for k, (i, number, end) in enumerate(wires):
            count += sum(end > other for a, b, other in wires[k + 1 :] if (a, b) != (i, number))
    return count


def _align(columns: Sequence[Sequence[_Item]], rounds: int = 40) -> None:
    """Heights: in turns, each layer as near to its neighbours on one side, then on both, as the boxes allow."""
    for column in columns:
        _settle(column, [0.0] * len(column))
    for turn in range(rounds):
        sides = ("both",) if turn >= rounds - 6 else ("sources", "targets")
        for side in sides:
            for column in reversed(columns) if side == "targets" else columns:
                _settle(column, [_wish(item, side) for item in column])


def _wish(item: _Item, side: str) -> float:
    """Where an item's wires would be straight."""
    wishes = []
    if side != "targets":
        wishes += [other.y + other.outlet(number) for other, number in item.sources]
    if side != "sources":
        wishes += [other.y - item.outlet(number) for other, number in item.targets]
    return sum(wishes) / len(wishes) if wishes else item.y


def _settle(column: Sequence[_Item], wishes: Sequence[float]) -> None:
    """The nearest heights, by least squares, that keep the order and the distances (pool adjacent violators)."""
    offsets = [0.0]
    for above, below in pairwise(column):
        offsets.append(offsets[-1] + (above.height + below.height) / 2 + BETWEEN)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for item, wish, offset in zip(column, wishes, offsets, strict=False):
        mean, weight, count = wish - offset, 1.0 if item.box else 3.0, 1
        while pools and pools[-1][0] > mean:
            before, heavy, several = pools.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, count = heavy + weight, several + count
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    for item, mean, offset in zip(column, means, offsets, strict=False):
        item.y = mean + offset
