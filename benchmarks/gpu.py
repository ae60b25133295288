"""Forward and backward pass on a GPU: the Triton kernels against cuDNN's GRU and an autograd loop.

python benchmarks/gpu.py

cuDNN's products may round float32 to TF32, as torch lets it by default; the kernels' do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import Loop, show, take_turns, verdict
from torch import Tensor, nn

from fastzoo.nn import FastGRNN, FastRNN

BATCH, STEPS, FEATURES, U_RANK = 1024, 128, 9, 16
HIDDEN = (64, 128, 256)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUNDS, BLOCK = 20, 3


def passes(model: nn.Module, x: Tensor, grad: Tensor) -> Callable[[], None]:
    """A forward and a backward pass, waited for."""

    def run() -> None:
        model.zero_grad()
        model(x)[0].backward(grad)
        torch.cuda.synchronize()

    return run


def contestants(hidden: int) -> dict[str, nn.Module]:
    models: dict[str, nn.Module] = {"torch.nn.GRU (cuDNN)": nn.GRU(FEATURES, hidden)}
    for kind in (FastGRNN, FastRNN):
        for rank in (None, U_RANK):
            name = f"{kind.__name__}, " + ("full rank" if rank is None else f"rank {rank}")
            models[name] = kind(FEATURES, hidden, u_rank=rank)
        models[f"{kind.__name__}, autograd loop"] = Loop(kind(FEATURES, hidden))
    return models


def main() -> None:
    if not torch.cuda.is_available():
        print("There is no CUDA device: nothing to measure.")
        return
    torch.manual_seed(0)
    rows = []
    for hidden in HIDDEN:
        for precision, dtype in DTYPES.items():
            x = torch.randn(STEPS, BATCH, FEATURES, device="cuda", dtype=dtype)
            grad = torch.randn(STEPS, BATCH, hidden, device="cuda", dtype=dtype)
            models = {name: model.to("cuda", dtype) for name, model in contestants(hidden).items()}
            times = take_turns({name: passes(model, x, grad) for name, model in models.items()}, ROUNDS, block=BLOCK)
            median = {name: float(np.median(seconds)) for name, seconds in times.items()}
            gru = median["torch.nn.GRU (cuDNN)"]
            for name, seconds in median.items():
                ours = name.endswith(("full rank", f"rank {U_RANK}"))
                speed = verdict(gru / seconds, 1, " x", at_least=True) if ours else f"{gru / seconds:.2f} x"
                rows.append([name, str(hidden), precision, f"{1e3 * seconds:.2f} ms", speed])
    sizes = f"batch {BATCH}, T {STEPS}, D {FEATURES}, {torch.cuda.get_device_name()}"
    show(f"forward and backward pass: {sizes}", ["", "H", "", "median", "speed against nn.GRU"], rows)


if __name__ == "__main__":
    main()
