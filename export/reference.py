"""onnx's reference evaluator, with what it lacks: activations of GRU and LSTM by name, and bytes at our opset.

Written from the text of the standard, for verification: an implementation that shares nothing with onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """All outputs of a model, local functions included."""
    flat = onnx.inliner.inline_local_functions(model) if model.functions else model
    operators = [GRU, LSTM, DequantizeLinear, QuantizeLinear]
    outputs: list[Array] = ReferenceEvaluator(flat, new_ops=operators).run(None, dict(feeds))  # type: ignore[assignment]
    return outputs


def _activation(name: str, alpha: float, beta: float) -> Function:
    functions: dict[str, Function] = {
        "Tanh": np.tanh,
        "Sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "Relu": lambda a: np.maximum(a, 0),
        "HardSigmoid": lambda a: np.clip(alpha * a + beta, 0, 1),
        "Affine": lambda a: alpha * a + beta,
    }
    return functions[name]


def _activations(names: list[str], alpha: list[float] | None, beta: list[float] | None) -> list[Function]:
    """Parameters are listed for those activations alone that have them."""
    alphas, betas = iter(alpha or ()), iter(beta or ())
    made = []
    for name in names:
        takes = name in ("HardSigmoid", "Affine")
        made.append(_activation(name, next(alphas), next(betas)) if takes else _activation(name, 0, 0))
    return made


def _run(
    step: Callable[..., tuple[Array, ...]], parts: int, x: Array, operands: tuple[Array, ...],
    functions: list[Function], starts: tuple[Array | None, ...], direction: str, size: int,
) -> tuple[Array, ...]:  # fmt: skip
    """Both directions: ``x`` [T, N, D] -> Y [T, directions, N, H] and the last states [directions, N, H]."""
    ways = 2 if direction == "bidirectional" else 1
    outputs, lasts = [], []
    for way in range(ways):
        w, r, b = (operand[way].astype(np.float64) for operand in operands)
        state = tuple(
            np.zeros((x.shape[1], size)) if start is None else start[way].astype(np.float64) for start in starts
        )
        own = functions[way * len(functions) // ways : (way + 1) * len(functions) // ways]
        backwards = direction == "reverse" or way == 1
        states = []
        for x_t in x[::-1] if backwards else x:
            state = step(x_t.astype(np.float64), state, w, r, np.split(b, 2), own)
            states.append(state[0])
        outputs.append(np.stack(states[::-1] if backwards else states))
        lasts.append(state)
    y = np.stack(outputs, axis=1).astype(x.dtype)
    return y, *(np.stack([last[i] for last in lasts]).astype(x.dtype) for i in range(parts))


class GRU(OpRun):
    """The standard's GRU in float64, without lengths, clip and layout 1."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, r, b, sequence_lens=None, initial_h=None, activation_alpha=None, activation_beta=None,
        activations=None, clip=None, direction=None, hidden_size=None, layout=None, linear_before_reset=None,
    ):  # fmt: skip
        usual = ["Sigmoid", "Tanh"] * (2 if direction == "bidirectional" else 1)
        functions = _activations(activations or usual, activation_alpha, activation_beta)

        def step(x_t: Array, state: tuple[Array, ...], w: Array, r: Array, b: list[Array], f: list[Function]) -> Any:
            (h,) = state
            (w_z, w_r, w_h), (r_z, r_r, r_h) = np.split(w.T, 3, axis=1), np.split(r.T, 3, axis=1)
            (wb_z, wb_r, wb_h), (rb_z, rb_r, rb_h) = (np.split(part, 3) for part in b)
            z = f[0](x_t @ w_z + h @ r_z + wb_z + rb_z)
            reset = f[0](x_t @ w_r + h @ r_r + wb_r + rb_r)
            inner = reset * (h @ r_h + rb_h) if linear_before_reset else (reset * h) @ r_h + rb_h
            c = f[1](x_t @ w_h + inner + wb_h)
            return ((1 - z) * c + z * h,)

        return _run(step, 1, x, (w, r, b), functions, (initial_h,), direction or "forward", hidden_size)


class LSTM(OpRun):
    """The standard's LSTM in float64, without lengths, peepholes, clip and layout 1."""

    op_domain = ""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, r, b, sequence_lens=None, initial_h=None, initial_c=None, p=None, activation_alpha=None,
        activation_beta=None, activations=None, clip=None, direction=None, hidden_size=None, input_forget=None,
        layout=None,
    ):  # fmt: skip
        usual = ["Sigmoid", "Tanh", "Tanh"] * (2 if direction == "bidirectional" else 1)
        functions = _activations(activations or usual, activation_alpha, activation_beta)

        def step(x_t: Array, state: tuple[Array, ...], w: Array, r: Array, b: list[Array], f: list[Function]) -> Any:
            h, c = state
            i, o, forget, g = np.split(x_t @ w.T + h @ r.T + b[0] + b[1], 4, axis=1)
            c = f[0](forget) * c + f[0](i) * f[1](g)
            return f[0](o) * f[2](c), c

        return _run(step, 2, x, (w, r, b), functions, (initial_h, initial_c), direction or "forward", hidden_size)


class DequantizeLinear(OpRun):
    """As opset 13 defines it; ``later`` are attributes of later opsets, at their defaults."""

    op_domain = ""

    def _run(self, x, scale, zero_point=None, axis=None, **later):  # type: ignore[no-untyped-def]
        zero = np.zeros_like(x, shape=()) if zero_point is None else zero_point
        levels = x.astype(np.int32) - _along(zero, x, axis).astype(np.int32)
        return (levels.astype(np.float32) * _along(scale, x, axis),)


class QuantizeLinear(OpRun):
    """As opset 13 defines it; ``later`` are attributes of later opsets, at their defaults."""

    op_domain = ""

    def _run(self, x, scale, zero_point=None, axis=None, **later):  # type: ignore[no-untyped-def]
        zero = np.zeros((), np.uint8) if zero_point is None else zero_point
        ends = np.iinfo(zero.dtype)
        levels = np.rint(x / _along(scale, x, axis)) + _along(zero, x, axis).astype(np.int32)
        return (np.clip(levels, ends.min, ends.max).astype(zero.dtype),)


def _along(value: Array, x: Array, axis: int | None) -> Array:
    """A scalar as it is; one number for each index of an axis in a form that broadcasts."""
    if value.ndim == 0:
        return value
    shape = [1] * x.ndim
    shape[1 if axis is None else axis] = -1
    return value.reshape(shape)
