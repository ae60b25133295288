"""What a network weighs, against figures worked out by hand and against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastzoo.nn import CELLS, GRU, FastGRNN, FastRNN, GRUCell, ModelSize, SequenceClassifier, model_size

# 3 features, 4 units. Full: W [3, G 4], U [4, G 4]. Low: W1 [3, 2], W2 [2, G 4], U1 [4, 3], U2 [3, G 4].
# parameters, sparse bytes (two of the cells have two scalars), int8 bytes, multiply-accumulates a step
FULL = {
    "fastrnn": (12 + 16 + 4, 4 * (32 + 2), 28 + 2 * 4 + 4 * 4, 28),
    "fastgrnn": (12 + 16 + 8, 4 * (36 + 2), 28 + 2 * 4 + 4 * 8, 28),
    "ugrnn": (24 + 32 + 8, 4 * 64, 56 + 2 * 4 + 4 * 8, 56),
    "gru": (36 + 48 + 12, 4 * 96, 84 + 2 * 4 + 4 * 12, 84),
    "lstm": (48 + 64 + 16, 4 * 128, 112 + 2 * 4 + 4 * 16, 112),
}
LOW = {
    "fastrnn": (6 + 8 + 12 + 12 + 4, 4 * (42 + 2), 38 + 4 * 4 + 4 * 4, 38),
    "fastgrnn": (6 + 8 + 12 + 12 + 8, 4 * (46 + 2), 38 + 4 * 4 + 4 * 8, 38),
    "ugrnn": (6 + 16 + 12 + 24 + 8, 4 * 66, 58 + 4 * 4 + 4 * 8, 58),
    "gru": (6 + 24 + 12 + 36 + 12, 4 * 90, 78 + 4 * 4 + 4 * 12, (6 + 24) + (12 + 24) + (12 + 12)),  # h, then r h
    "lstm": (6 + 32 + 12 + 48 + 16, 4 * 114, 98 + 4 * 4 + 4 * 16, 98),
}


@pytest.mark.parametrize("low", [False, True], ids=["full", "low"])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_weighs_what_its_equation_says(kind: str, low: bool) -> None:
    ranks: dict[str, Any] = {"w_rank": 2, "u_rank": 3} if low else {}
    parameters, sparse, int8, step = (LOW if low else FULL)[kind]
    expected = ModelSize(
        parameters=parameters,
        nonzeros=parameters,
        dense_bytes=4 * parameters,
        sparse_bytes=sparse,
        int8_bytes=int8,
        macs_per_step=step,
        macs_per_window=None,
    )
    rnn: Any = CELLS[kind](3, 4, **ranks)
    assert model_size(rnn) == expected
    assert model_size(rnn.cell) == expected
    assert rnn.cell.macs == step
    assert model_size(rnn.double()) == expected, "bytes are those of float32, whatever the type"


def test_gru_with_one_factor_meets_it_twice() -> None:
    assert GRUCell(3, 4, u_rank=3).macs == 36 + (12 + 24) + (12 + 12)
    assert GRUCell(3, 4, w_rank=2).macs == (6 + 24) + 48


def test_a_classifier_weighs_its_head_too() -> None:
    net = SequenceClassifier(FastGRNN(3, 4), num_classes=5, pool=2)
    assert model_size(net, steps=10) == ModelSize(
        parameters=36 + 25,
        nonzeros=36 + 25,
        dense_bytes=4 * 61,
        sparse_bytes=4 * (61 + 2),
        int8_bytes=(28 + 20) + 3 * 4 + 4 * (8 + 5),
        macs_per_step=28,
        macs_per_window=10 * 28 + 20,
    )
    assert model_size(net).macs_per_window is None


def test_layers_and_directions_add_up() -> None:
    net = SequenceClassifier(GRU(3, 4, 2, bidirectional=True, w_rank=[2, None], u_rank=[None, 3]), num_classes=5)
    lower, upper = (6 + 24) + 48 + 12, 8 * 12 + (12 + 36) + 12  # the upper layer reads 8 features
    size = model_size(net, steps=10)
    assert size.parameters == 2 * (lower + upper) + (8 * 5 + 5)
    assert size.macs_per_step == 2 * (30 + 48) + 2 * (96 + 48 + 12)
    assert size.macs_per_window == 10 * size.macs_per_step + 40
    assert size.int8_bytes == 2 * (78 + 144) + 40 + 4 * (2 * (3 + 3) + 1) + 4 * (4 * 12 + 5)


def test_a_fixed_scalar_weighs_nothing() -> None:
    assert model_size(FastGRNN(3, 4, nu=0.0)).sparse_bytes == 4 * (36 + 1)
    assert model_size(FastGRNN(3, 4, zeta=1.0, nu=0.0)).sparse_bytes == 4 * 36
    assert model_size(FastRNN(3, 4, alpha=0.1, beta=0.9)).sparse_bytes == 4 * 32


@pytest.mark.parametrize(
    ("features", "kept", "its_bytes"),
    [(3, 0, 0), (3, 1, 8), (3, 5, 40), (3, 6, 48), (3, 7, 48), (3, 12, 48), (1, 1, 8), (1, 2, 16), (1, 3, 16)],
)
def test_a_matrix_of_which_less_than_half_is_left_is_stored_with_indices(
    features: int, kept: int, its_bytes: int
) -> None:
    rnn = FastGRNN(features, 4)  # W has 12 numbers or 4
    with torch.no_grad():
        rnn.cell.W.view(-1)[kept:] = 0
        rnn.cell.bias_gate.zero_()
    size = model_size(rnn)
    whole = 4 * features + 16 + 8
    assert size.nonzeros == kept + 16 + 4
    assert size.sparse_bytes == its_bytes + 4 * (16 + 8 + 2)
    assert (size.parameters, size.dense_bytes, size.macs_per_step) == (whole, 4 * whole, whole - 8)


def test_a_matrix_with_an_odd_number_of_entries_has_no_half() -> None:
    rnn = FastRNN(3, 3, alpha=0.5, beta=0.5)
    for kept, its_bytes in ((4, 32), (5, 36)):
        with torch.no_grad():
            rnn.cell.W.fill_(1).view(-1)[kept:] = 0
        assert model_size(rnn).sparse_bytes == its_bytes + 4 * (9 + 3)


@given(
    kind=st.sampled_from(list(CELLS)), low=st.booleans(), both=st.booleans(), layers=st.integers(1, 3),
    seed=st.integers(0, 99), share=st.floats(0, 1),
)  # fmt: skip
def test_figures_follow_from_the_stored_numbers(
    kind: str, low: bool, both: bool, layers: int, seed: int, share: float
) -> None:
    torch.manual_seed(seed)
    ranks: dict[str, Any] = {"w_rank": 2, "u_rank": 3} if low else {}
    net = SequenceClassifier(CELLS[kind](3, 4, layers, bidirectional=both, **ranks), 5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter[torch.rand(parameter.shape) < share] = 0
    stored = [value.detach().numpy() for value in net.parameters()]
    size = model_size(net, 7)
    assert size.parameters == sum(v.size for v in stored if v.ndim)
    assert size.nonzeros == sum(np.count_nonzero(v) for v in stored if v.ndim)
    assert size.dense_bytes == 4 * size.parameters
    by_rule = (
        8 * np.count_nonzero(v) if v.ndim == 2 and np.count_nonzero(v) / v.size < 0.5 else 4 * v.size for v in stored
    )
    assert size.sparse_bytes == sum(by_rule)
    assert size.int8_bytes == sum({2: v.size + 4, 1: 4 * v.size, 0: 0}[v.ndim] for v in stored)


def test_one_line_says_it_all() -> None:
    rnn = FastGRNN(3, 4)
    with torch.no_grad():
        rnn.cell.W.view(-1)[3:] = 0
    assert str(model_size(rnn)) == (
        "36 parameters (75 % not zero); 144 bytes in float32, 68 in int8, 128 sparse; 28 multiply-adds a step"
    )


def test_cells_are_found_wherever_they_are() -> None:
    both = nn.ModuleDict({"ear": FastRNN(3, 4), "hand": nn.Sequential(GRUCell(3, 4))})
    assert model_size(both).macs_per_step == 28 + 84
    shared = nn.ModuleList([both["ear"], both["ear"]])
    assert model_size(shared) == model_size(FastRNN(3, 4)), "what is used twice is stored once"
