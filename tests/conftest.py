"""Hypothesis tries the same examples each time: a run of the tests says the same of the same code."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests that import onnxruntime themselves report to nobody

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background, as CI may be: Ctrl-C is tested, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """A script of tools/ as a module, by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
