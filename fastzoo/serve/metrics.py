"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        model = ["model"]
        self.requests = Counter(
            "fastzoo_requests", "Requests to predict; model is empty where it is unknown.", ["model", "status"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "fastzoo_request_seconds", "From the request's head to its answer.", model, buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.windows = Counter("fastzoo_windows", "Windows predicted for requests.", model, registry=registry)
        self.batch = Histogram(
            "fastzoo_batch_windows", "Windows computed at once.", model, buckets=_WINDOWS, registry=registry
        )
        self.queue = Gauge("fastzoo_queue_windows", "Windows that wait or are computed.", model, registry=registry)
        self.streams = Gauge("fastzoo_open_streams", "Open streams.", model, registry=registry)
        self.results = Counter("fastzoo_stream_results", "Windows of streams.", model, registry=registry)
        self.late = Counter(
            "fastzoo_late_pushes", "Pieces of streams that took longer than their samples last.", model,
            registry=registry,
        )  # fmt: skip
        self.messages = Counter("fastzoo_mqtt_messages", "MQTT messages by what became of them.", ["outcome"],
                                registry=registry)  # fmt: skip
        self.connected = Gauge("fastzoo_mqtt_connected", "1 while the broker is connected.", registry=registry)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
