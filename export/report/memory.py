"""What a session costs in memory: a fresh process, before and after it opens a file and answers one window."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import helper

from fastzoo.export.graph import FLOAT, IR_VERSION, OPSET

STATM = Path("/proc/self/statm")
SECONDS = 120.0

# numpy and onnxruntime are imported, and the input is made, before the first look. Of resident pages those without a
# file behind them are the process's own; the others are code of onnxruntime that is touched for the first time.
PROGRAM = """
import gc, json, os, sys
import numpy, onnxruntime
def look():
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = [int(word) for word in file.read().split()]
    size = os.sysconf("SC_PAGE_SIZE")
    return pages[1] * size, (pages[1] - pages[2]) * size
path, entries, feeds = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
feeds = {name: numpy.zeros(shape, numpy.float32) for name, shape in feeds.items()}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
for key, value in entries.items():
    options.add_session_config_entry(key, value)
before = look()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
answer = session.run(None, feeds)
after = look()
print(json.dumps([after[0] - before[0], after[1] - before[1]]))
"""


class Memory(NamedTuple):
    """Growth in bytes: of all resident pages, and of those that are the process's own."""

    resident: int
    own: int


def session_memory(model: onnx.ModelProto, entries: Mapping[str, str], steps: int) -> Memory | None:
    """Of one file; None where there is no ``/proc``, or the process failed.

    Args:
        model: the file.
        entries: session entries it is run with.
        steps: T, where the file leaves it open.
    """
    if not STATM.exists():
        return None
    sizes = {"N": 1, "T": steps}
    feeds = {
        value.name: [dim.dim_value or sizes.get(dim.dim_param, 1) for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        command = [sys.executable, "-c", PROGRAM, str(path), json.dumps(dict(entries)), json.dumps(feeds)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
            return Memory(*json.loads(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError, TypeError):
            return None


def floor() -> Memory | None:
    """Of a file that does nothing: what onnxruntime's first session costs whatever is in it."""
    values = [helper.make_tensor_value_info(name, FLOAT, ["N", 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", values[:1], values[1:])
    opsets = [helper.make_opsetid("", OPSET)]
    return session_memory(helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets), {}, 1)
