"""``fastzoo import-edgeml``: turn a model trained with EdgeML into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo.cli import _console
from fastzoo.cli._options import Option, Options, taking

if TYPE_CHECKING:
    from fastzoo.data import Dataset, Split
    from fastzoo.nn import SequenceClassifier
    from fastzoo.nn.edgeml import Imported
    from fastzoo.train.checkpoint import DataRecord

EDGEML_SEED = 42  # fixed in EdgeML's FastCells examples

_FILES, _USE = "What the files do not say", "What the network is for, without --data"

# Fields of fastzoo.nn.edgeml.Options.
_READING = {
    "gate_nonlinearity": Option(str, "quantSigm, tanh, ...; else command.txt's, or sigmoid.", _FILES, name="--gate"),
    "update_nonlinearity": Option(str, "quantTanh, relu, ...; else command.txt's, or tanh.", _FILES, name="--update"),
    "framework": Option(str, "tensorflow or pytorch; an LSTM may need it.", _FILES),
    "transposed": Option(
        bool,
        "FastGRNN stored for x @ W.T; only square matrices need it.",
        _FILES,
        name="--transposed/--not-transposed",
    ),
    "normalisation": Option(
        str, "exact (the default), averaged (over time) or none (samples come normalised).", _FILES
    ),
}
_PURPOSE = {
    "rate": Option(float, "Samples per second, else 1.", _USE),
    "channels": Option(str, "Names with units, joined by commas.", _USE),
    "labels": Option(str, "Names of the classes in order, joined by commas.", _USE),
    "steps": Option(int, "Of a window, else those of mean.npy.", _USE, min=1),
}


@taking(reading=Options(_READING), purpose=Options(_PURPOSE))
def import_edgeml(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A trainer's folder of .npy or q*.npy files, or a PyTorch state dict.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is already there.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="A data set's id, or a prepared .npz file: what it was trained on. Its test split is tried."),
    ] = None,
    *,
    reading: dict[str, Any],
    purpose: dict[str, Any],
) -> None:
    """Read a model of EdgeML's (TensorFlow or PyTorch, all five cells) and write a checkpoint to export.

    Example: fastzoo import-edgeml usps10/FastGRNNResults/2020-05-06T07-08-09 --out usps --normalisation averaged

    Example: fastzoo import-edgeml LSTMResults/2020-05-06T07-08-09 --framework tensorflow --out my-model --data har
    """
    from fastzoo.errors import EdgeMLError, TrainingError
    from fastzoo.nn import SequenceClassifier, edgeml
    from fastzoo.train import checkpoint, seeds_run
    from fastzoo.train.checkpoint import DataRecord

    if not force and ((out / checkpoint.NAME).exists() or seeds_run.is_run(out)):
        raise TrainingError(f"{out} holds a checkpoint already; choose another --out, or replace it with --force")
    imported = edgeml.read(model, edgeml.Options(**reading))
    net = imported.net
    if not isinstance(net, SequenceClassifier):
        raise EdgeMLError(f"{model} has no linear layer and so no classes; fastzoo.nn.from_edgeml reads it in Python")
    if data:
        dataset = _dataset(data, purpose)
        record, test = DataRecord.of(dataset), dataset.test
    else:
        record, test = _data_record(model, net, imported.steps, **purpose), None
    _check_fit(net, record, imported.steps)
    checkpoint.save(out, net, record, _training_record(model, imported), environment={})
    _report(imported, net, record, test)
    typer.echo(f"Next: fastzoo export {out} --out {out}-bundle --data {data or 'ID_OR_NPZ'}")


def _dataset(data: str, purpose: Mapping[str, object]) -> Dataset:
    from fastzoo import data as datasets
    from fastzoo.errors import EdgeMLError

    if purpose:
        given = ", ".join(f"--{name}" for name in purpose)
        raise EdgeMLError(f"the data set says rate, channels, labels and steps: leave out {given}, or --data")
    return datasets.load(data)


def _data_record(
    model: Path,
    net: SequenceClassifier,
    known_steps: int | None,
    *,
    rate: float | None = None,
    channels: str | None = None,
    labels: str | None = None,
    steps: int | None = None,
) -> DataRecord:
    """What a checkpoint says of its data, where the recordings are not at hand."""
    from fastzoo.errors import EdgeMLError
    from fastzoo.train.checkpoint import DataRecord

    steps = steps or known_steps
    if steps is None:
        raise EdgeMLError("how many steps does a window have? No mean.npy tells: give --steps, or --data")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise EdgeMLError(f"--rate must be a positive number of samples per second, not {rate}")
    return DataRecord(
        id=f"edgeml:{model.resolve().name}",
        sha256="",
        steps=steps,
        channels=_names("--channels", channels, "channel", net.rnn.input_size),
        rate=rate or 1.0,
        classes=_names("--labels", labels, "class", net.head.out_features),
    )


def _names(option: str, given: str | None, what: str, count: int) -> tuple[str, ...]:
    from fastzoo.errors import EdgeMLError

    names = tuple(name.strip() for name in given.split(",")) if given else tuple(f"{what}_{i}" for i in range(count))
    if len(names) != count or len(set(names)) != count or "" in names:
        raise EdgeMLError(f"{option} must be {count} different names joined by commas, not {given!r}")
    return names


def _check_fit(net: SequenceClassifier, data: DataRecord, steps: int | None) -> None:
    from fastzoo.errors import EdgeMLError

    has = data.steps, len(data.channels), len(data.classes)
    takes = steps or has[0], net.rnn.input_size, net.head.out_features
    names = "steps", "channels", "classes"
    if faults := [f"{b} {name}, not {a}" for name, a, b in zip(names, has, takes, strict=True) if a != b]:
        raise EdgeMLError(f"the model does not fit the windows it is meant for: it has {'; '.join(faults)}")


def _training_record(model: Path, imported: Imported) -> dict[str, Any]:
    """Where the network comes from, and how an exporter shall hold out validation groups."""
    from fastzoo.train import Settings

    usual = Settings()
    return {
        "settings": {
            "validation_fraction": usual.validation_fraction,
            "validation_seed": usual.validation_seed,
            "seed": EDGEML_SEED,
        },
        "imported": {"from": "EdgeML", "model": model.resolve().name, "notes": list(imported.notes)},
        "bundle": {},
    }


def _report(imported: Imported, net: SequenceClassifier, data: DataRecord, test: Split | None) -> None:
    from fastzoo.nn import model_size
    from fastzoo.train import evaluate

    config = net.rnn.config()
    ranks = ", ".join(f"{name[0].upper()} of rank {config[name] or 'full'}" for name in ("w_rank", "u_rank"))
    facts = _console.table("", "")
    facts.show_header = False
    facts.add_row(
        "cell", f"{type(net.rnn).__name__}, {net.rnn.num_layers} layer(s) of {net.rnn.hidden_size} units, {ranks}"
    )
    facts.add_row("input", f"{data.steps} steps at {data.rate:g} Hz of {', '.join(data.channels)}")
    facts.add_row("labels", ", ".join(data.classes))
    facts.add_row("size", str(model_size(net, data.steps)))
    for note in imported.notes:
        facts.add_row("note", note)
    if test is not None and len(test):
        accuracy = _console.percent(evaluate(net, test, data.classes, "test").accuracy)
        facts.add_row("test", f"{accuracy} of {len(test)} windows right; the trainer printed its own figure")
    _console.console().print(facts)
