"""The operators that fastzoo's exporter writes: each adds its calls to a tape and says where its outputs will be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastzoo.errors import BundleError
from fastzoo.interpreter.activations import ACTIVATIONS, Activation, hard_sigmoid, maximum, minimum
from fastzoo.interpreter.recurrent import gru, lstm
from fastzoo.interpreter.tape import Array, Tape, Value
from fastzoo.interpreter.wire import DTYPES, Node

Inputs = Sequence[Value | None]
Operator = Callable[[Tape, Node, Inputs], list[Array]]


def _array(inputs: Inputs, index: int) -> Array:
    """A needed input."""
    value = inputs[index] if index < len(inputs) else None
    if value is None:
        raise BundleError(f"input {index} of an operator is missing")
    return value.array


def _optional(inputs: Inputs, index: int) -> Array | None:
    value = inputs[index] if index < len(inputs) else None
    return None if value is None else value.array


def _known(inputs: Inputs, index: int) -> list[int]:
    """An input of whole numbers that must not depend on the samples."""
    value = inputs[index]
    if value is None or not value.constant:
        raise BundleError("a shape or an index depends on the samples")
    return [int(number) for number in value.array.ravel()]


def _ufunc(function: Callable[..., Any]) -> Operator:
    """An operator that NumPy computes element by element, with broadcasting."""

    def operator(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
        arrays = [_array(inputs, index) for index in range(len(inputs))]
        out = tape.empty(np.broadcast_shapes(*(array.shape for array in arrays)), np.result_type(*arrays))
        tape.call(function, *arrays, out)
        return [out]

    return operator


def _activation(activation: Activation) -> Operator:
    def operator(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
        x = _array(inputs, 0)
        out = tape.empty(x.shape, x.dtype)
        activation(tape, x, out)
        return [out]

    return operator


def _hard_sigmoid(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    of = node.attributes
    return _activation(hard_sigmoid(of.get("alpha", 0.2), of.get("beta", 0.5)))(tape, node, inputs)


def _clip(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    out = x = _array(inputs, 0)
    for index, function in ((1, maximum), (2, minimum)):
        if (bound := _optional(inputs, index)) is not None:
            before, out = out, tape.empty(x.shape, x.dtype)
            tape.call(function, before, bound, out)
    return [out]


def _dot(tape: Tape, a: Array, b: Array) -> Array:
    kind = np.result_type(a, b)
    if a.ndim == b.ndim == 2:
        out = tape.empty((a.shape[0], b.shape[1]), kind)
        if a.shape[1] != b.shape[0]:
            raise BundleError(f"{list(a.shape)} cannot be multiplied with {list(b.shape)}")
        if tape.rows_alone:
            tape.call(np.matmul, a[:, np.newaxis], b, out[:, np.newaxis])
        else:
            tape.call(np.dot, a, b, out)
        return out
    out = tape.empty((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), kind)
    tape.call(np.matmul, a, b, out)
    return out


def _matmul(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [_dot(tape, _array(inputs, 0), _array(inputs, 1))]


def _gemm(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    """``alpha A B + beta C``"""
    a, b = _array(inputs, 0), _array(inputs, 1)
    if a.ndim != 2 or b.ndim != 2:
        raise BundleError("Gemm takes matrices")
    out = _dot(tape, a.T if node.attributes.get("transA", 0) else a, b.T if node.attributes.get("transB", 0) else b)
    if (alpha := node.attributes.get("alpha", 1.0)) != 1:
        tape.call(np.multiply, out, np.float32(alpha), out)
    c, beta = inputs[2] if len(inputs) > 2 else None, node.attributes.get("beta", 1.0)
    if c is None or beta == 0 or (c.constant and not c.array.any()):
        return [out]
    addend = c.array
    if beta != 1:
        addend = tape.empty(c.array.shape, c.array.dtype)
        tape.call(np.multiply, c.array, np.float32(beta), addend)
    tape.call(np.add, out, addend, out)
    return [out]


def _quantize(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    """``saturate(round(x / scale) + zero_point)``"""
    x = _array(inputs, 0)
    zero = _optional(inputs, 2)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    limits = np.iinfo(kind)
    scale, shift = _along(node, x, _array(inputs, 1)), _along(node, x, zero)
    levels, out = tape.empty(x.shape), tape.empty(x.shape, kind)
    tape.call(np.divide, x, scale, levels)
    tape.call(np.rint, levels, levels)
    tape.call(np.add, levels, shift.astype(np.float32), levels)
    tape.call(maximum, levels, np.float32(limits.min), levels)
    tape.call(minimum, levels, np.float32(limits.max), levels)
    tape.call(_cast, out, levels)
    return [out]


def _dequantize(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    """``(x - zero_point) scale``"""
    x = _array(inputs, 0)
    scale, shift = _along(node, x, _array(inputs, 1)), _along(node, x, _optional(inputs, 2))
    out = tape.empty(x.shape)
    tape.call(np.copyto, out, x)
    tape.call(np.subtract, out, shift.astype(np.float32), out)
    tape.call(np.multiply, out, scale, out)
    return [out]


def _along(node: Node, x: Array, values: Array | None) -> Array:
    """Scales or zero points so that they lie along their axis of ``x``."""
    if values is None:
        return np.zeros((), np.float32)
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    shape = [1] * x.ndim
    shape[node.attributes.get("axis", 1)] = len(values)
    return values.reshape(shape)


def _cast(out: Array, x: Array) -> None:
    np.copyto(out, x, casting="unsafe")


def _cast_to(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x = _array(inputs, 0)
    out = tape.empty(x.shape, DTYPES[node.attributes["to"]])
    tape.call(_cast, out, x)
    return [out]


def _identity(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [_array(inputs, 0)]


def _transpose(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [_array(inputs, 0).transpose(node.attributes.get("perm"))]


def _reshape(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x, sizes = _array(inputs, 0), _known(inputs, 1)
    shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if not x.flags.c_contiguous:
        x = tape.copied(x)
    return [x.reshape(shape)]


def _unsqueeze(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [np.expand_dims(_array(inputs, 0), tuple(_known(inputs, 1)))]


def _squeeze(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [_array(inputs, 0).squeeze(tuple(_known(inputs, 1)) if len(inputs) > 1 else None)]


def _slice(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x, starts, ends = _array(inputs, 0), _known(inputs, 1), _known(inputs, 2)
    axes = _known(inputs, 3) if len(inputs) > 3 else list(range(len(starts)))
    steps = _known(inputs, 4) if len(inputs) > 4 else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return [x[tuple(index)]]


def _split(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x, axis = _array(inputs, 0), node.attributes.get("axis", 0)
    count = len(node.outputs)
    sizes = _known(inputs, 1) if len(inputs) > 1 else [x.shape[axis] // count] * count
    if sum(sizes) != x.shape[axis] or min(sizes) < 0:
        raise BundleError(f"{x.shape[axis]} cannot be split into {sizes}")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _concat(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    arrays = [_array(inputs, index) for index in range(len(inputs))]
    axis = node.attributes["axis"]
    like = np.concatenate([np.empty(array.shape, np.bool_) for array in arrays], axis)
    out = tape.empty(like.shape, np.result_type(*arrays))
    tape.call(np.concatenate, arrays, axis, out)
    return [out]


def _shape(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return [np.array(_array(inputs, 0).shape, np.int64)]


def _constant_of_shape(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    value = node.attributes.get("value", np.zeros(1, np.float32))
    out = tape.empty(tuple(_known(inputs, 0)), value.dtype)
    out.fill(value.item())
    return [out]


def _expand(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x = _array(inputs, 0)
    return [np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_known(inputs, 1))))]


def _constant(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    value: Any = node.attributes["value"]
    return [value]


def _reduce_mean(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    x, keep = _array(inputs, 0), bool(node.attributes.get("keepdims", 1))
    axes = tuple(node.attributes.get("axes", range(x.ndim)))
    reduced = {axis % x.ndim for axis in axes}
    shape = [1 if axis in reduced else size for axis, size in enumerate(x.shape) if keep or axis not in reduced]
    out = tape.empty(tuple(shape), x.dtype)
    count = max(1, x.size // max(1, out.size))
    tape.call(np.add.reduce, x, axes, x.dtype, out, keep)
    tape.call(np.multiply, out, x.dtype.type(1 / count), out)
    return [out]


def _gru(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return gru(tape, node, [_optional(inputs, index) for index in range(6)])


def _lstm(tape: Tape, node: Node, inputs: Inputs) -> list[Array]:
    return lstm(tape, node, [_optional(inputs, index) for index in range(8)])


OPERATORS: dict[str, Operator] = {
    "Cast": _cast_to, "Clip": _clip, "Concat": _concat, "Constant": _constant, "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantize, "Expand": _expand, "GRU": _gru, "Gemm": _gemm, "HardSigmoid": _hard_sigmoid,
    "Identity": _identity, "LSTM": _lstm, "MatMul": _matmul, "QuantizeLinear": _quantize,
    "ReduceMean": _reduce_mean, "Reshape": _reshape, "Shape": _shape,
    "Slice": _slice, "Split": _split, "Squeeze": _squeeze, "Transpose": _transpose, "Unsqueeze": _unsqueeze,
    "Abs": _ufunc(np.absolute), "Add": _ufunc(np.add), "Div": _ufunc(np.divide), "Max": _ufunc(maximum),
    "Min": _ufunc(minimum), "Mul": _ufunc(np.multiply), "Neg": _ufunc(np.negative), "Round": _ufunc(np.rint),
    "Sub": _ufunc(np.subtract),
    **{name: _activation(activation) for name, activation in ACTIVATIONS.items()},
}  # fmt: skip
