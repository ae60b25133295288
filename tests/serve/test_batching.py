"""Requests that come together are computed together, and nobody notices from the answers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from runtime import toy

import fastzoo
from fastzoo.model import Model
from fastzoo.serve import Limits

from .running import BINARY, at_once, counted, predict, served, until

LAYOUTS = ("auto", "fused", "scan", "unrolled", "step")


def asking(url: str, model: Model, x: toy.Floats) -> Callable[[], httpx.Response]:
    return functools.partial(predict, url, model, x.astype("<f4").tobytes(), BINARY, BINARY)


def test_requests_at_once_are_computed_in_few_batches(model: Model) -> None:
    x = toy.windows(16)
    with served(model, limits=Limits(max_wait=500, max_batch=16)) as url:
        answers = at_once([asking(url, model, x[i : i + 1]) for i in range(16)])
        metrics = counted(url)
    assert b"".join(answer.content for answer in answers) == model.predict_proba(x).tobytes()
    assert metrics["fastzoo_batch_windows_sum gru-toy-fp32"] == 16
    assert metrics["fastzoo_batch_windows_count gru-toy-fp32"] <= 4


@pytest.mark.parametrize(("layout", "backend"), [*((layout, "onnxruntime") for layout in LAYOUTS), ("auto", "numpy")])
def test_company_changes_no_bit_of_an_answer(layout: str, backend: str) -> None:
    har = fastzoo.load("fastgrnn-har-int8", layout, backend=backend)
    rng = np.random.default_rng(0)
    asked = [rng.normal(size=(count, 128, 6)).astype(np.float32) for count in (1, 1, 2, 3, 7, 16, 20, 1)]
    with served(har, limits=Limits(max_wait=100)) as url:
        answers = at_once([asking(url, har, x) for x in asked])
    assert [answer.content for answer in answers] == [har.predict_proba(x).tobytes() for x in asked]


def test_a_batch_is_never_larger_than_allowed(model: Model) -> None:
    with served(model, limits=Limits(max_wait=200, max_batch=4)) as url:
        at_once([asking(url, model, toy.windows(3)) for _ in range(6)])
        metrics = counted(url)
    assert metrics["fastzoo_batch_windows_count gru-toy-fp32"] == 6


def test_a_window_that_overflows_the_network_fails_alone() -> None:
    har = fastzoo.load("fastgrnn-har-int8", "step")
    good = np.random.default_rng(0).normal(size=(2, 128, 6)).astype(np.float32)
    bad = np.full((1, 128, 6), 3e38, np.float32)
    with served(har, limits=Limits(max_wait=500, max_batch=5)) as url:
        answers = at_once([asking(url, har, x) for x in (good, bad, good)])
        assert counted(url)["fastzoo_batch_windows_count fastgrnn-har-int8"] < 3
    assert [answer.status_code for answer in answers] == [200, 400, 200]
    assert answers[0].content == answers[2].content == har.predict_proba(good).tobytes()
    assert "the network overflows on window 0" in answers[1].json()["error"]


def test_one_too_many_is_told_to_come_back(model: Model) -> None:
    limits = Limits(max_wait=1500, max_windows=4, max_queue=4)
    with served(model, limits=limits) as url:

        def second() -> httpx.Response:
            until(lambda: counted(url)["fastzoo_queue_windows gru-toy-fp32"] == 4)
            return asking(url, model, toy.windows(1))()

        first, refused = at_once([asking(url, model, toy.windows(4)), second])
        again = asking(url, model, toy.windows(1))()
    assert (first.status_code, refused.status_code, again.status_code) == (200, 503, 200)
    assert refused.headers["retry-after"] == "1"
    assert "4 windows wait already, of 4 that may" in refused.json()["error"]


def test_many_clients_each_get_their_own_answers(model: Model) -> None:
    x = toy.windows(40 * 5).reshape(40, 5, toy.T, toy.D)

    def client(own: toy.Floats) -> httpx.Response:
        for i in range(5):
            answer = asking(url, model, own[i : i + 1])()
            assert answer.content == model.predict_proba(own[i : i + 1]).tobytes()
        return answer

    with served(model) as url:
        at_once([functools.partial(client, own) for own in x])
        metrics = counted(url)
    assert metrics["fastzoo_requests_total gru-toy-fp32 200"] == 200
    assert metrics["fastzoo_queue_windows gru-toy-fp32"] == 0
