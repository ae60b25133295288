"""A bar on standard error for work that takes a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shown(items: Sequence[T], what: str, progress: bool) -> Iterable[T]:
    """The items, with a bar for those done so far where ``progress`` is set."""
    if not progress:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, console=Console(stderr=True), transient=True)
