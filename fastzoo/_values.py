"""What a single value may be. Truth values are no numbers here, whatever Python says."""

from __future__ import annotations

import sys
from typing import TypeGuard

LARGEST = sys.float_info.max


def is_whole(value: object, low: int, high: int | float = LARGEST) -> TypeGuard[int]:
    """Whether ``value`` is a Python int in [low, high]; NumPy's integers are not, since JSON cannot hold them."""
    return type(value) is int and low <= value <= high


def is_number(value: object, low: float = -LARGEST, high: float = LARGEST) -> TypeGuard[float]:
    """Whether ``value`` is an int or float in [low, high], so neither NaN nor infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
