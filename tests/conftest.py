"""Hypothesis tries the same examples each time: a run of the tests says the same of the same code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.load_profile("same")
