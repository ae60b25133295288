"""A picture of a data set: how many windows each class has, what range each channel has, how a window looks."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo._files import write
from fastzoo.data.prepared import SPLITS, Dataset
from fastzoo.errors import DataError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from fastzoo.data.report import Report

COLOURS = dict(zip(SPLITS, ("#0072B2", "#E69F00", "#009E73"), strict=True))  # told apart by colour-blind readers, too
WIDTH = 12.0  # inches
LINES = 9  # channels drawn as lines; more are drawn as a map
MOST_CLASSES, MOST_EXAMPLES, MOST_CHANNELS = 40, 20, 96
PANEL = 24  # channels in one panel of ranges
SAMPLE = 1000  # windows of a split whose quantiles are taken
SUFFIXES = (".png", ".svg", ".pdf")


def draw(data: Dataset, report: Report, path: str | os.PathLike[str]) -> None:
    """Write a picture of ``data``, of which ``report`` tells the extremes, to a ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        DataError: another suffix, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"cannot draw {path}: the name must end in {', '.join(SUFFIXES)}")
    kind = require("matplotlib.figure", extra="train", purpose="drawing a data set").Figure
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in letters that the font lacks
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel of nothing but NaN
        figure = _figure(data, report, kind)
        figure.savefig(content, format=path.suffix.lower()[1:], dpi=110)
    try:
        write(path, content.getvalue())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error


def _figure(data: Dataset, report: Report, kind: Any) -> Figure:
    classes = _shown_classes(data)
    panels = _panels(data)
    examples = classes[:MOST_EXAMPLES]
    rows, across = math.ceil(len(panels) / 3), min(len(panels), 3)
    deepest = [max(len(channels) for _, channels in panels[3 * row : 3 * row + 3]) for row in range(rows)]
    split_names = _splits(data)
    bars = 1.0 + len(classes) * (0.1 + 0.13 * len(split_names))
    boxes = [0.9 + depth * (0.08 + 0.13 * len(split_names)) for depth in deepest]
    deep = math.ceil(len(examples) / 5)
    lines = 0.6 + 1.55 * deep + (0.35 if data.x.shape[2] > 1 else 0)
    figure: Figure = kind(figsize=(WIDTH, 0.5 + bars + sum(boxes) + lines), layout="constrained")
    n, steps, features = data.x.shape
    figure.suptitle(
        _plain(
            f"{data.id}: {n} windows of {steps} samples at {data.rate:g} per second, "
            f"{features} channel{'s' * (features > 1)}"
        ),
        fontsize=13,
    )
    parts: Any = figure.subfigures(3, 1, height_ratios=[bars, sum(boxes), lines])
    top, middle, bottom = parts
    _draw_balance(top.subplots(), data, classes, split_names)
    grid = middle.subplots(rows, across, squeeze=False, height_ratios=boxes)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    quantiles = {name: _quantiles(data, report, name) for name in split_names}
    for axes, (unit, channels) in zip(grid.flat, panels, strict=False):
        _draw_ranges(axes, data, unit, channels, quantiles)
    middle.suptitle(
        f"Range of each channel{_of(min(features, MOST_CHANNELS), features)}: middle half (bar), median, 1 to 99 % "
        "(line), extremes (dots)",
        fontsize=10,
    )
    _draw_examples(bottom, data, examples, deep)
    return figure


def _shown_classes(data: Dataset) -> list[int]:
    """All classes, or of very many the most frequent, in their order."""
    counts = np.bincount(data.y[(data.y >= 0) & (data.y < len(data.classes))], minlength=len(data.classes))
    return sorted(np.argsort(-counts, kind="stable")[:MOST_CLASSES].tolist())


def _splits(data: Dataset) -> list[str]:
    return [name for number, name in enumerate(SPLITS) if (data.split == number).any()]


def _panels(data: Dataset) -> list[tuple[str, list[int]]]:
    """Neighbouring channels of one unit, in panels of a size to be read."""
    units = [match[1] if (match := re.search(r"\[([^\]]*)\]\s*$", name)) else "" for name in data.channels]
    shown = range(min(len(units), MOST_CHANNELS))
    panels = []
    for unit, members in groupby(sorted(shown, key=lambda i: units.index(units[i])), key=lambda i: units[i]):
        channels = list(members)
        size = math.ceil(len(channels) / math.ceil(len(channels) / PANEL))
        panels += [(unit, channels[i : i + size]) for i in range(0, len(channels), size)]
    return panels


