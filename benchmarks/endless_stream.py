"""Ten million samples through one stream, in a process of its own: memory stays flat, results stay right.

    python benchmarks/endless_stream.py [SAMPLES]

Odd chunks; at 1000 random windows the result is compared, bit for bit, with `predict_proba` of that window.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt

import fastzoo

BLOCK, HOP, CHECKED = 1 << 14, 64, 1000
LAYOUT = "fused"


def block(number: int) -> npt.NDArray[np.float32]:
    """Samples [BLOCK, 6] of the signal, made anew whenever they are needed."""
    return np.random.default_rng(number).normal(size=(BLOCK, 6)).astype(np.float32)


def window(start: int, steps: int) -> npt.NDArray[np.float32]:
    """Samples [steps, 6] from ``start`` on."""
    first = start // BLOCK
    return np.concatenate([block(first), block(first + 1)])[start - first * BLOCK :][:steps]


def resident() -> float:
    """MB of memory in use now."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def run(samples: int) -> dict[str, float]:
    """Push so many samples; what was seen."""
    model = fastzoo.load("fastgrnn-har-int8", layout=LAYOUT)
    steps = model.bundle.input.steps
    rng = np.random.default_rng(0)
    wanted = set(rng.integers(0, (samples - steps) // HOP, CHECKED).tolist())
    kept, memory = {}, []
    stream, pending = model.stream(HOP), np.empty((0, 6), np.float32)
    begin = time.perf_counter()
    for number in range(-(-samples // BLOCK)):
        pending = np.concatenate([pending, block(number)])
        while len(pending) > 5000:
            length = int(rng.integers(0, 5000))
            for result in stream.push(pending[:length]):
                if result.index in wanted:
                    kept[result.index] = result.probabilities
            pending = pending[length:]
        if number % 20 == 10:
            memory.append(resident())
    seconds = time.perf_counter() - begin
    wrong = sum(
        not np.array_equal(probabilities, model.predict_proba(window(index * HOP, steps)))
        for index, probabilities in kept.items()
    )
    return {
        "samples": stream.samples,
        "seconds": seconds,
        "checked": len(kept),
        "wrong": wrong,
        "first MB": memory[0],
        "last MB": memory[-1],
        "worst MB": max(memory),
    }


def main(samples: int) -> None:
    from timing import show, verdict  # not in the process that is measured: it brings torch

    done = subprocess.run(
        [sys.executable, __file__, "--alone", str(samples)], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    growth = found["worst MB"] - found["first MB"]
    rows = [
        ["samples", f"{found['samples']:.0f} in {found['seconds']:.0f} s"],
        ["a sample", f"{1e6 * found['seconds'] / found['samples']:.1f} us"],
        ["windows that differ from predict", f"{verdict(found['wrong'], 0)} of {found['checked']:.0f}"],
        ["resident memory", f"{found['first MB']:.1f} MB early, {found['last MB']:.1f} MB at the end"],
        ["growth", verdict(growth, 1, " MB")],
    ]
    show(f"an endless stream, fastgrnn-har-int8, {LAYOUT}, hop {HOP}", ["", ""], rows)


if __name__ == "__main__":
    if "--alone" in sys.argv:
        print(json.dumps(run(int(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**7)
