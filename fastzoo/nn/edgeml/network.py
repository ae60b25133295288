"""A network from arrays: which cell it is, how its matrices are stored, its ranks, scalars and nonlinearities.

``notes`` is added to: what was found out, assumed or changed, for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from fastzoo.errors import EdgeMLError
from fastzoo.nn.classifier import SequenceClassifier
from fastzoo.nn.edgeml.command import Command
from fastzoo.nn.edgeml.files import Array, Parts
from fastzoo.nn.edgeml.forms import CERTAIN, CURVES, FORMS, PARAMETERS, Form, Options
from fastzoo.nn.nonlinearities import NONLINEARITIES
from fastzoo.nn.sequence import CELLS, Recurrent


@dataclass(frozen=True)
class _Layer:
    kind: str
    input_size: int
    hidden_size: int
    ranks: Mapping[str, int | None]
    fixed: Mapping[str, float]  # scalars that are 0 or 1
    weights: Mapping[str, Array]  # by the names of our cell's parameters


def recurrent(
    cells: Sequence[Parts], besides: Sequence[str], options: Options, command: Command, notes: list[str]
) -> Recurrent:
    """The layers as one sequence module. ``besides`` is what the arrays of a cell hold besides it."""
    of_kinds = [(parts, _kind(parts)) for parts in cells]
    for parts, kind in of_kinds:
        _check_complete(parts, kind, besides)
        if kind == "lstm" and options.framework is None:
            raise EdgeMLError(
                f"{parts.where} is an LSTM, whose files do not tell which trainer wrote them: W1 and U1 belong to the "
                "forget gate in TensorFlow, to the input gate in PyTorch. Give framework='tensorflow' or 'pytorch' "
                "(--framework)"
            )
    transposed = _orientation(of_kinds, options.transposed, notes)
    layers = []
    for parts, kind in of_kinds:
        if faults := list(_faults(parts, kind, transposed)):
            raise EdgeMLError(f"{parts.where} does not fit together as a {FORMS[kind].title}: {'; '.join(faults)}")
        layers.append(_layer(parts, kind, options.framework, transposed, notes))
    return _stack(layers, _nonlinearities(layers[0].kind, options, command, notes))


def _kind(parts: Parts) -> str:
    """Which cell this is, by the arrays that it alone has."""
    names = set(parts.arrays)
    for kind, marks in (
        ("fastgrnn", {"zeta", "nu"}),
        ("fastrnn", {"alpha", "beta"}),
        ("lstm", {"Bf", "Bi", "Bc", "Bo", "W4", "U4"}),
        ("gru", {"Br", "W3", "U3"}),
    ):
        if names & marks:
            return kind
    if names & {"Bg", "Bh"}:  # UGRNN, unless there is one matrix where it has two
        single = any(letter in names and not names & {f"{letter}1", f"{letter}2"} for letter in "WU")
        return "fastgrnn" if single else "ugrnn"
    if "B" in names:
        return "fastrnn"
    raise EdgeMLError(
        f"{parts.where} holds neither biases ({parts.label('Bg')}, ...) nor scalars ({parts.label('zeta')}, ...), of "
        "which every cell has some. EdgeML's trainers do not save them for FastGRNNCUDACell, early ones not for UGRNN, "
        "GRU and LSTM either: such a model is lost, train it again"
    )


def _check_complete(parts: Parts, kind: str, besides: Sequence[str]) -> None:
    """Refuse arrays other than those of one cell and ``besides``."""
    form = FORMS[kind]
    matrices = [name for letter in "WU" for name in form.matrices(letter, parts.arrays)]
    expected = [*matrices, *form.biases, *form.scalars, *besides]
    if missing := [name for name in expected if name not in parts.arrays]:
        raise EdgeMLError(f"{parts.where} lacks {parts.labels(missing)}: a {form.title} has {parts.labels(expected)}")
    if strange := [name for name in parts.arrays if name not in expected]:
        raise EdgeMLError(
            f"{parts.where} holds {parts.labels(strange)} besides the {parts.labels(expected)} of a {form.title}: "
            "two models in one place?"
        )


def _orientation(cells: Sequence[tuple[Parts, str]], transposed: bool | None, notes: list[str]) -> bool:
    """Whether the matrices of cells and their kinds are stored for ``x @ W.T``: as given, or what the shapes say."""
    where = cells[0][0].where
    if any(kind != "fastgrnn" for _, kind in cells):
        if transposed:
            raise EdgeMLError(f"{where} is no FastGRNN; only FastGRNN's matrices were ever stored transposed")
        return False
    if transposed is None:
        fits = [not any(any(_faults(*cell, turned)) for cell in cells) for turned in (False, True)]
        if all(fits):
            raise EdgeMLError(
                f"{where} is a FastGRNN whose matrices are all square, so that their shapes do not tell how they are "
                "stored. Give transposed=False for TensorFlow, and for PyTorch from EdgeML's repository since April "
                "2020; transposed=True for edgeml_pytorch 0.3.0 and FastGRNNCUDA (--not-transposed, --transposed)"
            )
        transposed = fits == [False, True]
    if transposed:
        notes.append("W and U were stored for x @ W.T")
    return transposed


def _faults(parts: Parts, kind: str, transposed: bool) -> Iterator[str]:
    """Where shapes contradict each other. The first bias says what H is, the first matrix of W what D is."""
    form, turn = FORMS[kind], -1 if transposed else 1
    units = parts.arrays[form.biases[0]].size
    for letter in "WU":
        names = form.matrices(letter, parts.arrays)
        shapes = [parts.arrays[name].shape[::turn] for name in names]
        if flat := [name for name, shape in zip(names, shapes, strict=True) if len(shape) != 2]:
            yield f"{parts.labels(flat)} must have two axes"
            continue
        rows = shapes[0][0] if letter == "W" else units
        wanted = [(rows, units)] * len(names)
        if form.is_low_rank(letter, parts.arrays):
            rank = shapes[0][1]
            wanted = [(rows, rank)] + [(rank, units)] * (len(names) - 1)
        for name, shape, right in zip(names, shapes, wanted, strict=True):
            if shape != right:
                yield f"{parts.label(name)} is {list(shape[::turn])}, not {list(right[::turn])}"
    for name, size in (*((name, units) for name in form.biases), *((name, 1) for name in form.scalars)):
        if parts.arrays[name].size != size:
            yield f"{parts.label(name)} has {parts.arrays[name].size} numbers, not {size}"


def _layer(parts: Parts, kind: str, framework: str | None, transposed: bool, notes: list[str]) -> _Layer:
    """One of our cells, from arrays that are complete and fit together."""
    form = FORMS[kind]
    weights: dict[str, Array] = {}
    ranks: dict[str, int | None] = {}
    for letter in "WU":
        *left, last = _factors(parts.arrays, form, letter, framework, transposed)
        if left and len(last) > min(len(left[0]), last.shape[1]):
            notes.append(f"the factors of {letter}, of rank {len(last)}, are larger than {letter}: multiplied out")
            left, last = [], left[0] @ last
        ranks[f"{letter.lower()}_rank"] = len(last) if left else None
        weights |= {f"{letter}1": left[0], f"{letter}2": last} if left else {letter: last}
    biases = [parts.arrays[name].ravel() for name in form.biases]
    if form.scalars:
        weights |= zip((PARAMETERS[name] for name in form.biases), biases, strict=True)
    else:
        weights["bias"] = np.concatenate(biases)
    logits = {name: parts.arrays[name].reshape(()) for name in form.scalars}
    fixed = {name: float(logit > 0) for name, logit in logits.items() if abs(logit) >= CERTAIN}
    weights |= {f"{name}_logit": logit for name, logit in logits.items() if name not in fixed}
    inputs, units = len(next(iter(weights.values()))), len(biases[0])  # the first of all is W, or its left factor
    return _Layer(kind, inputs, units, ranks, fixed, weights)


def _factors(
    arrays: Mapping[str, Array], form: Form, letter: str, framework: str | None, transposed: bool
) -> list[Array]:
    """W or U with our blocks side by side: one matrix, or a left and a right factor."""
    if form.scalars:
        return [arrays[name].T if transposed else arrays[name] for name in form.matrices(letter, arrays)]
    gates = np.concatenate([arrays[name] for name in form.gates(letter, framework)], axis=1)
    return [arrays[letter], gates] if letter in arrays else [gates]


def _nonlinearities(kind: str, options: Options, command: Command, notes: list[str]) -> dict[str, str]:
    """The arguments of our cell, with a note where each comes from."""
    # EdgeML's example passes --gate-nl to FastGRNN only
    gate = command.flag("-gnl", "--gate-nl") if kind == "fastgrnn" or command.is_ours else None
    update = command.flag("-unl", "--update-nl")
    if kind == "fastrnn" and options.gate_nonlinearity is not None:
        raise EdgeMLError("this is a FastRNN, which has no gate: leave out the gate's nonlinearity (--gate)")
    sources = {"update_nonlinearity": (options.update_nonlinearity, update, "tanh")}
    if kind != "fastrnn":
        sources["gate_nonlinearity"] = (options.gate_nonlinearity, gate, "sigmoid")
    chosen = {}
    for argument, (given, commanded, usual) in sources.items():
        spoken, name = argument.replace("_", " "), given or commanded or usual
        ours = chosen[argument] = CURVES.get(name, name)
        if ours not in NONLINEARITIES:
            raise EdgeMLError(f"unknown {spoken} {name!r}; known are {', '.join([*NONLINEARITIES, *CURVES])}")
        source = "as given" if given else "from command.txt" if commanded else "assumed: nothing says otherwise"
        notes.append(f"{spoken} {ours} ({source})")
    return chosen


def _stack(layers: Sequence[_Layer], nonlinearities: Mapping[str, str]) -> Recurrent:
    """One sequence module of all layers, which must be alike."""
    first = layers[0]
    for below, layer in pairwise(layers):
        alike = (layer.kind, layer.hidden_size, layer.fixed) == (first.kind, first.hidden_size, first.fixed)
        if not alike or layer.input_size != below.hidden_size:
            told = ", ".join(f"{of.kind} {of.input_size} -> {of.hidden_size} {dict(of.fixed) or ''}" for of in layers)
            raise EdgeMLError(
                f"layers must be of one cell, with the same number of units and fixed scalars, not {told}"
            )
    ranks = {name: [layer.ranks[name] for layer in layers] for name in first.ranks}
    arguments: dict[str, Any] = {**ranks, **first.fixed, **nonlinearities}
    try:
        rnn = CELLS[first.kind](first.input_size, first.hidden_size, len(layers), **arguments)
    except ValueError as error:
        raise EdgeMLError(f"there is no such network: {error}") from error
    for cell, layer in zip(rnn.cells, layers, strict=True):
        cell.load_state_dict({name: torch.from_numpy(array) for name, array in layer.weights.items()})
    return rnn


def classifier(rnn: Recurrent, head: Parts) -> SequenceClassifier:
    """The sequence module with its linear layer, which normalises nothing yet."""
    fc, bias = head.arrays["FC"], head.arrays["FCbias"].ravel()
    if fc.ndim != 2 or fc.shape != (rnn.hidden_size, len(bias)) or len(bias) < 2:
        raise EdgeMLError(
            f"{head.where} does not fit together: {head.label('FC')} is {list(fc.shape)} and {head.label('FCbias')} "
            f"has {len(bias)} numbers, where [{rnn.hidden_size}, L] and L are needed, L at least 2"
        )
    net = SequenceClassifier(rnn, num_classes=len(bias))
    net.head.load_state_dict({"weight": torch.from_numpy(fc.T), "bias": torch.from_numpy(bias)})
    return net
