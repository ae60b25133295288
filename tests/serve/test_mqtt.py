"""MQTT against a real broker: Mosquitto, which is killed and comes back."""

from __future__ import annotations

import json
import queue
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from runtime import toy

from fastzoo.errors import InputError
from fastzoo.events import Majority
from fastzoo.model import Model
from fastzoo.serve import Bridge, Limits, mqtt
from fastzoo.serve.mqtt import Broker
from fastzoo.serve.streams import Options

from .running import HTTP, counted, process, served, until

FOUND = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")

with_broker = pytest.mark.skipif(FOUND is None, reason="needs a broker: apt-get install mosquitto")


class Mosquitto:
    """A broker on a port of its own."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "user root"]  # else root becomes another user
        if password is None:
            lines.append("allow_anonymous true")
        else:
            passwords = folder / "passwords"
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "board", password], check=True)
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        self.configuration = folder / "mosquitto.conf"
        self.configuration.write_text("\n".join(lines) + "\n")
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert FOUND is not None
        self.process = subprocess.Popen(
            [FOUND, "-c", str(self.configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    yield made
    made.kill()


class Client:
    """A sensor and a listener in one."""

    def __init__(self, broker: Mosquitto, listens: str, password: str | None = None) -> None:
        self.messages: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        if password is not None:
            self.client.username_pw_set("board", password)
        self.client.on_message = lambda _, __, m: self.messages.put((m.topic, json.loads(m.payload)))
        subscribed: list[bool] = []
        self.client.on_subscribe = lambda *_: subscribed.append(True)
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        self.client.subscribe(listens)
        until(lambda: bool(subscribed))

    def send(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def received(self, count: int) -> list[tuple[str, Any]]:
        return [self.messages.get(timeout=20) for _ in range(count)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    made = Client(broker, "out/#")
    yield made
    made.close()


def bridge(broker: Mosquitto, **options: Any) -> Bridge:
    settings = {"source": "in/+", "target": "out/{topic}", "model": "gru-toy-fp32", "options": Options(hop=3)}
    return Bridge(broker.url, **{**settings, **options})


def connected(url: str) -> bool:
    return bool(HTTP.get(f"{url}/health").json()["mqtt"] == "connected")


def signal_of(samples: int, seed: int = 0) -> toy.Floats:
    return np.random.default_rng(seed).normal(size=(samples, toy.D)).astype(np.float32)


def expected(model: Model, rows: toy.Floats, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(result.to_dict())) for result in model.stream(**options).push(rows)]


@with_broker
def test_each_topic_is_a_stream(broker: Mosquitto, client: Client, model: Model) -> None:
    signals = {"in/arm": signal_of(60, 1), "in/leg": signal_of(60, 2)}
    with served(model, bridge=bridge(broker)) as url:
        until(lambda: connected(url))
        for piece in range(6):
            for topic, rows in signals.items():
                chunk = rows[10 * piece : 10 * piece + 10]
                client.send(topic, json.dumps(chunk.tolist()) if piece % 2 else chunk.astype("<f4").tobytes())
        results = {topic: expected(model, rows, hop=3) for topic, rows in signals.items()}
        found = client.received(sum(map(len, results.values())))
        until(lambda: counted(url)["fastzoo_mqtt_messages_total taken"] == 12)  # the last one after it was answered
    for topic in signals:
        assert [result for of, result in found if of == f"out/{topic}"] == results[topic]


@with_broker
def test_smoothing_is_an_option(broker: Mosquitto, client: Client, model: Model) -> None:
    rows = signal_of(40)
    options = Options(hop=4, smooth="majority:3")
    with served(model, bridge=bridge(broker, options=options, target="out/{model}")) as url:
        until(lambda: connected(url))
        client.send("in/a", rows.astype("<f4").tobytes())
        results = expected(model, rows, hop=4, smooth=Majority(3))
        assert client.received(len(results)) == [("out/gru-toy-fp32", result) for result in results]


@with_broker
def test_a_faulty_chunk_is_told_and_the_stream_begins_anew(broker: Mosquitto, client: Client, model: Model) -> None:
    rows = signal_of(8)
    with served(model, bridge=bridge(broker), limits=Limits(max_body=1000)) as url:
        until(lambda: connected(url))
        faults: dict[str | bytes, str] = {
            "[[1, 2]]": "the chunk has the shape [1, 2]",
            "[[1, 2, null]]": "the chunk must hold numbers only",
            "[": "the chunk is not JSON",
            b"\x00" * 7: "7 bytes are no float32 [n, 3]",
            b"\x00" * 1200: "the chunk has 1200 bytes; at most 1000 are taken",
        }
        for faulty, reason in faults.items():
            client.send("in/a", rows[:5].astype("<f4").tobytes())
            client.send("in/a", faulty)
            ((topic, message),) = client.received(1)
            assert topic == "out/in/a"
            assert reason in message["error"]
        client.send("in/a", rows.astype("<f4").tobytes())
        assert client.received(1) == [("out/in/a", expected(model, rows, hop=3)[0])]


@with_broker
def test_what_was_retained_is_no_part_of_a_stream(broker: Mosquitto, client: Client, model: Model) -> None:
    client.send("in/a", signal_of(30, 1).astype("<f4").tobytes(), retain=True)
    rows = signal_of(8)
    with served(model, bridge=bridge(broker)) as url:
        until(lambda: counted(url).get("fastzoo_mqtt_messages_total retained") == 1)
        client.send("in/a", rows.astype("<f4").tobytes())
        assert client.received(1) == [("out/in/a", expected(model, rows, hop=3)[0])]


@with_broker
def test_more_topics_than_streams_are_refused(broker: Mosquitto, client: Client, model: Model) -> None:
    rows = signal_of(8).astype("<f4").tobytes()
    with served(model, bridge=bridge(broker), limits=Limits(max_streams=2)) as url:
        until(lambda: connected(url))
        for topic in ("in/a", "in/b", "in/c", "in/a"):
            client.send(topic, rows)
        until(lambda: counted(url).get("fastzoo_mqtt_messages_total taken") == 3)
        assert counted(url)["fastzoo_mqtt_messages_total refused"] == 1
        assert counted(url)["fastzoo_open_streams gru-toy-fp32"] == 2


@with_broker
def test_no_window_bridges_what_was_lost_in_a_flood(
    broker: Mosquitto, client: Client, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "_WAITING", 3)
    rows = signal_of(2000)
    with served(model, bridge=bridge(broker, options=Options(hop=1))) as url:
        until(lambda: connected(url))
        for chunk in np.split(rows, 400):
            client.client.publish("in/a", chunk.astype("<f4").tobytes())
        until(lambda: counted(url).get("fastzoo_mqtt_messages_total lost", 0) > 0)
        client.send("in/b", rows[: toy.T].astype("<f4").tobytes())
        found: list[tuple[str, Any]] = []
        while not found or found[-1][0] != "out/in/b":
            found += client.received(1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, toy.T, axis=0).transpose(0, 2, 1)
    possible = {tuple(row) for row in model.predict_proba(windows).tolist()}
    assert 1 < len(found) < len(windows)
    assert all(tuple(result["probabilities"].values()) in possible for _, result in found)


@with_broker
def test_a_broker_that_goes_away_is_waited_for(broker: Mosquitto, model: Model) -> None:
    rows = signal_of(8)
    with served(model, bridge=bridge(broker)) as url:
        until(lambda: connected(url))
        sensor = Client(broker, "out/#")
        sensor.send("in/a", rows[:5].astype("<f4").tobytes())
        until(lambda: counted(url).get("fastzoo_mqtt_messages_total taken") == 1)
        sensor.close()
        broker.kill()
        until(lambda: not connected(url))
        assert counted(url)["fastzoo_mqtt_connected"] == 0
        time.sleep(1.2)  # attempts that fail
        broker.start()
        until(lambda: connected(url), 30)
        assert counted(url)["fastzoo_open_streams gru-toy-fp32"] == 0
        sensor = Client(broker, "out/#")
        sensor.send("in/a", rows.astype("<f4").tobytes())
        assert sensor.received(1) == [("out/in/a", expected(model, rows, hop=3)[0])]  # nothing of before
        sensor.close()


@with_broker
def test_the_command_takes_credentials_from_the_environment(tmp_path: Path, folder: Path) -> None:
    made = Mosquitto(tmp_path, "secret")
    options = ["--mqtt", made.url, "--mqtt-in", "in", "--mqtt-out", "out", "--mqtt-hop", "8"]
    try:
        with process(f"{folder}", *options, FASTZOO_MQTT_USERNAME="board", FASTZOO_MQTT_PASSWORD="secret") as (
            running, url,
        ):  # fmt: skip
            until(lambda: connected(url))
            sensor = Client(made, "out", "secret")
            sensor.send("in", signal_of(8).astype("<f4").tobytes())
            ((_, result),) = sensor.received(1)
            assert result["label"] in toy.LABELS
            sensor.close()
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        with process(f"{folder}", *options, FASTZOO_MQTT_USERNAME="board", FASTZOO_MQTT_PASSWORD="wrong") as (
            running, url,
        ):  # fmt: skip
            assert not connected(url)
            assert running.stderr is not None
            assert "Not authori" in running.stderr.readline()
    finally:
        made.kill()


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://here", Broker("here", 1883, False)),
        ("mqtts://here", Broker("here", 8883, True)),
        ("mqtt://[::1]:99/", Broker("::1", 99, False)),
    ],
)
def test_addresses_of_brokers(url: str, broker: Broker) -> None:
    assert Broker.parse(url) == broker


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("here:1883", "no broker 'here:1883'; give mqtt://host:1883"),
        ("http://here", "no broker"),
        ("mqtt://here:99999", "no broker"),
        ("mqtt://here/topic", "no broker"),
        ("mqtt://me:secret@here", "set FASTZOO_MQTT_USERNAME and FASTZOO_MQTT_PASSWORD instead"),
    ],
)
def test_what_is_no_broker(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Broker.parse(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("in", "in", "would come in again"),
        ("#", "out", "would come in again"),
        ("a/#", "a/{topic}", "would come in again"),
        ("in/#/x", "out", "MQTT topics 'in/#/x'"),
        ("in", "out/+", "MQTT topics 'in' and 'out/\\+'"),
        ("", "out", "MQTT topics ''"),
    ],
)
def test_topics_that_cannot_be(source: str, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bridge("mqtt://here", source, target, "gru-toy-fp32")


def test_the_model_of_the_bridge_must_be_served(model: Model) -> None:
    made = Bridge("mqtt://here", "in", "out", "nobody")
    with pytest.raises(InputError, match="MQTT's model 'nobody' is not served"), served(model, bridge=made):
        pass