def _draw_balance(axes: Axes, data: Dataset, classes: list[int], splits: list[str]) -> None:
    thick = 0.8 / len(splits)
    for number, name in enumerate(splits):
        counts = np.bincount(data.y[data.split == SPLITS.index(name)].clip(0), minlength=len(data.classes))[classes]
        places = np.arange(len(classes)) + (number - (len(splits) - 1) / 2) * thick
        bars = axes.barh(
            places, counts, thick, color=COLOURS[name], label=f"{name} ({(data.split == SPLITS.index(name)).sum()})"
        )
        axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(range(len(classes)), [_short(data.classes[i]) for i in classes], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    axes.set_title(f"Windows per class{_of(len(classes), len(data.classes))}", fontsize=10, loc="left")


def _quantiles(data: Dataset, report: Report, split: str) -> npt.NDArray[np.float64]:
    """Minimum, 1 %, 25 %, 50 %, 75 %, 99 %, maximum of every channel, [7, D]; but for the ends over some windows."""
    rows = np.flatnonzero(data.split == SPLITS.index(split))
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    x = data.x[rows].reshape(-1, data.x.shape[2]).astype(np.float64)
    x[~np.isfinite(x)] = np.nan
    ends = np.array([(of.min, of.max) for of in report.splits[split].ranges], np.float64)  # NaN for None
    return np.stack([ends[:, 0], *np.nanquantile(x, [0.01, 0.25, 0.5, 0.75, 0.99], axis=0), ends[:, 1]])


def _draw_ranges(
    axes: Axes, data: Dataset, unit: str, channels: list[int], quantiles: dict[str, npt.NDArray[np.float64]]
) -> None:
    thick = 0.8 / len(quantiles)
    for number, (split, values) in enumerate(quantiles.items()):
        low, p1, p25, p50, p75, p99, high = values[:, channels]
        places = np.arange(len(channels)) + (number - (len(quantiles) - 1) / 2) * thick
        colour = COLOURS[split]
        axes.hlines(places, p1, p99, color=colour, linewidth=1)
        axes.barh(places, p75 - p25, 0.75 * thick, left=p25, color=colour, alpha=0.55)
        axes.vlines(p50, places - 0.4 * thick, places + 0.4 * thick, color="black", linewidth=1.2)
        axes.plot(np.concatenate([low, high]), np.tile(places, 2), ".", color=colour, markersize=2.5)
    names = [re.sub(r"\s*\[[^\]]*\]\s*$", "", data.channels[i]) for i in channels]
    axes.set_yticks(range(len(channels)), [_short(name) for name in names], fontsize=7 if len(channels) > 12 else 8)
    axes.set_ylim(len(channels) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(_plain(unit or "value"), fontsize=8)
    spread = np.concatenate([values[5, channels] - values[1, channels] for values in quantiles.values()])
    spread = spread[np.isfinite(spread) & (spread > 0)]
    if spread.size and spread.max() > 100 * spread.min():
        axes.set_xscale("symlog", linthresh=float(spread.min()))


def _draw_examples(figure: SubFigure, data: Dataset, classes: list[int], rows: int) -> None:
    grid = figure.subplots(rows, math.ceil(len(classes) / rows), squeeze=False, sharex=True, sharey=True)
    x = {number: _example(data, number) for number in classes}
    mean, std = _scale(data)
    seconds = np.arange(data.x.shape[1]) / data.rate
    many = len(mean) > LINES
    picture = None
    for axes, number in zip(grid.flat, classes, strict=False):
        axes.set_title(_short(data.classes[number]), fontsize=8, pad=3)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if (window := x[number]) is None:
            axes.text(0.5, 0.5, "no window", transform=axes.transAxes, ha="center", fontsize=8)
            continue
        values = (window - mean) / std
        if many:
            extent = (0.0, data.x.shape[1] / data.rate, len(mean) + 0.5, 0.5)
            picture = axes.imshow(
                values.T, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, extent=extent, interpolation="nearest"
            )
        else:
            for channel in range(len(mean)):
                axes.plot(seconds, values[:, channel], linewidth=0.8, color=f"C{channel}")
    for axes in grid.flat[len(classes) :]:
        axes.set_axis_off()
    what = "channel number" if many else "standard deviations"
    figure.suptitle(
        f"One window of each class{_of(len(classes), len(data.classes))} over seconds, channels in standard deviations "
        "from their mean",
        fontsize=10,
    )
    figure.supylabel(what, fontsize=8)
    if picture is not None:
        bar = figure.colorbar(picture, ax=list(grid.flat), shrink=0.8, pad=0.01)
        bar.ax.tick_params(labelsize=7)
    elif len(mean) > 1:
        lines: Any = next((axes.lines for axes in grid.flat if axes.lines), [])
        names = [_short(name) for name in data.channels]
        figure.legend(lines, names, loc="outside lower center", ncols=min(6, len(names)), fontsize=7, frameon=False)


def _example(data: Dataset, number: int) -> npt.NDArray[np.float64] | None:
    """The middle one of the windows of a class, training windows first."""
    for rows in (np.flatnonzero((data.y == number) & (data.split == 0)), np.flatnonzero(data.y == number)):
        if len(rows):
            window: npt.NDArray[np.float64] = data.x[rows[len(rows) // 2]].astype(np.float64)
            return window
    return None


def _scale(data: Dataset) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation per channel [D], over some windows."""
    x = data.x[:: max(1, len(data.x) // SAMPLE)].reshape(-1, data.x.shape[2]).astype(np.float64)
    x[~np.isfinite(x)] = np.nan
    std = np.nanstd(x, axis=0)
    return np.nan_to_num(np.nanmean(x, axis=0)), np.where(std > 0, std, 1.0)


def _of(shown: int, all_: int) -> str:
    return f" ({shown} of {all_})" if shown < all_ else ""


def _short(name: str, most: int = 32) -> str:
    """A long name without its middle: names often differ at their ends."""
    half = most // 2
    return _plain(name if len(name) <= most else f"{name[: half - 1]}...{name[2 - half :]}")


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
