"""Cutting zeros: nothing changes but the sizes, which are the smallest that the zeros allow."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.oracle import FUNCTIONS

from fastzoo.export.from_torch import from_torch
from fastzoo.export.network import Cell, Network
from fastzoo.export.shrink import CANDIDATE, ZERO_AT_ZERO, describe, shrunk
from fastzoo.nn import GRU, NONLINEARITIES, SequenceClassifier

D, H, C, T, POOL = 3, 8, 4, 6, 2
W_RANK, U_RANK = 3, 5

Array = npt.NDArray[Any]

BLOCKS = {"fastrnn": (1, 1), "fastgrnn": (1, 2), "ugrnn": (2, 2), "gru": (3, 3), "torch_gru": (3, 3), "lstm": (4, 4)}
KINDS = list(BLOCKS)
LOW_RANK = pytest.mark.parametrize("low_rank", [False, True], ids=["full", "low"])
STACKS = [(1, 1), (2, 1), (1, 2), (2, 2)]  # layers, directions


def made(
    kind: str, low_rank: bool = True, layers: int = 1, ways: int = 1, update: str = "tanh", seed: int = 0
) -> Network:
    """Random float64 weights, none of them zero; to be planted in place."""
    rng = np.random.default_rng(seed)
    blocks, biases = BLOCKS[kind]

    def drawn(*shape: int) -> Any:
        return rng.choice([-1, 1], shape) * rng.uniform(0.1, 0.9, shape)

    def factors(inputs: int, rank: int) -> tuple[Any, ...]:
        return (drawn(inputs, rank), drawn(rank, blocks * H)) if low_rank else (drawn(inputs, blocks * H),)

    cells = tuple(
        Cell(
            kind,
            factors(D if index < ways else ways * H, W_RANK),
            factors(H, U_RANK),
            drawn(biases * H),
            "sigmoid",
            update,
            {"fastrnn": {"alpha": 0.4, "beta": 0.7}, "fastgrnn": {"zeta": 0.8, "nu": 0.1}}.get(kind, {}),
            drawn(H) if kind == "torch_gru" else None,
        )
        for index in range(layers * ways)
    )
    return Network(drawn(D), 1 + drawn(D), cells, drawn(ways * H, C), drawn(C), POOL, T, ways)


def logits(network: Network) -> Array:
    """The equations, in float64, of some windows."""
    x = np.random.default_rng(7).normal(size=(T, 20, D))
    below = (x - network.mean) / network.std
    for layer in network.layers:
        outputs = [_states(layer[0], below)]
        if len(layer) == 2:
            outputs.append(_states(layer[1], below[::-1])[::-1])
        below = np.concatenate(outputs, axis=2)
    hidden = network.hidden_size
    reached = [below[-network.pool :, :, :hidden], below[: network.pool, :, hidden:]]
    pooled = np.concatenate([part.mean(axis=0) for part in reached], axis=1)
    answer: Array = pooled @ network.head_weight + network.head_bias
    return answer


def _states(cell: Cell, x: Array) -> Array:
    gate, update = FUNCTIONS[cell.gate], FUNCTIONS[cell.update]
    h = c = np.zeros((x.shape[1], cell.hidden_size))
    U, b = blocks(reduce(np.matmul, cell.u), cell), cell.biases
    states = []
    for x_t in x:
        a = blocks(x_t @ reduce(np.matmul, cell.w), cell)
        if cell.kind == "fastrnn":
            h = cell.scalars["beta"] * h + cell.scalars["alpha"] * update(a[0] + h @ U[0] + b[0])
        elif cell.kind == "fastgrnn":
            z, new = gate(a[0] + h @ U[0] + b[0]), update(a[0] + h @ U[0] + b[1])
            h = (cell.scalars["zeta"] * (1 - z) + cell.scalars["nu"]) * new + z * h
        elif cell.kind == "ugrnn":
            z, new = gate(a[0] + h @ U[0] + b[0]), update(a[1] + h @ U[1] + b[1])
            h = z * h + (1 - z) * new
        elif cell.kind == "lstm":
            i, f, new, o = (each(a[k] + h @ U[k] + b[k]) for k, each in enumerate((gate, gate, update, gate)))
            c = f * c + i * new
            h = o * update(c)
        else:
            r, z = gate(a[0] + h @ U[0] + b[0]), gate(a[1] + h @ U[1] + b[1])
            inner = (r * h) @ U[2] if cell.recurrent_bias is None else r * (h @ U[2] + cell.recurrent_bias)
            h = z * h + (1 - z) * update(a[2] + inner + b[2])
        states.append(h)
    return np.stack(states)


def blocks(matrix: Array, cell: Cell) -> list[Array]:
    return np.split(matrix, matrix.shape[-1] // cell.hidden_size, axis=-1)


def columns(matrix: Any, cell: Cell) -> Any:
    """A view [n, G, H] of a last factor, to write to."""
    return matrix.reshape(len(matrix), -1, cell.hidden_size)


def readers(network: Network, index: int) -> list[Any]:
    """Views [H, n] of all weights by which others read one cell."""
    layer, way = divmod(index, network.directions)
    above = network.layers[layer + 1] if layer + 1 < len(network.layers) else ()
    part = slice(way * H, (way + 1) * H)
    return [cell.w[0][part] for cell in above] or [network.head_weight[part]]


def unread(network: Network, index: int, *units: int) -> None:
    """Nobody else reads these units."""
    for matrix in [network.cells[index].u[0], *readers(network, index)]:
        matrix[list(units)] = 0


def still(cell: Cell, *units: int) -> None:
    """These units' candidates are update(0), at all times."""
    block, bias = CANDIDATE[cell.kind]
    for factors in (cell.w, cell.u):
        columns(factors[-1], cell)[:, block, list(units)] = 0
    cell.biases[bias, list(units)] = 0
    if cell.recurrent_bias is not None:
        cell.recurrent_bias[list(units)] = 0


