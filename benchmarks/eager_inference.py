"""Eager torch without gradients, one window: the modules against a loop of the same equation.

python benchmarks/eager_inference.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import Loop, show, take_turns, verdict
from torch import Tensor, nn

from fastzoo.nn import FastGRNN, FastRNN

STEPS, FEATURES, HIDDEN, W_RANK, U_RANK = 128, 9, 64, 8, 16
ROUNDS = 200


def inference(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """A forward pass as people run it."""

    def run() -> None:
        with torch.no_grad():
            model(x)

    return run


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(STEPS, 1, FEATURES)
    models: dict[str, nn.Module] = {}
    for kind in (FastGRNN, FastRNN):
        models[f"{kind.__name__}, loop"] = Loop(kind(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK))
        models[kind.__name__] = kind(FEATURES, HIDDEN, w_rank=W_RANK, u_rank=U_RANK)
    models["torch.nn.GRU"] = nn.GRU(FEATURES, HIDDEN)
    times = take_turns({name: inference(model, x) for name, model in models.items()}, ROUNDS)
    median = {name: float(np.median(seconds)) for name, seconds in times.items()}
    rows = []
    for name, seconds in times.items():
        loop = median.get(f"{name}, loop")
        speed = verdict(loop / median[name], 3, " x", at_least=True) if loop else ""
        rows.append([name, f"{1e6 * median[name]:.0f} us", f"{1e6 * np.percentile(seconds, 95):.0f} us", speed])
    sizes = f"T {STEPS}, D {FEATURES}, H {HIDDEN}, ranks {W_RANK}/{U_RANK}, 1 thread"
    show(f"eager inference, one window: {sizes}", ["", "median", "p95", "speed against its loop"], rows)


if __name__ == "__main__":
    main()
