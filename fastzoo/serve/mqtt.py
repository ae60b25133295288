"""MQTT: each topic is a stream; chunks come in, results go out, and a broker that goes away is waited for."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiomqtt

from fastzoo.errors import InputError
from fastzoo.model import Model
from fastzoo.serve.limits import Limits, Refused
from fastzoo.serve.metrics import Metrics
from fastzoo.serve.streams import Options, Streams
from fastzoo.stream import Stream

log = logging.getLogger("fastzoo.serve")

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_WAITING, _WAITING_BODIES = 1024, 16  # messages that may wait; fewer, if they have more bytes than so many large ones
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds between two attempts to connect
_SILENCE = 300.0  # seconds after which a topic's stream makes room for another
_TEXT = re.compile(rb"\s*\[[\t\n\r -~]*")  # float32 are hardly ever printable from end to end


@dataclass(frozen=True)
class Broker:
    """Where a broker is."""

    host: str
    port: int
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> Broker:
        """``mqtt://host:1883``, or ``mqtts://`` for TLS.

        Raises:
            InputError: it is nothing of the kind.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise InputError(f"no broker {url!r}; give mqtt://host:1883, or mqtts://host:8883 for TLS")
        if parts.username is not None or parts.password is not None:
            raise InputError(
                "credentials in the broker's address can be seen by everybody on this machine; set "
                "FASTZOO_MQTT_USERNAME and FASTZOO_MQTT_PASSWORD instead"
            )
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts")


@dataclass
class Bridge:
    """Samples from a broker, results to it.

    Args:
        url: the broker, see :meth:`Broker.parse`.
        source: the topic, or with ``+`` and ``#`` the topics, of chunks.
        target: the topic of results; ``{topic}`` in it is the chunk's topic, ``{model}`` the model's name.
        model: the name of the model.
        options: how the streams are made.
        username: for the broker.
        password: for the broker.

    Raises:
        InputError: a topic or the address is none, or results would come in as chunks.
    """

    url: str
    source: str
    target: str
    model: str
    options: Options = field(default_factory=Options)
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._broker = Broker.parse(self.url)
        self._connected = False
        try:
            source = aiomqtt.Wildcard(self.source)
            heard = self.source.replace("+", "any").replace("#", "any")
            target = aiomqtt.Topic(self._target(heard))
        except ValueError as error:
            raise InputError(f"MQTT topics {self.source!r} and {self.target!r}: {error}") from None
        if target.matches(source):
            raise InputError(
                f"results on {self.target!r} would come in again as chunks of {self.source!r}; take another topic"
            )

    def _target(self, topic: str) -> str:
        return self.target.replace("{topic}", topic).replace("{model}", self.model)

    @property
    def status(self) -> str:
        """``"connected"`` or ``"disconnected"``."""
        return "connected" if self._connected else "disconnected"

    async def run(self, model: Model, streams: Streams, limits: Limits, metrics: Metrics) -> None:
        """Serve the broker until cancelled."""
        delay = _FIRST_DELAY
        while True:
            reached = False
            try:
                async with self._subscribed(_WAITING_BODIES * limits.max_body) as (client, overflow):
                    reached = True
                    log.info("connected to %s, listening to %s", self.url, self.source)
                    with self._told(metrics), _Topics(self, model, streams, limits, metrics, client) as topics:
                        async for message in client.messages:
                            if overflow.came_before(message):
                                log.warning("MQTT messages come faster than they are computed; streams begin anew")
                                metrics.messages.labels("lost").inc()
                                topics.reset()
                            await topics.take(message)
            except aiomqtt.MqttError as error:
                log.log(
                    logging.WARNING if reached or delay == _FIRST_DELAY else logging.INFO,
                    "no connection to %s (%s); trying again", self.url, error,
                )  # fmt: skip
            except Exception:
                log.exception("MQTT failed; trying again")
            delay = _FIRST_DELAY if reached else delay
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    @asynccontextmanager
    async def _subscribed(self, most: int) -> AsyncIterator[tuple[aiomqtt.Client, _Overflow]]:
        """A client that hears the chunks, of which so many bytes may wait."""
        overflow = _Overflow()

        class Inbox(asyncio.Queue[aiomqtt.Message]):
            """Full, it forgets all: what comes next is what a stream can begin anew with."""

            waiting = 0  # bytes

            def put_nowait(self, item: aiomqtt.Message) -> None:
                if self.qsize() >= _WAITING or self.waiting + _size(item) > most:
                    while not self.empty():
                        overflow.forget(self.get_nowait())
                    overflow.note(item)
                super().put_nowait(item)

            def _put(self, item: aiomqtt.Message) -> None:
                self.waiting += _size(item)
                super()._put(item)

            def _get(self) -> aiomqtt.Message:
                item = super()._get()
                self.waiting -= _size(item)
                return item

        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self.username,
            password=self.password,
            timeout=10,
            queue_type=Inbox,
            tls_params=aiomqtt.TLSParameters() if self._broker.encrypted else None,
        )
        async with client:
            await client.subscribe(self.source)
            yield client, overflow

    @contextmanager
    def _told(self, metrics: Metrics) -> Iterator[None]:
        """While this lasts, the service says that it is connected."""
        self._connected = True
        metrics.connected.set(1)
        try:
            yield
        finally:
            self._connected = False
            metrics.connected.set(0)

    async def publish(self, client: aiomqtt.Client, topic: str, document: object) -> None:
        """Say something about a topic's chunk."""
        await client.publish(self._target(topic), json.dumps(document))


