"""Budgets: which networks fit so many bytes of int8 weights, and whether one answers within so many microseconds.

Bytes follow from sizes and ranks alone, latency is measured on this machine; both are known before training.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastzoo import bench, bundle
from fastzoo._files import sha256
from fastzoo._values import is_number, is_whole
from fastzoo.bundle import Bundle, FileRecord, Input, Latency, LayoutFile, Licences, Precision, Size
from fastzoo.data import Dataset
from fastzoo.errors import ExportError, TrainingError
from fastzoo.model import Model
from fastzoo.nn import CELLS, SequenceClassifier, model_size
from fastzoo.train.recipe import ModelConfig
from fastzoo.train.sparsity import Sparsity

if TYPE_CHECKING:
    from fastzoo.export.layouts import Form
    from fastzoo.export.network import Network

Rank = int | None  # None = full
Sizes = tuple[int, int, int]  # channels D, classes C, steps T; bytes do not depend on T

LARGEST = 256  # units that `suggest` proposes at most: beyond, a network is no longer a matter of kilobytes
SUGGESTIONS = 3
LITTLE = 0.25  # a suggestion that keeps less of H or of a rank than this comes last

_WINDOWS = 16
_WARMUP = 50
_UNITS = 4  # hidden sizes are tried in steps of one SIMD register
_NOISE = 1.5  # a busy machine makes a measurement wrong by up to this factor now and then; then it is repeated
_ROUNDS = 3


def int8_bytes(model: ModelConfig, data: Dataset | Sizes, sparsity: Sparsity | None = None) -> int:
    """What the network will weigh in int8: ``fastzoo.nn.model_size(...).int8_bytes``, without building it.

    Args:
        model: the network.
        data: what fixes channels and classes.
        sparsity: count what is left, in the paper's way: a matrix that loses more than half of its entries takes 2
            bytes, value and index, for each that is kept. None = dense, zeros in full, as fastzoo's files store them.

    Raises:
        TrainingError: the network cannot be built.
    """
    return _Scales(model, data, sparsity).requested()


def check_bytes(
    model: ModelConfig,
    data: Dataset | Sizes,
    max_bytes: int,
    sparsity: Sparsity | None = None,
    *,
    sparse: bool = False,
) -> None:
    """Refuse a network whose int8 weights exceed a budget, and say what would fit.

    Counted are matrices and head with one byte a number and a float32 scale each, and biases in float32; not the
    normalisation and not the graph around the weights.

    Args:
        model: the network.
        data: what fixes channels and classes.
        max_bytes: the budget.
        sparsity: that of the run, if any.
        sparse: count what sparsity leaves (see :func:`int8_bytes`); otherwise zeros count in full.

    Raises:
        TrainingError: the network is too large or cannot be built, or the budget makes no sense.
    """
    counted = sparsity if sparse else None
    scales = _Scales(model, data, counted)
    _check_budget(max_bytes)
    weight = scales.requested()
    if weight <= max_bytes:
        return
    how = "dense"
    if counted:
        how = "sparse: 2 bytes for each number left, where less than half are"
    elif sparsity:
        how = "dense: zeros are stored too"
    message = (
        f"a {model.cell} of {model.hidden_size} units with {scales.classes} classes weighs {weight} bytes in int8 "
        f"({how}), {weight - max_bytes} more than the budget of {max_bytes}"
    )
    found = alternatives(model, data, max_bytes, counted)
    if not found:
        raise TrainingError(f"{message}; {scales.smallest()}")
    widest = scales.widest(model.hidden_size, max_bytes)
    if widest < model.hidden_size:
        message += f"; no rank fits so many units, at most {widest} fit (with ranks of 1)"
    listed = (f"{_options(config, model)} ({_Scales(config, data, counted).requested()} bytes)" for config in found)
    raise TrainingError(f"{message}. These fit: {'; '.join(listed)}")


def alternatives(
    model: ModelConfig, data: Dataset | Sizes, max_bytes: int, sparsity: Sparsity | None = None
) -> list[ModelConfig]:
    """Networks like ``model`` that fit the budget, at most three, those first that keep most of what was asked for.

    1. H is kept and all ranks are lowered alike, until none could be higher.
    2. The ranks are kept and H is lowered as far as needed.
    3. H half-way between (geometrically), ranks lowered as in 1.

    One that keeps less than a quarter of H or of a rank comes after those that do not. A full matrix becomes low-rank
    only where the factors weigh less than the matrix, and a rank at which they weigh more becomes ``None``: the full
    matrix is lighter, and can do all that they can. Arguments as in :func:`int8_bytes`.

    Raises:
        TrainingError: the network cannot be built, or the budget makes no sense.
    """
    _check_budget(max_bytes)
    scales = _Scales(model, data, sparsity)
    hidden, wanted = model.hidden_size, scales.wanted
    widest = scales.widest(hidden, max_bytes)
    if not widest:
        return []
    narrow = _largest(hidden, lambda h: scales.weigh(h, scales.kept(h, wanted)) <= max_bytes)
    found: list[tuple[bool, ModelConfig]] = []
    for h in (hidden, narrow, round(math.sqrt(max(narrow, 1) * widest))):
        if 1 <= h <= widest:
            ranks, share = scales.lowered(h, wanted, max_bytes)
            found.append((min(share, h / hidden) < LITTLE, scales.config(h, ranks)))
    different: list[ModelConfig] = []
    for _, config in sorted(found, key=lambda pair: pair[0]):
        if config not in different and scales.confirmed(config, max_bytes):
            different.append(config)
    return different[:SUGGESTIONS]


def suggest(
    max_bytes: int, data: Dataset | Sizes, model: ModelConfig | None = None, sparsity: Sparsity | None = None
) -> list[ModelConfig]:
    """Networks for a budget where nobody named H or ranks; the first is the one to take.

    1. No rank above H / 3, and the largest H, up to 256, that fits. A state of H units moves in far fewer
       directions: the published FastGRNNs have U ranks of H / 4 to H / 2, the HAR model of this zoo 20 of 52. At H / 3
       a factored U takes two thirds of the bytes of a full one, which go into more units. W is treated alike; with the
       few channels of a sensor its factors would weigh more than itself, and it stays full.
    2. Full matrices and the largest H that fits: fewer units, each connected with all others.
    3. No rank above H / 6 and the largest H that fits: many units for long memory.

    Args:
        max_bytes: the budget.
        data: what fixes channels and classes.
        model: gives everything but H and ranks; default ``ModelConfig()``.
        sparsity: as in :func:`int8_bytes`.

    Raises:
        TrainingError: nothing fits, the network cannot be built, or the budget makes no sense.
    """
    _check_budget(max_bytes)
    free = replace(model or ModelConfig(), hidden_size=1, w_rank=None, u_rank=None)
    scales = _Scales(free, data, sparsity)
    found: list[ModelConfig] = []
    for part in (3, None, 6):

        def fits(hidden: int, part: int | None = part) -> bool:
            return scales.weigh(hidden, scales.limited(hidden, part)) <= max_bytes

        if hidden := _largest(LARGEST, fits):
            config = scales.config(hidden, scales.limited(hidden, part))
            if config not in found and scales.confirmed(config, max_bytes):
                found.append(config)
    if not found:
        raise TrainingError(f"nothing fits {max_bytes} bytes: {scales.smallest()}")
    return found


class _Scales:
    """Weighs networks of one kind: only H and the ranks vary.

    Ranks are lists [W of layer 0, U of layer 0, W of layer 1, ...], the same in both directions.
    """

    def __init__(self, model: ModelConfig, data: Dataset | Sizes, sparsity: Sparsity | None) -> None:
        self.model, self.sparsity = model, sparsity
        self.dataset = data if isinstance(data, Dataset) else _stand_in(*data)
        self.channels, self.classes = self.dataset.x.shape[2], len(self.dataset.classes)
        self.directions = 2 if model.bidirectional else 1
        if not self._possible():
            model.build(self.dataset, 0)  # says what is wrong
        kind = CELLS[model.cell].cell_type
        with _own_randomness():  # biases for each unit
            cell: Any = kind(1, 1)  # type: ignore[call-arg]
            self.biases: int = sum(p.numel() for p in cell.parameters() if p.dim() == 1)

    def _possible(self) -> bool:
        """Whether sizes and ranks are such that the network can be built."""
        model = self.model
        cell = isinstance(model.cell, str) and model.cell in CELLS
        if not (cell and is_whole(model.hidden_size, 1) and is_whole(model.num_layers, 1)):
            return False
        self.blocks = len(CELLS[model.cell].cell_type.blocks)
        of_layers = [
            list(rank) if isinstance(rank, list | tuple) else [rank] * model.num_layers
            for rank in (model.w_rank, model.u_rank)
        ]
        if any(len(ranks) != model.num_layers for ranks in of_layers):
            return False
        self.wanted: list[Any] = [rank for pair in zip(*of_layers, strict=True) for rank in pair]
        limits = [min(rows, columns) for rows, columns, _ in self.matrices(model.hidden_size)]
        return all(r is None or is_whole(r, 1, limit) for r, limit in zip(self.wanted, limits, strict=True))

    def matrices(self, hidden: int) -> list[tuple[int, int, float]]:
        """Rows, columns and kept share of W and U, layer by layer."""
        w, u = (self.sparsity.w, self.sparsity.u) if self.sparsity else (1.0, 1.0)
        columns = self.blocks * hidden
        return [
            matrix
            for layer in range(self.model.num_layers)
            for matrix in (
                (self.directions * hidden if layer else self.channels, columns, w),
                (hidden, columns, u),
            )
        ]

    def weigh(self, hidden: int, ranks: Sequence[Rank]) -> int:
        """Bytes in int8 of the whole network."""
        cells = sum(_stored(*matrix, rank) for matrix, rank in zip(self.matrices(hidden), ranks, strict=True))
        biases = 4 * self.model.num_layers * self.biases * hidden
        head = self.directions * hidden * self.classes + 4 + 4 * self.classes
        return self.directions * (cells + biases) + head

    def requested(self) -> int:
        """What the model itself weighs."""
        return self.weigh(self.model.hidden_size, self.wanted)

    def choices(self, hidden: int, wanted: Sequence[Rank]) -> list[tuple[int, bool]]:
        """For each matrix: the sensible ranks are 1 .. n, and then, if so, full; none exceeds what is wanted."""
        found = []
        for (rows, columns, share), rank in zip(self.matrices(hidden), wanted, strict=True):
            full = _stored(rows, columns, share, None)

            def saves(r: int, matrix: tuple[int, int, float] = (rows, columns, share), full: int = full) -> bool:
                return _stored(*matrix, r) < full

            saving = _largest(min(rows, columns), saves)
            found.append((saving, True) if rank is None or rank > saving else (rank, False))
        return found

    def kept(self, hidden: int, wanted: Sequence[Rank]) -> list[Rank]:
        """The wanted ranks at another H, as far as they are sensible there."""
        return [None if full else most for most, full in self.choices(hidden, wanted)]

    def limited(self, hidden: int, part: int | None) -> list[Rank]:
        """Full matrices, or no rank above H / part."""
        rank = None if part is None else max(1, hidden // part)
        return self.kept(hidden, [rank] * (2 * self.model.num_layers))

    def lowered(self, hidden: int, wanted: Sequence[Rank], max_bytes: int) -> tuple[list[Rank], float]:
        """The highest ranks that fit, and the smallest share of the sensible ones that is kept.

        All are lowered alike first; then what is left of the budget raises one after the other, always one that was
        lowered most, U before W.
        """
        choices = self.choices(hidden, wanted)
        tops = [most + full for most, full in choices]

        def ranks(places: Sequence[int]) -> list[Rank]:
            return [place if place <= most else None for place, (most, _) in zip(places, choices, strict=True)]

        def scaled(part: int) -> list[int]:
            return [max(1, top * part // max(tops)) for top in tops]

        def fits(places: Sequence[int]) -> bool:
            return self.weigh(hidden, ranks(places)) <= max_bytes

        places = scaled(max(1, _largest(max(tops), lambda part: fits(scaled(part)))))
        while True:
            higher = {i: [*places[:i], place + 1, *places[i + 1 :]] for i, place in enumerate(places)}
            open_ = [i for i in higher if places[i] < tops[i] and fits(higher[i])]
            if not open_:
                return ranks(places), min(place / top for place, top in zip(places, tops, strict=True))
            places = higher[min(open_, key=lambda i: (places[i] / tops[i], i % 2 == 0, i))]

    def widest(self, hidden: int, max_bytes: int) -> int:
        """The most units up to ``hidden`` that fit at any rank; 0 = none."""
        return _largest(hidden, lambda h: self.weigh(h, self._lowest(h)) <= max_bytes)

    def _lowest(self, hidden: int) -> list[Rank]:
        return [1 if most else None for most, _ in self.choices(hidden, [None] * len(self.wanted))]

    def smallest(self) -> str:
        """What to say where nothing fits."""
        weight = self.weigh(1, self._lowest(1))
        text = f"the smallest {self.model.cell}, with one unit, weighs {weight} bytes"
        layers, directions = self.model.num_layers > 1, self.directions > 1
        return text + ("; take fewer layers or one direction" if layers or directions else "")

    def config(self, hidden: int, ranks: Sequence[Rank]) -> ModelConfig:
        """The model with other sizes; ranks that all layers share are one number."""
        w, u = ([*ranks[first::2]] for first in (0, 1))
        w_rank, u_rank = (rank[0] if len(set(rank)) == 1 else rank for rank in (w, u))
        return replace(self.model, hidden_size=hidden, w_rank=w_rank, u_rank=u_rank)

    def confirmed(self, config: ModelConfig, max_bytes: int) -> bool:
        """Whether the network, built, weighs what was computed; zeros to come are not there yet."""
        with _own_randomness():
            counted = model_size(config.build(self.dataset, 0)).int8_bytes
        return bool(self.sparsity) or counted <= max_bytes


def _stored(rows: int, columns: int, share: float, rank: Rank) -> int:
    """Bytes in int8 of a matrix or of its factors, of which a share is kept, with a scale each."""
    if rank is not None:
        return _stored(rows, rank, share, None) + _stored(rank, columns, share, None)
    numbers = rows * columns
    kept = numbers - math.ceil((1 - share) * (numbers - 1))  # as `fastzoo.train.sparsity.support` counts
    return min(numbers, 2 * kept) + 4


def _largest(high: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 1 .. high with ``fits(n)``, which holds up to some n and not beyond; 0 = none."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _options(config: ModelConfig, asked: ModelConfig) -> str:
    """What to change of ``asked`` to get ``config``, as options of ``fastzoo train``."""
    text = [] if config.hidden_size == asked.hidden_size else [f"--hidden-size {config.hidden_size}"]
    for name in ("w_rank", "u_rank"):
        new, old = (_option(name, getattr(model, name)) for model in (config, asked))
        if new != old:
            text.append(new)
    return " ".join(text)


def _option(name: str, rank: int | Sequence[int | None] | None) -> str:
    """A rank as an option; ``full`` and one for each layer are values of a recipe."""
    if isinstance(rank, int):
        return f"--{name.replace('_', '-')} {rank}"
    if rank is None:
        return f"--set model.{name}=full"
    words = ", ".join('"full"' if part is None else str(part) for part in rank)
    return f"--set 'model.{name}=[{words}]'"


def _check_budget(max_bytes: int) -> None:
    if not is_whole(max_bytes, 1):
        raise TrainingError(f"the budget must be a whole number of bytes, at least 1, not {max_bytes!r}")


def _stand_in(channels: int, classes: int, steps: int) -> Dataset:
    """A data set of these sizes without recordings."""
    if not (is_whole(channels, 1) and is_whole(classes, 2) and is_whole(steps, 1)):
        raise TrainingError(
            f"channels, classes and steps must be at least 1, 2 and 1, not {channels}, {classes} and {steps}"
        )
    return Dataset(
        id=f"{channels} channels and {classes} classes",
        x=np.zeros((classes, 1, channels), np.float32),
        y=np.arange(classes),
        group=np.arange(classes),
        split=np.zeros(classes, np.uint8),
        classes=tuple(f"class_{i}" for i in range(classes)),
        channels=tuple(f"channel_{i}" for i in range(channels)),
        rate=1.0,
        strict=False,
    )


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leaves the caller's random numbers as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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

    Where the layout ``fused`` exists, it is several times faster than any other, and the only one measured. The files
    lie in a temporary folder and are not verified: they are timed, not used.

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
        with _own_randomness():
            other = SequenceClassifier.from_config({**config, "cell": config["cell"] | change | sizes})
        tried[units] = _fastest(other, steps, max_us, precisions, repeats=200)[1].p50_us
        return tried[units] <= max_us

    units = hidden
    if not (change and fits(hidden)):
        units = _UNITS * _largest((hidden - 1) // _UNITS, lambda quarter: fits(_UNITS * quarter))
        options += [f"--hidden-size {units}"]
    if units:
        for name in ("w_rank", "u_rank"):
            if max(getattr(cell, name) or 0 for cell in net.rnn.cells) > units:
                options.append(_option(name, None))
        return f"This is fast enough: {' '.join(options)} ({tried[units]:.0f} us)"
    if not tried:
        return "Take shorter windows"
    least = min(tried)
    with_ = f" with {' '.join(options[:-1])}" if change else ""
    return f"Even {least} units{with_} take {tried[least]:.0f} us: take shorter windows"


def _to_fuse(net: SequenceClassifier, steps: int) -> dict[str, Any] | None:
    """What to change so that the whole recurrence becomes one operator; nothing where it is already."""
    from fastzoo.export.layouts import forms
    from fastzoo.export.network import from_torch

    config = net.config()
    usual = {"gate_nonlinearity": "sigmoid", "update_nonlinearity": "tanh"}
    for wanted in ({}, {"nu": 0}, usual, {"nu": 0, **usual}):
        change = {k: v for k, v in wanted.items() if k in config["cell"] and config["cell"][k] != v}
        with _own_randomness():
            other = SequenceClassifier.from_config({**config, "cell": config["cell"] | change})
        try:
            if any(form.layout == "fused" for form in forms(from_torch(other, steps), None, bundle.PRECISIONS)):
                return change
        except ExportError:
            continue
    return None


@contextmanager
def _files(
    net: SequenceClassifier, steps: int, precisions: Sequence[str]
) -> Iterator[tuple[list[Model], np.ndarray[Any, np.dtype[np.float32]]]]:
    """The network's files, opened from a temporary bundle, and seeded windows [n, T, D] in its raw units."""
    from fastzoo.export.layouts import Builder, forms
    from fastzoo.export.network import from_torch

    try:
        network = from_torch(net, steps)
        noise = np.random.default_rng(0).normal(size=(_WINDOWS, steps, len(network.mean)))
        windows = (network.mean + network.std * noise).astype(np.float32)
        wanted = [form for form in forms(network, None, tuple(precisions)) if form.layout != "step"]
        wanted = [form for form in wanted if form.layout == "fused"] or wanted
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
