"""One training step of FastGRNN and FastRNN: the modules against an autograd loop of the same equation and torch's GRU.

python benchmarks/training_step.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import Loop, show, take_turns, verdict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastzoo.nn import FastGRNN, FastRNN

BATCH, STEPS, FEATURES, HIDDEN, W_RANK, U_RANK, CLASSES = 100, 128, 9, 64, 8, 16, 6
THREADS, ROUNDS, BLOCK = 2, 12, 8


def step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A training step: forward, cross-entropy on the last state, backward, AdamW."""
    head = nn.Linear(HIDDEN, CLASSES)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], fused=True)

    def run() -> None:
        optimizer.zero_grad()
        states = model(x)[0]
        cross_entropy(head(states[-1]), y).backward()
        optimizer.step()

    return run


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    x, y = torch.randn(STEPS, BATCH, FEATURES), torch.randint(CLASSES, (BATCH,))
    models: dict[str, nn.Module] = {}
    for kind in (FastGRNN, FastRNN):
        rnn = kind(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK)
        models[f"{kind.__name__}, autograd loop"] = Loop(kind(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK))
        models[kind.__name__] = rnn
    gru = f"torch.nn.GRU({FEATURES}, {HIDDEN})"
    models[gru] = nn.GRU(FEATURES, HIDDEN)
    times = take_turns({name: step(model, x, y) for name, model in models.items()}, ROUNDS, block=BLOCK)
    median = {name: float(np.median(seconds)) for name, seconds in times.items()}
    rows = []
    for name, seconds in times.items():
        loop = median.get(f"{name}, autograd loop")
        against_loop = verdict(loop / median[name], 4, " x", at_least=True) if loop else ""
        against_gru = verdict(median[gru] / median[name], 1, " x", at_least=True) if loop else ""
        rows.append(
            [
                name,
                f"{1e3 * median[name]:.1f} ms",
                f"{1e3 * np.percentile(seconds, 95):.1f} ms",
                against_loop,
                against_gru,
            ]
        )
    sizes = f"batch {BATCH}, T {STEPS}, D {FEATURES}, H {HIDDEN}, ranks {W_RANK}/{U_RANK}, {THREADS} threads"
    show(f"training step: {sizes}", ["", "median", "p95", "speed against its loop", "against nn.GRU"], rows)


if __name__ == "__main__":
    main()
