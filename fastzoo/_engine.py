"""One opened ``.onnx`` file: windows in, logits out, whatever its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastzoo import _session
from fastzoo.errors import BundleError, InputError
from fastzoo.records import Bundle, LayoutFile

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Engine:
    """A session over one file of a bundle.

    Args:
        data: the verified content of the file.
        file: its record.
        layout: its layout.
        bundle: the bundle that it belongs to.
        path: where it lies, for messages.
        backend: what runs it.

    Raises:
        BundleError: the file does not fit the bundle, or cannot be loaded.
    """

    def __init__(
        self, data: bytes, file: LayoutFile, layout: str, bundle: Bundle, path: Path, backend: _session.Backend
    ) -> None:
        self.path, self.layout, self.pool = path, layout, bundle.pool
        self.classes, channels = len(bundle.labels), len(bundle.input.channels)
        if layout == "step":
            contract = _session.Contract.of_steps(channels, self.classes)
        else:
            contract = _session.Contract.of_windows(bundle.input.steps, channels, self.classes)
        self.session = backend.start(data, file.session, contract, path)

    def logits(self, samples: Floats, first: int = 0) -> Floats:
        """Logits [n, C] of ``samples`` [n, T, D], which are finite; the first window is number ``first``.

        Raises:
            BundleError: the file gives something else.
            InputError: the network overflows.
        """
        logits = self._stepwise(samples) if self.layout == "step" else self._windows(samples)
        if not np.isfinite(logits).all():
            window = int(np.argwhere(~np.isfinite(logits))[0, 0])
            raise InputError(
                f"the network overflows on window {first + window}, whose samples reach "
                f"{np.abs(samples[window]).max():g}; is x in the units that the channels name?"
            )
        return logits

    def _windows(self, samples: Floats) -> Floats:
        logits: Floats = _session.run(self.session, ["logits"], {"x": samples}, self.path)[0]
        if logits.shape != (len(samples), self.classes):
            raise BundleError(f"{self.path} gave logits {list(logits.shape)} for {len(samples)} window(s)")
        return logits

    def _stepwise(self, samples: Floats) -> Floats:
        count, steps, channels = samples.shape
        copies = Copies(self, count, channels)
        for step in range(steps):
            if step == steps - self.pool:
                copies.sums[:] = 0
            copies.advance(samples[:, step])
        return copies.means(slice(0, count))


class Copies:
    """Copies of the state of a ``step`` graph that advance together as one batch [K, S], and their logits summed.

    One copy alone is padded to two: products with a single row are rounded differently, and a window must get the same
    bits alone, among others, and over a stream.
    """

    def __init__(self, engine: Engine, count: int, channels: int) -> None:
        self.engine = engine
        (size,) = (value.shape[1] for value in engine.session.get_inputs() if value.name == "state")
        if not isinstance(size, int):
            raise BundleError(f"{engine.path} leaves the size of its state open; export the bundle again")
        rows = max(count, 2)
        self.x = np.zeros((rows, channels), np.float32)
        self.state = np.zeros((rows, size), np.float32)
        self.sums = np.zeros((rows, engine.classes))  # float64
        self._count = count

    def advance(self, x: Floats) -> None:
        """One step with ``x`` [K, D], or [D] for all copies alike."""
        self.x[: self._count] = x
        feeds = {"x": self.x, "state": self.state}
        logits, self.state = _session.run(self.engine.session, ["logits", "state_next"], feeds, self.engine.path)
        if logits.shape != self.sums.shape or self.state.shape != feeds["state"].shape:
            raise BundleError(f"{self.engine.path} gave {list(logits.shape)} and {list(self.state.shape)} in one step")
        self.sums += logits

    def means(self, copies: slice) -> Floats:
        """The logits [k, C] of copies whose last ``pool`` steps were summed."""
        means: Floats = (self.sums[copies] / self.engine.pool).astype(np.float32)
        return means
