"""Microseconds: what a window takes on this machine, and what would take less."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastzoo import bench, bundle
from fastzoo._files import sha256
from fastzoo._values import is_number
from fastzoo.bundle import Bundle, FileRecord, Input, Latency, LayoutFile, Licences, Precision, Size
from fastzoo.errors import ExportError, TrainingError
from fastzoo.model import Model
from fastzoo.nn import SequenceClassifier, model_size
from fastzoo.train.budget.scales import largest, own_randomness
from fastzoo.train.budget.sizes import option

if TYPE_CHECKING:
    from fastzoo.export.layouts import Form
    from fastzoo.export.network import Network

_WINDOWS = 16
_WARMUP = 50
_UNITS = 4  # hidden sizes are tried in steps of one SIMD register
_NOISE = 1.5  # a busy machine makes a measurement wrong by up to this factor now and then; then it is repeated
_ROUNDS = 3


def check_latency(
    net: SequenceClassifier, steps: int, max_us: float, precisions: Sequence[str] = bundle.PRECISIONS
) -> float:
    """Refuse a network that is too slow on this machine, and say which would be fast enough.

    The network need not be trained: a matrix product takes the same time whatever the numbers are, and onnxruntime
    evaluates its curves without branches, zeros included; so neither training nor sparsity changes the latency. (The
    exception are denormal numbers below 1e-38, which processors multiply slowly; a state gets there only where input
    and biases are all but zero.) Nor do ranks, where the layout ``fused`` exists: it multiplies the factors when it is
    loaded.

    Args:
        net: the network.
        steps: T, steps of a window.
        max_us: the budget for the median over single windows, through :class:`fastzoo.model.Model`, as ``fastzoo
            bench`` and the bundle state it.
        precisions: which files count; of several the fastest.

    Returns:
        The median, in microseconds.

    Raises:
        TrainingError: the network is too slow or cannot be exported, so not be measured, or the budget makes no sense.
        MissingExtraError: the extra ``export`` is not installed.
    """
    if not (is_number(max_us, 0) and max_us > 0):
        raise TrainingError(f"the budget must be a positive number of microseconds, not {max_us!r}")
    file, latency = _fastest(net, steps, max_us, precisions)
    if latency.p50_us <= max_us:
        return latency.p50_us
    machine = bench.describe_machine()
    raise TrainingError(
        f"a window of {steps} steps takes {latency.p50_us:.0f} us (p95 {latency.p95_us:.0f} us) in the fastest file, "
        f"{file}, with one thread on {machine.board or machine.cpu} ({machine.os}, onnxruntime {machine.onnxruntime}); "
        f"the budget is {max_us:g} us. {_faster(net, steps, max_us, precisions)}"
    )


def measure_latency(
    net: SequenceClassifier, steps: int, precisions: Sequence[str] = bundle.PRECISIONS, repeats: int = 500
) -> dict[str, Latency]:
    """The latency of single windows by :func:`fastzoo.bench.measure_all`, of the files that an export would write.

    Where the layout ``fused`` has no more than H states, it is several times faster than any other, and the only one
    measured. The files lie in a temporary folder and are not verified: they are timed, not used.

    Args:
        net: the network.
        steps: T, steps of a window.
        precisions: of ``"fp32"``, ``"int8"``.
        repeats: windows timed.

    Returns:
        By file, ``"int8-fused"``.

    Raises:
        TrainingError: the network cannot be exported.
        MissingExtraError: the extra ``export`` is not installed.
    """
    with _files(net, steps, precisions) as (models, windows):
        measured = bench.measure_all(models, repeats, _WARMUP, windows)
        return {model.path.stem: latency for model, latency in zip(models, measured, strict=True)}


def _fastest(
    net: SequenceClassifier, steps: int, max_us: float, precisions: Sequence[str], repeats: int = 500
) -> tuple[str, Latency]:
    """The file with the lowest median. What else the machine does can only make a measurement slower: one just over
    the budget is repeated, and the fastest counts."""
    with _files(net, steps, precisions) as (models, windows):
        best: tuple[str, Latency] | None = None
        for _ in range(_ROUNDS):
            measured = bench.measure_all(models, repeats, _WARMUP, windows)
            found = [(model.path.stem, latency) for model, latency in zip(models, measured, strict=True)]
            best = min([*found, *([best] if best else [])], key=lambda pair: pair[1].p50_us)
            if not max_us < best[1].p50_us <= _NOISE * max_us:
                break
    assert best is not None
    return best


def _faster(net: SequenceClassifier, steps: int, max_us: float, precisions: Sequence[str]) -> str:
    """A change after which the network is fast enough, as measured: one that allows ``fused``, else fewer units too."""
    change = _to_fuse(net, steps)
    if change is None:
        return "Take shorter windows"
    config, hidden = net.config(), net.rnn.hidden_size
    options = [f"--{name.removesuffix('_nonlinearity')} {value}" for name, value in change.items()]
    tried: dict[int, float] = {}

    def fits(units: int) -> bool:
        sizes = {"hidden_size": units, "w_rank": None, "u_rank": None}  # `fused` multiplies the factors anyway
        with own_randomness():
            other = SequenceClassifier.from_config({**config, "cell": config["cell"] | change | sizes})
        tried[units] = _fastest(other, steps, max_us, precisions, repeats=200)[1].p50_us
        return tried[units] <= max_us

    units = hidden
    if not (change and fits(hidden)):
        units = _UNITS * largest((hidden - 1) // _UNITS, lambda quarter: fits(_UNITS * quarter))
        options += [f"--hidden-size {units}"]
    if units:
        for name in ("w_rank", "u_rank"):
            if max(getattr(cell, name) or 0 for cell in net.rnn.cells) > units:
                options.append(option(name, None))
        return f"This is fast enough: {' '.join(options)} ({tried[units]:.0f} us)"
    if not tried:
        return "Take shorter windows"
    least = min(tried)
    with_ = f" with {' '.join(options[:-1])}" if change else ""
    return f"Even {least} units{with_} take {tried[least]:.0f} us: take shorter windows"


def _to_fuse(net: SequenceClassifier, steps: int) -> dict[str, Any] | None:
    """What to change so that each layer becomes one operator over H states; nothing where it is already."""
    from fastzoo.export.from_torch import from_torch

    config = net.config()
    usual = {"gate_nonlinearity": "sigmoid", "update_nonlinearity": "tanh"}
    for wanted in ({}, {"nu": 0}, usual, {"nu": 0, **usual}):
        change = {k: v for k, v in wanted.items() if k in config["cell"] and config["cell"][k] != v}
        with own_randomness():
            other = SequenceClassifier.from_config({**config, "cell": config["cell"] | change})
        if _fused_states(from_torch(other, steps)) == net.rnn.hidden_size:
            return change
    return None


def _fused_states(network: Network) -> int | None:
    """The size of the operators' state in the layout ``fused``: H, or two or three times that; None without it."""
    from fastzoo.export.lowering import lower, obstacle

    cells = network.unit_scale().cells
    if any(map(obstacle, cells)):
        return None
    return max(len(lower(cell).read) for cell in cells) * network.hidden_size


