"""The view of ``fastzoo stream --watch``: probabilities as bars, and the last events."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fastzoo.errors import InputError
from fastzoo.stream import Result, Stream

if TYPE_CHECKING:
    from fastzoo.sources.gaps import Gap

_WIDTH = 40  # characters of a full bar
_SHOWN = 16  # classes at most: the most probable ones
_REMEMBERED = 6  # events and gaps
_REFRESH = 1 / 15  # seconds between two pictures


class Watch:
    """A picture in the terminal that follows the stream; a context manager.

    Raises:
        InputError: there is no terminal.
    """

    def __init__(self, stream: Stream, source: str) -> None:
        if not sys.stdout.isatty():
            raise InputError("--watch draws on a terminal, and the output goes elsewhere; --json is for programs")
        self._stream, self._source = stream, source
        self._news: deque[str] = deque(maxlen=_REMEMBERED)
        self._live = Live(console=Console(), auto_refresh=False, transient=False)
        self._drawn = 0.0
        self._last: Result | None = None

    def __enter__(self) -> Watch:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._live.update(self.picture(self._last), refresh=True)
        self._live.stop()

    def show(self, found: Result | Gap) -> None:
        """Draw an answer, or remember a gap."""
        if not isinstance(found, Result):
            self._news.append(str(found))
            return
        for event in found.events:
            lasted = f" after {event.duration:.2f} s" if event.duration is not None else ""
            self._news.append(f"{event.time:.2f} s  {event.label} {event.kind}s{lasted}")
        self._last = found
        now = time.monotonic()
        if now - self._drawn >= _REFRESH:
            self._drawn = now
            self._live.update(self.picture(found), refresh=True)

    def picture(self, result: Result) -> Any:
        """What is drawn of a result."""
        order = sorted(range(len(result.labels)), key=lambda c: -float(result.smoothed[c]))
        chosen = range(len(result.labels)) if len(result.labels) <= _SHOWN else order[:_SHOWN]
        bars = Table(box=None, pad_edge=False, show_header=False)
        for c in chosen:
            share = float(result.smoothed[c])
            style = "bold green" if result.labels[c] == result.decision else "default"
            bar = "\u2588" * round(share * _WIDTH)
            bars.add_row(Text(result.labels[c], style), Text(bar.ljust(_WIDTH), style), Text(f"{100 * share:5.1f} %"))
        seen = self._stream.statistics
        mean = 1e6 * seen.seconds / max(1, seen.samples)
        line = f"{result.time:.2f} s, {seen.results} windows, {mean:.0f} us per sample, {seen.late} late"
        parts: list[RenderableType] = [bars, Text(line, "dim"), *(Text(news) for news in self._news)]
        return Panel(Group(*parts), title=Text(f"{self._stream.model.name} on {self._source}"), expand=False)
