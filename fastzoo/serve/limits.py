"""How much the service takes on, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from fastzoo._values import is_number, is_whole
from fastzoo.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What bounds the memory and the delays of the service.

    Args:
        max_body: bytes of a request, of a WebSocket message and of an MQTT message.
        max_windows: windows of one request.
        max_queue: windows of all requests that wait for one model.
        max_batch: windows that are computed at once.
        max_wait: milliseconds that a request waits for others to be computed with it; 0 = it takes those there are.
        max_streams: open streams, those of MQTT topics included.
        max_connections: open connections.
        body_timeout: seconds within which a request must have arrived.
        stop_timeout: seconds for the answers that are under way when the service is stopped.
    """

    max_body: int = 1 << 20
    max_windows: int = 1024
    max_queue: int = 4096
    max_batch: int = 64
    max_wait: float = 0.0
    max_streams: int = 64
    max_connections: int = 256
    body_timeout: float = 30.0
    stop_timeout: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value, whole = getattr(self, field.name), field.type == "int"
            if not (is_whole(value, 1, 1 << 40) if whole else is_number(value, 0, 1e6)):
                what = "a whole number, at least 1" if whole else "a number, at least 0"
                raise InputError(f"{field.name} must be {what}, not {value!r}")
        if self.max_queue < self.max_windows:
            raise InputError(
                f"a queue of {self.max_queue} windows cannot take a request of {self.max_windows}; "
                "lower max_windows or raise max_queue"
            )


class Refused(Exception):  # noqa: N818 - an answer, not a fault of the service
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        message: what was wrong, what was expected, what to do.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def busy(what: str) -> Refused:
    """The refusal of one request too many."""
    return Refused(503, f"{what}; try again in a second", {"Retry-After": "1"})
