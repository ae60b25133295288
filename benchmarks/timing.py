"""Fair timing on a shared machine: contestants take turns, so that noise hits all alike, and ratios are quoted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fastzoo.nn import Recurrent


class Loop(nn.Module):
    """A one-layer module's equation step by step, as one writes it: torch operators, differentiated by autograd."""

    def __init__(self, rnn: Recurrent) -> None:
        super().__init__()
        self.cell = rnn.cell

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, N, D] -> all states [T, N, H] and the last one."""
        h = x.new_zeros(x.shape[1], self.cell.hidden_size)
        states = []
        for x_t in x:
            h = self.cell.step(self.cell.project(x_t), h)
            states.append(h)
        return torch.stack(states), h


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 5, block: int = 1
) -> dict[str, npt.NDArray[np.float64]]:
    """Seconds of each run; every round each contestant runs ``block`` times in a row, to find its caches warm."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(-warmup, rounds):
        for name, run in contestants.items():
            for _ in range(block):
                begin = time.perf_counter()
                run()
                if round_ >= 0:
                    times[name].append(time.perf_counter() - begin)
    return {name: np.array(values) for name, values in times.items()}


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on standard output."""
    table = Table(title=title, title_justify="left", box=None)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def verdict(value: float, limit: float, unit: str = "", at_least: bool = False) -> str:
    """The measured value, what was to be reached, and whether it was."""
    good = value >= limit if at_least else value <= limit
    sign = ">=" if at_least else "<="
    return f"{value:.3g}{unit} ({sign} {limit:g}{unit}: {'reached' if good else 'MISSED'})"
