"""File size, load time and latency of every layout, beside exported `nn.GRU`, plain `quantize_static` and C.

    python benchmarks/latency.py [--long]

FastGRNN with H = 64, ranks 8 and 16, D = 9, T = 128 and random weights: none of this depends on what the weights are.
One thread, all contestants in turns. `--long` also exports T = 784 (pixel MNIST). Takes about two minutes, most of
them for the plain quantization.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from c_limit import Compiled
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from timing import show, take_turns, verdict
from torch import nn

from fastzoo.export.calibrate import Method
from fastzoo.export.from_torch import from_torch
from fastzoo.export.kernels import kernels_of_a_step
from fastzoo.export.layouts import INTEGERS, PRODUCTS, Builder, Form, Scheme
from fastzoo.export.network import Network
from fastzoo.export.plain import plain_network
from fastzoo.export.unrolled import flat
from fastzoo.export.weights import Int8
from fastzoo.nn import FastGRNN, SequenceClassifier

Floats = npt.NDArray[np.float32]
D, H, RANKS, C, T = 9, 64, (8, 16), 6, 128
ROUNDS, BLOCK, LOADS, BATCH, PLAIN_WINDOWS = 120, 20, 9, 64, 16

FORMS = {
    "fp32 fused": Form("fp32", "fused"),
    "fp32 scan": Form("fp32", "scan"),
    "fp32 unrolled": Form("fp32", "unrolled"),
    "int8 fused": Form("int8", "fused", Scheme()),
    "int8 scan": Form("int8", "scan", Scheme()),
    "int8 unrolled, weights alone": Form("int8", "unrolled", Scheme()),
    "int8 unrolled, W8A8, fp32 state": Form("int8", "unrolled", Scheme(PRODUCTS)),
    "int8 unrolled, W8A8, 8-bit state": Form("int8", "unrolled", Scheme(INTEGERS, Method(99.9))),
}


class Peer(nn.Module):
    """`nn.GRU(9, 64)` with a linear head on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(D, H, batch_first=True), nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, D] -> logits [N, C]."""
        states, _ = self.rnn(x)
        logits: torch.Tensor = self.head(states[:, -1])
        return logits


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """Calibration for the plain baseline."""

    def __init__(self, x: Floats) -> None:
        self.feeds = iter([{"x": x}])

    def get_next(self) -> dict[str, Floats] | None:
        """The next feed."""
        return next(self.feeds, None)


def network(steps: int = T, channels: int = D) -> Network:
    torch.manual_seed(0)
    rnn = FastGRNN(channels, H, w_rank=min(channels, RANKS[0]), u_rank=RANKS[1], nu=0.0, gate_bias=(0, 4))
    return from_torch(SequenceClassifier(rnn, C), steps)


def plain_quantize_static(unrolled: onnx.ModelProto, x: Floats) -> bytes:
    """What a user gets who hands the unrolled graph to onnxruntime's quantizer: all operators, U8S8."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        quantize_static(
            flat(unrolled),
            path,
            Windows(x),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def session(content: bytes, entries: Mapping[str, str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, T, D)).astype(np.float32)
    builder = Builder(network(), x)
    models = {name: builder.build(form) for name, form in FORMS.items()}
    contents = {name: model.SerializeToString() for name, model in models.items()}
    entries: dict[str, Mapping[str, str]] = {name: form.session for name, form in FORMS.items()}
    torch.manual_seed(0)
    peer = Builder(plain_network(Peer(), T), x).build(Form("fp32", "fused"))
    contents |= {"nn.GRU(9, 64), exported": peer.SerializeToString()}
    begin = time.perf_counter()
    contents |= {"plain quantize_static": plain_quantize_static(models["fp32 unrolled"], x[:PLAIN_WINDOWS])}
    plain_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    fresh = Builder(network(), x)
    for form in FORMS.values():
        fresh.build(form)
    our_seconds = time.perf_counter() - begin

    sessions = {name: session(content, entries.get(name, {})) for name, content in contents.items()}
    window = x[:1]
    runs: dict[str, Callable[[], object]] = {name: partial(s.run, None, {"x": window}) for name, s in sessions.items()}
    in_c = {"C, fp32": Compiled(builder.network), "C, int8 weights": Compiled(builder.network, Int8())}
    runs |= {name: partial(predict, window[0]) for name, predict in in_c.items()}
    times = take_turns(runs, ROUNDS, block=BLOCK)
    p50 = {name: float(np.median(found)) for name, found in times.items()}
    loads = take_turns(
        {name: partial(session, content, entries.get(name, {})) for name, content in contents.items()}, LOADS, warmup=1
    )
    load = {name: 1e3 * float(np.median(found)) for name, found in loads.items()}
    several = ("fp32 unrolled", "fp32 fused", "nn.GRU(9, 64), exported")
    batched = {name: partial(sessions[name].run, None, {"x": x}) for name in several}
    per_window = {name: float(np.median(found)) / BATCH for name, found in take_turns(batched, 60).items()}

    rows = []
    for name in runs:
        made = FORMS.get(name)
        count = sum(kernels_of_a_step(models[name], made.layout, made.session, T).values()) if made else 0
        rows.append([
            name,
            f"{len(contents[name])} B" if name in contents else "",
            f"{load[name]:.1f} ms" if name in load else "",
            f"{1e6 * p50[name]:.0f} us",
            f"{1e6 * np.percentile(times[name], 95):.0f} us",
            f"{p50[name] / p50['fp32 unrolled']:.2f}",
            str(count) if made and made.layout != "fused" else "",
            f"{1e6 * per_window[name]:.1f} us" if name in per_window else "",
        ])  # fmt: skip
    columns = ["", "file", "load", "p50", "p95", "to fp32 unrolled", "kernels a step", f"a window of {BATCH}"]
    title = f"FastGRNN {D}, {H}, ranks {RANKS}, T = {T}: one window, one thread, onnxruntime {onnxruntime.__version__}"
    show(title, columns, rows)
    size = {name: len(content) / 1000 for name, content in contents.items()}
    plain = p50["plain quantize_static"]
    claims = [
        ["fused int8: file", verdict(size["int8 fused"], 6.5, " kB")],
        ["fused int8: load", verdict(load["int8 fused"], 3, " ms")],
        ["fused int8 / fused fp32", verdict(p50["int8 fused"] / p50["fp32 fused"], 1.05)],
        ["fused int8 / the C limit", verdict(p50["int8 fused"] / p50["C, fp32"], 1.6)],
        ["scan int8: file", verdict(size["int8 scan"], 12, " kB")],
        ["scan int8: load", verdict(load["int8 scan"], 5, " ms")],
        *(
            [f"{name}: {what}", verdict(value, limit, unit)]
            for name in FORMS
            if name.startswith("int8 unrolled")
            for what, value, limit, unit in (
                ("file", size[name], 30, " kB"),
                ("load", load[name], 150, " ms"),
                ("/ unrolled fp32", p50[name] / p50["fp32 unrolled"], 1.5, ""),
                ("/ plain quantize_static", p50[name] / plain, 0.7, ""),
            )
        ),
        [
            f"unrolled fp32, a window of {BATCH} / nn.GRU(9, 64)",
            verdict(per_window["fp32 unrolled"] / per_window["nn.GRU(9, 64), exported"], 0.6),
        ],
        [f"all int8 files, calibration included (plain: {plain_seconds:.0f} s)", verdict(our_seconds, 5, " s")],
    ]
    show("to reach", ["", "measured"], claims)
    if "--long" in sys.argv:
        long()


def long() -> None:
    """T = 784: every layout is written and answers."""
    steps = 784
    x = np.random.default_rng(0).normal(size=(8, steps, 1)).astype(np.float32)
    builder = Builder(network(steps, channels=1), x)
    rows = []
    for name, form in FORMS.items():
        begin = time.perf_counter()
        content = builder.build(form).SerializeToString()
        made = time.perf_counter() - begin
        begin = time.perf_counter()
        opened = session(content, form.session)
        loaded = time.perf_counter() - begin
        opened.run(None, {"x": x})
        runs = take_turns({name: partial(opened.run, None, {"x": x[:1]})}, 30)
        limit = (
            verdict(len(content) / 1000, 150, " kB") if form.layout == "unrolled" else f"{len(content) / 1000:.1f} kB"
        )
        rows.append([name, limit, f"{made:.2f} s", f"{1e3 * loaded:.0f} ms", f"{1e6 * np.median(runs[name]):.0f} us"])
    show(f"T = {steps}", ["", "file", "made in", "load", "p50"], rows)


if __name__ == "__main__":
    main()