def sizes(network: Network) -> list[tuple[int, ...]]:
    """H and the ranks of each cell; H must be the same wherever it can be read."""
    for index, cell in enumerate(network.cells):
        hidden, (g, b) = cell.hidden_size, BLOCKS[cell.kind]
        assert hidden == network.hidden_size
        assert [cell.w[-1].shape[1], cell.u[-1].shape[1], len(cell.bias)] == [g * hidden, g * hidden, b * hidden]
        assert cell.recurrent_bias is None or len(cell.recurrent_bias) == hidden
        assert cell.input_size == (D if index < network.directions else network.directions * hidden)
        assert all(len(factors) == 1 or factors[0].shape[1] == len(factors[1]) for factors in (cell.w, cell.u))
    assert len(network.head_weight) == network.directions * network.hidden_size
    return [(cell.hidden_size, *(len(f[1]) for f in (cell.w, cell.u) if len(f) == 2)) for cell in network.cells]


def cut(network: Network) -> list[tuple[int, ...]]:
    """The sizes after cutting, which changed nothing else and left nothing to cut."""
    smaller = shrunk(network)
    assert np.abs(logits(smaller) - logits(network)).max() < 1e-12
    assert shrunk(smaller) is smaller
    assert (describe(network, smaller) is None) == (smaller is network) == (sizes(smaller) == sizes(network))
    return sizes(smaller)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stack", STACKS)
@LOW_RANK
def test_where_nothing_is_zero_the_network_stays(kind: str, stack: tuple[int, int], low_rank: bool) -> None:
    network = made(kind, low_rank, *stack)
    assert shrunk(network) is network


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_of_zeros_in_either_factor_goes(kind: str) -> None:
    network = made(kind)
    (w1, w2), (u1, u2) = network.cells[0].w, network.cells[0].u
    w1[:, 1] = 0
    u1[:, [0, 2]] = 0
    u2[[2, 4]] = 0
    assert cut(network) == [(H, W_RANK - 1, U_RANK - 3)]
    w2[[0, 2]] = 0
    assert cut(network) == [(H, 1, U_RANK - 3)]
    assert describe(network, shrunk(network)) == "W rank 3 -> 1, U rank 5 -> 2"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stack", STACKS)
