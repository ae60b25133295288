"""A real bundle in miniature: a GRU over 8 steps of 3 channels, written by onnx, with NumPy as the oracle."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastzoo import bundle
from fastzoo.metrics import evaluate

T, D, H, C = 8, 3, 4, 3
CHANNELS = ("acc_x [g]", "acc_y [g]", "gyro_z [rad/s]")
LABELS = ("rest", "walk", "run")
RATE = 50.0

Floats = npt.NDArray[np.float32]


def windows(count: int, seed: int = 0) -> Floats:
    """Windows [count, T, D]."""
    return np.random.default_rng(seed).normal(size=(count, T, D)).astype(np.float32)


def weights(seed: int) -> dict[str, Floats]:
    """ONNX's GRU weights (gates z, r, h) and a head."""
    rng = np.random.default_rng(seed)
    shapes = {"W": (1, 3 * H, D), "R": (1, 3 * H, H), "B": (1, 6 * H), "V": (H, C), "c": (C,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def oracle(x: Floats, of: dict[str, Floats]) -> Floats:
    """Logits [N, C] of ``x`` [N, T, D] by the equations of ONNX's GRU, in float64."""
    w, r, b = of["W"][0].astype(np.float64), of["R"][0].astype(np.float64), of["B"][0].astype(np.float64)
    bias = (b[: 3 * H] + b[3 * H :]).reshape(3, H)
    wz, wr, wh = w.reshape(3, H, D)
    rz, rr, rh = r.reshape(3, H, H)
    h = np.zeros((len(x), H))
    for step in x.transpose(1, 0, 2).astype(np.float64):
        z = 1 / (1 + np.exp(-(step @ wz.T + h @ rz.T + bias[0])))
        reset = 1 / (1 + np.exp(-(step @ wr.T + h @ rr.T + bias[1])))
        candidate = np.tanh(step @ wh.T + (reset * h) @ rh.T + bias[2])
        h = (1 - z) * candidate + z * h
    logits: Floats = (h @ of["V"] + of["c"]).astype(np.float32)
    return logits


def graph(
    of: dict[str, Floats],
    layout: str = "fused",
    x: tuple[str, list[int | str]] = ("x", ["N", T, D]),
    logits: tuple[str, list[int | str]] = ("logits", ["N", C]),
) -> bytes:
    """An ``.onnx`` file; the layout only changes how often the head is wrapped, enough to tell files apart."""
    nodes = [
        helper.make_node("Transpose", [x[0]], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "W", "R", "B"], ["", "last"], hidden_size=H),
        helper.make_node("Squeeze", ["last", "first_axis"], ["state"]),
        helper.make_node("MatMul", ["state", "V"], ["scores"]),
        helper.make_node("Add", ["scores", "c"], [logits[0] if layout == "fused" else "sum"]),
    ]
    if layout != "fused":
        nodes.append(helper.make_node("Identity", ["sum"], [logits[0]]))
    made = helper.make_graph(
        nodes,
        layout,
        [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
        [helper.make_tensor_value_info(logits[0], TensorProto.FLOAT, logits[1])],
        [numpy_helper.from_array(array, name) for name, array in of.items()]
        + [numpy_helper.from_array(np.array([0], np.int64), "first_axis")],
    )
    model = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def record(folder: Path, name: str, data: bytes) -> bundle.FileRecord:
    """Write a file and say what it is."""
    (folder / name).write_bytes(data)
    return bundle.FileRecord(name, hashlib.sha256(data).hexdigest(), len(data))


def make(
    folder: Path,
    name: str = "gru-toy",
    seed: int = 0,
    precisions: tuple[str, ...] = ("fp32", "int8"),
    weights_file: bytes = b"the runtime does not read them",
) -> Path:
    """Write a complete bundle into ``folder`` and return it."""
    folder.mkdir(parents=True)
    x, y = windows(5), np.array([0, 1, 2, 0, 1])
    golden: dict[str, Any] = {"x": x}
    made = {}
    for offset, precision in enumerate(precisions):
        of = weights(seed + 100 * offset)
        layouts = {}
        for layout, microseconds in (("unrolled", 40.0), ("fused", 20.0)):
            golden[f"{precision}/{layout}"] = oracle(x, of)
            file = record(folder, f"{precision}-{layout}.onnx", graph(of, layout))
            layouts[layout] = bundle.LayoutFile(
                **vars(file),
                ir_version=8,
                opset=17,
                operators={"Transpose": 1, "GRU": 1, "Squeeze": 1, "MatMul": 1, "Add": 1},
                session={"session.disable_quant_qdq": "1"},
                verification={"windows": 5, "max_logit_difference": 1e-6},
                metrics=evaluate(golden[f"{precision}/{layout}"].argmax(axis=1), y, LABELS),
                latency=bundle.Latency(p50_us=microseconds, p95_us=2 * microseconds, load_ms=1.5),
            )
        made[precision] = bundle.Precision(weights_bytes=400 if precision == "fp32" else 100, layouts=layouts)
    golden["torch"] = golden[f"{precisions[0]}/fused"]
    archive = io.BytesIO()
    np.savez(archive, **golden)
    content = bundle.Bundle(
        name=name,
        version="1.0.0",
        summary="A toy",
        cell={"type": "gru", "hidden_size": H, "w_rank": None},
        pool=1,
        input=bundle.Input(T, CHANNELS, RATE),
        labels=LABELS,
        size=bundle.Size(parameters=100, nonzeros=90, macs_per_window=1000),
        weights=record(folder, "weights.safetensors", weights_file),
        golden=record(folder, "golden.npz", archive.getvalue()),
        precisions=made,
        licences=bundle.Licences("Apache-2.0", "CC-BY-4.0"),
        dataset=bundle.DatasetRecord("toy", variant="made up", sha256="0" * 64),
        measured_on=bundle.Machine("a CPU", 2, "Linux", "3.11", "1.16", 1, board="a board"),
        training={"recipe": "toy.toml", "seed": seed},
    )
    bundle.write(content, folder)
    return folder
