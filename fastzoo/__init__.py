"""A model zoo of kilobyte-sized recurrent classifiers for sensor streams.

>>> import fastzoo
>>> model = fastzoo.load("fastgrnn-har-int8")
>>> model.predict(x)  # x [T, D] in raw units, or [N, T, D]

``fastzoo.nn``, ``fastzoo.train`` and ``fastzoo.export`` fill the zoo; they need ``fastzoo[train]`` and
``fastzoo[export]``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastzoo.errors import FastzooError

if TYPE_CHECKING:
    from fastzoo.model import Model

__all__ = ["FastzooError", "__version__", "info", "list_models", "load"]

__version__ = "0.1.0"

_LAZY = ("data", "events", "export", "nn", "train")  # imported on first use: a board has neither torch nor onnx


def load(
    name: str | os.PathLike[str],
    layout: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    *,
    providers: Sequence[Any] | None = None,
    session_options: Any = None,
) -> Model:
    """Load a model, ready to predict.

    Args:
        name: a registered name (see :func:`list_models`), the folder of a bundle, or its address
            (``https://host/folder``, ``hf://owner/repo/folder``; ``#sha256=`` and the digest of ``bundle.json`` behind
            it pins the content). Text with a slash in it, and the name of a folder with a bundle in it, mean a folder.
        layout: ``"fused"``, ``"scan"``, ``"unrolled"`` or ``"step"``; ``"auto"`` takes the fastest one measured.
        precision: ``"fp32"`` or ``"int8"``, for a folder or an address; ``"auto"`` takes int8 if the bundle has it. A
            registered name says its precision itself.
        backend: ``"onnxruntime"``, ``"numpy"``, or ``"auto"`` for the first of them that is installed.
        providers: execution providers for onnxruntime; None = the CPU.
        session_options: an ``onnxruntime.SessionOptions`` in place of one thread without spinning.

    Files of models on servers are fetched once and kept (docs/registries.md).

    Raises:
        UnknownModelError: no model has this name.
        RegistryError: the registry that comes with fastzoo is damaged; others are passed over, with a warning logged.
        BundleError: the bundle is missing, damaged, or lacks the layout or precision.
        DownloadError: a file cannot be had from a server, is not what was promised, or cannot be kept.
    """
    from fastzoo import registry
    from fastzoo.model import Model

    source = registry.source(name, precision)
    return Model(
        source.open(),
        source.entry["precision"],
        layout,
        backend,
        providers=providers,
        session_options=session_options,
        fetch=None if source.remote is None else source.fetch,
    )


def list_models(
    pattern: str = "*",
    *,
    dataset: str | None = None,
    cell: str | None = None,
    precision: str | None = None,
    max_bytes: int | None = None,
) -> list[str]:
    """The names of the models that fit, in natural order.

    Args:
        pattern: a name with ``*``, ``?`` and ``[...]`` as in file names, ``"*-har-*"``.
        dataset: id of the data set it was trained on, ``"har"``.
        cell: type of its cell, ``"fastgrnn"``.
        precision: ``"fp32"`` or ``"int8"``.
        max_bytes: the most that its weights may take.

    Raises:
        RegistryError: the registry that comes with fastzoo is damaged; others are passed over, with a warning logged.
    """
    from fastzoo import registry

    found = registry.models(pattern, dataset=dataset, cell=cell, precision=precision, max_bytes=max_bytes)
    return [entry["name"] for entry in found]


def info(name: str | os.PathLike[str]) -> dict[str, Any]:
    """What the registry says about a model, or the same about the bundle in a folder; errors as in :func:`load`."""
    from fastzoo import registry

    return registry.source(name).entry


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"fastzoo.{name}")
    raise AttributeError(f"module 'fastzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
