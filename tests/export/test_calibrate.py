"""Ranges of activations, against a simulation in float64 of what each of them takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fastzoo.errors import ExportError
from fastzoo.export.calibrate import PERCENTILE_WINDOWS, Calibration, Method
from fastzoo.export.floats import FloatWriter
from fastzoo.export.integers import IntegerWriter
from fastzoo.export.layouts import INTEGERS, PRODUCTS, Scheme
from fastzoo.export.network import Network
from fastzoo.export.step import Levels
from fastzoo.export.weights import Int8

from . import networks
from .networks import VARIANTS, Doubles, Floats, InDoubles, builder, classifier, windows

X = windows(40, seed=2)
MIN_MAX = Method()


def layer_inputs(of: Network, x: Floats) -> list[Doubles]:
    """What each cell reads, in its own order of time [T, N, .]."""
    sequence, inputs = ((x.astype(np.float64) - of.mean) / of.std).transpose(1, 0, 2), []
    for layer in of.layers:
        states = []
        for way, cell in enumerate(layer):
            turn = -1 if way else 1
            inputs.append(sequence[::turn])
            states.append(InDoubles(cell).states(sequence[::turn])[::turn])
        sequence = np.concatenate(states, axis=2)
    return inputs


def before(states: Doubles) -> Doubles:
    """The states that a step reads, zero at first."""
    return np.concatenate([np.zeros_like(states[:1]), states[:-1]])


def spanned(a: Doubles) -> Levels:
    return Levels.spanning(float(a.min()), float(a.max()))


def close(found: Levels, expected: Levels) -> bool:
    return found.scale == pytest.approx(expected.scale, rel=1e-5) and abs(found.zero - expected.zero) <= 1


def products(of: Network, index: int, x: Floats, method: Method = MIN_MAX) -> dict[str, Levels]:
    return Calibration(of, x, method).levels(index, FloatWriter(of.cells[index], of.prefix(index)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_ranges_of_what_products_read(variant: str) -> None:
    for ranks in ((None, None), (2, 3)):
        made = builder(classifier(ranks=ranks, **VARIANTS[variant]))
        of, (cell,) = made.network, made.network.cells
        h = before(InDoubles(cell).states(layer_inputs(of, X)[0]))
        levels = products(of, 0, X)
        assert close(levels["h"], spanned(h))
        if ranks[1]:
            assert close(levels["hU1"], spanned(h @ cell.u[0].astype(np.float64)))
        expected = {"h", "hU1"} if ranks[1] else {"h"}
        if cell.kind == "gru":
            expected |= {f"r{name}" for name in expected}
        assert levels.keys() == expected


def test_ranges_of_everything_in_a_fastgrnn() -> None:
    made = builder(classifier(nu=0.0))
    of, (cell,) = made.network, made.network.cells
    levels = Calibration(of, X).levels(0, IntegerWriter(cell, "", Int8(), None))
    x = layer_inputs(of, X)[0]
    states = InDoubles(cell).states(x)
    h, pre = before(states), x @ networks.product(cell.w)
    gate, update = cell.biases.astype(np.float64)
    inner = h @ cell.u[0].astype(np.float64)
    outer = inner @ cell.u[1].astype(np.float64)
    z = 1 / (1 + np.exp(-pre - outer - gate))
    c = np.tanh(pre + outer + update)
    expected = {
        "h": states,
        "driven1": np.concatenate([pre + gate, -pre - gate, 2 * (pre + update)], axis=2),
        "inner1": inner,
        "outer1": np.concatenate([outer, -outer, 2 * outer], axis=2),
        "product1": (1 - z) * c,
        "product2": z * h,
        "sum2": states,
    }
    for key, seen in expected.items():
        assert close(levels[key], spanned(seen)), key


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("variant", ["fastgrnn", "lstm"])
def test_every_cell_sees_its_own_input(variant: str, bidirectional: bool) -> None:
    """The second layer what the first one puts out, the backward direction the window from its end."""
    net = classifier(num_layers=2, bidirectional=bidirectional, **VARIANTS[variant])
    of = builder(net).network
    trend = X + np.linspace(0, 3, X.shape[1], dtype=np.float32)[:, np.newaxis] * of.std  # so that the ways differ
    found = [products(of, i, trend)["h"] for i in range(len(of.cells))]
    for i, (cell, x) in enumerate(zip(of.cells, layer_inputs(of, trend), strict=True)):
        assert close(found[i], spanned(before(InDoubles(cell).states(x)))), i
    assert len(set(found)) == len(found)


def test_a_window_more_widens_ranges() -> None:
    of = builder(classifier(nu=0.0)).network
    one, all_of_them = (products(of, 0, X[:count])["h"] for count in (1, 40))
    assert one.scale < all_of_them.scale


@pytest.mark.parametrize("percentile", [99.0, 95.0])
def test_a_percentile_cuts_both_ends(percentile: float) -> None:
    of = builder(classifier(nu=0.0)).network
    h = before(InDoubles(of.cells[0]).states(layer_inputs(of, X)[0]))
    low, high = np.percentile(h, [100 - percentile, percentile])
    found = products(of, 0, X, Method(percentile))["h"]
    assert close(found, Levels.spanning(float(low), float(high)))
    assert found.scale < 0.95 * products(of, 0, X)["h"].scale


def test_percentiles_are_monotonous() -> None:
    of = builder(classifier(nu=0.0)).network
    scales = [products(of, 0, X, Method(p))["h"].scale for p in (100.0, 99.9, 99.0, 95.0, 90.0)]
    assert scales == sorted(scales, reverse=True)
    assert len(set(scales)) == len(scales)


def test_a_percentile_of_many_windows_is_that_of_some() -> None:
    """All values at once would need too much memory: every n-th window stands for its neighbours."""
    of, many = builder(classifier(nu=0.0)).network, windows(3 * PERCENTILE_WINDOWS, seed=3)
    assert products(of, 0, many, Method(99.0)) == products(of, 0, many[::3], Method(99.0))


def test_a_method_says_what_it_is() -> None:
    assert [str(Method()), str(Method(99.9)), str(Method(99.99))] == ["min-max", "percentile 99.9", "percentile 99.99"]


def test_a_narrower_range_reaches_the_file() -> None:
    made = builder(classifier(nu=0.0))
    wide, narrow = (made.steps(Scheme(INTEGERS, Method(p)))[0].states[0].levels for p in (100.0, 95.0))
    assert wide is not None
    assert narrow is not None
    assert narrow.scale < wide.scale


@pytest.mark.parametrize("kind", [PRODUCTS, INTEGERS])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_state_that_overflows_is_refused(layer: int, kind: str) -> None:
    made = builder(classifier("relu", "relu", (None, None), num_layers=2, zeta=1.0, nu=1.0))
    of = made.network
    cell = of.cells[layer]
    grown = replace(cell, u=(np.full_like(cell.u[0], 1e30),), bias=np.full_like(cell.bias, 1e30))
    made.network = replace(of, cells=tuple(grown if i == layer else c for i, c in enumerate(of.cells)))
    with np.errstate(all="ignore"), pytest.raises(ExportError, match="the state overflows on the calibration windows"):
        made.steps(Scheme(kind))


def test_calibration_leaves_windows_and_network_alone() -> None:
    net = classifier(num_layers=2, bidirectional=True)
    made = builder(net)
    x, weights = made.windows.copy(), {name: value.clone() for name, value in net.state_dict().items()}
    made.steps(Scheme(INTEGERS))
    assert np.array_equal(made.windows, x)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_what_nothing_reads_is_not_watched() -> None:
    (cell,) = builder(classifier()).network.cells
    writer: Any = FloatWriter(cell)
    writer.step()
    assert writer.observed.keys() == {"h", "hU1"}
