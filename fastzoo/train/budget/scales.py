"""What networks of one kind weigh, by H and ranks, without building them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fastzoo._values import is_whole
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.nn import CELLS, model_size
from fastzoo.train.recipe import ModelConfig
from fastzoo.train.sparsity import Sparsity

Rank = int | None  # None = full
Sizes = tuple[int, int, int]  # channels D, classes C, steps T; bytes do not depend on T


class Scales:
    """Weighs networks of one kind: only H and the ranks vary.

    Ranks are lists [W of layer 0, U of layer 0, W of layer 1, ...], the same in both directions.
    """

    def __init__(self, model: ModelConfig, data: Dataset | Sizes, sparsity: Sparsity | None) -> None:
        self.model, self.sparsity = model, sparsity
        self.dataset = data if isinstance(data, Dataset) else _stand_in(*data)
        self.channels, self.classes = self.dataset.x.shape[2] * self._brick(model), len(self.dataset.classes)
        self.directions = 2 if model.bidirectional else 1
        if not self._possible():
            model.build(self.dataset, 0)  # says what is wrong
        kind = CELLS[model.cell].cell_type
        with own_randomness():  # biases for each unit
            cell: Any = kind(1, 1)  # type: ignore[call-arg]
            self.biases: int = sum(p.numel() for p in cell.parameters() if p.dim() == 1)

    @staticmethod
    def _brick(model: ModelConfig) -> int:
        """Samples in a step; 1 where the model says nonsense, which :meth:`ModelConfig.build` refuses."""
        return model.brick if is_whole(model.brick, 1) else 1

    def _possible(self) -> bool:
        """Whether sizes and ranks are such that the network can be built."""
        model = self.model
        cell = isinstance(model.cell, str) and model.cell in CELLS
        if not (cell and is_whole(model.brick, 1) and is_whole(model.hidden_size, 1) and is_whole(model.num_layers, 1)):
            return False
        self.blocks = len(CELLS[model.cell].cell_type.blocks)
        of_layers = [
            list(rank) if isinstance(rank, list | tuple) else [rank] * model.num_layers
            for rank in (model.w_rank, model.u_rank)
        ]
        if any(len(ranks) != model.num_layers for ranks in of_layers):
            return False
        self.wanted: list[Any] = [rank for pair in zip(*of_layers, strict=True) for rank in pair]
        limits = [min(rows, columns) for rows, columns, _ in self.matrices(model.hidden_size)]
        return all(r is None or is_whole(r, 1, limit) for r, limit in zip(self.wanted, limits, strict=True))

    def matrices(self, hidden: int) -> list[tuple[int, int, float]]:
        """Rows, columns and kept share of W and U, layer by layer."""
        w, u = (self.sparsity.w, self.sparsity.u) if self.sparsity else (1.0, 1.0)
        columns = self.blocks * hidden
        return [
            matrix
            for layer in range(self.model.num_layers)
            for matrix in (
                (self.directions * hidden if layer else self.channels, columns, w),
                (hidden, columns, u),
            )
        ]

    def weigh(self, hidden: int, ranks: Sequence[Rank]) -> int:
        """Bytes in int8 of the whole network."""
        cells = sum(_stored(*matrix, rank) for matrix, rank in zip(self.matrices(hidden), ranks, strict=True))
        biases = 4 * self.model.num_layers * self.biases * hidden
        head = self.directions * hidden * self.classes + 4 + 4 * self.classes
        return self.directions * (cells + biases) + head

    def requested(self) -> int:
        """What the model itself weighs."""
        return self.weigh(self.model.hidden_size, self.wanted)

    def choices(self, hidden: int, wanted: Sequence[Rank]) -> list[tuple[int, bool]]:
        """For each matrix: the sensible ranks are 1 .. n, and then, if so, full; none exceeds what is wanted."""
        found = []
        for (rows, columns, share), rank in zip(self.matrices(hidden), wanted, strict=True):
            full = _stored(rows, columns, share, None)

            def saves(r: int, matrix: tuple[int, int, float] = (rows, columns, share), full: int = full) -> bool:
                return _stored(*matrix, r) < full

            saving = largest(min(rows, columns), saves)
            found.append((saving, True) if rank is None or rank > saving else (rank, False))
        return found

    def kept(self, hidden: int, wanted: Sequence[Rank]) -> list[Rank]:
        """The wanted ranks at another H, as far as they are sensible there."""
        return [None if full else most for most, full in self.choices(hidden, wanted)]

    def limited(self, hidden: int, part: int | None) -> list[Rank]:
        """Full matrices, or no rank above H / part."""
        rank = None if part is None else max(1, hidden // part)
        return self.kept(hidden, [rank] * (2 * self.model.num_layers))

    def lowered(self, hidden: int, wanted: Sequence[Rank], max_bytes: int) -> tuple[list[Rank], float]:
        """The highest ranks that fit, and the smallest share of the sensible ones that is kept.

        All are lowered alike first; then what is left of the budget raises one after the other, always one that was
        lowered most, U before W.
        """
        choices = self.choices(hidden, wanted)
        tops = [most + full for most, full in choices]

        def ranks(places: Sequence[int]) -> list[Rank]:
            return [place if place <= most else None for place, (most, _) in zip(places, choices, strict=True)]

        def scaled(part: int) -> list[int]:
            return [max(1, top * part // max(tops)) for top in tops]

        def fits(places: Sequence[int]) -> bool:
            return self.weigh(hidden, ranks(places)) <= max_bytes

        places = scaled(max(1, largest(max(tops), lambda part: fits(scaled(part)))))
        while True:
            higher = {i: [*places[:i], place + 1, *places[i + 1 :]] for i, place in enumerate(places)}
            open_ = [i for i in higher if places[i] < tops[i] and fits(higher[i])]
            if not open_:
                return ranks(places), min(place / top for place, top in zip(places, tops, strict=True))
            places = higher[min(open_, key=lambda i: (places[i] / tops[i], i % 2 == 0, i))]

    def widest(self, hidden: int, max_bytes: int) -> int:
        """The most units up to ``hidden`` that fit at any rank; 0 = none."""
        return largest(hidden, lambda h: self.weigh(h, self._lowest(h)) <= max_bytes)

    def _lowest(self, hidden: int) -> list[Rank]:
        return [1 if most else None for most, _ in self.choices(hidden, [None] * len(self.wanted))]

    def smallest(self) -> str:
        """What to say where nothing fits."""
        weight = self.weigh(1, self._lowest(1))
        text = f"the smallest {self.model.cell}, with one unit, weighs {weight} bytes"
        layers, directions = self.model.num_layers > 1, self.directions > 1
        return text + ("; take fewer layers or one direction" if layers or directions else "")

    def config(self, hidden: int, ranks: Sequence[Rank]) -> ModelConfig:
        """The model with other sizes; ranks that all layers share are one number."""
        w, u = ([*ranks[first::2]] for first in (0, 1))
        w_rank, u_rank = (rank[0] if len(set(rank)) == 1 else rank for rank in (w, u))
        return replace(self.model, hidden_size=hidden, w_rank=w_rank, u_rank=u_rank)

    def confirmed(self, config: ModelConfig, max_bytes: int) -> bool:
        """Whether the network, built, weighs what was computed; zeros to come are not there yet."""
        with own_randomness():
            counted = model_size(config.build(self.dataset, 0)).int8_bytes
        return bool(self.sparsity) or counted <= max_bytes


def _stored(rows: int, columns: int, share: float, rank: Rank) -> int:
    """Bytes in int8 of a matrix or of its factors, of which a share is kept, with a scale each."""
    if rank is not None:
        return _stored(rows, rank, share, None) + _stored(rank, columns, share, None)
    numbers = rows * columns
    kept = numbers - math.ceil((1 - share) * (numbers - 1))  # as `fastzoo.train.sparsity.support` counts
    return min(numbers, 2 * kept) + 4


def largest(high: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 1 .. high with ``fits(n)``, which holds up to some n and not beyond; 0 = none."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _stand_in(channels: int, classes: int, steps: int) -> Dataset:
    """A data set of these sizes without recordings."""
    if not (is_whole(channels, 1) and is_whole(classes, 2) and is_whole(steps, 1)):
        raise TrainingError(
            f"channels, classes and steps must be at least 1, 2 and 1, not {channels}, {classes} and {steps}"
        )
    return Dataset(
        id=f"{channels} channels and {classes} classes",
        x=np.zeros((classes, 1, channels), np.float32),
        y=np.arange(classes),
        group=np.arange(classes),
        split=np.zeros(classes, np.uint8),
        classes=tuple(f"class_{i}" for i in range(classes)),
        channels=tuple(f"channel_{i}" for i in range(channels)),
        rate=1.0,
        strict=False,
    )


@contextmanager
def own_randomness() -> Iterator[None]:
    """Leaves the caller's random numbers as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
