"""Every cell, nonlinearity, rank, number of layers and direction against the equations in NumPy, over 128 steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastzoo.nn import CELLS

from . import nets, oracle
from .nets import RANKS, STACKS

STEPS = 128
LARGEST_ERROR = {torch.float64: 1e-12, torch.float32: 1e-5}  # of the largest state

CASES = [
    pytest.param(kind, arguments, id="-".join((kind, *arguments.values())))
    for kind in CELLS
    for arguments in nets.pairs(kind)
]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(("kind", "nonlinearities"), CASES)
def test_states_are_those_of_the_equation(kind: str, nonlinearities: dict[str, Any], ranks: str) -> None:
    x, cells, faults = nets.samples(STEPS), [], []
    for stack, arguments in STACKS.items():
        rnn = nets.make(kind, RANKS[ranks], **nonlinearities, **arguments)
        start = nets.start(rnn)
        expected, expected_last, seen = oracle.run(rnn, x.numpy(), nets.arrays(start))
        cells += seen
        assert 0.03 < np.abs(expected).max() < 50, "where states vanish or explode, equal ones prove nothing"
        for dtype, tolerance in LARGEST_ERROR.items():
            rnn.to(dtype)
            with torch.no_grad():
                states, last = rnn(x.to(dtype), nets.state(tuple(part.to(dtype) for part in nets.parts(start))))
            assert states.dtype == dtype
            whats = "states", "last h", "last c"
            for what, found, exact in zip(whats, (states, *nets.parts(last)), (expected, *expected_last), strict=False):
                assert found.shape == exact.shape
                if not (error := np.abs(found.numpy() - exact).max() / np.abs(exact).max()) <= tolerance:
                    faults.append(f"{stack}, {dtype}, {what}: {error:.1e}")
            assert len(nets.parts(last)) == len(expected_last)
    assert faults == []
    assert oracle.visits_every_piece(cells), "each piece of a piecewise-linear function must have been in use"
