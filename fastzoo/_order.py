"""The order of names for people."""

from __future__ import annotations

import re


def natural(name: str) -> str:
    """Sort key by which "walk 2" comes before "walk 10"."""
    return re.sub(r"[0-9]+", lambda number: number[0].zfill(20), name)
