"""Which files can be made of a network: precisions x layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from fastzoo.errors import ExportError
from fastzoo.export.fused import fused, obstacle
from fastzoo.export.network import Floats, Network
from fastzoo.export.quantize import quantize_step, recurrent_inputs
from fastzoo.export.step import fastgrnn_step
from fastzoo.export.unrolled import unrolled

LAYOUTS = ("fused", "unrolled")
PRECISIONS = ("fp32", "int8")

WEIGHTS_ONLY = "weights int8 symmetric per tensor behind DequantizeLinear, arithmetic fp32"
STATIC = "recurrent products U8S8 QDQ (quantize_static, min-max), state fp32; other weights int8, arithmetic fp32"


@dataclass(frozen=True)
class Form:
    """How one file is made and run."""

    precision: str
    layout: str
    quantization: str = "none"
    session: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Its name in the bundle."""
        return f"{self.precision}-{self.layout}.onnx"


FORMS = (
    Form("fp32", "fused"),
    Form("fp32", "unrolled"),
    # Without the entry onnxruntime would dequantize the factors anew in every run.
    Form("int8", "fused", WEIGHTS_ONLY, {"session.disable_quant_qdq": "1"}),
    Form("int8", "unrolled", STATIC),
)


def forms(network: Network, layouts: tuple[str, ...] | None, precisions: tuple[str, ...]) -> list[Form]:
    """The files to make; ``layouts`` None = all that exist for this network.

    Raises:
        ExportError: a layout or precision is unknown, or a layout does not exist for this network.
    """
    for kind, wanted, known in (("layout", layouts or (), LAYOUTS), ("precision", precisions, PRECISIONS)):
        if unknown := [name for name in wanted if name not in known]:
            raise ExportError(f"unknown {kind} {', '.join(unknown)}; there are {', '.join(known)}")
    if not precisions:
        raise ExportError(f"no precision asked for; there are {', '.join(PRECISIONS)}")
    reason = obstacle(network.cell)
    if reason and layouts and "fused" in layouts:
        raise ExportError(f"the layout 'fused' does not exist for this model: {reason}. The layout 'unrolled' does.")
    existing = [name for name in LAYOUTS if not (reason and name == "fused")]
    return [form for form in FORMS if form.precision in precisions and form.layout in (layouts or existing)]


class Builder:
    """Makes the files of one network; the step is built, and quantized, once for all layouts."""

    def __init__(self, network: Network, calibration: Floats, inline: bool = False) -> None:
        self.network = network.unit_zeta()
        self.calibration, self.inline = calibration, inline
        self.step = fastgrnn_step(self.network.cell)
        self._quantized: onnx.ModelProto | None = None

    @property
    def quantized_step(self) -> onnx.ModelProto:
        """The QDQ step, calibrated on first use."""
        if self._quantized is None:
            x, h = recurrent_inputs(self.network, self.step, self.calibration)
            self._quantized = quantize_step(self.step, x, h)
        return self._quantized

    def build(self, form: Form) -> onnx.ModelProto:
        """The graph of one file."""
        int8 = form.precision == "int8"
        if form.layout == "fused":
            return fused(self.network, int8)
        return unrolled(self.network, self.quantized_step if int8 else self.step, self.inline, int8_head=int8)
