"""To EdgeML: a network as the folder that a trainer would write."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastzoo._files import replaced_folder
from fastzoo._values import is_whole
from fastzoo.errors import EdgeMLError
from fastzoo.nn.classifier import SequenceClassifier
from fastzoo.nn.edgeml.command import command_line
from fastzoo.nn.edgeml.forms import CERTAIN, FORMS, FRAMEWORKS, PARAMETERS, check_choice
from fastzoo.nn.sequence import Recurrent


def to_edgeml(
    net: SequenceClassifier, folder: str | os.PathLike[str], *, steps: int, framework: str = "pytorch"
) -> None:
    """Write a network as EdgeML's trainers do: a new folder of ``.npy`` files in float32.

    Args:
        net: one layer in one direction, of which the last state is classified.
        folder: appears complete or not at all.
        steps: T, steps of a window; mean and std are written T times.
        framework: ``"tensorflow"`` or ``"pytorch"``, whose order an LSTM's matrices get.

    A fixed zeta, nu, alpha or beta becomes a logit, 0 and 1 become -100 and 100. ``command.txt`` names cell, sizes,
    nonlinearities and framework: :func:`from_edgeml` needs no arguments for such a folder.

    Raises:
        EdgeMLError: EdgeML has no such network, it holds NaN, or the folder exists or cannot be written.
    """
    check_choice("framework", framework, FRAMEWORKS)
    if not is_whole(steps, 1):
        raise EdgeMLError(f"steps must be a whole number of at least 1, not {steps!r}")
    rnn, target = net.rnn, Path(folder)
    if rnn.num_layers > 1 or rnn.bidirectional or net.pool > 1 or net.brick > 1:
        raise EdgeMLError(
            "EdgeML's trainers have one layer in one direction and classify its last state; this network has "
            f"num_layers={rnn.num_layers}, bidirectional={rnn.bidirectional}, pool={net.pool}, brick={net.brick}"
        )
    arrays = {
        **_cell_arrays(rnn, framework),
        "FC": net.head.weight.T,
        "FCbias": net.head.bias,
        "mean": net.mean.repeat(steps),
        "std": net.std.repeat(steps),
    }
    files = {f"{name}.npy": _npy_bytes(name, tensor) for name, tensor in arrays.items()}
    files["command.txt"] = command_line(rnn, framework).encode()
    if target.exists():
        raise EdgeMLError(f"{target} exists already; choose another folder")
    try:
        with replaced_folder(target, files):
            pass
    except OSError as error:
        raise EdgeMLError(f"cannot write {target}: {error.strerror}; nothing was left behind") from error


def _cell_arrays(rnn: Recurrent, framework: str) -> dict[str, Tensor]:
    """A cell's parameters under the names of their files."""
    form, cell = FORMS[rnn.cell_type.kind], rnn.cell
    arrays: dict[str, Tensor] = {}
    for letter, (*left, last) in (("W", cell.w), ("U", cell.u)):
        if form.scalars:
            names = [f"{letter}1", f"{letter}2"] if left else [letter]
            arrays |= zip(names, [*left, last], strict=True)
        else:
            gates = form.gates(letter, framework)
            arrays |= zip([letter] * len(left) + gates, [*left, *last.chunk(len(gates), dim=1)], strict=True)
    if form.scalars:
        arrays |= {name: getattr(cell, PARAMETERS[name])[None] for name in form.biases}
    else:
        arrays |= zip(form.biases, cell.bias[None].chunk(len(form.biases), dim=1), strict=True)
    for name in form.scalars:
        logit = getattr(cell, f"{name}_logit", None)
        if logit is None:  # fixed
            logit = torch.logit(getattr(cell, name).double()).clamp(-CERTAIN, CERTAIN)
        arrays[name] = logit.reshape(1, 1)
    return arrays


def _npy_bytes(name: str, tensor: Tensor) -> bytes:
    """The content of a file in float32."""
    tensor = tensor.detach().cpu().float()
    if not tensor.isfinite().all():
        raise EdgeMLError(f"the network holds NaN or infinity in what would become {name}.npy")
    file = io.BytesIO()
    np.save(file, tensor.contiguous().numpy())
    return file.getvalue()
