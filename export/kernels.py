"""How many kernels onnxruntime runs for one time step, once it has optimised a file."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime

# What moves no numbers: a view, or a copy that a loop makes of its own state.
FREE = frozenset({"Identity", "Reshape"})


def optimised(model: onnx.ModelProto, session: Mapping[str, str]) -> onnx.ModelProto:
    """The graph that onnxruntime runs in place of ``model``."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        for key, value in session.items():
            options.add_session_config_entry(key, value)
        content = model.SerializeToString()
        try:
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception:
            Path(folder, "as-large").write_bytes(2 * content)  # says what is wrong, if it is the disk
            raise
        return onnx.load(options.optimized_model_filepath)


def kernels_of_a_step(model: onnx.ModelProto, layout: str, session: Mapping[str, str], steps: int) -> dict[str, int]:
    """Kernels by operator; of ``fused``, whose loop is inside of one kernel, those of the whole window.

    Args:
        model: the file.
        layout: how it is laid out.
        session: the session entries that it is run with.
        steps: T, for ``unrolled``.
    """
    graph = optimised(model, session).graph
    if layout == "scan":
        bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
        counts = Counter(node.op_type for body in bodies for node in body.node)
    else:
        counts = Counter(node.op_type for node in graph.node)
        if layout == "unrolled":  # what runs once for all steps is not part of a step
            counts = Counter({name: count // steps for name, count in counts.items()})
    return {name: count for name, count in sorted(counts.items()) if count and name not in FREE}
