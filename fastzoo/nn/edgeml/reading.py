"""From EdgeML: a network from a folder or a state dict."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fastzoo.errors import EdgeMLError
from fastzoo.nn.classifier import SequenceClassifier
from fastzoo.nn.edgeml.command import Command, logged_framework
from fastzoo.nn.edgeml.files import Parts, cells_and_head, elsewhere, float_parts, quantized_parts, state_dict
from fastzoo.nn.edgeml.forms import HEAD, Options
from fastzoo.nn.edgeml.network import classifier, recurrent
from fastzoo.nn.edgeml.normalisation import normalise
from fastzoo.nn.sequence import Recurrent


@dataclass(frozen=True)
class Imported:
    """A network that came from EdgeML, and what else there is to know about it."""

    net: SequenceClassifier | Recurrent
    steps: int | None  # T, where the statistics are per step and channel
    notes: tuple[str, ...]  # what was found out, assumed or changed, for people


def from_edgeml(
    path: str | os.PathLike[str],
    *,
    gate_nonlinearity: str | None = None,
    update_nonlinearity: str | None = None,
    framework: str | None = None,
    transposed: bool | None = None,
    normalisation: str = "exact",
) -> SequenceClassifier | Recurrent:
    """A model that was trained with EdgeML.

    Args:
        path: a trainer's folder of ``.npy`` files, a ``QuantizedModel`` folder of ``q*.npy`` files, or a state dict of
            edgeml_pytorch (``.pt``, ``.pth``). No code from a file is run.
        gate_nonlinearity: by EdgeML's name or ours; default what ``command.txt`` says, or else ``"sigmoid"``.
        update_nonlinearity: the same; or else ``"tanh"``.
        framework: ``"tensorflow"`` or ``"pytorch"``, in which a folder was trained. An LSTM needs it, where nothing in
            or around the folder tells.
        transposed: whether FastGRNN's matrices are meant for ``x @ W.T``; default what their shapes say. Needed where
            they are all square.
        normalisation: ``"exact"`` takes mean and std per channel, and those per step and channel that are constant over
            time; ``"averaged"`` averages them over time; ``"none"`` leaves them out, so that the network takes samples
            that are normalised already.

    Returns:
        A classifier of the last state, in evaluation mode; the sequence module alone for a state dict without a linear
        layer. Scalars are trained, except for sigmoids of 0 and 1 (logits of -100 and 100 or beyond), which are fixed.

    Raises:
        EdgeMLError: files are missing, damaged, hold NaN, do not fit each other, or hold another kind of model; an
            argument is wrong, or needed; the statistics change over time and ``normalisation`` is ``"exact"``.
    """
    return read(path, Options(gate_nonlinearity, update_nonlinearity, framework, transposed, normalisation)).net


def read(path: str | os.PathLike[str], options: Options) -> Imported:
    """:func:`from_edgeml`, with what was learned on the way."""
    path = Path(path)
    if path.is_dir():
        return _from_folder(path, options)
    if not path.is_file():
        raise EdgeMLError(f"there is no folder {path}; give the one into which EdgeML's trainer wrote its .npy files")
    if path.suffix == ".npy":
        raise EdgeMLError(f"{path} is one array of a model; give its folder {path.parent}")
    return _from_state_dict(path, options)


def _from_folder(folder: Path, options: Options) -> Imported:
    parts = float_parts(folder)
    if quantized := not parts.arrays:
        parts = quantized_parts(folder)
    if not parts.arrays:
        raise EdgeMLError(f"{folder} holds no model of EdgeML's: no W.npy, U.npy, FC.npy, ...{elsewhere(folder)}")
    run = folder  # where the other files of the training lie; those of a quantized model in the folder above
    if quantized and not (folder / "mean.npy").exists():
        run = folder.resolve().parent
    command = Command.read(run)
    framework = options.framework or command.framework or logged_framework(run)
    transposed = options.transposed
    if transposed is None and (framework == "tensorflow" or command.is_ours):
        transposed = False
    notes = ["integers of quantizeFastModels.py, as floating-point numbers again"] if quantized else []
    resolved = replace(options, framework=framework, transposed=transposed)
    rnn = recurrent([parts], HEAD, resolved, command, notes)
    command.check_sizes(folder, rnn)
    return _imported(rnn, parts, run, options, notes)


def _from_state_dict(path: Path, options: Options) -> Imported:
    if options.framework == "tensorflow":
        raise EdgeMLError(f"{path} is a file, which only PyTorch's models are; leave out the framework")
    state = state_dict(path)
    cells, head = cells_and_head(path, state)
    is_cuda = any(key.startswith("rnn_list_.") for key in state)  # FastGRNNCUDA's stand-in
    transposed = True if is_cuda else options.transposed
    notes: list[str] = []
    resolved = replace(options, framework="pytorch", transposed=transposed)
    rnn = recurrent(cells, (), resolved, Command(), notes)
    if head is None:
        return Imported(rnn.eval(), None, (*notes, "no linear layer: the sequence module alone"))
    return _imported(rnn, head, path.parent, options, notes)


def _imported(rnn: Recurrent, head: Parts, folder: Path, options: Options, notes: list[str]) -> Imported:
    """The whole network, with mean and std from ``folder``."""
    net = classifier(rnn, head)
    steps = normalise(net, options.normalisation, folder, notes)
    return Imported(net.eval(), steps, tuple(notes))
