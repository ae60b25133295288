"""Sessions for small models on small machines: one thread, no spinning, verified bytes only.

A session is an ``onnxruntime.InferenceSession``, or where there is none, a :class:`fastzoo.interpreter.Session`.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastzoo.errors import BundleError, InputError, MissingExtraError

BACKENDS = ("onnxruntime", "numpy")

_SETTINGS = {  # a model of a few kilobytes is done before a second thread wakes up, and spinning drains batteries
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}
_ALLOWED = {"session.disable_quant_qdq"}  # what a bundle may set: entries exist that load code or files
_TELEMETRY = "ORT_DISABLE_TELEMETRY"  # asked once, when onnxruntime is imported
_SILENT = 4  # errors arrive as exceptions; printing them too says them twice

ANY = -1  # a size that the file alone knows
Shape = tuple[int | None, ...]  # None: the batch, whose size the file leaves open


_importing = threading.Lock()


def onnxruntime() -> Any:
    """The module onnxruntime, imported quietly.

    From 1.29 on, importing it starts a thread, writes a device id and a database into the user's cache, and reports
    to its makers. Not on our behalf: who wants that sets ``ORT_DISABLE_TELEMETRY=0``, or imports it first.
    """
    with _importing:  # else a second thread would take our setting for the user's
        ours = _TELEMETRY not in os.environ
        if ours:
            os.environ[_TELEMETRY] = "1"
        try:
            import onnxruntime  # here, because it takes as long to import as everything else together
        finally:
            if ours:
                del os.environ[_TELEMETRY]
    return onnxruntime


@dataclass(frozen=True)
class Contract:
    """The float32 tensors that a file must take and give."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]

    @classmethod
    def of_windows(cls, steps: int, channels: int, classes: int) -> Contract:
        """``x`` [N, steps, channels] -> ``logits`` [N, classes]"""
        return cls({"x": (None, steps, channels)}, {"logits": (None, classes)})

    @classmethod
    def of_steps(cls, channels: int, classes: int) -> Contract:
        """``x`` [N, channels], ``state`` [N, S] -> ``logits`` [N, classes], ``state_next`` [N, S]"""
        return cls(
            {"x": (None, channels), "state": (None, ANY)}, {"logits": (None, classes), "state_next": (None, ANY)}
        )


@dataclass(frozen=True)
class Backend:
    """What runs the files.

    Args:
        name: ``"onnxruntime"``, ``"numpy"``, or ``"auto"`` for the first of them that is installed.
        providers: onnxruntime's execution providers; None = the CPU.
        options: an ``onnxruntime.SessionOptions`` to use instead of one thread without spinning; what the bundle asks
            for is added to it.
    """

    name: str = "auto"
    providers: Sequence[Any] | None = None
    options: Any = None

    def __post_init__(self) -> None:
        if self.name not in ("auto", *BACKENDS):
            raise InputError(f"no backend {self.name!r}; there are auto, {', '.join(BACKENDS)}")
        if self.chosen == "numpy" and not (self.providers is None and self.options is None):
            raise InputError("providers and session_options are onnxruntime's; the NumPy backend takes neither")

    @property
    def chosen(self) -> str:
        """``"onnxruntime"`` or ``"numpy"``."""
        if self.name != "auto":
            return self.name
        return "onnxruntime" if importlib.util.find_spec("onnxruntime") else "numpy"

    def start(self, data: bytes, settings: Mapping[str, str], contract: Contract, path: Path) -> Any:
        """A session over the bytes of an ``.onnx`` file.

        Args:
            data: the verified content of the file.
            settings: session config entries that the bundle asks for.
            contract: what the bundle promises about inputs and outputs.
            path: names the file in messages.

        Raises:
            BundleError: it is no model, breaks the contract, or asks for a setting that is not allowed.
            MissingExtraError: onnxruntime was asked for and is not installed.
        """
        if refused := sorted(settings.keys() - _ALLOWED):
            raise BundleError(f"{path} asks for the session setting(s) {', '.join(refused)}, unknown to this fastzoo")
        try:
            session = self._interpreter(data) if self.chosen == "numpy" else self._onnxruntime(data, settings)
            found = {
                "input": {value.name: (value.type, value.shape) for value in session.get_inputs()},
                "output": {value.name: (value.type, value.shape) for value in session.get_outputs()},
            }
        except MissingExtraError:
            raise
        except Exception as error:  # onnxruntime has many exceptions, with no base of their own
            raise BundleError(f"{self.chosen} cannot load {path}: {_first_line(error)}") from error
        for side, wanted in {"input": contract.inputs, "output": contract.outputs}.items():
            if not _fits(found[side], wanted):
                raise BundleError(
                    f"{path} does not fit its bundle: its {side} is {found[side]}, "
                    f"where {_text(wanted)} of float32 was promised"
                )
        return session

    def _interpreter(self, data: bytes) -> Any:
        from fastzoo.interpreter import Session

        return Session(data)

    def _onnxruntime(self, data: bytes, settings: Mapping[str, str]) -> Any:
        try:
            runtime = onnxruntime()
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "the backend 'onnxruntime' needs onnxruntime, which is not installed. Install it with: "
                "pip install onnxruntime; or take backend='numpy'"
            ) from error
        options = self.options
        if options is None:
            options = runtime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
            options.log_severity_level = _SILENT
            settings = {**_SETTINGS, **settings}
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        providers = ["CPUExecutionProvider"] if self.providers is None else list(self.providers)
        # Without enable_fallback=0 a faulty model is tried twice, with a banner on standard output.
        return runtime.InferenceSession(data, options, providers, enable_fallback=0)


def run(session: Any, outputs: list[str], feeds: Mapping[str, Any], path: Path) -> list[Any]:
    """``session`` on ``feeds``, failures named as the bundle's."""
    try:
        results: list[Any] = session.run(outputs, feeds)
    except Exception as error:
        raise BundleError(f"cannot run {path}: {_first_line(error)}") from error
    return results


def _fits(found: Mapping[str, tuple[str, Any]], wanted: Mapping[str, Shape]) -> bool:
    """Exactly the values of these names; axes that the file leaves open fit any size."""
    if found.keys() != wanted.keys():
        return False
    for name, shape in wanted.items():
        kind, sizes = found[name]
        if kind != "tensor(float)" or len(sizes) != len(shape):
            return False
        pairs = zip(sizes, shape, strict=True)
        if any(isinstance(has, int) and size not in (has, ANY) for has, size in pairs):
            return False
    return True


def _text(values: Mapping[str, Shape]) -> str:
    letters = {None: "N", ANY: "S"}
    shapes = {name: ", ".join(letters.get(size, str(size)) for size in shape) for name, shape in values.items()}
    return " and ".join(f"{name} [{shape}]" for name, shape in shapes.items())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
