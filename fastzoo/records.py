"""The records that make up ``bundle.json``, schema 1. Numbers nobody measured are absent (``None``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastzoo.frontend import FrontEnd

LAYOUTS = ("fused", "scan", "unrolled", "step")  # the order of preference where no latency is recorded
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Input:
    """What one window is: ``steps`` samples of every channel, ``rate`` samples per second, raw units."""

    steps: int  # T
    channels: tuple[str, ...]  # D names with units, "acc_x [g]"
    rate: float


@dataclass(frozen=True)
class Size:
    """What the network costs, whatever file it lies in; the figures of ``fastzoo.nn.model_size``."""

    parameters: int
    nonzeros: int | None = None
    dense_bytes: int | None = None
    sparse_bytes: int | None = None
    int8_bytes: int | None = None
    macs_per_step: int | None = None
    macs_per_window: int | None = None


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle and the content it must have."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ClassMetrics:
    """One class: of ``n`` windows ``recall`` were found; ``precision`` of those called so were right."""

    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """Accuracy and confusion on one split; rows of ``confusion`` are the true classes, in the order of the labels."""

    split: str
    n: int
    accuracy: float
    macro_f1: float
    per_class: Mapping[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Latency:
    """One window at a time on the machine ``Bundle.measured_on``, through ``Model`` and through the bare session."""

    p50_us: float
    p95_us: float
    load_ms: float
    session_p50_us: float | None = None


@dataclass(frozen=True)
class LayoutFile(FileRecord):
    """One ``.onnx`` file; ``session`` are the session config entries it must be run with."""

    ir_version: int
    opset: int
    operators: Mapping[str, int]
    quantization: str = "none"
    session: Mapping[str, str] = field(default_factory=dict)
    verification: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class CrossCheck:
    """The fastest layout on another data set, of which only people count who were not trained on."""

    layout: str
    split: str
    n: int
    accuracy: float
    macro_f1: float
    sha256: str  # of the data set
    variant: str | None = None


@dataclass(frozen=True)
class Precision:
    """The files of one precision; ``weights_bytes`` is what its weights take, without the graph around them."""

    weights_bytes: int
    layouts: Mapping[str, LayoutFile]
    cross_checks: Mapping[str, CrossCheck] | None = None  # by the id of the data set


@dataclass(frozen=True)
class Machine:
    """Where latencies were measured; ``board`` is what a person calls it."""

    cpu: str
    cores: int
    os: str
    python: str
    onnxruntime: str
    threads: int
    board: str | None = None


@dataclass(frozen=True)
class DatasetRecord:
    """What the network was trained and evaluated on."""

    id: str
    variant: str | None = None
    sha256: str | None = None
    licence: str | None = None
    citation: str | None = None


@dataclass(frozen=True)
class Licences:
    """The terms of the code, of the weights, and of the data behind them."""

    code: str
    weights: str
    data: str | None = None


@dataclass(frozen=True)
class Bundle:
    """All of ``bundle.json``. Fields typed ``Mapping[str, Any]`` are free: kept and shown, never interpreted."""

    name: str
    version: str
    summary: str
    cell: Mapping[str, Any]
    pool: int
    input: Input
    labels: tuple[str, ...]
    size: Size
    weights: FileRecord
    golden: FileRecord
    precisions: Mapping[str, Precision]
    licences: Licences
    seed_weights: FileRecord | None = None  # of all seeds that were trained, fp32
    frontend: FrontEnd | None = None  # where windows are made from sound
    sound: FileRecord | None = None  # the front end as a graph, audio [N, samples] -> x [N, T, D]
    headers: Mapping[str, FileRecord] = field(default_factory=dict)  # C headers, by precision
    citation: str | None = None
    measured_on: Machine | None = None
    dataset: DatasetRecord | None = None
    seeds: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    schema: int = 1

    def model_name(self, precision: str) -> str:
        """The name under which this bundle is registered in ``precision``."""
        return f"{self.name}-{precision}"

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file of the bundle but ``bundle.json`` itself."""
        layouts = (file for precision in self.precisions.values() for file in precision.layouts.values())
        some = (record for record in (self.seed_weights, self.sound) if record is not None)
        return (self.weights, self.golden, *layouts, *some, *self.headers.values())

    def fastest(self, precision: str) -> str | None:
        """The layout to run whole windows with: the fastest one measured, else the first of :data:`LAYOUTS`.

        ``step`` is for streams and never chosen; None if the bundle has nothing else.
        """
        layouts = self.precisions[precision].layouts
        timed = {
            name: file.latency.p50_us
            for name, file in layouts.items()
            if name != "step" and file.latency and file.verification
        }
        if timed:
            return min(timed, key=timed.__getitem__)
        return next((name for name in LAYOUTS if name in layouts and name != "step"), None)
