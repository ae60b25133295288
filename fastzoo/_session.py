"""onnxruntime set up for small models on small machines: one thread, no spinning, verified bytes only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastzoo.errors import BundleError

_SETTINGS = {  # a model of a few kilobytes is done before a second thread wakes up, and spinning drains batteries
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}
_ALLOWED = {"session.disable_quant_qdq"}  # what a bundle may set: entries exist that load code or files
_SILENT = 4  # errors arrive as exceptions; printing them too says them twice


class Contract(NamedTuple):
    """What a file must take and give: ``x`` [N, steps, channels] float32 -> ``logits`` [N, classes] float32."""

    steps: int
    channels: int
    classes: int


def start(data: bytes, settings: Mapping[str, str], contract: Contract, path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` over the bytes of an ``.onnx`` file.

    Args:
        data: the verified content of the file.
        settings: session config entries that the bundle asks for.
        contract: what the bundle promises about input and output.
        path: names the file in messages.

    Raises:
        BundleError: it is no model, breaks the contract, or asks for a setting that is not allowed.
    """
    import onnxruntime  # here, because it takes as long to import as everything else together

    if refused := sorted(settings.keys() - _ALLOWED):
        raise BundleError(f"{path} asks for the session setting(s) {', '.join(refused)}, unknown to this fastzoo")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SILENT
    for key, value in {**_SETTINGS, **settings}.items():
        options.add_session_config_entry(key, value)
    try:
        # Without enable_fallback=0 a faulty model is tried twice, with a banner on standard output.
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"], enable_fallback=0)
        shapes = {
            "input": [(value.name, value.type, value.shape) for value in session.get_inputs()],
            "output": [(value.name, value.type, value.shape) for value in session.get_outputs()],
        }
    except Exception as error:  # onnxruntime has many exceptions, with no base of their own
        raise BundleError(f"onnxruntime cannot load {path}: {_first_line(error)}") from error
    wanted = {
        "input": ("x", (None, contract.steps, contract.channels)),
        "output": ("logits", (None, contract.classes)),
    }
    for side, (name, shape) in wanted.items():
        if not _fits(shapes[side], name, shape):
            text = ", ".join("N" if size is None else str(size) for size in shape)
            raise BundleError(
                f"{path} does not fit its bundle: its {side} is {shapes[side]}, "
                f"where one {name} [{text}] of float32 was promised"
            )
    return session


def run(session: Any, x: Any, path: Path) -> Any:
    """``session`` on ``x``, failures named as the bundle's."""
    try:
        return session.run(["logits"], {"x": x})[0]
    except Exception as error:
        raise BundleError(f"onnxruntime cannot run {path}: {_first_line(error)}") from error


def _fits(found: list[tuple[str, str, Any]], name: str, shape: tuple[int | None, ...]) -> bool:
    """Exactly one value of this name; axes that the file leaves open fit any size."""
    if [(value[0], value[1]) for value in found] != [(name, "tensor(float)")]:
        return False
    sizes = found[0][2]
    if len(sizes) != len(shape):
        return False
    return all(not isinstance(size, int) or size == wanted for size, wanted in zip(sizes, shape, strict=True))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