@contextmanager
def _files(
    net: SequenceClassifier, steps: int, precisions: Sequence[str]
) -> Iterator[tuple[list[Model], np.ndarray[Any, np.dtype[np.float32]]]]:
    """The network's files, opened from a temporary bundle, and seeded windows [n, T, D] in its raw units."""
    from fastzoo.export.from_torch import from_torch
    from fastzoo.export.layouts import Builder, forms

    try:
        network = from_torch(net, steps)
        noise = np.random.default_rng(0).normal(size=(_WINDOWS, steps, len(network.mean)))
        windows = (network.mean + network.std * noise).astype(np.float32)
        wanted = [form for form in forms(network, None, tuple(precisions)) if form.layout != "step"]
        if _fused_states(network) == network.hidden_size:  # several times faster than any other
            wanted = [form for form in wanted if form.layout == "fused"]
        builder = Builder(network, windows)
        made = [(form, builder.build(form).SerializeToString(deterministic=True)) for form in wanted]
    except ExportError as error:
        raise TrainingError(f"the latency of this network cannot be measured: {error}") from error
    with tempfile.TemporaryDirectory(prefix="fastzoo-budget-") as folder:
        for form, content in made:
            (Path(folder) / form.file).write_bytes(content)
        bundle.write(_description(net, network, made), folder)
        yield [Model(folder, form.precision, form.layout) for form in wanted], windows


def _description(net: SequenceClassifier, network: Network, made: Sequence[tuple[Form, bytes]]) -> Bundle:
    """Enough of a bundle to open its files; weights and golden windows are named, not there."""
    size = model_size(net, network.steps)
    nowhere = FileRecord("none", sha256(b""), 1)
    precisions = {
        precision: Precision(
            size.dense_bytes if precision == "fp32" else size.int8_bytes,
            {
                form.layout: LayoutFile(
                    form.file, sha256(content), len(content), 1, 1, operators={}, session=form.session
                )
                for form, content in made
                if form.precision == precision
            },
        )
        for precision in {form.precision: None for form, _ in made}
    }
    return Bundle(
        name="untrained",
        version="0.0.0",
        summary="An untrained network, to be timed",
        cell=net.rnn.config(),
        pool=network.pool,
        input=Input(network.steps, tuple(f"channel_{i}" for i in range(len(network.mean))), 1.0),
        labels=tuple(f"class_{i}" for i in range(len(network.head_bias))),
        size=Size(**vars(size)),
        weights=replace(nowhere, file="weights"),
        golden=replace(nowhere, file="golden"),
        precisions=precisions,
        licences=Licences(code="none", weights="none"),
    )
