"""``fastzoo serve`` as a process: how it begins, how it is told to end, what it says when it cannot."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from runtime import toy
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import fastzoo
from fastzoo.cli import app
from fastzoo.errors import FastzooError
from fastzoo.model import Model

from .running import BINARY, HTTP, counted, predict, process, until


def failed(*arguments: str | Path) -> str:
    """The message of a command that must fail with an error of fastzoo's."""
    result = CliRunner().invoke(app, ["serve", *map(str, arguments)])
    assert isinstance(result.exception, FastzooError), (result.exception, result.output)
    return str(result.exception)


def test_a_signal_to_end_lets_the_queue_be_answered(folder: Path, model: Model) -> None:
    answers: list[httpx.Response] = []
    x = toy.windows(2)
    with process(f"{folder}", "--max-wait", "1500") as (running, url):
        name = "gru-toy-int8"
        served = Model(folder, "int8")
        thread = threading.Thread(target=lambda: answers.append(predict(url, served, x.tobytes(), BINARY, BINARY)))
        thread.start()
        until(lambda: counted(url)[f"fastzoo_queue_windows {name}"] == 2)
        running.send_signal(signal.SIGTERM)
        thread.join(20)
        assert running.wait(20) == 0
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.read() + running.stderr.read() == ""  # quiet
    assert [answer.content for answer in answers] == [served.predict_proba(x).tobytes()]


def test_open_streams_do_not_hold_up_the_end(folder: Path) -> None:
    with process(f"{folder}") as (running, url):
        with connect(f"{url.replace('http', 'ws', 1)}/models/gru-toy-int8/stream") as socket:
            socket.send("[[0, 0, 0]]")
            running.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012  # the service restarts
        assert running.wait(20) == 0


def results(url: str) -> float:
    return counted(url).get("fastzoo_stream_results_total gru-toy-int8", 0)


def later(url: str) -> float:
    time.sleep(0.5)
    return results(url)


def test_a_client_that_reads_nothing_holds_up_the_end_for_so_long_and_no_more(folder: Path) -> None:
    samples = 40_000
    head = (
        "GET /models/gru-toy-int8/stream?hop=1 HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    size = samples * 4 * toy.D
    with process(f"{folder}", "--stop-timeout", "1") as (running, url), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4) + bytes(size))
        until(lambda: 0 < results(url) == later(url))
        assert results(url) < samples - toy.T  # what is not read is not computed either
        stopped = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert 1 <= time.monotonic() - stopped < 5
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()


def test_ctrl_c_ends_it_as_it_ends_other_commands(folder: Path) -> None:
    with process(f"{folder}") as (running, url):
        assert HTTP.get(f"{url}/health").status_code == 200
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130


def test_a_unix_socket_left_behind_is_no_obstacle(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "fastzoo.sock"
    for end in (signal.SIGKILL, signal.SIGTERM):
        with process(f"{folder}", "--uds", str(path)) as (running, where):
            assert where == f"unix:{path}"
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://here/health").json()["models"] == ["gru-toy-int8"]
            running.send_signal(end)
            running.wait(20)
    assert not path.exists()


def test_the_token_of_the_environment_is_asked_for(folder: Path) -> None:
    with process(f"{folder}", FASTZOO_TOKEN="open sesame") as (_, url):
        assert HTTP.get(f"{url}/models").status_code == 401
        assert HTTP.get(f"{url}/models", headers={"Authorization": "Bearer open sesame"}).status_code == 200


def test_the_log_says_more_when_asked(folder: Path) -> None:
    with process(f"{folder}", "--log-level", "info") as (running, url):
        HTTP.get(f"{url}/health")
        running.send_signal(signal.SIGTERM)
        running.wait(20)
        assert running.stderr is not None
        assert "Application shutdown complete" in running.stderr.read()


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = failed(folder, "--port", str(port))
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; give another --host or --port" in message


def test_what_is_served_elsewhere_is_not_taken_over(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        assert "cannot listen on" in failed(folder, "--uds", path)
    assert path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--token"], "--token needs the token in the environment: FASTZOO_TOKEN=... fastzoo serve ..."),
        (["--log-level", "loud"], "no log level 'loud'; there are debug, info, warning, error"),
        (["--max-windows", "9000"], "a queue of 4096 windows cannot take a request of 9000"),
        (["--mqtt", "mqtt://here"], "--mqtt needs --mqtt-in and --mqtt-out"),
        (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid, port 8000"),
    ],
)
def test_options_that_make_no_sense(folder: Path, options: list[str], message: str) -> None:
    assert message in failed(folder, *options)


def test_an_unknown_model() -> None:
    assert "no model 'nobody' is registered" in failed("nobody")


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "websockets", "prometheus_client", "aiomqtt"])
def test_what_is_not_installed_is_named_with_its_extra(
    folder: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("fastzoo.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(fastzoo, "serve")
    monkeypatch.setitem(sys.modules, module, None)
    advice = 'which is not installed. Install it with: pip install "fastzoo[serve]"'
    assert failed(folder) == f"fastzoo serve needs {module}, {advice}"


def test_the_example_of_the_help_serves() -> None:
    text = CliRunner().invoke(app, ["serve", "--help"]).output
    example = re.search(r"Example: fastzoo serve (.*)", text)
    assert example
    with process(*example[1].split()) as (_, url):
        assert HTTP.get(f"{url}/health").json()["models"] == ["fastgrnn-har-int8"]
