"""Rewrite the pictures of docs/cells.md and its table of sizes.

    python tools/draw_cells.py [--check]

Needs matplotlib and torch, which come with ``fastzoo[train]``. ``--check`` writes nothing, and exits with status 1
after naming what differs.

One release of matplotlib writes the same bytes everywhere, another may not: the outlines and widths of letters are its
own. So what is compared is what a reader sees: texts, colours, and shapes and places to within two pixels.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path as File
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path

from fastzoo import nn
from fastzoo.nn import model_size

ROOT = File(__file__).resolve().parent.parent
D, H, RANK = 6, 64, 16  # of the table: six channels of an inertial sensor, a usual state, a usual rank

# ---------------------------------------------------------------------------------------------------------------------
# The pen: one unit is one pixel, y grows downwards.

INK, PALE, CARD = "#2b3440", "#d0d7de", "#ffffff"
BLUE, GREEN, VIOLET, AMBER, GREY = "#cfe3f7", "#cdebd7", "#e2d6f5", "#fbe1b6", "#eceff2"  # x and W, h and U, gates, c
LINES = "#1f6fb5", "#1d8a4f", "#7a4fc0"  # of the plots
STROKE, RADIUS, HEAD = 1.5, 9.0, 7.0
STYLE: dict[Any, Any] = {"svg.hashsalt": "fastzoo", "svg.fonttype": "path", "mathtext.fontset": "cm", "font.size": 9.0}

Point = tuple[float, float]


class Card:
    """A picture on a white card, legible on pages of any colour; x up to ``right``, y from ``top`` to ``bottom``."""

    def __init__(self, title: str, right: float, bottom: float, top: float = 14) -> None:
        self.title, self.width, self.bottom, self.height = title, right, bottom, bottom - top
        self.figure = Figure(figsize=(self.width / 96, self.height / 96))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, right), ylim=(bottom, top))
        self.axes.axis("off")
        self._box(1, top + 1, self.width - 2, self.height - 2, CARD, edge=PALE, radius=10)

    def _box(self, x: float, y: float, width: float, height: float, fill: str, edge: str, radius: float) -> None:
        shape = f"round,pad=0,rounding_size={radius}"
        self._add(FancyBboxPatch((x, y), width, height, shape, facecolor=fill, edgecolor=edge), 1)

    def _add(self, patch: Any, layer: float, stroke: float = STROKE) -> None:
        patch.set(linewidth=0.75 * stroke, zorder=layer)
        self.axes.add_patch(patch)

    def text(self, at: Point, text: str, size: float = 17) -> None:
        x, y = at
        self.axes.text(x, y + 0.3 * size, text, size=0.75 * size, ha="center", va="baseline", color=INK, zorder=4)

    def state(self, at: Point, text: str, fill: str) -> None:
        """What goes in and out: a pill."""
        (x, y), width = at, 56
        self._box(x - width / 2, y - 15, width, 30, fill, INK, 15)
        self.text(at, text)

    def curve(self, at: Point, text: str, fill: str, width: float = 62) -> None:
        """A function of what comes in."""
        x, y = at
        self._box(x - width / 2, y - 16, width, 32, fill, INK, 5)
        self.text(at, text)

    def sign(self, at: Point, sign: str) -> None:
        """A sum or a product, element by element."""
        (x, y), arm = at, 5.0
        self._add(Circle(at, 11, facecolor=CARD, edgecolor=INK), 3)
        turn = 0 if sign == "+" else math.pi / 4
        for angle in (turn, turn + math.pi / 2):
            dx, dy = arm * math.cos(angle), arm * math.sin(angle)
            self._add(PathPatch(Path([(x - dx, y - dy), (x + dx, y + dy)]), edgecolor=INK), 4)

    def dot(self, at: Point) -> None:
        """Here a wire goes two ways."""
        self._add(Circle(at, 3, facecolor=INK, edgecolor=INK), 3)

    def factors(self, at: Point, name: str, fill: str, blocks: str = "", last: str = "2") -> float:
        """Two thin factors, in the shape of their matrices, from ``at`` to the right; where they end."""
        x, y = at
        width = 26.0 * max(len(blocks), 1) if blocks else 48.0
        self._add(Rectangle((x, y - 24), 15, 48, facecolor=fill, edgecolor=INK), 2)
        self._add(Rectangle((x + 19, y - 9), width, 18, facecolor=fill, edgecolor=INK), 2)
        for i, block in enumerate(blocks):
            self.text((x + 19 + 26 * i + 13, y), f"${block}$", size=14)
            if i:
                line = Path([(x + 19 + 26 * i, y - 9), (x + 19 + 26 * i, y + 9)])
                self._add(PathPatch(line, edgecolor=INK), 2)
        self.text((x + 7.5, y - 34), f"${name}_1$", size=15)
        self.text((x + 19 + width / 2, y - 19), f"${name}_{last}$", size=15)
        return x + 19 + width

    def split(self, at: Point, fills: Sequence[str], offsets: Sequence[float]) -> None:
        """The blocks part: a bar of their colours with a wire on each."""
        (x, y), ends = at, [offsets[0] - 8, *[(a + b) / 2 for a, b in pairwise(offsets)], offsets[-1] + 8]
        for fill, (top, bottom) in zip(fills, pairwise(ends), strict=True):
            self._add(Rectangle((x - 4, y + top), 8, bottom - top, facecolor=fill, edgecolor=INK), 2)

    def wire(self, *points: Point, arrow: bool = True, bridge: bool = False) -> None:
        """A line with round corners; ``bridge`` cuts what it crosses."""
        *before, end = points
        if arrow:
            dx, dy = end[0] - before[-1][0], end[1] - before[-1][1]
            ux, uy = dx / math.hypot(dx, dy), dy / math.hypot(dx, dy)
            base = (end[0] - HEAD * ux, end[1] - HEAD * uy)
            side = [(base[0] - s * 3.6 * uy, base[1] + s * 3.6 * ux) for s in (1, -1)]
            self._add(Polygon([end, *side], closed=True, facecolor=INK, edgecolor=INK), 3, 0.5)
            end = base
        path = _rounded([*before, end])
        if bridge:
            self._add(PathPatch(path, edgecolor=CARD, facecolor="none", capstyle="butt"), 1.5, 4.5 * STROKE)
        self._add(PathPatch(path, edgecolor=INK, facecolor="none", capstyle="butt"), 1.6 if bridge else 1.4)

    def plot(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at this place on the card."""
        below = self.bottom - top - height
        place = (left / self.width, below / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(place, facecolor="none", zorder=5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.tick_params(colors=INK, labelsize=8.5)
        return axes

    def svg(self) -> str:
        """The finished file."""
        out = io.StringIO()
        nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(out, format="svg", metadata={"Title": self.title, **nobody}, facecolor="none")
        return re.sub(r"[ \t]+$", "", out.getvalue(), flags=re.MULTILINE)


def _rounded(points: Sequence[Point]) -> Path:
    """Straight lines through the points, the corners cut off by arcs."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(RADIUS, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(start: Point, goal: Point, distance: float) -> Point:
    share = distance / math.dist(start, goal)
    return start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1])


# ---------------------------------------------------------------------------------------------------------------------
# The cells


def fastrnn() -> Card:
    card = Card("FastRNN: one step as a picture", 578, 250)
    _left_half(card, 52, 132, 212, 172)
    card.text((198, 173), "$b$")
    card.wire((208, 172), (225, 172))
    card.wire((247, 172), (290, 172))
    card.curve((316, 172), r"$\mathrm{tanh}$", AMBER, 52)
    card.text((360, 161), "$c$")
    card.wire((342, 172), (389, 172))
    for at, name in (((400, 172), r"$\alpha$"), ((316, 52), r"$\beta$")):
        card.sign(at, "x")
        card.text((at[0], at[1] + 48), name)
        card.wire((at[0], at[1] + 38), (at[0], at[1] + 11))
    card.wire((411, 172), (456, 172), (456, 63))
    card.sign((456, 52), "+")
    _highway(card, [72, 316, 456], 506)
    card.state((534, 52), "$h_t$", GREEN)
    return card


def fastgrnn() -> Card:
    card = Card("FastGRNN: one step as a picture", 690, 282)
    _left_half(card, 52, 132, 212, 172)
    card.wire((247, 172), (270, 172), arrow=False)
    card.dot((270, 172))
    card.wire((270, 172), (270, 132), (300, 132))
    card.wire((270, 172), (270, 212), (300, 212))
    card.text((326, 86), "$b_z$")
    card.wire((326, 97), (326, 116))
    card.text((326, 262), "$b_c$")
    card.wire((326, 250), (326, 228))
    _blend(card, 326, 132, 212, r"$\zeta\,(1-z)+\nu$", 112)
    return card


def ugrnn() -> Card:
    card = Card("UGRNN: one step as a picture", 690, 250)
    _left_half(card, 52, 132, 212, 172, "zc")
    card.text((198, 173), "$b$")
    card.wire((208, 172), (225, 172))
    card.wire((247, 172), (266, 172), arrow=False)
    card.split((270, 172), (VIOLET, AMBER), (-8, 8))
    card.wire((274, 164), (286, 164), (286, 132), (300, 132))
    card.wire((274, 180), (286, 180), (286, 212), (300, 212))
    _blend(card, 326, 132, 212, "$1-z$", 62)
    return card


def _left_half(card: Card, top: float, u: float, w: float, middle: float, blocks: str = "") -> None:
    """State and input, each through its factors, to a sum at (236, middle)."""
    card.state((44, top), "$h_{t{-}1}$", GREEN)
    card.state((44, w), "$x_t$", BLUE)
    card.dot((92, top))
    card.wire((92, top), (92, u), (112, u))
    card.wire((72, w), (112, w))
    for y, name, fill, side in ((u, "U", GREEN, -11), (w, "W", BLUE, 11)):
        end = card.factors((112, y), name, fill, blocks)
        card.wire((end, y), (236, y), (236, middle + side))
    card.sign((236, middle), "+")


def _highway(card: Card, stations: Sequence[float], end: float, y: float = 52) -> None:
    """The line of the state from sign to sign."""
    for i, (here, there) in enumerate(pairwise([*stations, end])):
        last = i == len(stations) - 1
        card.wire((here + (11 if i else 0), y), (there - (0 if last else 11), y))


def _blend(card: Card, x: float, gate: float, update: float, weight: str, width: float) -> None:
    """Gate and candidate at ``x``, the blend of old state and candidate, and the new state."""
    card.curve((x, gate), r"$\sigma$", VIOLET, 52)
    card.curve((x, update), r"$\mathrm{tanh}$", AMBER, 52)
    fork, weighed, end = x + 76, x + 178, x + 248
    card.text((x + 44, gate - 11), "$z$")
    card.text((x + 44, update - 11), "$c$")
    card.wire((x + 26, gate), (fork, gate), arrow=False)
    card.dot((fork, gate))
    card.wire((fork, gate), (fork, 63))
    card.wire((fork, gate), (weighed - width / 2, gate))
    card.curve((weighed, gate), weight, GREY, width)
    card.wire((weighed, gate + 16), (weighed, update - 11))
    card.wire((x + 26, update), (weighed - 11, update))
    for at in ((fork, 52), (weighed, update)):
        card.sign(at, "x")
    card.wire((weighed + 11, update), (end, update), (end, 63))
    card.sign((end, 52), "+")
    _highway(card, [72, fork, end], end + 44)
    card.state((end + 72, 52), "$h_t$", GREEN)


def gru() -> Card:
    card = Card("GRU: one step as a picture", 832, 316)
    card.state((44, 52), "$h_{t{-}1}$", GREEN)
    card.state((44, 250), "$x_t$", BLUE)
    card.dot((92, 52))
    card.wire((92, 52), (92, 132), (112, 132))
    card.wire((72, 250), (112, 250))
    card.wire((card.factors((112, 132), "U", GREEN, "rz"), 132), (290, 132), (290, 165))
    card.wire((card.factors((112, 250), "W", BLUE, "rzc"), 250), (225, 250))
    card.sign((236, 250), "+")
    card.text((236, 298), "$b$")
    card.wire((236, 286), (236, 261))
    card.wire((247, 250), (260, 250), arrow=False)
    card.split((264, 250), (VIOLET, AMBER), (-8, 8))
    card.wire((268, 242), (290, 242), (290, 187))
    card.sign((290, 176), "+")
    card.wire((301, 176), (314, 176), arrow=False)
    card.split((318, 176), (VIOLET, VIOLET), (-8, 8))
    card.wire((322, 168), (334, 168), (334, 114), (348, 114))
    card.wire((322, 184), (334, 184), (334, 196), (348, 196))
    card.curve((374, 114), r"$\sigma$", VIOLET, 52)
    card.curve((374, 196), r"$\sigma$", VIOLET, 52)
    card.text((414, 103), "$z$")
    card.text((412, 185), "$r$")
    # the reset gate, and the candidate that it lets see the state
    card.wire((400, 196), (429, 196))
    card.dot((440, 52))
    card.wire((400, 114), (560, 114), arrow=False)
    card.wire((440, 52), (440, 185), bridge=True)
    card.sign((440, 196), "x")
    card.wire((451, 196), (472, 196))
    card.wire((card.factors((472, 196), "U", GREEN, "c"), 196), (544, 196), (544, 247))
    card.wire((268, 258), (533, 258))
    card.sign((544, 258), "+")
    card.wire((555, 258), (578, 258))
    card.curve((604, 258), r"$\mathrm{tanh}$", AMBER, 52)
    card.text((644, 247), "$c$")
    # the blend
    card.dot((560, 114))
    card.wire((560, 114), (560, 63))
    card.sign((560, 52), "x")
    card.wire((560, 114), (649, 114))
    card.curve((680, 114), "$1-z$", GREY, 62)
    card.wire((680, 130), (680, 247))
    card.wire((630, 258), (669, 258))
    card.sign((680, 258), "x")
    card.wire((691, 258), (726, 258), (726, 63))
    card.sign((726, 52), "+")
    _highway(card, [72, 560, 726], 760)
    card.state((788, 52), "$h_t$", GREEN)
    return card


def lstm() -> Card:
    card = Card("LSTM: one step as a picture", 772, 322)
    card.state((44, 52), "$c_{t{-}1}$", GREEN)
    card.state((44, 142), "$h_{t{-}1}$", GREEN)
    card.state((44, 252), "$x_t$", BLUE)
    for y, name, fill, side in ((142, "U", GREEN, -11), (252, "W", BLUE, 11)):
        card.wire((72, y), (112, y))
        card.wire((card.factors((112, y), name, fill, "ifco"), y), (262, y), (262, 197 + side))
    card.sign((262, 197), "+")
    card.text((224, 198), "$b$")
    card.wire((234, 197), (251, 197))
    card.wire((273, 197), (288, 197), arrow=False)
    gates = (("f", VIOLET, 112.0), ("i", VIOLET, 168.0), ("g", AMBER, 226.0), ("o", VIOLET, 282.0))
    offsets = (-24.0, -8.0, 8.0, 24.0)
    card.split((292, 197), [fill for _, fill, _ in gates], offsets)
    for (name, fill, level), offset, turn in zip(gates, offsets, (310, 324, 324, 310), strict=True):
        card.wire((296, 197 + offset), (turn, 197 + offset), (turn, level), (348, level))
        card.curve((374, level), r"$\mathrm{tanh}$" if name == "g" else r"$\sigma$", fill, 52)
        card.text((416, level - 13), f"${name}$")
    card.wire((400, 112), (452, 112), (452, 63))
    card.sign((452, 52), "x")
    card.wire((400, 168), (490, 168), (490, 186))
    card.wire((400, 226), (490, 226), (490, 208))
    card.sign((490, 197), "x")
    card.wire((501, 197), (540, 197), (540, 63))
    card.sign((540, 52), "+")
    _highway(card, [72, 452, 540], 700)
    card.state((728, 52), "$c_t$", GREEN)
    card.dot((610, 52))
    card.wire((610, 52), (610, 102))
    card.curve((610, 118), r"$\mathrm{tanh}$", GREY, 52)
    card.wire((610, 134), (610, 186))
    card.wire((400, 282), (610, 282), (610, 208))
    card.sign((610, 197), "x")
    card.wire((621, 197), (700, 197))
    card.state((728, 197), "$h_t$", GREEN)
    return card


# ---------------------------------------------------------------------------------------------------------------------
# Sizes


def sizes() -> Card:
    """Bytes of FastGRNN's cell against the ranks of U and of W, and up to which rank they are saved."""
    card = Card("Size of FastGRNN as a function of its ranks", 816, 380)
    left, right = card.plot(60, 94, 324, 226), card.plot(464, 94, 324, 226)
    for size, color in zip((32, 64, 96), LINES, strict=True):
        low = [_bytes(D, size, u_rank=rank) for rank in range(1, size + 1)]
        _line(left, _bytes(D, size), low, color, f"$H={size}$")
    for channels, color in zip((D, 16, 32), LINES, strict=True):
        low = [_bytes(channels, H, w_rank=rank, u_rank=RANK) for rank in range(1, channels + 1)]
        _line(right, _bytes(channels, H, u_rank=RANK), low, color, f"$D={channels}$")
    left.set(xlim=(0, 112), ylim=(0, 20.5), xlabel="u_rank", xticks=range(0, 97, 16), yticks=range(0, 21, 5))
    right.set(xlim=(0, 37), ylim=(2, 6.1), xlabel="w_rank", xticks=range(0, 33, 4), yticks=range(2, 7))
    titles = f"The rank of U:  D = {D}, W full", f"The rank of W:  H = {H}, U of rank {RANK}"
    for axes, title in zip((left, right), titles, strict=True):
        axes.set_title(title, loc="left", color=INK, fontsize=9.5, pad=9)
        axes.text(-0.025, 1.05, "kB", transform=axes.transAxes, ha="right", color=INK, fontsize=8.5)
        axes.xaxis.label.set(color=INK, size=9)
    note = "FastGRNN's cell in int8.  Dashed: full rank.  Dot: the largest rank that saves bytes."
    card.axes.text(60, 46, note, color=INK, fontsize=9.5, va="baseline")
    return card


def _bytes(channels: int, size: int, w_rank: int | None = None, u_rank: int | None = None) -> int:
    return model_size(nn.FastGRNN(channels, size, w_rank=w_rank, u_rank=u_rank)).int8_bytes


def _line(axes: Axes, full: int, low: Sequence[int], color: str, name: str) -> None:
    """Bytes of each rank from 1 on, strong as long as they are fewer than ``full``."""
    last = sum(size < full for size in low)
    ranks, kilobytes = range(1, len(low) + 1), [size / 1000 for size in low]
    axes.plot(ranks[:last], kilobytes[:last], color=color, lw=2)
    axes.plot(ranks[last - 1 :], kilobytes[last - 1 :], color=color, lw=1.2, alpha=0.45)
    axes.plot([0, len(low)], [full / 1000] * 2, color=color, lw=1, ls=(0, (5, 3)))
    axes.plot(last, kilobytes[last - 1], "o", color=color, ms=5.5)
    at = last, kilobytes[last - 1]
    axes.annotate(f"{last}", at, (4, -9), textcoords="offset points", color=color)
    axes.annotate(name, (len(low), full / 1000), (5, -3), textcoords="offset points", color=color, fontsize=11)


def table() -> str:
    """The cells side by side, full and of low rank."""
    figures = "parameters | bytes | MACs"
    lines = [
        f"| D = {D}, H = {H} | {figures} | `u_rank={RANK}`: {figures} | largest that saves |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in nn.CELLS.values():
        full, low = model_size(kind(D, H)), model_size(kind(D, H, u_rank=RANK))
        numbers = [n for size in (full, low) for n in (size.parameters, size.int8_bytes, size.macs_per_step)]
        numbers.append(sum(model_size(kind(D, H, u_rank=r)).int8_bytes < full.int8_bytes for r in range(1, H + 1)))
        lines.append("| " + " | ".join([kind.__name__, *map(str, numbers)]) + " |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------


PAGE, PICTURES = "docs/cells.md", "docs/pictures"
BEGIN, END = "<!-- sizes:begin -->\n", "<!-- sizes:end -->"


def generated(page: str) -> dict[str, str]:
    """All pictures, and the page with its table, by their places in the checkout.

    Raises:
        ValueError: the page has no place for the table.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} needs the lines {BEGIN.strip()} and {END}, where the table of sizes goes")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        pictures = (fastrnn, fastgrnn, ugrnn, gru, lstm, sizes)
        files = {f"{PICTURES}/{draw.__name__}.svg": draw().svg() for draw in pictures}
    return files | {PAGE: before + begin + table() + end + after}


_INVISIBLE = re.compile(
    r"<defs>.*?</defs>|<metadata>.*?</metadata>"
    r"|<use (?![^>]* y=)[^>]*>"  # letters
    r'| (?:id|clip-path|xlink:href)="[^"]*"',
    re.DOTALL,
)
_TEXT = re.compile(r"<!--.*?-->", re.DOTALL)  # stands beside its letters
_NUMBER = re.compile(r"(?<![#\w])-?\d+(?:\.\d+)?(?:e-?\d+)?")
_TWO_PIXELS = 1.5  # in points, the unit of matplotlib's files


def look_alike(one: str, other: str) -> bool:
    """Whether two of matplotlib's SVGs show the same texts and shapes in the same places, to within two pixels."""
    (words, numbers), (other_words, other_numbers) = map(_seen, (one, other))
    return words == other_words and all(abs(a - b) < _TWO_PIXELS for a, b in zip(numbers, other_numbers, strict=True))


def _seen(svg: str) -> tuple[list[str], list[float]]:
    """Words and numbers, without what is not seen and without the outlines of letters."""
    visible = _INVISIBLE.sub("", svg)
    shapes = _TEXT.sub("", visible)
    words = [*_TEXT.findall(visible), *_NUMBER.sub("0", shapes).split()]
    return words, [float(number) for number in _NUMBER.findall(shapes)]


def main(arguments: Sequence[str] | None = None, root: File = ROOT) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    try:
        files = generated((root / PAGE).read_text(encoding="utf-8"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = False
    for name, text in files.items():
        path = root / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if text == old or (check and name.endswith(".svg") and look_alike(old, text)):
            continue
        stale = True
        if check:
            print(f"{name} differs")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        print("run `python tools/draw_cells.py` and commit the result", file=sys.stderr)
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