@LOW_RANK
def test_units_that_nothing_reads_go(kind: str, stack: tuple[int, int], low_rank: bool) -> None:
    """Of each cell others; rank by rank, what only they read goes too."""
    network = made(kind, low_rank, *stack)
    for index, cell in enumerate(network.cells):
        unread(network, index, index, index + 2)
        if low_rank:
            alone = np.isin(np.arange(H), [index, index + 2])
            columns(cell.u[1], cell)[3][:, ~alone] = 0
            columns(cell.w[1], cell)[0][:, ~alone] = 0
    assert cut(network) == [(H - 2, W_RANK - 1, U_RANK - 1) if low_rank else (H - 2,)] * len(network.cells)


@pytest.mark.parametrize("kind", KINDS)
@LOW_RANK
def test_units_that_only_such_units_read_go_with_them(kind: str, low_rank: bool) -> None:
    """A chain, 1 read by 0 alone, 2 by 1 alone; and a ring, 4 and 5 read by each other and themselves."""
    network = made(kind, low_rank)
    cell = network.cells[0]
    unread(network, 0, 0, 1, 2, 4, 5)
    ways = [(1, [0]), (2, [1]), (4, [4, 5]), (5, [4, 5])]
    for rank, (unit, by) in enumerate(ways):
        if low_rank:
            cell.u[0][unit, rank] = 0.3
            columns(cell.u[1], cell)[rank][:, np.setdiff1d(range(H), by)] = 0
        else:
            columns(cell.u[0], cell)[unit][:, by] = 0.3
    assert cut(network) == [(H - 5, W_RANK, 1) if low_rank else (H - 5,)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", NONLINEARITIES)
@LOW_RANK
def test_units_that_are_always_zero_go_whatever_their_gates_read(kind: str, update: str, low_rank: bool) -> None:
    network = made(kind, low_rank, update=update)
    cell = network.cells[0]
    still(cell, 1, 5)
    found = update in ZERO_AT_ZERO
    assert found == (FUNCTIONS[update](np.zeros(1)) == 0)
    ranks = (W_RANK, U_RANK) if low_rank else ()
    assert cut(network) == [(H - 2 * found, *ranks)]
    for bias in [cell.biases[CANDIDATE[kind][1]], *([] if cell.recurrent_bias is None else [cell.recurrent_bias])]:
        bias[5] = 1e-9
        assert cut(network) == [(H - found, *ranks)]
        bias[5] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_units_that_read_only_units_at_zero_stay_at_zero(kind: str) -> None:
    """Within a layer 1 reads 0, and itself; across layers 2 reads 0 and 1. What only they read is not needed."""
    network = made(kind, low_rank=False, layers=2)
    first, second = network.cells
    block = CANDIDATE[kind][0]
    still(first, 0, 1)
    columns(first.u[0], first)[[0, 1], block, 1] = 0.3
    still(second, 2, 3)
    columns(second.w[0], second)[[0, 1], block, 2] = 0.3
    unread(network, 0, 7)
    columns(second.w[0], second)[7][:, [2, 3]] = 0 if kind in ("fastrnn", "fastgrnn") else 0.3  # their gates
    columns(second.w[0], second)[7, block] = 0
    assert cut(network) == [(H - 2,)] * 2
    assert describe(network, shrunk(network)) == "8 -> 6 units"
    unread(network, 1, 6)
    assert cut(network) == [(H - 3,)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_all_cells_keep_one_hidden_size_and_the_first_of_their_spare_units(kind: str) -> None:
    network = made(kind, layers=2, ways=2)
    units = [(1, 3, 6), (0, 2), (2, 4, 5, 7), (0, 1, 7)]
    for index, mine in enumerate(units):
        unread(network, index, *mine)
    last = network.cells[3]
    columns(last.u[1], last)[4][:, 1:] = 0  # the ranks that only a spare unit reads, or is read by, go
    still(last, 0)
    last.u[0][0, 3] = 0.3
    last.u[0][1:, 3] = 0
    assert cut(network) == [(H - 2, W_RANK, U_RANK)] * 3 + [(H - 2, W_RANK, U_RANK - 2)]
    smaller = shrunk(network)
    assert describe(network, smaller) == "l1b_U rank 5 -> 3, 8 -> 6 units"
    for index, kept in enumerate([[0, 1, 2, 4, 5, 7], [1, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6], [0, 2, 3, 4, 5, 6]]):
        needed = np.isin(kept, units[index], invert=True)
        before, after = network.cells[index].biases[:, kept], smaller.cells[index].biases
        assert np.array_equal(after, np.where(needed, before, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_that_needs_all_its_units_holds_the_others_sizes(kind: str) -> None:
    network = made(kind, ways=2)
    unread(network, 1, 3)
    assert shrunk(network) is network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stack", STACKS)
def test_of_zeros_alone_one_unit_and_one_rank_stay(kind: str, stack: tuple[int, int]) -> None:
    network = made(kind, True, *stack)
    for matrix in (matrix for cell in network.cells for matrix in (*cell.w, *cell.u)):
        matrix[:] = 0
    assert cut(network) == [(H, 1, 1)] * stack[0] * stack[1]  # the head reads the constant states
    network.head_weight[:] = 0
    assert cut(network) == [(1, 1, 1)] * stack[0] * stack[1]


def test_a_product_that_is_zero_reads_nothing() -> None:
    """Ranks that remain in one factor alone hide no unit."""
    network = made("fastgrnn")
    network.cells[0].u[1][:] = 0
    network.head_weight[2:] = 0
    assert cut(network) == [(2, W_RANK, 1)]
    assert not any(factor.any() for factor in shrunk(network).cells[0].u)


def test_features_that_nothing_reads_stay() -> None:
    network = made("gru")
    network.cells[0].w[0][1] = 0
    assert shrunk(network) is network


def test_factors_stay_factors_where_the_matrix_would_be_smaller() -> None:
    network = made("fastgrnn")
    unread(network, 0, *range(2, H))
    assert cut(network) == [(2, W_RANK, U_RANK)]


@given(st.sampled_from(KINDS), st.sampled_from(STACKS), st.booleans(), st.sampled_from([0.1, 0.4]), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_any_rows_and_columns_of_zeros(
    kind: str, stack: tuple[int, int], low_rank: bool, share: float, seed: int
) -> None:
    network = made(kind, low_rank, *stack, seed=seed)
    rng = np.random.default_rng(seed)
    for index, cell in enumerate(network.cells):
        units = np.flatnonzero(rng.random(H) < share)
        unread(network, index, *units)
        still(cell, *np.flatnonzero(rng.random(H) < share))
        for matrix in (*cell.w, *cell.u):
            matrix[rng.random(len(matrix)) < share] = 0
            matrix[:, rng.random(matrix.shape[1]) < share] = 0
            matrix[rng.random(matrix.shape) < share] = 0
    for was, now in zip(sizes(network), cut(network), strict=True):
        assert all(np.less_equal(now, was))


def test_what_torch_trained_stays_what_it_was() -> None:
    torch.manual_seed(0)
    net = SequenceClassifier(GRU(D, H, num_layers=2, w_rank=W_RANK, u_rank=U_RANK, bidirectional=True), C, POOL)
    cells: Any = net.rnn.cells
    with torch.no_grad():
        for cell in cells:
            cell.u[0][:3] = 0
            cell.u[1][2] = 0
        for cell in cells[2:]:
            cell.w[0][[0, 1, 2, H, H + 1, H + 2]] = 0
        net.head.weight[:, [0, 1, H, H + 1]] = 0
    smaller = shrunk(from_torch(net, T))
    assert sizes(smaller) == [(H - 2, W_RANK, U_RANK - 1)] * 4
    arrays = [smaller.head_weight] + [a for cell in smaller.cells for a in (*cell.w, *cell.u, cell.bias)]
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays)
    x = np.random.default_rng(7).normal(size=(T, 20, D))
    answer = net(torch.from_numpy(x.transpose(1, 0, 2)).float()).detach().numpy()
    assert np.abs(logits(smaller) - answer).max() < 1e-6
