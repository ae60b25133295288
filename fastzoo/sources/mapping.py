"""Which column of the sensor is which channel of the model, and what it must be multiplied by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastzoo.errors import InputError
from fastzoo.samples import shortened
from fastzoo.sources.units import converter, split_unit

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """The columns of one source: D of them are channels, one may be the time."""

    columns: tuple[int, ...]
    time: int | None
    factors: Doubles | None  # [D]; None where nothing is to be converted: the samples stay what they are to the bit
    offsets: Doubles | None

    def __call__(self, rows: Doubles) -> tuple[Doubles, Doubles | None]:
        """Samples [n, D] in the model's units, and the time column [n], of ``rows`` [n, columns]."""
        values = rows if self.columns == tuple(range(rows.shape[1])) else rows[:, list(self.columns)]
        if self.factors is not None and self.offsets is not None:
            values = values * self.factors + self.offsets
        return values, None if self.time is None else rows[:, self.time]


class Columns:
    """What the options say of the columns, before they are known.

    Args:
        channels: of the model, "acc_x [g]"; ``("sound",)`` where it takes sound.
        maps: column of the sensor -> channel of the model.
        units: channel, or beginning of channels' names, or "" for all -> unit that the sensor delivers.
        time: the column of time stamps, by name, or by number from 1 where there are no names.
        names: the columns' names, where the source itself has none.

    Raises:
        InputError: a channel or unit is unknown, or does not fit.
    """

    def __init__(
        self,
        channels: Sequence[str],
        maps: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        time: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.channels, self.time, self.names = tuple(channels), time, None if names is None else tuple(names)
        self._bare = [split_unit(channel)[0].lower() for channel in self.channels]
        self._maps: dict[str, str] = {}  # bare channel -> column
        for column, channel in (maps or {}).items():
            bare = split_unit(channel)[0].lower()
            if bare not in self._bare:
                raise InputError(
                    f"--map {column}={channel}: the model has no channel {channel!r}, only {self._listed}; "
                    "it is --map COLUMN_OF_THE_SENSOR=CHANNEL_OF_THE_MODEL"
                )
            if bare in self._maps:
                raise InputError(f"--map names two columns for {channel!r}: {self._maps[bare]!r} and {column!r}")
            self._maps[bare] = column
        self._units = [self._unit_of(channel, units or {}) for channel in self._bare]
        for key, unit in (units or {}).items():
            if not any(channel.startswith(key.lower()) for channel in self._bare):
                raise InputError(f"--unit {key}={unit}: no channel is called {key!r} or so begins; {self._listed}")
        for channel, known in zip(self.channels, self._units, strict=True):
            if known is not None:
                self._convert(channel, known)  # wrong units are told before the first sample

    @property
    def takes_sound(self) -> bool:
        """Whether every column is a channel of one sound, to be averaged."""
        return self.channels == ("sound",)

    @property
    def width(self) -> int | None:
        """How many columns a source without names has; None where its first row says so."""
        if self.names is not None:
            return len(self.names)
        return None if self.takes_sound else len(self.channels) + (self.time is not None)

    @property
    def _listed(self) -> str:
        return shortened(self.channels)

    def _unit_of(self, channel: str, units: Mapping[str, str]) -> str | None:
        """The most exact statement there is of a channel."""
        fitting = [key for key in units if channel.startswith(key.lower())]
        return units[max(fitting, key=len)] if fitting else None

    def _convert(self, channel: str, unit: str) -> tuple[float, float]:
        target = split_unit(channel)[1]
        if target is None:
            raise InputError(f"the model does not say the unit of {channel!r}, so {unit!r} cannot be made that unit")
        return converter(unit, target, repr(channel))

    def select(self, names: Sequence[str] | None, width: int, source: str) -> Selection:
        """The columns of a source, by name if it (or ``names`` of the options) has them, else by position.

        Args:
            names: of its columns, from a header.
            width: how many columns it has.
            source: what it is called, for messages.

        Raises:
            InputError: a channel has no column or two, or a unit in a header does not fit.
        """
        names = self.names if names is None else names
        if names is None:
            return self._by_position(width, source)
        if len(names) != width:
            raise InputError(f"{source} has {width} columns, and {len(names)} are named: {shortened(names)}")
        bare = [split_unit(name)[0].lower() for name in names]
        time = None if self.time is None else self._find(self.time, names, bare, source, "--time")
        columns, units = [], []
        if self.takes_sound and "sound" not in bare and not self._maps:
            columns = [column for column in range(width) if column != time]
            return Selection(tuple(columns), time, None, None)
        for channel, own, unit in zip(self.channels, self._bare, self._units, strict=True):
            if own in self._maps:
                column = self._find(self._maps[own], names, bare, source, f"--map for {channel!r}")
            elif bare.count(own) == 1:
                column = bare.index(own)
            elif own in bare:
                raise InputError(f"{source} has {bare.count(own)} columns {own!r}; rename one of them")
            else:
                raise InputError(
                    f"{source} has no column for {channel!r}: its columns are {shortened(names)}, the model's channels "
                    f"{self._listed}; say which it is with --map COLUMN={own}"
                )
            columns.append(column)
            units.append(unit or split_unit(names[column])[1])
        return self._converting(columns, time, units)

    def _find(self, name: str, names: Sequence[str], bare: Sequence[str], source: str, option: str) -> int:
        for column, known in enumerate(names):
            if known.strip().lower() == name.strip().lower():
                return column
        own = split_unit(name)[0].lower()
        if bare.count(own) == 1:
            return bare.index(own)
        raise InputError(f"{option}: {source} has no column {name!r}, only {shortened(names)}")

    def _by_position(self, width: int, source: str) -> Selection:
        time: int | None = None
        if self.time is not None:
            if not self.time.isdecimal() or not 1 <= int(self.time) <= width:
                raise InputError(
                    f"--time {self.time}: {source} names no columns; give the number of the column, from 1 to {width}, "
                    "or all names with --columns"
                )
            time = int(self.time) - 1
        if self._maps:
            raise InputError(f"--map names columns, and {source} has no names; give them with --columns")
        columns = [column for column in range(width) if column != time]
        if not self.takes_sound and len(columns) != len(self.channels):
            beside = " beside the time" if time is not None else ""
            raise InputError(
                f"{source} has {len(columns)} columns{beside}, the model has {len(self.channels)}: {self._listed}; "
                "name the columns in a header or with --columns, then others are left out"
            )
        if self.takes_sound:
            return Selection(tuple(columns), time, None, None)
        return self._converting(columns, time, self._units)

    def _converting(self, columns: Sequence[int], time: int | None, units: Sequence[str | None]) -> Selection:
        pairs = [
            (1.0, 0.0) if unit is None or split_unit(channel)[1] == unit else self._convert(channel, unit)
            for channel, unit in zip(self.channels, units, strict=True)
        ]
        if all(pair == (1.0, 0.0) for pair in pairs):
            return Selection(tuple(columns), time, None, None)
        factors, offsets = np.array(pairs).T
        return Selection(tuple(columns), time, factors, offsets)


def pairs(option: str, given: Sequence[str], example: str, bare: bool = False) -> dict[str, str]:
    """``["ax=acc_x"]`` as a dictionary.

    Args:
        option: its name, for the message.
        given: what was given.
        example: what would be right.
        bare: whether a value without key will do; its key is "".

    Raises:
        InputError: something is not KEY=VALUE, or a key comes twice.
    """
    made: dict[str, str] = {}
    for text in given:
        key, equals, value = text.rpartition("=")
        if not value.strip() or (bool(equals) != bool(key.strip())) or not (equals or bare):
            raise InputError(f"{option} {text!r} should be like {option} {example}")
        if key.strip() in made:
            raise InputError(f"{option} says two things of {key.strip()!r}: {made[key.strip()]!r} and {value!r}")
        made[key.strip()] = value.strip()
    return made
