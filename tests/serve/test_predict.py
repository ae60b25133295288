"""POST a window: the answer of the model to the last bit, or a clear refusal."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime import toy

import fastzoo
from fastzoo.errors import InputError
from fastzoo.model import Model
from fastzoo.serve import Limits, create_app

from .running import BINARY, HTTP, JSON, NPY, counted, predict, served

LIMITS = Limits(max_body=50_000, max_windows=100, body_timeout=1.0)


@pytest.fixture(scope="module")
def url(model: Model) -> Iterator[str]:
    with served(model, limits=LIMITS) as address:
        yield address


@pytest.fixture(scope="module")
def har() -> Model:
    return fastzoo.load("fastgrnn-har-int8")


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def probabilities(answer: httpx.Response) -> npt.NDArray[np.float32]:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == BINARY:
        return np.frombuffer(answer.content, "<f4").reshape(-1, toy.C)
    return np.array(answer.json()["probabilities"], np.float32)


@pytest.mark.parametrize("count", [1, 2, 17, 100])
@pytest.mark.parametrize("accept", [JSON, BINARY])
def test_answers_are_those_of_the_model_to_the_last_bit(url: str, model: Model, count: int, accept: str) -> None:
    x = toy.windows(count)
    expected = model.predict_proba(x)
    for content, kind in (
        (x.astype("<f4").tobytes(), BINARY), (npy(x), NPY), (json.dumps({"x": x.tolist()}).encode(), JSON)
    ):  # fmt: skip
        if len(content) <= LIMITS.max_body:
            np.testing.assert_array_equal(probabilities(predict(url, model, content, kind, accept)), expected)


def test_json_names_labels_and_classes(url: str, model: Model) -> None:
    x = toy.windows(5)
    answer = predict(url, model, x.tobytes(), BINARY).json()
    assert answer["model"] == model.name
    assert answer["classes"] == list(toy.LABELS)
    assert answer["labels"] == list(model.predict(x))


def test_a_single_window_is_several_of_one(url: str, model: Model) -> None:
    x = toy.windows(1)[0]
    for content, kind in ((json.dumps({"x": x.tolist()}).encode(), ""), (npy(x), NPY)):
        np.testing.assert_array_equal(probabilities(predict(url, model, content, kind))[0], model.predict_proba(x))


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2", "|u1"])
def test_npy_of_any_numbers_in_any_order(url: str, model: Model, dtype: str) -> None:
    x = np.asfortranarray((10 * np.abs(toy.windows(4))).astype(dtype))
    np.testing.assert_array_equal(probabilities(predict(url, model, npy(x), NPY)), model.predict_proba(x))


@pytest.mark.parametrize("count", [1, 15, 16, 40, 200])
def test_a_shipped_model_answers_alike_however_many_windows(har: Model, count: int) -> None:
    x = np.random.default_rng(count).normal(size=(count, 128, 6)).astype("<f4")
    with served(har) as address:
        answer = predict(address, har, x.tobytes(), BINARY, BINARY)
    assert answer.content == har.predict_proba(x).tobytes()


GOOD = toy.windows(1).tolist()
HUGE_HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999, 8, 3), }"
FAULTS = {
    "no JSON": (b"{x: 1}", JSON, 400, "the body is not JSON"),
    "no x": (b"[1, 2]", JSON, 400, 'the body must be {"x": ...}'),
    "NaN in JSON": (b'{"x": [[NaN]]}', JSON, 400, "NaN is not JSON"),
    "infinity by size": (b'{"x": [[[1e999, 0, 0]]]}', JSON, 400, "x has the shape"),
    "text": (b'{"x": [["a", "b"]]}', JSON, 400, "x must hold numbers only"),
    "truth values": (b'{"x": [[true]]}', JSON, 400, "x must hold numbers only"),
    "ragged": (b'{"x": [[1, 2], [3]]}', JSON, 400, "x cannot be made an array"),
    "deep": (b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}", JSON, 400, ""),
    "not UTF-8": (b"\xff\xfe", JSON, 400, "the body is not JSON"),
    "empty": (b"", JSON, 400, "the body is not JSON"),
    "no windows": (b'{"x": []}', JSON, 400, "x has the shape [0]"),
    "wrong shape": (json.dumps({"x": [GOOD[0][:5]]}).encode(), JSON, 400, "this model takes windows of 8 steps"),
    "half a window": (bytes(50), BINARY, 400, "a window of 8 steps and 3 channel(s) of float32 has 96"),
    "no bytes": (b"", BINARY, 400, "the body has 0 bytes"),
    "NaN": (np.full((2, 8, 3), np.nan, "<f4").tobytes(), BINARY, 400, "x holds nan in window 0, step 0"),
    "no npy": (b"\x93NUMPY", NPY, 400, "the body is no .npy"),
    "half an npy": (npy(toy.windows(1))[:-4], NPY, 400, "it promises float32 [1, 8, 3]"),
    "a pickle": (npy(np.array([{"a": 1}])), NPY, 400, "the body is no .npy of numbers"),
    "complex": (npy(np.zeros((1, 8, 3), complex)), NPY, 400, "the body is no .npy of numbers"),
    "an npy that promises gigabytes": (
        b"\x93NUMPY\x01\x00" + len(HUGE_HEADER).to_bytes(2, "little") + HUGE_HEADER + bytes(96), NPY, 400,
        "it promises float32 [999999999, 8, 3]",
    ),
    "an npy of Python 2": (
        b"\x93NUMPY\x01\x00" + (len(HUGE_HEADER) + 1).to_bytes(2, "little") + HUGE_HEADER.replace(b"99,", b"99L,"),
        NPY, 400, "the body is no .npy",
    ),
    "an npy of the future": (b"\x93NUMPY\x07\x00" + bytes(90), NPY, 400, "version"),
    "too many windows": (bytes(96 * 101), BINARY, 413, "101 windows at once; at most 100 are taken"),
    "too many bytes": (bytes(50_001), BINARY, 413, "the body has more than 50000 bytes"),
    "unknown type": (b"1,2", "text/csv", 415, "bodies of type 'text/csv' are not read"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_taken_is_said_in_json(url: str, model: Model, fault: str) -> None:
    content, kind, status, message = FAULTS[fault]
    answer = predict(url, model, content, kind)
    assert (answer.status_code, answer.headers["content-type"]) == (status, JSON), answer.text
    assert message in answer.json()["error"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(url: str, model: Model) -> None:
    endless = (bytes(10_000) for _ in range(200))
    answer = HTTP.post(f"{url}/models/{model.name}/predict", content=endless, headers={"Content-Type": BINARY})
    assert answer.status_code == 413
    assert HTTP.get(f"{url}/health").status_code == 200


def test_a_body_that_does_not_arrive_is_not_waited_for(url: str, model: Model) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.create_connection((parts.hostname, parts.port)) as client:
        begin = time.monotonic()
        client.sendall(f"POST /models/{model.name}/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n[".encode())
        answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert LIMITS.body_timeout <= time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/models/nobody/predict", 404, "no model 'nobody' is served here; there are gru-toy-fp32"),
        ("GET", "/models/nobody", 404, "no model 'nobody' is served here"),
        ("GET", "/models/gru-toy-fp32/predict", 405, "Method Not Allowed"),
        ("GET", "/nowhere", 404, "Not Found"),
    ],
)
def test_wrong_addresses_are_said_in_json(url: str, method: str, path: str, status: int, message: str) -> None:
    answer = HTTP.request(method, url + path)
    assert answer.status_code == status
    assert message in answer.json()["error"]


bodies = st.one_of(
    st.binary(max_size=600),
    st.binary(max_size=120).map(lambda rest: npy(toy.windows(1))[:80] + rest),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.just("x"), inner, max_size=1),
        max_leaves=40,
    ).map(lambda value: json.dumps({"x": value}).encode()),
)


@given(bodies, st.sampled_from([JSON, BINARY, NPY, "", "text/plain", "application/json; charset=latin-1"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_bodies_get_an_answer_or_a_reason(url: str, model: Model, body: bytes, kind: str) -> None:
    answer = HTTP.post(f"{url}/models/{model.name}/predict", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (200, 400, 415), answer.text
    assert ("labels" if answer.status_code == 200 else "error") in answer.json()


def test_models_are_told_without_their_folder(url: str, model: Model) -> None:
    (summary,) = HTTP.get(f"{url}/models").json()
    assert summary["name"] == model.name
    assert summary["input"]["channels"] == list(toy.CHANNELS)
    whole = HTTP.get(f"{url}/models/{model.name}").json()
    assert whole["licences"] == model.info["licences"]
    assert whole["layout"] == "fused"
    assert str(model.path.parent) not in json.dumps(whole)


def test_health_says_what_runs(url: str, model: Model) -> None:
    expected = {"status": "ok", "version": fastzoo.__version__, "models": [model.name]}
    assert HTTP.get(f"{url}/health").json() == expected


def test_openapi_describes_bodies_whose_examples_are_taken(url: str) -> None:
    document = HTTP.get(f"{url}/openapi.json").json()
    assert set(document["paths"]) == {"/health", "/metrics", "/models", "/models/{name}", "/models/{name}/predict"}
    predicting = document["paths"]["/models/{name}/predict"]["post"]
    content = predicting["requestBody"]["content"]
    assert set(content) == {JSON, BINARY, NPY}
    assert set(predicting["responses"]) >= {"200", "400", "401", "404", "408", "413", "415", "503"}
    assert set(predicting["responses"]["200"]["content"]) == {JSON, BINARY}
    for count, example in enumerate(content[JSON]["examples"].values(), 1):
        answer = HTTP.post(f"{url}/models/gru-toy-fp32/predict", json=example["value"])
        assert len(answer.json()["labels"]) == count
    references = json.dumps(document).split('"$ref": "#/components/schemas/')[1:]
    assert {text.split('"')[0] for text in references} <= set(document["components"]["schemas"])
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_requests_are_counted_by_model_and_status(model: Model) -> None:
    with served(model) as url:
        predict(url, model, toy.windows(3).tobytes(), BINARY)
        predict(url, model, b"", BINARY)
        HTTP.post(f"{url}/models/nobody/predict")
        metrics = counted(url)
    assert metrics["fastzoo_requests_total gru-toy-fp32 200"] == 1
    assert metrics["fastzoo_requests_total gru-toy-fp32 400"] == 1
    assert metrics["fastzoo_requests_total  404"] == 1
    assert metrics["fastzoo_windows_total gru-toy-fp32"] == 3
    assert metrics["fastzoo_request_seconds_count gru-toy-fp32"] == 2
    assert metrics["fastzoo_queue_windows gru-toy-fp32"] == 0
    assert metrics["process_resident_memory_bytes"] > 1e7


@pytest.mark.parametrize("path", ["/models", "/models/gru-toy-fp32", "/metrics"])
def test_a_token_is_asked_for(model: Model, path: str) -> None:
    with served(model, token="open sesame") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic open sesame"}):
            answer = HTTP.get(url + path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "a token is needed" in answer.json()["error"]
        assert HTTP.get(url + path, headers={"Authorization": "Bearer open sesame"}).status_code == 200
        assert predict(url, model, toy.windows(1).tobytes(), BINARY).status_code == 401
        assert HTTP.get(f"{url}/health").status_code == 200


def test_several_models_are_served_side_by_side(model: Model, toy_folder: Path) -> None:
    other = Model(toy_folder, "int8")
    x = toy.windows(6)
    with served(model, other) as url:
        for one in (model, other):
            answer = predict(url, one, x.tobytes(), BINARY, BINARY)
            assert answer.content == one.predict_proba(x).tobytes()


def test_a_service_needs_models_of_different_names_and_a_token_that_is_one(model: Model) -> None:
    with pytest.raises(InputError, match="gru-toy-fp32 is given twice"):
        create_app([model, model])
    with pytest.raises(InputError, match="a service needs a model"):
        create_app([])
    with pytest.raises(InputError, match="the token is empty"):
        create_app([model], token=" ")


@pytest.mark.parametrize("wrong", [{"max_body": 0}, {"max_wait": -1}, {"max_batch": 1.5}, {"max_queue": 10}])
def test_limits_must_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)) if "max_queue" not in wrong else "a queue of 10 windows"):
        Limits(**wrong)
