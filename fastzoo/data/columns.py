"""Which column of a table is what: named by the user, or recognised by one of the usual names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fastzoo.data.cut import Cut, option
from fastzoo.errors import DataError
from fastzoo.samples import shortened

USUAL = {
    "time": ("time", "t", "timestamp", "datetime"),
    "label": ("label", "activity", "class"),
    "group": ("group", "subject", "user", "speaker", "participant"),
    "split": ("split",),
    "recording": ("recording", "session"),
}


@dataclass(frozen=True)
class Columns:
    """Names of columns; None where there is none."""

    label: str
    channels: tuple[str, ...]
    time: str | None = None
    group: str | None = None
    split: str | None = None
    recording: str | None = None

    def used(self) -> list[str]:
        """Every column that is read."""
        roles = [self.time, self.label, self.group, self.split, self.recording]
        return [*(name for name in roles if name is not None), *self.channels]

    def __str__(self) -> str:
        roles = ((role, getattr(self, role)) for role in USUAL)
        return ", ".join(f"{role} from {name!r}" for role, name in roles if name is not None)


def choose(names: Sequence[str], cut: Cut, source: str) -> Columns:
    """The columns to read of a table with the columns ``names``.

    Raises:
        DataError: a column is missing, or several could be meant.
    """
    roles = {role: _role(names, role, getattr(cut, role), source) for role in USUAL}
    label = roles.pop("label")
    if label is None:
        raise DataError(
            f"{source} has no column {' or '.join(map(repr, USUAL['label']))}: name the one that holds the classes "
            f"with --label; its columns are {shortened(names)}"
        )
    taken = [name for name in (label, *roles.values()) if name is not None]
    if twice := sorted({name for name in taken if taken.count(name) > 1}):
        raise DataError(f"{source}: the column {twice[0]!r} cannot be two things at once: {_said(roles, label)}")
    free = [name for name in names if name not in taken and name.strip()]
    usual = {name for of_role in USUAL.values() for name in of_role}  # a second label must not become a channel
    free = free if cut.channels else [name for name in free if bare(name) not in usual]
    return Columns(label, _channels(free, cut.channels, source), **roles)


def _said(roles: dict[str, str | None], label: str) -> str:
    return ", ".join(f"{option(role)} {name!r}" for role, name in {**roles, "label": label}.items() if name)


def _role(names: Sequence[str], role: str, wanted: str | None, source: str) -> str | None:
    if wanted == "":
        return None
    if wanted is not None:
        found = [name for name in names if name == wanted] or [name for name in names if bare(name) == bare(wanted)]
        if len(found) != 1:
            near = difflib.get_close_matches(wanted, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{source} has no column {wanted!r}{hint} Its columns are {shortened(names)}")
        return found[0]
    found = [name for name in names if bare(name) in USUAL[role]]
    if len(found) > 1:
        raise DataError(f"{source} has the columns {shortened(found)}: say with {option(role)} which one to take")
    return found[0] if found else None


def _channels(free: Sequence[str], patterns: Sequence[str], source: str) -> tuple[str, ...]:
    """The columns that a pattern fits, in the order of the patterns, then of the table."""
    chosen: dict[str, None] = {} if patterns else dict.fromkeys(free)
    for pattern in patterns:
        fitting = [name for name in free if _fits(name, pattern)]
        if not fitting:
            raise DataError(
                f"{source} has no column for the channel {pattern!r}; there are {shortened(free) or 'none'}"
            )
        chosen |= dict.fromkeys(fitting)
    if not chosen:
        raise DataError(f"{source} has no column of samples: one row per time, one column per channel is expected")
    return tuple(chosen)


def _fits(name: str, pattern: str) -> bool:
    return pattern in (name, bare(name)) or fnmatchcase(name, pattern) or fnmatchcase(bare(name), pattern)


def bare(name: str) -> str:
    """A column's name in small letters without its unit: ``"Time [ms]"`` is ``"time"``."""
    text = name.strip().lower()
    for bracket in "[(":
        text = text.partition(bracket)[0].strip()
    for unit in ("_ms", "_us", "_ns", "_s"):
        text = text.removesuffix(unit)
    return text
