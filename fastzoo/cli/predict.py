"""``fastzoo predict``: labels for a recording in a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fastzoo.model import Model


def predict(
    name: _console.Name,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Samples in raw units: .npy or .npz (array x), one window T x D or windows N x T x D; "
            ".csv, T rows of D columns; - reads CSV from standard input. A model with a front end takes .wav too.",
            show_default=False,
        ),
    ],
    proba: Annotated[bool, typer.Option("--proba", help="Print the probability of every label too.")] = False,
    layout: _console.Layout = "auto",
    threads: Annotated[int, typer.Option(min=1, help="How many parts of many windows are computed at a time.")] = 1,
    as_json: _console.AsJson = False,
) -> None:
    """Classify the window or windows in a file; one line per window.

    Example: fastzoo predict fastgrnn-har-int8 window.csv --proba
    """
    import fastzoo
    from fastzoo.cli import _recording

    model = fastzoo.load(name, layout)
    is_wav = file.lower().endswith(".wav")
    x = _features(model, file) if is_wav else _recording.read(file, model.bundle.input.channels)
    shown = sys.stderr.isatty() and not as_json
    probabilities = model.predict_proba(x, threads=threads, progress=shown).reshape(-1, len(model.labels))  # [N, C]
    labels = [model.labels[best] for best in probabilities.argmax(axis=1)]
    if as_json:
        windows = [
            {"label": label, "probabilities": dict(zip(model.labels, map(float, row), strict=True))}
            for label, row in zip(labels, probabilities, strict=True)
        ]
        _console.print_json({"model": model.name, "layout": model.layout, "windows": windows})
    elif proba:
        table = _console.table("predicted", *model.labels, right=model.labels)
        for label, row in zip(labels, probabilities, strict=True):
            table.add_row(label, *(f"{value:.4f}" for value in row))
        _console.console().print(table)
    else:
        typer.echo("\n".join(labels))


def _features(model: Model, file: str) -> npt.NDArray[np.float32]:
    """The window of a WAV file."""
    from fastzoo import wav

    if model.frontend is None:
        return model.features((), 1)  # says why not
    sound = wav.open(file)
    made = model.frontend
    if sound.rate == made.rate and sound.frames > made.clip:
        _console.warn(f"{file} lasts {sound.seconds:.4g} s; only the first {made.clip_s:g} s are heard")
    return model.features(sound.read(made.clip_s), sound.rate)
