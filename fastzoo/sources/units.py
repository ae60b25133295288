"""Units of measurement that sensors deliver, and how one becomes another."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from typing import NamedTuple

from fastzoo.errors import InputError


class Unit(NamedTuple):
    """``value * factor + offset`` is the same in the base unit of the quantity."""

    quantity: str
    factor: float
    offset: float = 0.0


G = 9.80665
UNITS = {
    "m/s2": Unit("acceleration", 1),
    "cm/s2": Unit("acceleration", 1e-2),
    "g": Unit("acceleration", G),
    "mg": Unit("acceleration", G * 1e-3),
    "ug": Unit("acceleration", G * 1e-6),
    "rad/s": Unit("angular velocity", 1),
    "mrad/s": Unit("angular velocity", 1e-3),
    "deg/s": Unit("angular velocity", math.pi / 180),
    "mdeg/s": Unit("angular velocity", math.pi / 180e3),
    "rpm": Unit("angular velocity", math.pi / 30),
    "rad": Unit("angle", 1),
    "deg": Unit("angle", math.pi / 180),
    "V": Unit("voltage", 1),
    "mV": Unit("voltage", 1e-3),
    "uV": Unit("voltage", 1e-6),
    "nV": Unit("voltage", 1e-9),
    "A": Unit("current", 1),
    "mA": Unit("current", 1e-3),
    "uA": Unit("current", 1e-6),
    "T": Unit("magnetic field", 1),
    "mT": Unit("magnetic field", 1e-3),
    "uT": Unit("magnetic field", 1e-6),
    "nT": Unit("magnetic field", 1e-9),
    "gauss": Unit("magnetic field", 1e-4),
    "mgauss": Unit("magnetic field", 1e-7),
    "K": Unit("temperature", 1),
    "degC": Unit("temperature", 1, 273.15),
    "degF": Unit("temperature", 5 / 9, 459.67 * 5 / 9),
    "Pa": Unit("pressure", 1),
    "hPa": Unit("pressure", 1e2),
    "kPa": Unit("pressure", 1e3),
    "bar": Unit("pressure", 1e5),
    "mbar": Unit("pressure", 1e2),
    "m": Unit("length", 1),
    "cm": Unit("length", 1e-2),
    "mm": Unit("length", 1e-3),
    "m/s": Unit("speed", 1),
    "km/h": Unit("speed", 1 / 3.6),
    "N": Unit("force", 1),
    "s": Unit("time", 1),
    "ms": Unit("time", 1e-3),
    "us": Unit("time", 1e-6),
    "ns": Unit("time", 1e-9),
    "1": Unit("fraction", 1),
    "%": Unit("fraction", 1e-2),
}
ALIASES = {
    "m/s^2": "m/s2", "m/s\u00b2": "m/s2", "m/s**2": "m/s2", "m/s/s": "m/s2", "cm/s^2": "cm/s2", "\u00b5g": "ug",
    "dps": "deg/s", "mdps": "mdeg/s", "\u00b0/s": "deg/s", "\u00b0": "deg", "degrees": "deg",
    "\u00b5V": "uV", "\u03bcV": "uV", "\u00b5A": "uA", "\u00b5T": "uT", "\u03bcT": "uT",
    "C": "degC", "\u00b0C": "degC", "F": "degF", "\u00b0F": "degF",
}  # fmt: skip
_SCALED = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(\S.*)")


def split_unit(name: str) -> tuple[str, str | None]:
    """``"acc_x [g]"`` or ``"acc_x (g)"`` as the bare name and the unit; None where it states none."""
    found = re.fullmatch(r"\s*(.*?)\s*(?:\[(.*)\]|\((.*)\))\s*", name)
    if found is None:
        return name.strip(), None
    return found[1], (found[2] or found[3] or "").strip() or None


def converter(text: str, target: str, channel: str) -> tuple[float, float]:
    """Factor and offset: ``factor * value + offset`` is in ``target`` where value is in ``text``.

    Args:
        text: a unit, ``"m/s2"``, or a number of them as data sheets give the step of a digit, ``"0.061 mg"``.
        target: the unit of the model.
        channel: whose they are, for the message.

    Raises:
        InputError: one of them is unknown, or they measure different things.
    """
    scale, name = 1.0, text.strip()
    if name not in UNITS and name not in ALIASES and (found := _SCALED.fullmatch(text)):
        with suppress(ValueError):  # "1.2.3 mg" is no unit: said below
            scale, name = float(found[1]), found[2].strip()
    if _named(name) == _named(target):
        return scale, 0.0  # exact, and of units that we do not know too
    here, there = _unit(name, channel), _unit(target, channel)
    if here.quantity != there.quantity:
        raise InputError(
            f"{channel} is in {target} ({there.quantity}), and {name} ({here.quantity}) cannot be made {target}; "
            f"units that can: {', '.join(key for key, unit in UNITS.items() if unit.quantity == there.quantity)}"
        )
    return scale * here.factor / there.factor, (here.offset - there.offset) / there.factor


def _named(name: str) -> str:
    return ALIASES.get(name, name)


def _unit(name: str, channel: str) -> Unit:
    found = UNITS.get(_named(name))
    if found is None:
        raise InputError(f"no unit {name!r} (of {channel}) is known; there are {', '.join(UNITS)}")
    return found
