"""Export: a trained network becomes a bundle of verified ONNX files, fp32 and int8, in several layouts."""

from fastzoo import _session
from fastzoo.errors import require

for _module in ("torch", "onnx", "safetensors"):
    require(_module, extra="export", purpose="fastzoo.export")
_session.onnxruntime()  # before the modules below import it

from fastzoo.export.pipeline import export

__all__ = ["export"]
