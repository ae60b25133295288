"""The NumPy backend against onnxruntime, the same files of the shipped model, one window at a time.

python benchmarks/numpy_backend.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

from functools import partial
from pathlib import Path

import numpy as np
from timing import show, take_turns, verdict

import fastzoo
from fastzoo.model import Model

LAYOUTS = ("scan", "fused", "unrolled", "step")
ROUNDS, BLOCK, BATCH = 30, 5, 128


def main() -> None:
    folder = Path(fastzoo.__file__).parent / "models" / "fastgrnn-har"
    x = np.random.default_rng(0).normal(size=(BATCH, 128, 6)).astype(np.float32)
    rows = []
    for precision in ("fp32", "int8"):
        for layout in LAYOUTS:
            models = {name: Model(folder, precision, layout, name) for name in ("onnxruntime", "numpy")}
            times = take_turns(
                {name: partial(model.engine.logits, x[:1]) for name, model in models.items()}, ROUNDS, block=BLOCK
            )
            many = take_turns({name: partial(model.engine.logits, x) for name, model in models.items()}, 3, warmup=1)
            onnxruntime, numpy = (1e6 * float(np.median(seconds)) for seconds in times.values())
            ratio = numpy / onnxruntime
            rows.append(
                [
                    f"{precision} {layout}",
                    f"{onnxruntime:.0f} us",
                    f"{numpy:.0f} us",
                    verdict(ratio, 2.5) if layout == "scan" else f"{ratio:.2f}",
                    *(f"{1e6 * float(np.median(seconds)) / BATCH:.0f} us" for seconds in many.values()),
                ]
            )
    columns = ["", "onnxruntime", "numpy", "ratio", f"onnxruntime, a window of {BATCH}", f"numpy, a window of {BATCH}"]
    show("fastgrnn-har, one window (step: 128 calls)", columns, rows)


if __name__ == "__main__":
    main()
