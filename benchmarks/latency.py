"""File size, load time and latency of a model's layouts, beside plain ``quantize_static`` on the unrolled graph.

    python benchmarks/latency.py [NAME_OR_FOLDER of the bundle's int8 model]

One thread, one window, all contestants in turns. The plain quantization takes about half a minute.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from timing import show, take_turns, verdict

import fastzoo
from fastzoo import bundle, golden
from fastzoo.export.quantize import quiet_logging
from fastzoo.export.unrolled import flat
from fastzoo.model import Model

ROUNDS, BLOCK, LOADS = 150, 20, 7


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """Calibration for the plain baseline; the golden windows will do for timing."""

    def __init__(self, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self.feeds = iter([{"x": x}])

    def get_next(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None:
        """The next feed."""
        return next(self.feeds, None)


def plain_quantize_static(unrolled: Path, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    """What a user gets who hands the unrolled graph to onnxruntime's quantizer: all operators, U8S8."""
    with tempfile.TemporaryDirectory() as folder, quiet_logging():
        path = Path(folder) / "plain.onnx"
        quantize_static(
            flat(onnx.load(unrolled)),
            path,
            Windows(x),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "fastgrnn-har-int8"
    folder = fastzoo.load(name).path.parent
    content = bundle.read(folder)
    x = golden.read(content, folder)["x"]
    models = {
        f"{precision} {layout}": Model(folder, precision, layout)
        for precision in ("fp32", "int8")
        for layout in content.precisions[precision].layouts
    }
    plain = plain_quantize_static(models["fp32 unrolled"].path, x)
    sessions = {key: model.session for key, model in models.items()} | {"plain quantize_static": session(plain)}
    loads = {key: model.start_session for key, model in models.items()}
    sizes = {key: model.path.stat().st_size for key, model in models.items()} | {"plain quantize_static": len(plain)}

    window = x[:1]
    runs = {key: lambda s=s: s.run(None, {"x": window}) for key, s in sessions.items()}
    times = take_turns(runs, ROUNDS, block=BLOCK)
    medians = {key: float(np.median(t)) for key, t in times.items()}
    load_times = take_turns({**loads, "plain quantize_static": lambda: session(plain)}, LOADS, warmup=1)
    show(
        f"{content.name}: one window, one thread, {ROUNDS * BLOCK} runs each, onnxruntime {onnxruntime.__version__}",
        ["", "file", "load", "median", "p95", "to unrolled fp32", "to plain"],
        [
            [
                key,
                f"{sizes[key]} B",
                f"{1e3 * np.median(load_times[key]):.1f} ms",
                f"{1e6 * medians[key]:.0f} us",
                f"{1e6 * np.percentile(times[key], 95):.0f} us",
                f"{medians[key] / medians['fp32 unrolled']:.2f}",
                f"{medians[key] / medians['plain quantize_static']:.2f}",
            ]
            for key in sessions
        ],
    )
    fused_load = 1e3 * float(np.median(load_times["int8 fused"]))
    show(
        "to reach",
        ["", "measured"],
        [
            ["weights int8", verdict(content.precisions["int8"].weights_bytes / 1024, 4, " KB")],
            ["fused int8 file", verdict(sizes["int8 fused"] / 1024, 8, " KB")],
            ["fused int8 load", verdict(fused_load, 5, " ms")],
            ["fused int8 latency / unrolled fp32", verdict(medians["int8 fused"] / medians["fp32 unrolled"], 0.25)],
            ["unrolled int8 file", verdict(sizes["int8 unrolled"] / 1024, 40, " KB")],
            [
                "unrolled int8 latency / plain quantize_static",
                verdict(medians["int8 unrolled"] / medians["plain quantize_static"], 0.75),
            ],
        ],
    )


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begin:.0f} s")
