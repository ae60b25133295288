"""Run one ``.onnx`` file of a bundle on windows of raw samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastzoo import _files
from fastzoo._deprecation import deprecated
from fastzoo._engine import Engine
from fastzoo._session import Backend
from fastzoo.audio import LogMel
from fastzoo.bundle import parse, read_file, read_json
from fastzoo.entry import describe
from fastzoo.errors import BundleError, InputError
from fastzoo.records import Bundle, FileRecord
from fastzoo.samples import as_float32, as_windows, shortened

if TYPE_CHECKING:
    from fastzoo.events import Events, Smoothing
    from fastzoo.stream import Stream

__all__ = ["Model"]

_CHUNK = 128  # windows per run: memory stays flat however long the recording
_MANY = 16  # windows from which `scan` is faster than `fused`: it multiplies all of a batch at once
_FOR_NUMPY = ("scan", "fused", "unrolled")  # best first; it multiplies the low rank as `scan` keeps it


class Model:
    """A classifier of windows; :func:`fastzoo.load` finds and opens one.

    Args:
        folder: the bundle's folder.
        precision: one of the bundle's precisions, ``"fp32"`` or ``"int8"``.
        layout: ``"fused"``, ``"scan"``, ``"unrolled"`` or ``"step"``; ``"auto"`` takes the fastest one measured, and
            ``scan`` for many windows at once, where both have the same numbers.
        backend: ``"onnxruntime"``, ``"numpy"``, or ``"auto"`` for the first of them that is installed.
        providers: execution providers for onnxruntime; None = the CPU.
        session_options: an ``onnxruntime.SessionOptions`` in place of one thread without spinning.
        fetch: brings a recorded file that is not in the folder yet.

    Threads may share a model, and a process that forks may go on with it. It pickles as a reference to its folder, so
    the other side needs the same bundle there; providers and session options are not pickled.

    Raises:
        BundleError: the bundle is faulty, lacks the layout, or its file is not what was promised.
        InputError: no such backend.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        precision: str,
        layout: str = "auto",
        backend: str = "auto",
        *,
        providers: Sequence[Any] | None = None,
        session_options: Any = None,
        fetch: Callable[[FileRecord], None] | None = None,
    ) -> None:
        self._folder = Path(folder)
        text = read_json(folder)
        self._bundle = parse(text, folder)
        self._digest = _files.sha256(text)
        self._precision = precision
        self._backend = Backend(backend, providers, session_options)
        self._fetch = fetch
        self._layout = _choose(self._bundle, precision, layout, self._backend.chosen)
        self._many = _layout_for_many(self._bundle, precision, self._layout) if layout == "auto" else self._layout
        self._frontend = None if self._bundle.frontend is None else LogMel.of(self._bundle.frontend)
        self._engines = {self._layout: self.open()}

    def open(self, layout: str | None = None) -> Engine:
        """The verified file of a layout, default the model's own, opened afresh.

        Raises:
            BundleError: the file is missing, is not the recorded one, or does not fit the bundle.
        """
        layout = layout or self._layout
        file = self._bundle.precisions[self._precision].layouts[layout]
        if self._fetch is not None:
            self._fetch(file)
        data = read_file(self._folder, file)
        return Engine(data, file, layout, self._bundle, self._folder / file.file, self._backend)

    @deprecated("use open().session")
    def start_session(self) -> Any:
        """A fresh session over the verified file of the model's own layout."""
        return self.open().session

    @property
    def session(self) -> Any:
        """The session in use, an ``onnxruntime.InferenceSession`` or its like in NumPy.

        ``x`` [N, T, D] float32 -> ``logits`` [N, C]; of the layout ``step``, ``x`` [N, D], ``state`` [N, S] ->
        ``logits`` [N, C], ``state_next`` [N, S].
        """
        return self.engine.session

    @property
    def engine(self) -> Engine:
        """The opened file: logits of windows, whatever its layout."""
        return self._engines[self._layout]

    @property
    def backend(self) -> str:
        """``"onnxruntime"`` or ``"numpy"``."""
        return self._backend.chosen

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
        return self.engine.path

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

    def engine_for(self, count: int) -> Engine:
        """What computes so many windows at once fastest; opened when it is first needed."""
        layout = self._many if count >= _MANY else self._layout
        if layout not in self._engines:
            self._engines[layout] = self.open(layout)  # two threads at once open it twice, which harms nobody
        return self._engines[layout]

    def logits(self, x: npt.ArrayLike, *, threads: int = 1, progress: bool = False) -> npt.NDArray[np.float32]:
        """The scores before softmax.

        Args:
            x: a window [T, D] or windows [N, T, D] of raw samples, in the units that ``info["input"]`` names.
            threads: how many parts of the windows are computed at a time.
            progress: show a bar on standard error.

        Returns:
            [C] or [N, C].

        Raises:
            InputError: wrong shape or type, no windows, NaN, infinity, or samples so large that the network overflows.
        """
        windows, single = as_windows(x, self._bundle.input)
        if threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        if len(windows) <= _CHUNK:
            logits = self._part(windows, 0, self.engine_for(len(windows)))
            return logits[0] if single else logits
        engine = self.engine_for(_CHUNK)
        starts = range(0, len(windows), _CHUNK)
        logits = np.empty((len(windows), len(self.labels)), np.float32)

        def run(first: int) -> None:
            logits[first : first + _CHUNK] = self._part(windows[first : first + _CHUNK], first, engine)

        with _progress(progress, len(starts)) as advance:
            for _ in _each(run, starts, threads):
                advance()
        return logits

    def predict_proba(self, x: npt.ArrayLike, *, threads: int = 1, progress: bool = False) -> npt.NDArray[np.float32]:
        """The probability of each class, [C] or [N, C], columns in the order of :attr:`labels`; else as `logits`."""
        return softmax(self.logits(x, threads=threads, progress=progress))

    def predict(self, x: npt.ArrayLike, *, threads: int = 1, progress: bool = False) -> str | npt.NDArray[np.str_]:
        """The label of a window [T, D] as text, or of windows [N, T, D] as an array [N]; else as :meth:`logits`."""
        logits = self.logits(x, threads=threads, progress=progress)
        if logits.ndim == 1:
            return self.labels[int(logits.argmax())]
        labels: npt.NDArray[np.str_] = np.array(self.labels)[logits.argmax(axis=1)]
        return labels

    def stream(
        self,
        hop: int | None = None,
        *,
        smooth: Smoothing | None = None,
        events: Events | None = None,
        latency_budget: float | None = None,
        sound: bool | None = None,
    ) -> Stream:
        """Classify an endless signal; each stream has a state of its own, and threads may each have one.

        Args:
            hop: samples (frames, where the model takes sound) from one window to the next; None = an eighth of one.
            smooth: how probabilities are smoothed over windows, e.g. ``fastzoo.events.Majority(5)``.
            events: when smoothed probabilities make events, e.g. ``fastzoo.events.Events(on=0.8)``.
            latency_budget: seconds after which a push counts as late; None = the time that its samples last.
            sound: take sound as :meth:`features` does; None = where the model has a front end.

        Raises:
            InputError: an option makes no sense for this model.
        """
        from fastzoo.stream import Stream

        return Stream(self, hop, smooth=smooth, events=events, latency_budget=latency_budget, sound=sound)

    def _part(self, windows: npt.NDArray[Any], first: int, engine: Engine) -> npt.NDArray[np.float32]:
        """Logits [n, C] of ``windows`` [n, T, D], the first of which is number ``first``."""
        return engine.logits(as_float32(windows, self._bundle.input, first), first)

    def __repr__(self) -> str:
        expected = self._bundle.input
        return (
            f"<fastzoo.Model {self.name}, {self._layout}: {expected.steps} steps x {len(expected.channels)} channels "
            f"at {expected.rate:g} Hz -> {len(self.labels)} labels>"
        )

    def __reduce__(self) -> tuple[Callable[[], Model], tuple[()], str]:
        layout = self._layout if self._many == self._layout else "auto"
        folder = self._folder.resolve()
        return partial(Model, folder, self._precision, layout, self._backend.name, fetch=self._fetch), (), self._digest

    def __setstate__(self, digest: str) -> None:
        if digest != self._digest:
            raise BundleError(f"{self._folder} holds another bundle than when {self.name} was pickled; load it by name")


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities [..., C] of ``logits`` [..., C]."""
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: npt.NDArray[np.float32] = odds / odds.sum(axis=-1, keepdims=True)
    return probabilities


def _choose(content: Bundle, precision: str, layout: str, backend: str) -> str:
    """The layout to open, or the reason why there is none."""
    if precision not in content.precisions:
        raise BundleError(f"{content.name} has no precision {precision!r}, only {', '.join(content.precisions)}")
    available = content.precisions[precision].layouts
    chosen: str | None = layout
    if layout == "auto" and backend == "numpy":
        chosen = next((name for name in _FOR_NUMPY if name in available), None)
    elif layout == "auto":
        chosen = content.fastest(precision)
    if chosen is None:
        chosen = "step"  # slow for windows, but right
    if chosen not in available:
        name = content.model_name(precision)
        raise BundleError(f"{name} has no layout {layout!r}, only {', '.join(available)}")
    return chosen


def _layout_for_many(content: Bundle, precision: str, chosen: str) -> str:
    """``scan`` for many windows, if its numbers are those of the layout for one."""
    layouts = content.precisions[precision].layouts
    if chosen == "fused" and "scan" in layouts and layouts["scan"].quantization == layouts["fused"].quantization:
        return "scan"
    return chosen


def _each(run: Callable[[int], None], starts: Sequence[int], threads: int) -> Iterator[None]:
    """``run`` on each of ``starts``, in so many threads; one item per part that is done."""
    if threads == 1:
        yield from map(run, starts)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, starts)


@contextmanager
def _progress(shown: bool, total: int) -> Iterator[Callable[[], None]]:
    """What to call after each of ``total`` parts."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda: bar.advance(task)
