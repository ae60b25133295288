"""``deprecated`` of PEP 702 for functions, which the standard library has from Python 3.13 on."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from typing_extensions import deprecated as deprecated  # the one that type checkers know
else:

    def deprecated(message: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Mark a function as going away: a call warns with the line of the caller.

        Args:
            message: what to use instead.
        """

        def mark(function: Callable[P, R]) -> Callable[P, R]:
            @functools.wraps(function)
            def warned(*args: P.args, **kwargs: P.kwargs) -> R:
                text = f"{function.__qualname__} is deprecated: {message}"
                warnings.warn(text, DeprecationWarning, stacklevel=2)
                return function(*args, **kwargs)

            warned.__deprecated__ = message
            return warned

        return mark
