"""One training step of FastGRNN, hand-written backward against autograd over a loop of the same cell.

python benchmarks/training_step.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import show, take_turns, verdict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastzoo.nn import FastGRNN, FastGRNNCell

BATCH, STEPS, FEATURES, HIDDEN, W_RANK, U_RANK, CLASSES = 100, 128, 9, 64, 8, 16, 6
THREADS, ROUNDS, BLOCK = 2, 12, 8


class Loop(nn.Module):
    """The cell's equation step by step, differentiated by autograd."""

    def __init__(self, cell: FastGRNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """[T, N, D] -> last state [N, H]."""
        h: Tensor | None = None
        for x_t in x:
            h = self.cell(x_t, h)
        assert h is not None
        return h


class Sequence(nn.Module):
    """The sequence module, of which the last state is taken."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        """[T, N, D] -> last state [N, H]."""
        states: Tensor = self.rnn(x)[0]
        return states[-1]


def step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A training step: forward, cross-entropy, backward, AdamW."""
    head = nn.Linear(HIDDEN, CLASSES)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], fused=True)

    def run() -> None:
        optimizer.zero_grad()
        cross_entropy(head(model(x)), y).backward()
        optimizer.step()

    return run


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    x, y = torch.randn(STEPS, BATCH, FEATURES), torch.randint(CLASSES, (BATCH,))
    fast = FastGRNN(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK)
    cell = FastGRNNCell(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK)
    cell.load_state_dict(fast.state_dict())
    models = {
        "autograd loop over FastGRNNCell": Loop(cell),
        "FastGRNN, hand-written backward": Sequence(fast),
        f"torch.nn.GRU({FEATURES}, {HIDDEN}), for comparison": Sequence(nn.GRU(FEATURES, HIDDEN)),
    }
    times = take_turns({name: step(model, x, y) for name, model in models.items()}, ROUNDS, block=BLOCK)
    base = np.median(times["autograd loop over FastGRNNCell"])
    rows = []
    for name, seconds in times.items():
        speed = float(base / np.median(seconds))
        ours = name.startswith("FastGRNN,")
        rows.append(
            [
                name,
                f"{1e3 * np.median(seconds):.1f} ms",
                f"{1e3 * np.percentile(seconds, 95):.1f} ms",
                verdict(speed, 3, " x", at_least=True) if ours else f"{speed:.2f} x",
            ]
        )
    sizes = f"batch {BATCH}, T {STEPS}, D {FEATURES}, H {HIDDEN}, ranks {W_RANK}/{U_RANK}, {THREADS} threads"
    show(f"training step: {sizes}", ["", "median", "p95", "speed"], rows)


if __name__ == "__main__":
    main()
