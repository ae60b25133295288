"""How recordings are cut into windows: the options that `describe`, `prepare` and `train` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from fastzoo._values import is_number, is_whole
from fastzoo.errors import DataError

COLUMNS = ("time", "label", "group", "split", "recording")
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # of time, in seconds


@dataclass(frozen=True)
class Cut:
    """What a source does not say itself. Every field is an option of the command line and a key of a recipe's [data].

    Args:
        window: samples per window; tables need it.
        hop: samples from the start of a window to the start of the next; None = ``window``: they do not overlap.
        rate: samples per second, where there is no time column, or to hold the measured rate against.
        resample: bring every recording to so many samples per second.
        time: the column of times; None = one of the usual names, ``""`` = there is none. So for the next four.
        label: the column of classes; rows without a label are skipped.
        group: the column that says who or what was recorded; without one, each recording is a group.
        split: the column with ``train``, ``validation``, ``test``, or 0, 1, 2.
        recording: the column that tells recordings in one file apart, where neither time nor group does.
        channels: patterns for the columns of samples, ``"acc_*"``; none = every other column. The names, for ``.npy``.
        time_unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``, for times that are numbers.
        missing: ``"error"``, or ``"skip"``: a row that lacks a sample (empty, NaN, infinite) ends a segment.
        frontend: of sound: ``"kws12"``, or fields of :class:`fastzoo.audio.LogMel`, ``"bands=32, clip_s=1.5"``.
        input_dim: D of EdgeML's ``train.npy`` and ``test.npy``.
        test_fraction: share of the windows whose groups become the test split, where there is none.

    Raises:
        DataError: a value has the wrong type or is impossible; the message names all faults.
    """

    window: int | None = None
    hop: int | None = None
    rate: float | None = None
    resample: float | None = None
    time: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    recording: str | None = None
    channels: Sequence[str] = ()
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    missing: Literal["error", "skip"] = "error"
    frontend: str | None = None
    input_dim: int | None = None
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise DataError("cannot cut windows: " + "; ".join(faults))
        object.__setattr__(self, "channels", tuple(self.channels))

    def grid(self) -> tuple[int, int]:
        """Window and hop in samples.

        Raises:
            DataError: no window is given.
        """
        if self.window is None:
            raise DataError("how long is a window? Recordings are cut with --window SAMPLES (and --hop SAMPLES)")
        return self.window, self.hop or self.window

    def given(self) -> dict[str, Any]:
        """The fields that are not at their defaults."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def only(self, *usable: str, source: str) -> None:
        """Refuse what was given but means nothing for this kind of source; ``test_fraction`` is for all of them.

        Raises:
            DataError: names the options.
        """
        allowed = [f.name for f in fields(self) if f.name in (*usable, "test_fraction")]
        if useless := [option(name) for name in self.given() if name not in allowed]:
            raise DataError(
                f"{source} takes no {', '.join(useless)}, only {', '.join(map(option, allowed))}: leave it out"
            )


def option(name: str) -> str:
    """A field as the command line calls it."""
    return f"--{name.replace('_', '-')}"


def _faults(cut: Cut) -> list[str]:
    numbers = [(name, getattr(cut, name)) for name in ("rate", "resample", "test_fraction")]
    checks = [
        *(
            (name, is_whole(getattr(cut, name), 1), "a whole number of at least 1")
            for name in ("window", "hop", "input_dim")
        ),
        *((name, is_number(value) and value > 0, "a positive number") for name, value in numbers),
        *((name, isinstance(getattr(cut, name), str), "a column's name") for name in COLUMNS),
        ("time_unit", cut.time_unit in tuple(UNITS), "s, ms, us or ns"),
        ("test_fraction", not is_number(cut.test_fraction) or cut.test_fraction < 1, "less than 1"),
        ("frontend", isinstance(cut.frontend, str), "text"),
        ("missing", cut.missing in ("error", "skip"), "error or skip"),
        ("channels", _are_names(cut.channels), "a list of names or patterns"),
    ]
    given = ((name, good, wanted, getattr(cut, name)) for name, good, wanted in checks)
    return [
        f"{name} must be {wanted}, not {value!r}"
        for name, good, wanted, value in given
        if not good and value is not None
    ]


def _are_names(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) and name for name in value)
