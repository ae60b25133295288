"""The NumPy backend gives what onnxruntime gives, for whatever the exporter writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from fastzoo.export.layouts import INTEGERS, LAYOUTS, PRODUCTS, Builder, Form, Scheme, forms, obstacles
from fastzoo.interpreter import Session

from . import networks
from .networks import FORM, POOL, STACKS, VARIANTS, Floats, Plain, builder, classifier, error, pairs, windows

SCHEMES = {kind: Scheme(kind) for kind in (PRODUCTS, INTEGERS)}


def interpreted(content: bytes, x: Floats, pool: int = POOL) -> Floats:
    """The answer of the NumPy backend; the layout ``step`` is called for each sample."""
    opened = Session(content)
    wanted = {value.name: value.shape for value in opened.get_inputs()}
    if "state" not in wanted:
        answer: Floats = opened.run(["logits"], {"x": x})[0]
        return answer
    size = wanted["state"][1]
    assert isinstance(size, int)
    state, last = np.zeros((len(x), size), np.float32), []
    for t in range(x.shape[1]):
        answer, state = opened.run(["logits", "state_next"], {"x": np.ascontiguousarray(x[:, t]), "state": state})
        last.append(answer)
    pooled: Floats = np.mean(last[-pool:], axis=0)
    return pooled


def compare(net: Any, layout: str, form: Form, limit: float = 2e-5) -> None:
    if layout in obstacles(networks.network(net)):
        pytest.skip("the layout does not exist for this network")
    model, x = builder(net).build(form), windows(9, net)
    assert error(interpreted(model.SerializeToString(), x), networks.run(model, x, form)) < limit


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_cell_in_every_layout(variant: str, precision: str, layout: str) -> None:
    weights = Form("int8", "unrolled", Scheme())
    form = weights if (precision, layout) == ("int8", "unrolled") else FORM[precision, layout]
    compare(classifier(**VARIANTS[variant]), layout, form)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", ["fastgrnn", "lstm"])
def test_stacks_and_both_directions(kind: str, stack: str, layout: str) -> None:
    compare(classifier(kind=kind, **STACKS[stack]), layout, FORM["fp32", layout])


@pytest.mark.parametrize("layout", ["fused", "scan", "step"])
@pytest.mark.parametrize("gate_and_update", [*pairs("fastgrnn")], ids="-".join)
@pytest.mark.parametrize("nu", [0.0, None])
def test_every_nonlinearity(nu: float | None, gate_and_update: tuple[str, str], layout: str) -> None:
    compare(classifier(*gate_and_update, nu=nu), layout, FORM["fp32", layout])


@pytest.mark.parametrize("layout", ["scan", "unrolled", "step"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("variant", ["fastrnn", "fastgrnn", "gru", "lstm"])
def test_eight_bit_activations_are_rounded_alike(variant: str, scheme: str, layout: str) -> None:
    """As long as onnxruntime computes what the file says; its fused integer kernels may differ by a level."""
    net = classifier(**VARIANTS[variant])
    form = Form("int8", layout, SCHEMES[scheme])
    model, x = builder(net).build(form), windows(9, net)
    found = interpreted(model.SerializeToString(), x)
    assert error(found, networks.run(model, x, form, optimised=False)) < 1e-3
    assert error(found, networks.run(model, x, form)) < 0.1


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torchs_own_recurrences(kind: Any, bidirectional: bool) -> None:
    net = Plain(kind(networks.D, networks.H, batch_first=True, bidirectional=bidirectional))
    x = windows(5)
    made = Builder(net.network(), x)
    for form in forms(net.network(), ("fused", "scan"), ("fp32",)):
        assert error(interpreted(made.build(form).SerializeToString(), x), net.exact(x)) < 2e-5


def test_batches_and_steps_of_any_number() -> None:
    net = classifier()
    model = builder(net, 20).build(FORM["fp32", "scan"])
    opened, x = Session(model.SerializeToString()), windows(64, net, 20)
    whole = opened.run(["logits"], {"x": x})[0]
    single = np.concatenate([opened.run(["logits"], {"x": window[np.newaxis]})[0] for window in x])
    np.testing.assert_allclose(single, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole, networks.logits(net, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_flat_graph_runs_too(layout: str) -> None:
    net = classifier()
    x = windows(4, net)
    model = builder(net, inline=True).build(FORM["fp32", layout])
    assert error(interpreted(model.SerializeToString(), x), networks.logits(net, x)) < 2e-5
