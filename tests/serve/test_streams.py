"""Streams over WebSocket: what `model.stream` answers, in whatever chunks; errors are told before the end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime import toy
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import fastzoo
from fastzoo import bundle, events
from fastzoo.audio import LogMel
from fastzoo.model import Model
from fastzoo.serve import Limits

from .running import counted, served, until

LIMITS = Limits(max_streams=4, max_body=20_000)


@pytest.fixture(scope="module")
def url(model: Model) -> Iterator[str]:
    with served(model, limits=LIMITS) as address:
        yield address


def opened(url: str, query: str = "", name: str = "gru-toy-fp32", **options: Any) -> ClientConnection:
    client: ClientConnection = connect(f"{url.replace('http', 'ws', 1)}/models/{name}/stream?{query}", **options)
    return client


def signal(samples: int, seed: int = 0) -> toy.Floats:
    return np.random.default_rng(seed).normal(size=(samples, toy.D)).astype(np.float32)


def chunks(rows: toy.Floats, seed: int = 0) -> list[toy.Floats]:
    """``rows`` in pieces of any length, none included."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(rows), 12))
    return np.split(rows, cuts)


def expected(model: Model, rows: toy.Floats, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(result.to_dict())) for result in model.stream(**options).push(rows)]


def received(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(client.recv(20)) for _ in range(count)]


def refusal(client: ClientConnection) -> tuple[str, int]:
    """What was wrong, and the code of the close that follows."""
    message = json.loads(client.recv(20))["error"]
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(20)
    assert closed.value.rcvd is not None
    return message, closed.value.rcvd.code


@pytest.mark.parametrize("binary", [True, False])
def test_results_are_those_of_a_stream_in_whatever_chunks(url: str, model: Model, binary: bool) -> None:
    rows = signal(200)
    results = expected(model, rows, hop=3)
    with opened(url, "hop=3") as client:
        for chunk in chunks(rows):
            client.send(chunk.astype("<f4").tobytes() if binary else json.dumps(chunk.tolist()))
        assert received(client, len(results)) == results


def test_a_long_message_is_answered_whole(url: str, model: Model) -> None:
    rows = signal(1600)
    results = expected(model, rows, hop=1)
    with opened(url, "hop=1") as client:
        client.send(rows.astype("<f4").tobytes())
        assert received(client, len(results)) == results


def test_smoothing_and_events_are_asked_for_in_the_address(url: str, model: Model) -> None:
    rows = signal(300)
    options = {"smooth": events.Majority(3), "events": events.Events(0.6, 0.4)}
    results = expected(model, rows, hop=4, **options)
    assert any("events" in result for result in results)
    with opened(url, "hop=4&smooth=majority:3&events=0.6,0.4") as client:
        client.send(rows.astype("<f4").tobytes())
        assert received(client, len(results)) == results


