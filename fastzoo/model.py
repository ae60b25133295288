"""Run one ``.onnx`` file of a bundle on windows of raw samples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo import _files, _session
from fastzoo.audio import LogMel
from fastzoo.bundle import parse, read_file, read_json
from fastzoo.entry import describe
from fastzoo.errors import BundleError, InputError
from fastzoo.records import Bundle
from fastzoo.samples import as_float32, as_windows, shortened

_CHUNK = 256  # windows per run: memory stays flat however long the recording


class Model:
    """A classifier of windows; :func:`fastzoo.load` finds and opens one.

    Args:
        folder: the bundle's folder.
        precision: one of the bundle's precisions, ``"fp32"`` or ``"int8"``.
        layout: ``"fused"``, ``"scan"``, ``"unrolled"``, or ``"auto"`` for the fastest one measured.

    Threads may share a model. It pickles as a reference to its folder, so the other side needs the same files there.

    Raises:
        BundleError: the bundle is faulty, lacks the layout, or its file is not what was promised.
    """

    def __init__(self, folder: str | os.PathLike[str], precision: str, layout: str = "auto") -> None:
        self._folder = Path(folder)
        text = read_json(folder)
        self._bundle = parse(text, folder)
        self._digest = _files.sha256(text)
        self._precision = precision
        self._layout = _choose(self._bundle, precision, layout)
        self._file = self._bundle.precisions[precision].layouts[self._layout]
        self._frontend = None if self._bundle.frontend is None else LogMel.of(self._bundle.frontend)
        self._session = self.start_session()

    def start_session(self) -> Any:
        """A fresh ``onnxruntime.InferenceSession`` over the verified file, set up as the model's own.

        Raises:
            BundleError: the file is missing, is not the recorded one, or does not fit the bundle.
        """
        expected = self._bundle.input
        contract = _session.Contract(expected.steps, len(expected.channels), len(self.labels))
        return _session.start(read_file(self._folder, self._file), self._file.session, contract, self.path)

    @property
    def session(self) -> Any:
        """The ``onnxruntime.InferenceSession`` in use: ``x`` [N, T, D] float32 -> ``logits`` [N, C]."""
        return self._session

    @property
    def name(self) -> str:
        """The name under which the model is, or would be, registered."""
        return self._bundle.model_name(self._precision)

    @property
    def labels(self) -> tuple[str, ...]:
        """The C class names, in the order of the columns of :meth:`predict_proba`."""
        return self._bundle.labels

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"int8"``."""
        return self._precision

    @property
    def layout(self) -> str:
        """The layout in use."""
        return self._layout

    @property
    def path(self) -> Path:
        """The ``.onnx`` file in use."""
        return self._folder / self._file.file

    @property
    def bundle(self) -> Bundle:
        """The whole bundle, with all its precisions and layouts."""
        return self._bundle

    @property
    def info(self) -> Mapping[str, Any]:
        """What a registry says about this model: input, sizes, metrics, licences (see ``fastzoo.info``). Read-only."""
        return MappingProxyType(describe(self._bundle, self._precision, self._folder.as_posix(), self._digest))

    @property
    def frontend(self) -> LogMel | None:
        """What makes windows from sound; None where the model takes other samples."""
        return self._frontend

    def features(self, audio: npt.ArrayLike, rate: float) -> npt.NDArray[np.float32]:
        """The window [T, D] of a sound, which :meth:`predict`, :meth:`predict_proba` and :meth:`logits` take.

        Args:
            audio: [n] or [n, channels], int16, or floats between -1 and 1; see :class:`fastzoo.audio.LogMel`.
            rate: samples per second of ``audio``; must be that of the front end.

        Raises:
            InputError: the model has no front end, or cannot take this sound.
        """
        if self._frontend is None:
            raise InputError(
                f"{self.name} takes no sound: its bundle has no front end. Give predict windows of "
                f"{len(self._bundle.input.channels)} channel(s): {shortened(self._bundle.input.channels)}"
            )
        return self._frontend(audio, rate)

    def logits(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The scores before softmax.

        Args:
            x: a window [T, D] or windows [N, T, D] of raw samples, in the units that ``info["input"]`` names.

        Returns:
            [C] or [N, C].

        Raises:
            InputError: wrong shape or type, no windows, NaN, infinity, or samples so large that the network overflows.
        """
        windows, single = as_windows(x, self._bundle.input)
        parts = [self._run(windows[first : first + _CHUNK], first) for first in range(0, len(windows), _CHUNK)]
        logits = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return logits[0] if single else logits

    def predict_proba(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The probability of each class, [C] or [N, C], columns in the order of :attr:`labels`; else as `logits`."""
        logits = self.logits(x)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities: npt.NDArray[np.float32] = odds / odds.sum(axis=-1, keepdims=True)
        return probabilities

    def predict(self, x: npt.ArrayLike) -> str | npt.NDArray[np.str_]:
        """The label of a window [T, D] as text, or of windows [N, T, D] as an array [N]; else as :meth:`logits`."""
        logits = self.logits(x)
        if logits.ndim == 1:
            return self.labels[int(logits.argmax())]
        labels: npt.NDArray[np.str_] = np.array(self.labels)[logits.argmax(axis=1)]
        return labels

    def _run(self, windows: npt.NDArray[Any], first: int) -> npt.NDArray[np.float32]:
        """Logits [n, C] of ``windows`` [n, T, D], the first of which is number ``first``."""
        samples = as_float32(windows, self._bundle.input, first)
        logits: npt.NDArray[np.float32] = _session.run(self._session, samples, self.path)
        if logits.shape != (len(samples), len(self.labels)):
            raise BundleError(f"{self.path} gave logits {list(logits.shape)} for {len(samples)} window(s)")
        if not np.isfinite(logits).all():
            window = int(np.argwhere(~np.isfinite(logits))[0, 0])
            raise InputError(
                f"the network overflows on window {first + window}, whose samples reach "
                f"{np.abs(samples[window]).max():g}; is x in the units that the channels name?"
            )
        return logits

    def __repr__(self) -> str:
        expected = self._bundle.input
        return (
            f"<fastzoo.Model {self.name}, {self._layout}: {expected.steps} steps x {len(expected.channels)} channels "
            f"at {expected.rate:g} Hz -> {len(self.labels)} labels>"
        )

    def __reduce__(self) -> tuple[type[Model], tuple[Path, str, str]]:
        return Model, (self._folder.resolve(), self._precision, self._layout)


def _choose(content: Bundle, precision: str, layout: str) -> str:
    """The layout to open, or the reason why there is none."""
    if precision not in content.precisions:
        raise BundleError(f"{content.name} has no precision {precision!r}, only {', '.join(content.precisions)}")
    available = [name for name in content.precisions[precision].layouts if name != "step"]
    if layout == "step":
        raise BundleError(f"the layout 'step' is for streams; for windows there is {', '.join(available) or 'none'}")
    chosen = content.fastest(precision) if layout == "auto" else layout
    if chosen not in available:
        name = content.model_name(precision)
        raise BundleError(f"{name} has no layout {layout!r} for windows, only {', '.join(available) or 'none'}")
    return chosen
