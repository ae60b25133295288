"""A cold process: import fastzoo, load the shipped model, first prediction, a stream. Wall time and peak memory.

    python benchmarks/cold_start.py

Each round is a fresh interpreter. The baseline imports NumPy and onnxruntime and runs the same file by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
from timing import show, verdict

import fastzoo

ROUNDS = 15

# Seconds between marks, then the peak. Not getrusage's ru_maxrss: a child begins with that of this process, which has
# loaded torch.
BEFORE = """
import time
marks = [time.perf_counter()]
def mark(): marks.append(time.perf_counter())
"""
AFTER = """
mark()
import json, sys
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
heavy = [name for name in ("onnxruntime", "torch", "onnx") if name in sys.modules]
seconds = [after - before for before, after in zip(marks, marks[1:])]
print(json.dumps({"seconds": seconds, "megabytes": int(peak.split()[1]) / 1024, "heavy": heavy}))
"""

BY_HAND = """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.disable_quant_qdq", "1")
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
session.run(None, {{"x": numpy.zeros((1, 128, 6), numpy.float32)}})
"""
WHOLE = """
import fastzoo
fastzoo.load("fastgrnn-har-int8").predict([[0.0] * 6] * 128)
"""
IMPORT = """
import numpy
mark()
import fastzoo
"""
ALL = """
import numpy
mark()
import fastzoo, fastzoo.model, fastzoo.stream, fastzoo.registry
"""
FIRST = """
import numpy, fastzoo
mark()
fastzoo.load("fastgrnn-har-int8").predict(numpy.zeros((128, 6)))
"""
STREAM = """
import numpy, fastzoo
stream = fastzoo.load("fastgrnn-har-int8", backend={backend!r}).stream(hop=16)
for chunk in numpy.random.default_rng(0).normal(size=(2000, 16, 6)): stream.push(chunk)
"""


def cold(program: str) -> dict[str, list[float]]:
    """Seconds between the marks, peak resident MB, and which heavy modules are in, of a fresh interpreter."""
    # By hand, too, without the reports that onnxruntime sends to its makers: they are not what is compared here.
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", BEFORE + program + AFTER]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    values: dict[str, list[float]] = json.loads(done.stdout)
    return values


def main() -> None:
    programs = {
        "by hand": BY_HAND.format(path=str(fastzoo.load("fastgrnn-har-int8").path)),
        "fastzoo": WHOLE,
        "import": IMPORT,
        "all": ALL,
        "first": FIRST,
        "onnxruntime": STREAM.format(backend="onnxruntime"),
        "numpy": STREAM.format(backend="numpy"),
    }
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in programs}
    for round_ in range(ROUNDS + 1):
        for name, program in programs.items():
            values = cold(program)
            if round_:  # the first one warms the disk's cache
                runs[name].append(values)
    last = {name: np.array([run["seconds"][-1] for run in found]) for name, found in runs.items()}
    peak = {name: float(np.median([run["megabytes"] for run in found])) for name, found in runs.items()}
    heavy = {name: ", ".join(map(str, found[0]["heavy"])) or "none" for name, found in runs.items()}

    def row(title: str, name: str, seconds: float | None, megabytes: float | None) -> list[str]:
        median = float(np.median(last[name]))
        return [
            title,
            f"{1e3 * median:.3g} ms" if seconds is None else verdict(1e3 * median, 1e3 * seconds, " ms"),
            f"{1e3 * np.percentile(last[name], 95):.3g} ms",
            f"{peak[name]:.3g} MB" if megabytes is None else verdict(peak[name], megabytes, " MB"),
            heavy[name],
        ]

    columns = ["", "time", "p95", "peak RSS", "imports"]
    rows = [
        row("import to prediction, by hand", "by hand", None, None),
        row("import to prediction, fastzoo", "fastzoo", 0.4, 75),
        row("import fastzoo, after numpy", "import", 0.03, None),
        row("all that streams need, after numpy", "all", None, None),
        row("load + prediction, after import", "first", 0.15, None),
        row("32 000 samples streamed, onnxruntime", "onnxruntime", None, 70),
        row("32 000 samples streamed, NumPy alone", "numpy", None, 45),
    ]
    show(f"fastgrnn-har-int8 in a cold process, median of {ROUNDS}", columns, rows)


if __name__ == "__main__":
    main()
