"""The front end as a graph of its own, :class:`fastzoo.audio.LogMel` without Python: sound in, windows out.

A window is one convolution over the sound, whose kernels are the rows of a windowed DFT and whose stride is the hop; a
product with the triangles, which adds real and imaginary parts as well; and a logarithm. The kernels would be a
megabyte, so the file holds how they follow from a few numbers instead. onnxruntime computes them once, as it loads.

The graph computes in float32 where LogMel computes in float64. On recorded words a level differs by 0.05 of 255 at
most, and fewer than one byte in ten thousand, one that lies near a half, is rounded to its neighbour. Whatever the
sound, decibels agree to 0.1 down to 100 dB below the loudest band of a frame; fainter ones drown in float32's rounding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from fastzoo import _json
from fastzoo.audio import FULL_SCALE
from fastzoo.errors import ExportError
from fastzoo.export.graph import FLOAT, OPSET, Op
from fastzoo.frontend import FrontEnd, faults

MOST_KERNELS = 2**24  # values, 64 MB once the file is loaded; 16 000 samples/s take a hundredth of that
PREFIX = "a/"  # of the names that the front end has in a joined file; short, for each occurs three or four times


def sound_graph(frontend: FrontEnd) -> onnx.ModelProto:
    """Build the front end from standard operators.

    What LogMel refuses a graph cannot: less than one frame of sound is a window of silence, and nothing checks the
    rate, the range -1 to 1, or for NaN.

    Args:
        frontend: its parameters.

    Returns:
        A model ``audio [N, samples]`` (mono, -1 to 1, all rows of one length) -> ``x [N, T, D]``.

    Raises:
        ExportError: the parameters are faulty, or need kernels of more than 64 MB.
    """
    if found := faults(frontend):
        raise ExportError("no such front end: " + "; ".join(found))
    bins = [index for band in frontend.triangles() for index in band]
    first, end = min(bins), max(bins) + 1
    if (values := 2 * (end - first) * frontend.window) > MOST_KERNELS:
        raise ExportError(
            f"this front end would take {values / 2**18:.0f} MB of memory as a graph, the limit is "
            f"{MOST_KERNELS / 2**18:.0f}: take a lower high_hz, a smaller fft, or sound of a lower rate"
        )
    op = Op("v")
    k = _range(op, first, end)  # [B], the bins under triangles
    kept = op.Slice("audio", _whole(op, 0), _whole(op, frontend.clip), _whole(op, 1))  # [N, n]
    count = _count(op, frontend, op.Shape(kept, start=1))  # [1], whole frames of the clip
    left = op.Div(op.Sub(_whole(op, frontend.steps), count), _whole(op, 2)) if frontend.place == "centre" else None
    kernels = _kernels(op, frontend, k)
    spectrum = op.Conv(
        _placed(op, frontend, kept, left), kernels, kernel_shape=[frontend.window], strides=[frontend.hop]
    )  # [N, 2 B, T]
    power = op.MatMul(_triangles(op, frontend, k), op.Mul(spectrum, spectrum))  # [N, D, T]
    # Frames that hold only a part of the clip are silence too.
    heard = op.Where(_whole_frames(op, frontend, count, left), power, op.constant("0.0", 0.0))
    _scaled(op, frontend, op.Transpose(heard, perm=[0, 2, 1]))
    model = op.model("frontend", {"audio": ["N", "samples"]}, {"x": ["N", frontend.steps, frontend.bands]})
    described = json.dumps(_json.plain(frontend), separators=(",", ":"))
    helper.set_model_props(model, {"fastzoo.frontend": described, "fastzoo.rate": str(frontend.rate)})
    return model


def joined(frontend_model: onnx.ModelProto, classifier_model: onnx.ModelProto) -> onnx.ModelProto:
    """One file from sound to answer, to be run with the session settings of the classifier.

    The metadata is the classifier's, whose ``fastzoo.rate`` is that of its windows, in frames per second. The rate of
    the sound is in ``fastzoo.frontend``.

    Args:
        frontend_model: what :func:`sound_graph` gives.
        classifier_model: takes the windows ``x [N, T, D]``.

    Returns:
        A model ``audio [N, samples]`` -> the classifier's outputs.

    Raises:
        ExportError: the classifier takes other windows, or was made for another front end.
    """
    (made,), taken = frontend_model.graph.output, classifier_model.graph.input
    if [value.name for value in taken] != ["x"]:
        raise ExportError(f"the classifier must take one input, 'x', not {[value.name for value in taken]}")
    gives, takes = _shape(made), _shape(taken[0])
    if len(takes) != 3 or any(isinstance(n, int) and n != m for m, n in zip(gives[1:], takes[1:], strict=True)):
        raise ExportError(f"the front end gives windows of the shape {gives}, the classifier takes {takes}")
    if (opset := {entry.domain: entry.version for entry in classifier_model.opset_import}.get("")) != OPSET:
        raise ExportError(f"the classifier is of opset {opset}, the front end of {OPSET}: export it again")
    described, properties = _properties(frontend_model), _properties(classifier_model)
    mine, its = (of.get("fastzoo.frontend") for of in (described, properties))
    if mine and its and json.loads(mine) != json.loads(its):
        raise ExportError(f"the classifier was made for another front end, {its}, not for {mine}")
    front, model = onnx.GraphProto(), onnx.ModelProto()
    front.CopyFrom(frontend_model.graph)
    model.CopyFrom(classifier_model)
    _prefix(front, kept={value.name for value in (*front.input, *front.output)})
    graph = model.graph
    nodes = [*front.node, *graph.node]  # a node stands after those whose outputs it takes
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(front.input)
    graph.initializer.extend(front.initializer)
    graph.value_info.append(made)
    graph.name = f"{front.name}+{graph.name}"
    helper.set_model_props(model, described | properties)
    return model


def _prefix(graph: onnx.GraphProto, kept: set[str]) -> None:
    """Begin all names but ``kept`` with PREFIX."""

    def renamed(names: Iterable[str]) -> list[str]:
        return [name if name in kept else PREFIX + name for name in names]

    for tensor in graph.initializer:
        tensor.name = PREFIX + tensor.name
    for node in graph.node:
        node.name = PREFIX + node.name
        node.input[:], node.output[:] = renamed(node.input), renamed(node.output)


def _count(op: Op, frontend: FrontEnd, samples: str) -> str:
    """:meth:`FrontEnd.count`, but 0 or less where there is no frame."""
    reach = op.Add(samples, _whole(op, 2 * frontend.pad - frontend.window + frontend.hop))
    return op.Div(reach, _whole(op, frontend.hop))  # the 1 of the formula is inside, for ONNX rounds towards zero


def _placed(op: Op, frontend: FrontEnd, sound: str, left: str | None) -> str:
    """The sound [N, 1, L] among zeros, just long enough for T frames; ``left`` of them come before its own."""
    length = (frontend.steps - 1) * frontend.hop + frontend.window
    before = _whole(op, frontend.pad)
    if left:
        before = op.Add(before, op.Mul(left, _whole(op, frontend.hop)))
    pads = op.Concat(_whole(op, 0), before, _whole(op, 0), _whole(op, length), axis=0)
    cut = op.Slice(op.Pad(sound, pads), _whole(op, 0), _whole(op, length), _whole(op, 1))
    return op.Unsqueeze(cut, _whole(op, 1))


def _whole_frames(op: Op, frontend: FrontEnd, count: str, left: str | None) -> str:
    """Which of the T frames are the clip's own, [T]."""
    frame = _range(op, 0, frontend.steps)
    if not left:
        return op.Less(frame, count)
    return op.And(op.GreaterOrEqual(frame, left), op.Less(frame, op.Add(left, count)))