class _Overflow:
    """Which messages are the first after others were lost.

    A flag would not do: a message from before the loss may have left the queue and wait to be taken.
    """

    def __init__(self) -> None:
        self._first: list[aiomqtt.Message] = []

    def note(self, message: aiomqtt.Message) -> None:
        """Messages were lost before this one."""
        self._first.append(message)

    def forget(self, message: aiomqtt.Message) -> None:
        """This one is lost itself."""
        self._first = [first for first in self._first if first is not message]

    def came_before(self, message: aiomqtt.Message) -> bool:
        """Whether messages were lost before this one; it is asked once."""
        lost = any(first is message for first in self._first)
        self.forget(message)
        return lost


@dataclass
class _Heard:
    """The stream of a topic."""

    stream: Stream
    open: ExitStack
    last: float = field(default_factory=time.monotonic)


class _Topics:
    """The streams of one connection: what is lost between two of them must not be bridged by a window."""

    def __init__(
        self, bridge: Bridge, model: Model, streams: Streams, limits: Limits, metrics: Metrics, client: aiomqtt.Client
    ) -> None:
        self._bridge, self._model, self._streams, self._client = bridge, model, streams, client
        self._limits, self._messages = limits, metrics.messages
        self._heard: dict[str, _Heard] = {}

    def __enter__(self) -> _Topics:
        return self

    def __exit__(self, *_: object) -> None:
        for heard in self._heard.values():
            heard.open.close()

    def reset(self) -> None:
        """All streams begin anew."""
        for heard in self._heard.values():
            heard.stream.reset()

    async def take(self, message: aiomqtt.Message) -> None:
        """Push a chunk, publish its results, or what is wrong with it."""
        topic = str(message.topic)
        if message.retain:  # of yesterday, perhaps; no part of what a sensor sends now
            self._messages.labels("retained").inc()
            return
        try:
            stream = self._stream(topic)
        except Refused as refusal:
            log.warning("a chunk of %s is refused: %s", topic, refusal)
            self._messages.labels("refused").inc()
            return
        try:
            chunk = _chunk(message.payload, self._limits.max_body)
            async for results in self._streams.push(stream, chunk):
                for result in results:
                    await self._bridge.publish(self._client, topic, result.to_dict())
            self._messages.labels("taken").inc()
        except InputError as error:
            stream.reset()  # its samples are missing now
            log.warning("a chunk of %s cannot be taken: %s", topic, error)
            self._messages.labels("faulty").inc()
            await self._bridge.publish(self._client, topic, {"error": str(error)})

    def _stream(self, topic: str) -> Stream:
        now = time.monotonic()
        if topic not in self._heard:
            for silent in [name for name, heard in self._heard.items() if now - heard.last > _SILENCE]:
                self._heard.pop(silent).open.close()
            stack = ExitStack()
            stream = stack.enter_context(self._streams.opened(self._model, self._bridge.options))
            self._heard[topic] = _Heard(stream, stack)
        self._heard[topic].last = now
        return self._heard[topic].stream


def _size(message: aiomqtt.Message) -> int:
    payload = message.payload
    return len(payload) if isinstance(payload, (bytes, bytearray)) else 0


def _chunk(payload: object, most: int) -> str | bytes:
    """JSON text, or bytes of float32."""
    data = payload if isinstance(payload, (bytes, bytearray)) else str(payload).encode()
    if len(data) > most:
        raise InputError(f"the chunk has {len(data)} bytes; at most {most} are taken, send shorter ones")
    return data.decode("ascii") if _TEXT.fullmatch(data) else bytes(data)
