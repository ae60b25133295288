"""Activations: from one array into another, which may be the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastzoo.interpreter.tape import Array, Tape

Activation = Callable[[Tape, Array, Array], None]

ZERO, HALF, ONE = (np.array(number, np.float32) for number in (0, 0.5, 1))


def maximum(a: Array, b: Array, out: Array) -> None:
    """``np.maximum``, which takes ``out`` by name only."""
    np.maximum(a, b, out=out)


def minimum(a: Array, b: Array, out: Array) -> None:
    """``np.minimum``, which takes ``out`` by name only."""
    np.minimum(a, b, out=out)


def sigmoid(tape: Tape, x: Array, out: Array) -> None:
    """``1 / (1 + exp(-x))``, through tanh, which NumPy computes fast and without overflow."""
    tape.call(np.multiply, x, HALF, out)
    tape.call(np.tanh, out, out)
    tape.call(np.multiply, out, HALF, out)
    tape.call(np.add, out, HALF, out)


def tanh(tape: Tape, x: Array, out: Array) -> None:
    """The hyperbolic tangent."""
    tape.call(np.tanh, x, out)


def relu(tape: Tape, x: Array, out: Array) -> None:
    """``max(x, 0)``"""
    tape.call(maximum, x, ZERO, out)


def affine(alpha: float, beta: float) -> Activation:
    """``alpha x + beta``"""
    factor, shift = np.array(alpha, np.float32), np.array(beta, np.float32)

    def activation(tape: Tape, x: Array, out: Array) -> None:
        tape.call(np.multiply, x, factor, out)
        tape.call(np.add, out, shift, out)

    return activation


def hard_sigmoid(alpha: float, beta: float) -> Activation:
    """``alpha x + beta``, clipped to [0, 1]"""
    linear = affine(alpha, beta)

    def activation(tape: Tape, x: Array, out: Array) -> None:
        linear(tape, x, out)
        tape.call(maximum, out, ZERO, out)
        tape.call(minimum, out, ONE, out)

    return activation


ACTIVATIONS: dict[str, Activation] = {"Sigmoid": sigmoid, "Tanh": tanh, "Relu": relu}