def test_streams_side_by_side_do_not_meet(url: str, model: Model) -> None:
    wrong: list[int] = []

    def one(seed: int) -> None:
        rows = signal(400, seed)
        results = expected(model, rows, hop=5)
        with opened(url, "hop=5") as client:
            for chunk in chunks(rows, seed):
                client.send(chunk.astype("<f4").tobytes())
            if received(client, len(results)) != results:
                wrong.append(seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(LIMITS.max_streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_shipped_model_with_its_states_staggered() -> None:
    har = fastzoo.load("fastgrnn-har-int8", "step")
    rows = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    results = expected(har, rows, hop=16)
    with served(har) as url, opened(url, "hop=16", har.name) as client:
        for chunk in np.split(rows, 20):
            client.send(chunk.astype("<f4").tobytes())
        assert received(client, len(results)) == results


def test_a_model_that_hears_takes_sound(folder: Path) -> None:
    bundle.write(replace(bundle.read(folder), frontend=LogMel(rate=2000, hop_ms=20, bands=toy.D, clip_s=0.165)), folder)
    hearing = Model(folder, "fp32")
    sound = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
    floats = sound.astype("<f4") / 32768
    results = [json.loads(json.dumps(result.to_dict())) for result in hearing.stream(hop=2).push(sound)]
    with served(hearing) as url:
        for messages in (
            [chunk.tobytes() for chunk in np.split(floats, 20)],
            [json.dumps(chunk.tolist()) for chunk in np.split(floats, 20)],
        ):
            with opened(url, "hop=2") as client:
                for message in messages:
                    client.send(message)
                assert received(client, len(results)) == results


FAULTS: list[tuple[str | bytes, str]] = [
    ("{", "the chunk is not JSON"),
    ("[[NaN, 0, 0]]", "NaN is not JSON"),
    ('[["a", 0, 0]]', "the chunk must hold numbers only"),
    ("[[1, 2], [3]]", "the chunk cannot be made an array"),
    ("[[1, 2]]", "the chunk has the shape [1, 2]; a chunk of this stream is [n, 3]"),
    ("5", "the chunk has the shape []"),
    (bytes(10), "10 bytes are no float32 [n, 3]: the length must be a multiple of 12"),
    (np.array([0, np.inf, 0], "<f4").tobytes(), "the chunk holds inf in row 0, channel 'acc_y [g]'"),
]


@pytest.mark.parametrize(("message", "reason"), FAULTS)
def test_a_chunk_that_cannot_be_taken_ends_the_stream(url: str, message: str | bytes, reason: str) -> None:
    with opened(url) as client:
        client.send(message)
        said, code = refusal(client)
    assert reason in said
    assert code == 1007


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("hop=0", "hop"),
        ("hop=x", "hop must be a number of samples, not 'x'"),
        ("smooth=best:5", "no smoothing 'best:5'"),
        ("events=2", "events need 0 <= off <= on <= 1"),
        ("rate=50", "no option 'rate' of a stream; there are hop, smooth, events"),
    ],
)
def test_options_that_make_no_sense_are_told(url: str, query: str, reason: str) -> None:
    with opened(url, query) as client:
        said, code = refusal(client)
    assert reason in said
    assert code == 1007


def test_an_unknown_model_is_told(url: str) -> None:
    with opened(url, name="nobody") as client:
        assert refusal(client) == ("no model 'nobody' is served here; there are gru-toy-fp32", 1008)


def test_a_message_too_large_closes_the_stream(url: str) -> None:
    with opened(url) as client:
        client.send(bytes(LIMITS.max_body + 4))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def open_streams(url: str) -> float:
    return counted(url).get("fastzoo_open_streams gru-toy-fp32", 0)


def test_so_many_streams_and_no_more(url: str) -> None:
    until(lambda: open_streams(url) == 0)
    with ExitStack() as stack:
        for _ in range(LIMITS.max_streams):
            stack.enter_context(opened(url))
        until(lambda: open_streams(url) == LIMITS.max_streams)
        with opened(url) as client:
            said, code = refusal(client)
        assert said == "4 streams are open, and no more may be; try again in a second"
        assert code == 1013
    until(lambda: open_streams(url) == 0)
    with opened(url, "hop=1") as client:
        client.send(signal(toy.T).tobytes())
        assert len(received(client, 1)) == 1


def test_a_client_that_vanishes_frees_its_stream(url: str) -> None:
    until(lambda: open_streams(url) == 0)
    with opened(url) as client:
        until(lambda: open_streams(url) == 1)
        client.socket.shutdown(socket.SHUT_RDWR)  # without a word of WebSocket's
        until(lambda: open_streams(url) == 0)


def test_results_and_late_pushes_are_counted(model: Model) -> None:
    rows = signal(toy.T * 4)
    with served(model) as url:
        with opened(url, f"hop={toy.T}") as client:
            client.send(rows.tobytes())
            received(client, 4)
        metrics = counted(url)
    assert metrics["fastzoo_stream_results_total gru-toy-fp32"] == 4
    assert metrics["fastzoo_late_pushes_total gru-toy-fp32"] == 0  # 0.64 s of samples take no 0.64 s


def test_a_stream_asks_for_the_token(model: Model) -> None:
    with served(model, token="open sesame") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(InvalidStatus, match="403"):
                opened(url, additional_headers=headers)
        with opened(url, "hop=1", additional_headers={"Authorization": "Bearer open sesame"}) as client:
            client.send(signal(toy.T).tobytes())
            assert len(received(client, 1)) == 1
