"""Bring a signal to another rate while it comes: the filter and the numbers of ``scipy.signal.resample_poly``.

That is what resampled the training data. soxr's stream was tried instead: of a signal of 100 samples/s it gives the
first sample of 50 after 10 to 19 s, because it works in blocks made for sound, and its state cannot be saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError, require

Doubles = npt.NDArray[np.float64]

LARGEST = 2000  # numerator and denominator of the ratio of rates
ZERO_CROSSINGS = 10  # of the filter, on each side of its middle; with the Kaiser window, as in resample_poly
BETA = 5.0


def delay(rate: float, target: float) -> float:
    """Seconds by which the resampled signal comes later: half the filter."""
    return 0.0 if rate == target else ZERO_CROSSINGS / min(rate, target)


class Resampler:
    """Causal polyphase resampling, the same to the last bit whatever the chunks.

    Sample k of the output belongs to the time k / target, and comes :func:`delay` seconds later. Before the first
    sample the signal is taken to have been what the first sample is.

    Args:
        rate: samples per second of the input.
        target: of the output.
        channels: D.

    Raises:
        InputError: the rates are in no ratio of small whole numbers.
        MissingExtraError: SciPy is not installed.
    """

    def __init__(self, rate: float, target: float, channels: int) -> None:
        ratio = Fraction(target / rate).limit_denominator(LARGEST)
        if not 0 < ratio <= LARGEST or abs(float(ratio) * rate / target - 1) > 1e-6:
            raise InputError(
                f"cannot resample from {rate:g} to {target:g} samples per second: their ratio must be one of whole "
                f"numbers up to {LARGEST}; round --rate"
            )
        signal = require("scipy.signal", "stream", f"Resampling from {rate:g} to {target:g} samples/s")
        self._upfirdn = signal.upfirdn
        self._up, self._down = self.ratio = ratio.numerator, ratio.denominator
        widest = max(self._up, self._down)
        self._half = ZERO_CROSSINGS * widest
        taps = signal.firwin(2 * self._half + 1, 1 / widest, window=("kaiser", BETA)) * self._up
        # A multiple of `down` upsampled positions before the middle, so that outputs fall on outputs.
        self._before = -self._half % self._down
        self._taps = np.concatenate([np.zeros(self._before), taps])
        self._channels = channels
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._held = np.empty((0, self._channels))  # the input from number `_first` on
        self._first = 0  # always a multiple of `down`
        self._made = 0  # outputs so far

    def push(self, rows: Doubles) -> Doubles:
        """The output [k, D] that can be told from the input so far, ``rows`` [n, D] the last of it."""
        if len(rows) == 0:
            return np.empty((0, self._channels))
        up, down, half = self._up, self._down, self._half
        if len(self._held) == 0:
            lead = down * -(-half // (up * down))
            self._held, self._first = np.repeat(rows[:1], lead, axis=0), -lead
        held = np.concatenate([self._held, rows])
        end = self._first + len(held)
        ready = max(self._made, -(-(end * up - half) // down))  # outputs whose last tap lies in the input
        made = np.empty((0, self._channels))
        if ready > self._made:
            shift = (half + self._before) // down - self._first // down * up
            made = self._upfirdn(self._taps, held, up, down, axis=0)[self._made + shift : ready + shift]
        needed = -(-(ready * down - half) // up)  # the first input that the next output needs
        first = max(self._first, needed // down * down)
        self._held, self._first, self._made = held[first - self._first :].copy(), first, ready
        return made

    @property
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that must outlive a restart."""
        return {"held": self._held.copy(), "counts": np.array([self._first, self._made, self._up, self._down])}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on where the resampler that gave ``state`` was.

        Raises:
            InputError: it resampled something else.
        """
        held, counts = state["held"], [int(value) for value in state["counts"]]
        if len(counts) != 4 or counts[2:] != [self._up, self._down] or held.shape[1:] != (self._channels,):
            raise InputError("the state is that of other rates or channels; begin without it")
        self._held, self._first, self._made = held.astype(np.float64), counts[0], counts[1]
