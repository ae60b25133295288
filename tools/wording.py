"""How the generated pages write tables and numbers, in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence


def table(columns: Sequence[str], rows: Iterable[Iterable[object]], right: Collection[int] = ()) -> Iterator[str]:
    """A table's lines; the columns numbered in ``right`` are aligned there."""
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "|".join("--:" if i in right else "---" for i in range(len(columns))) + "|"
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def percent(value: float | None, digits: int = 1) -> str:
    """0.9634 as 96.3 %; nothing where nothing was measured."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def kilobytes(value: int | None) -> str:
    """Bytes as kB of 1000 bytes."""
    return "" if value is None else f"{value / 1000:.1f} kB"


def microseconds(value: float | None) -> str:
    """A latency with three digits or more."""
    return "" if value is None else f"{value:.0f} us"


def sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def within(title: str) -> str:
    """A title inside a sentence; an abbreviation stays one."""
    return f"{title[:1].lower()}{title[1:]}" if title[1:2].islower() else title
