"""Run the graphs of a job: the part of ``platforms.py`` that needs NumPy and onnxruntime >= 1.16, and nothing else.

    python platform_runner.py JOB

The folder JOB holds ``job.json``, a list of graphs, and the windows of graph number i as raw float32 in ``i.windows``:

    [{"file": "/path/x.onnx", "shape": [N, T, D], "layout": "fused", "pool": 64, "session": {"key": "value"}}, ...]

Written beside them: the logits [N, C] in ``i.single`` (one window at a time) and ``i.batch`` (all at once), and
``answer.json`` with the runtime's name and the faults of graphs that could not be run, by number. When a graph is
through, ``done i`` is printed.
``platform_runner.mjs`` keeps the same protocol.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]


def main(job: Path) -> None:
    faults = {}
    for number, graph in enumerate(json.loads((job / "job.json").read_text(encoding="utf-8"))):
        x = np.fromfile(job / f"{number}.windows", np.float32).reshape(graph["shape"])
        try:
            session = start(graph["file"], graph["session"])
            single = np.concatenate([logits(session, graph, window[np.newaxis]) for window in x])
            batch = logits(session, graph, x)
            single.tofile(job / f"{number}.single")
            batch.tofile(job / f"{number}.batch")
        except Exception as error:  # onnxruntime has many exceptions, with no base of their own
            faults[number] = f"{type(error).__name__}: {error}"
        print(f"done {number}", flush=True)
    answer = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "arch": platform.machine().replace("_", "-"),
        "host": f"Python {platform.python_version()}, NumPy {np.__version__}",
        "faults": faults,
    }
    (job / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def start(file: str, entries: dict[str, str]) -> Any:
    """A session as a board runs it: one thread, the entries that the bundle asks for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors arrive as exceptions
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def logits(session: Any, graph: dict[str, Any], x: Floats) -> Floats:
    """The logits [N, C] of windows [N, T, D], whatever the layout."""
    if graph["layout"] == "step":
        return over_time(session, x, graph["pool"])
    answer: Floats = session.run(["logits"], {"x": x})[0]
    return answer


def over_time(session: Any, x: Floats, pool: int) -> Floats:
    """The same through a graph of one step: from the zero state, the mean of the last ``pool`` steps' logits."""
    (size,) = (value.shape[1] for value in session.get_inputs() if value.name == "state")
    state = np.zeros((len(x), size), np.float32)
    steps = []
    for t in range(x.shape[1]):
        answer, state = session.run(["logits", "state_next"], {"x": np.ascontiguousarray(x[:, t]), "state": state})
        steps.append(answer)
    return np.asarray(np.mean(steps[-pool:], axis=0, dtype=np.float64), np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
