"""Which files can be made of a network: precisions x layouts, and how int8 is done in each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx

from fastzoo.errors import ExportError
from fastzoo.export.calibrate import Calibration, Method
from fastzoo.export.floats import FloatWriter, ProductWriter
from fastzoo.export.fused import fused
from fastzoo.export.integers import IntegerWriter
from fastzoo.export.lowering import lower, obstacle
from fastzoo.export.network import Cell, Floats, Network
from fastzoo.export.scan import scan
from fastzoo.export.signed import signed
from fastzoo.export.step import Step
from fastzoo.export.stepwise import stepwise
from fastzoo.export.unrolled import unrolled
from fastzoo.export.weights import Int8

LAYOUTS = ("fused", "scan", "unrolled", "step")
PRECISIONS = ("fp32", "int8")
WEIGHTS, PRODUCTS, INTEGERS = "weights", "products", "integers"


@dataclass(frozen=True)
class Scheme:
    """What is int8 in a file.

    Args:
        kind: ``"weights"``: the weights, arithmetic is fp32; ``"products"``: what the recurrent products read as well,
            the state stays fp32; ``"integers"``: all of the recurrence, with an 8-bit state.
        method: how ranges of activations are found.
        per_channel: a scale for each output channel of a matrix, not one for all.
        signed: activations are int8 (S8S8, the form that Arm and most accelerators run) and not uint8 (U8S8, which
            x86 runs).
    """

    kind: str = WEIGHTS
    method: Method = Method()  # noqa: RUF009
    per_channel: bool = False
    signed: bool = False

    @property
    def weights(self) -> Int8:
        """How the matrices are stored."""
        return Int8(self.per_channel)

    def __str__(self) -> str:
        scales = "per channel" if self.per_channel else "per tensor"
        if self.kind == WEIGHTS:
            return f"weights int8 symmetric {scales} behind DequantizeLinear, arithmetic fp32"
        form = "S8S8" if self.signed else "U8S8"
        if self.kind == PRODUCTS:
            what = f"recurrent products {form} QDQ, state fp32"
        else:
            what = f"recurrence in integers, {form} QDQ, state 8 bits"
        return f"{what} ({self.method}; weights symmetric {scales}); other weights int8, arithmetic fp32"

    @classmethod
    def read(cls, text: str) -> Scheme | None:
        """The scheme that a bundle's record of a file names; None for "none", a file in fp32.

        Raises:
            ExportError: no scheme of this version reads so.
        """
        if text == "none":
            return None
        percentile = re.search(r"percentile ([0-9.e-]+)[;)]", text)
        method = Method(float(percentile[1])) if percentile else Method()
        both = (False, True)
        for kind, per_channel, is_signed in itertools.product((WEIGHTS, PRODUCTS, INTEGERS), both, both):
            scheme = cls(kind, method, per_channel, is_signed)
            if str(scheme) == text:
                return scheme
        raise ExportError(f"this version of fastzoo makes no file with the quantization {text!r}; export it again")


@dataclass(frozen=True)
class Form:
    """How one file is made and run; no scheme: fp32."""

    precision: str
    layout: str
    scheme: Scheme | None = None

    @property
    def quantization(self) -> str:
        """For the record."""
        return "none" if self.scheme is None else str(self.scheme)

    @property
    def session(self) -> Mapping[str, str]:
        """Session entries to run it with: otherwise onnxruntime would dequantize the weights anew in every run."""
        weights_only = self.scheme is not None and self.scheme.kind == WEIGHTS
        return {"session.disable_quant_qdq": "1"} if weights_only else {}

    @property
    def file(self) -> str:
        """Its name in the bundle."""
        return f"{self.precision}-{self.layout}.onnx"


def obstacles(network: Network) -> dict[str, str]:
    """The layouts that do not exist for this network, and why."""
    found = {}
    network = network.unit_scale()
    for cell in network.cells:
        if reason := obstacle(cell):
            found["fused"] = reason
    if not found and any(len({_form(cell) for cell in layer}) > 1 for layer in network.layers):
        found["fused"] = "its two directions would be different operators: fix nu and zeta alike in both"
    if network.brick > 1:
        found["step"] = f"it reads {network.brick} samples in one step, and a stream brings one at a time"
    if network.directions > 1:
        found["step"] = "the backward direction begins at the end of the window, which a stream has not reached"
    return found


def _form(cell: Cell) -> tuple[str, int]:
    """The operator that a cell becomes, and the parts of its state."""
    lowered = lower(cell)
    return lowered.operator, len(lowered.read)


def forms(
    network: Network,
    layouts: tuple[str, ...] | None,
    precisions: tuple[str, ...],
    scheme: Scheme = Scheme(PRODUCTS),
    activations_in: tuple[str, ...] = ("unrolled",),
) -> list[Form]:
    """The files to make.

    Args:
        network: what they are made of.
        layouts: None = all that exist for this network.
        precisions: of :data:`PRECISIONS`.
        scheme: of the int8 files that quantize activations too.
        activations_in: the layouts of those. ``unrolled`` is for compilers and accelerators; in all others weights
            alone are int8, which is fastest on a CPU and loses least.

    Raises:
        ExportError: a layout or precision is unknown, or a layout does not exist for this network.
    """
    for kind, wanted, known in (("layout", layouts or (), LAYOUTS), ("precision", precisions, PRECISIONS)):
        if unknown := [name for name in wanted if name not in known]:
            raise ExportError(f"unknown {kind} {', '.join(unknown)}; there are {', '.join(known)}")
    if not precisions:
        raise ExportError(f"no precision asked for; there are {', '.join(PRECISIONS)}")
    missing = obstacles(network)
    existing = [name for name in LAYOUTS if name not in missing]
    for name in layouts or ():
        if name in missing:
            raise ExportError(
                f"the layout {name!r} does not exist for this model: {missing[name]}. There are {', '.join(existing)}."
            )
    chosen = [name for name in LAYOUTS if name in (layouts or existing)]
    weights = Scheme(per_channel=scheme.per_channel)
    return [
        Form(precision, layout, (scheme if layout in activations_in else weights) if precision == "int8" else None)
        for precision in PRECISIONS
        if precision in precisions
        for layout in chosen
    ]


@dataclass
class Builder:
    """Makes the files of one network; steps are written, and calibrated, once for all layouts.

    Args:
        network: what to build.
        windows: raw windows [n, T, D] on which ranges of activations are found.
        inline: write ``unrolled`` as a flat graph, for compilers without local functions.
    """

    network: Network
    windows: Floats
    inline: bool = False
    _steps: dict[Scheme | None, list[Step]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.network = self.network.unit_scale()

    def steps(self, scheme: Scheme | None) -> list[Step]:
        """The step of every cell."""
        own = scheme and replace(scheme, signed=False)
        if own not in self._steps:
            self._steps[own] = list(self._written(own))
        return self._steps[own]

    def build(self, form: Form) -> onnx.ModelProto:
        """The graph of one file."""
        int8 = form.scheme.weights if form.scheme else None
        if form.layout == "fused":
            return fused(self.network, int8)
        steps = self.steps(form.scheme)
        if form.layout == "unrolled":
            model = unrolled(self.network, steps, int8, self.inline)
        else:
            model = (scan if form.layout == "scan" else stepwise)(self.network, steps, int8)
        return signed(model) if form.scheme and form.scheme.signed else model

    def _written(self, scheme: Scheme | None) -> list[Step]:
        kind, named = scheme.kind if scheme else None, list(enumerate(self.network.cells))
        prefix = self.network.prefix
        if scheme is None or kind == WEIGHTS:
            int8 = scheme.weights if scheme else None
            return [FloatWriter(cell, prefix(i), int8).step() for i, cell in named]
        calibration = Calibration(self.network, self.windows, scheme.method)
        int8 = scheme.weights
        if kind == PRODUCTS:
            levels = [calibration.levels(i, FloatWriter(cell, prefix(i))) for i, cell in named]
            return [ProductWriter(cell, prefix(i), int8, levels[i]).step() for i, cell in named]
        levels = [calibration.levels(i, IntegerWriter(cell, prefix(i), int8, None)) for i, cell in named]
        return [IntegerWriter(cell, prefix(i), int8, levels[i]).step() for i, cell in named]
