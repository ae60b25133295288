"""How wide the state is follows from what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastzoo.errors import ExportError
from fastzoo.export.calibrate import Method
from fastzoo.export.choose import LEAST_SAME, MOST_LOST, PERCENTILES, WINDOWS, Judge, choose
from fastzoo.export.layouts import INTEGERS, PRODUCTS, Builder, Form, Scheme
from fastzoo.nn import SequenceClassifier

from . import networks
from .networks import classifier, windows

T = 64
X = windows(400, steps=T, seed=5)


def confident() -> SequenceClassifier:
    """Its classes lie far apart: windows are offset by what class they are of."""
    net = classifier(nu=0.0)
    with torch.no_grad():
        net.head.weight.mul_(10)
        net.head.bias.copy_(torch.tensor([20.0, 0.0, -20.0, -20.0]))
    return net


def hesitant() -> SequenceClassifier:
    """Its state moves by less than one of 256 levels a step, which are lost, and its classes are close together."""
    net = classifier(kind="fastrnn", alpha=0.001, beta=0.99, sizes=(3, 5, 2), pool=1)
    states = networks.evaluate_states(net, X)
    with torch.no_grad():  # both classes are as frequent
        difference = net.head.weight[1] - net.head.weight[0]
        middle = float(np.median(states @ difference.numpy()))
        net.head.bias.copy_(torch.tensor([0.0, -middle]))
    return net


def made(net: SequenceClassifier) -> Builder:
    return networks.builder(net, T)


def judge(net: SequenceClassifier, labels: bool) -> Judge:
    return Judge(X, networks.exact(net, X).argmax(1) if labels else None, "some windows")


@pytest.mark.parametrize("labels", [False, True])
def test_8_bits_where_they_lose_nothing(labels: bool) -> None:
    net = confident()
    scheme, report = choose(made(net), Scheme(), "auto", judge(net, labels))
    assert scheme.kind == INTEGERS
    assert report["state"] == "8"
    assert report["judged_on"] == "some windows"


@pytest.mark.parametrize("labels", [False, True])
def test_fp32_where_8_bits_lose_too_much(labels: bool) -> None:
    net = hesitant()
    scheme, report = choose(made(net), Scheme(), "auto", judge(net, labels))
    assert scheme == Scheme(PRODUCTS)
    assert report["state"] == "fp32"
    tried: Any = report["tried"]
    narrow = [found for name, found in tried.items() if name.startswith("8, ")]
    assert len(narrow) == len(PERCENTILES)
    assert all(found["same_class"] < LEAST_SAME for found in narrow)
    assert tried["fp32, min-max"]["same_class"] >= max(found["same_class"] for found in narrow)


def test_accuracy_decides_where_it_is_known() -> None:
    """Few windows change their class, but all of those were right."""
    net, x, wanted = classifier(nu=0.0), windows(2000, seed=7), Scheme(method=Method(99.5))
    y, builder = networks.exact(net, x).argmax(1), networks.builder(net)
    scheme, report = choose(builder, wanted, "auto", Judge(x, None, "calibration"))
    tried: Any = report["tried"]
    assert scheme.kind == INTEGERS
    assert tried["8, percentile 99.5"]["same_class"] >= LEAST_SAME
    scheme, report = choose(builder, wanted, "auto", Judge(x, y, "validation"))
    tried = report["tried"]
    assert scheme.kind == PRODUCTS
    assert tried["8, percentile 99.5"]["accuracy"] < 1 - MOST_LOST


def test_what_is_reported_is_what_the_files_answer() -> None:
    net = hesitant()
    builder, y = made(net), networks.exact(net, X).argmax(1)
    _, report = choose(builder, Scheme(), "auto", Judge(X, y, "validation"))
    tried: Any = report["tried"]
    assert list(tried) == [*(f"8, {Method(p)}" for p in PERCENTILES), "fp32, min-max"]
    fp32 = networks.run(builder.build(Form("fp32", "scan")), X).argmax(1)
    for percentile in PERCENTILES:
        form = Form("int8", "scan", Scheme(INTEGERS, Method(percentile)))
        found = networks.run(builder.build(form), X).argmax(1)
        same, right = float((found == fp32).mean()), float((found == y).mean())
        assert tried[f"8, {Method(percentile)}"] == {"same_class": same, "accuracy": right}


def test_an_explicit_8_takes_the_best_percentile_whatever_it_loses() -> None:
    net = hesitant()
    scheme, report = choose(made(net), Scheme(), "8", judge(net, labels=True))
    tried: Any = report["tried"]
    assert scheme.kind == INTEGERS
    assert list(tried) == [f"8, {Method(p)}" for p in PERCENTILES]
    best = max(found["same_class"] for found in tried.values())
    assert tried[f"8, {scheme.method}"]["same_class"] == best
    assert best < LEAST_SAME


def test_nothing_is_measured_where_there_is_no_choice() -> None:
    net = confident()
    builder = made(net)
    wanted = Scheme(method=Method(99.0), per_channel=True, signed=True)
    scheme, report = choose(builder, wanted, "fp32", judge(net, labels=False))
    assert scheme == Scheme(PRODUCTS, Method(99.0), per_channel=True, signed=True)
    assert report == {"state": "fp32"}
    scheme, report = choose(builder, wanted, "8", judge(net, labels=False))
    assert scheme == Scheme(INTEGERS, Method(99.0), per_channel=True, signed=True)
    assert report == {"state": "8"}


def test_what_was_asked_for_is_kept() -> None:
    """A percentile of one's own is the only one tried; signs and scales are those of all candidates."""
    net = confident()
    wanted = Scheme(method=Method(99.5), per_channel=True, signed=True)
    scheme, report = choose(made(net), wanted, "auto", judge(net, labels=False))
    tried: Any = report["tried"]
    assert list(tried) == ["8, percentile 99.5", "fp32, percentile 99.5"]
    assert (scheme.method, scheme.per_channel, scheme.signed) == (Method(99.5), True, True)


@pytest.mark.parametrize("state", ["16", "", "int8", "FP32"])
def test_an_unknown_width_is_refused(state: str) -> None:
    net = confident()
    with pytest.raises(ExportError, match=rf"unknown state width '{state}'; there are auto, 8, fp32\. 16 bits would"):
        choose(made(net), Scheme(), state, judge(net, labels=False))


@pytest.mark.parametrize("count", [1, 2048, 2049, 5000])
def test_few_windows_are_enough(count: int) -> None:
    x: Any = np.arange(count, dtype=np.float64)[:, np.newaxis, np.newaxis]
    thin = Judge(x, np.arange(count), "all").thinned()
    assert len(thin.x) <= WINDOWS
    assert len(thin.x) >= min(count, WINDOWS // 2)
    assert thin.x.dtype == np.float32
    assert thin.y is not None
    assert np.array_equal(thin.x[:, 0, 0], thin.y), "labels stay with their windows"
    assert thin.x[-1] >= 0.99 * (count - 1), "evenly spread"