def _kernels(op: Op, frontend: FrontEnd, k: str) -> str:
    """Cosines, then sines of the bins, under the Hann window and in 16-bit units, [2 B, 1, W]."""
    n = _range(op, 0, frontend.window)
    # Whole turns go while the numbers are whole: float32 has too few digits for the angle after many.
    turn = op.Mod(op.Mul(_column(op, k), n), _whole(op, frontend.fft))  # [B, W]
    angle = op.Mul(op.Cast(turn, to=FLOAT), op.constant("2pi/fft", 2 * math.pi / frontend.fft))
    waves = op.Concat(op.Cos(angle), op.Sin(angle), axis=0)  # [2 B, W]
    sine = op.Sin(op.Mul(op.Cast(n, to=FLOAT), op.constant("pi/W", math.pi / frontend.window)))
    hann = op.Mul(sine, sine)  # 0.5 - 0.5 cos(2 pi n / W)
    return op.Unsqueeze(op.Mul(waves, op.Mul(hann, op.constant("full_scale", float(FULL_SCALE)))), _whole(op, 1))


def _triangles(op: Op, frontend: FrontEnd, k: str) -> str:
    """What each bin weighs in each band, [D, 2 B]: once for its real part, once for its imaginary part.

    Its place among the corners, which are whole numbers, is ``(mel(f) - mel(low)) / (mel(high) - mel(low)) (D + 1)``.
    The differences of logarithms are written as logarithms of (f + 700) / (low + 700).
    """
    low = frontend.low_hz + 700
    ratio = op.Add(
        op.Mul(op.Cast(k, to=FLOAT), op.constant("bin/low", frontend.rate / frontend.fft / low)),
        op.constant("700/low", 700 / low),
    )
    corners = (frontend.bands + 1) / math.log((frontend.high_hz + 700) / low)
    place = op.Mul(op.Log(ratio), op.constant("corners", corners))  # [B]
    peak = _column(op, op.Cast(_range(op, 1, frontend.bands + 1), to=FLOAT))  # [D, 1]
    weights = op.Relu(op.Sub(op.constant("1.0", 1.0), op.Abs(op.Sub(place, peak))))  # [D, B]
    return op.Concat(weights, weights, axis=1)


def _scaled(op: Op, frontend: FrontEnd, power: str) -> None:
    """Decibels, levels or bytes, as ``x``."""
    logarithm = op.Log(op.Add(power, op.constant("floor", frontend.floor)))
    decibel = 10 / math.log(10)
    if frontend.scale == "db":
        op.Mul(logarithm, op.constant("decibel", decibel), output="x")
        return
    level = op.Add(
        op.Mul(logarithm, op.constant("slope", 255 / frontend.span_db * decibel)),
        op.constant("offset", frontend.offset),
    )
    limits = op.constant("0.0", 0.0), op.constant("255.0", 255.0)
    if frontend.scale == "levels":
        op.Clip(level, *limits, output="x")
    else:
        op.Round(op.Clip(level, *limits), output="x")  # halves to even, like NumPy


def _range(op: Op, first: int, end: int) -> str:
    """Whole numbers from ``first`` up to, not including, ``end``."""
    return op.Range(*(op.constant(f"range_{value}", np.int64(value)) for value in (first, end, 1)))


def _whole(op: Op, value: int) -> str:
    """A whole number as a vector of one."""
    return op.constant(str(value), np.array([value], np.int64))


def _column(op: Op, vector: str) -> str:
    """[n, 1] from [n]; after Unsqueeze, onnx's shape inference with data propagation finds fault with the ranks."""
    return op.Reshape(vector, op.constant("column", np.array([-1, 1], np.int64)))


def _shape(value: onnx.ValueInfoProto) -> list[Any]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
