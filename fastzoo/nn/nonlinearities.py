"""Nonlinearities of the FastCells, by name.

The piecewise-linear forms are EdgeML's ``quantTanh``, ``quantSigm`` and ``quantSigm4``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def quant_tanh(x: Tensor) -> Tensor:
    """max(min(x, 1), -1)"""
    return x.clamp(-1.0, 1.0)


def quant_sigmoid(x: Tensor) -> Tensor:
    """max(min((x + 1) / 2, 1), 0)"""
    return ((x + 1.0) / 2.0).clamp(0.0, 1.0)


def quant_sigmoid4(x: Tensor) -> Tensor:
    """max(min((x + 2) / 4, 1), 0)"""
    return ((x + 2.0) / 4.0).clamp(0.0, 1.0)


NONLINEARITIES: dict[str, Function] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "quant_tanh": quant_tanh,
    "quant_sigmoid": quant_sigmoid,
    "quant_sigmoid4": quant_sigmoid4,
}


def nonlinearity(name: str | Function | None) -> Function:
    """The function of this name; a callable is its own.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if isinstance(name, str) and name in NONLINEARITIES:
        return NONLINEARITIES[name]
    if callable(name):
        return name
    raise ValueError(f"unknown nonlinearity {name!r}; known are {', '.join(NONLINEARITIES)}, or give a function")
