"""A cold process: import fastzoo, load the shipped model, first prediction. Wall time and peak memory.

    python benchmarks/cold_start.py

The baseline imports NumPy and onnxruntime and runs the same file by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from timing import show, verdict

import fastzoo

ROUNDS = 15

# Not getrusage's ru_maxrss: a child begins with that of this process, which has loaded torch.
REPORT = """
seconds = time.perf_counter() - begin
import json
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) / 1024]))
"""

FASTZOO = """
import time; begin = time.perf_counter()
import fastzoo
model = fastzoo.load("fastgrnn-har-int8")
model.predict([[0.0] * 6] * 128)
"""

BASELINE = """
import time; begin = time.perf_counter()
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.disable_quant_qdq", "1")
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
session.run(None, {{"x": numpy.zeros((1, 128, 6), numpy.float32)}})
"""


def cold(program: str) -> list[float]:
    """[seconds from the first line to the answer, peak resident MB] of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", program + REPORT], check=True, capture_output=True, text=True)
    values: list[float] = json.loads(done.stdout)
    return values


def main() -> None:
    programs = {
        "numpy + onnxruntime by hand": BASELINE.format(path=str(fastzoo.load("fastgrnn-har-int8").path)),
        "fastzoo": FASTZOO,
    }
    results: dict[str, list[list[float]]] = {name: [] for name in programs}
    for round_ in range(ROUNDS + 1):
        for name, program in programs.items():
            values = cold(program)
            if round_:  # the first one warms the disk's cache
                results[name].append(values)
    rows = []
    for name, runs in results.items():
        seconds, megabytes = np.median(np.array(runs), axis=0)
        worst = np.percentile(np.array(runs), 95, axis=0)
        ours = name == "fastzoo"
        rows.append(
            [
                name,
                verdict(float(seconds), 0.4, " s") if ours else f"{seconds:.3g} s",
                f"{worst[0]:.2f} s",
                verdict(float(megabytes), 75, " MB") if ours else f"{megabytes:.3g} MB",
            ]
        )
    show(f"cold process, median of {ROUNDS}", ["", "import + load + first prediction", "p95", "peak RSS"], rows)


if __name__ == "__main__":
    main()
