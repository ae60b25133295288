"""Every model of a data set side by side: accuracy against bytes and latency, and which of them no other one beats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastzoo import registry
from fastzoo._order import natural
from fastzoo.errors import InputError

COSTS = ("bytes", "latency")
METRICS = ("accuracy", "macro_f1")
_OTHER_METRIC = {"cinc2017": "macro_f1"}  # three windows in five are of one class


@dataclass(frozen=True)
class Row:
    """One model in one precision, by its fastest layout.

    Args:
        name: as it is loaded.
        bundle: the bundle's folder, relative to its registry.
        cell: type of its cell.
        precision: ``"fp32"`` or ``"int8"``.
        value: of the metric, on the test split; None where it was not measured.
        bytes: of its weights.
        file_bytes: of its ``.onnx`` file.
        layout: the fastest.
        latency_us: median for one window.
        machine: where that was measured.
        variant: of its data set, in full.
        on_front: no other model is at least as good at no greater cost; by the cost that was asked for.
    """

    name: str
    bundle: str
    cell: str
    precision: str
    value: float | None
    bytes: int
    file_bytes: int
    layout: str
    latency_us: float | None
    machine: str | None
    variant: str | None
    on_front: bool = False

    def cost(self, by: str) -> float | None:
        """Its bytes, or its latency in microseconds."""
        return self.bytes if by == "bytes" else self.latency_us


def usual_metric(dataset: str) -> str:
    """By what models of a data set are compared: accuracy, or macro F1 where one class outnumbers the others."""
    return _OTHER_METRIC.get(dataset, "accuracy")


def data_sets(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The data sets of registry entries, in natural order."""
    return sorted({entry["dataset"]["id"] for entry in entries if "dataset" in entry}, key=natural)


def compare(
    dataset: str | None = None,
    by: str = "bytes",
    metric: str | None = None,
    entries: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[str, list[Row]]:
    """The models of one data set, those on the Pareto front marked, cheapest first.

    Args:
        dataset: its id; may be left out where all models are of the same.
        by: the cost, ``"bytes"`` of weights or ``"latency"``.
        metric: ``"accuracy"`` or ``"macro_f1"``; default :func:`usual_metric`.
        entries: of registries; default all that can be loaded by name.

    Returns:
        The data set's id, and the models.

    Raises:
        InputError: an argument is unknown, or no model belongs to the data set.
        RegistryError: the registry that comes with fastzoo is missing or damaged.
    """
    for what, value, choices in (("cost", by, COSTS), ("metric", metric or METRICS[0], METRICS)):
        if value not in choices:
            raise InputError(f"unknown {what} {value!r}; there are {', '.join(choices)}")
    entries = registry.models() if entries is None else entries
    known = data_sets(entries)
    if dataset is None and len(known) != 1:
        raise InputError(f"of which data set? There are models of {', '.join(known) or 'none'}")
    id = known[0] if dataset is None else dataset
    if id not in known:
        raise InputError(f"no model of the data set {id!r} is registered; there are models of {', '.join(known)}")
    rows = [_row(entry, metric or usual_metric(id)) for entry in entries if entry.get("dataset", {}).get("id") == id]
    return id, marked(rows, by)


def _row(entry: Mapping[str, Any], metric: str) -> Row:
    best = registry.fastest(entry)
    machine = entry.get("measured_on")
    return Row(
        name=entry["name"],
        bundle=entry["bundle"],
        cell=str(entry["cell"].get("type", "")),
        precision=entry["precision"],
        value=best.get(metric),
        bytes=entry["weights_bytes"],
        file_bytes=best["bytes"],
        layout=next(name for name, file in entry["layouts"].items() if file is best),
        latency_us=best.get("latency", {}).get("p50_us"),
        machine=machine and f"{machine.get('board') or machine['cpu']}, onnxruntime {machine['onnxruntime']}",
        variant=_variant(entry),
    )


def _variant(entry: Mapping[str, Any]) -> str | None:
    """That of the data set; a network that reads several samples at once has an easier task, and is said to."""
    variant: str | None = entry["dataset"].get("variant")
    brick = entry["cell"].get("brick", 1)
    if variant is None or brick == 1:
        return variant
    what = re.match(r"[^:;,]*", variant)
    assert what is not None  # it may be empty
    return f"{what[0]} in steps of {brick}{variant[what.end() :]}"


def marked(rows: Iterable[Row], by: str) -> list[Row]:
    """The same rows, cheapest first, those on the front marked; what lacks a number stands last, off the front."""

    def order(row: Row) -> tuple[bool, float, float, str]:
        cost = row.cost(by)
        complete = cost is not None and row.value is not None
        return (not complete, cost or 0.0, -(row.value or 0.0), natural(row.name))

    best, found = float("-inf"), []
    for row in sorted(rows, key=order):
        front = row.cost(by) is not None and row.value is not None and row.value > best
        best = max(best, row.value or 0.0) if front else best
        found.append(replace(row, on_front=front))
    return found
