"""``fastzoo eval``: a model on a data set it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastzoo.cli import _answers, _console
from fastzoo.cli._options import Option, Options, taking

if TYPE_CHECKING:
    from fastzoo.data import Dataset, Split
    from fastzoo.model import Model
    from fastzoo.records import Metrics

_PANEL = "Events in a stream"
_STREAM = Options(
    {
        "recording": Option(
            str, "A long recording: .wav for a model that hears, else samples in .csv, .npy, .npz.", _PANEL
        ),
        "truth": Option(Path, "What is in it: CSV with the columns label,start,end in seconds.", _PANEL),
        **_answers.options(
            _PANEL,
            events="on,off,seconds: see `fastzoo.events.Events` (default: 0.8,0.5,0.0).",
            labels="yes,no: score these; others are background (default: all).",
        ),
        "tolerance": Option(float, "Seconds by which an event may miss its interval (default: 0.5).", _PANEL),
        "seed": Option(int, "Order in which the windows of --data are strung together (default: 0).", _PANEL, min=0),
        "sweep": Option(bool, "Score at on = 0.1 to 0.99, too.", _PANEL),
        "plot": Option(Path, "Draw the sweep: .png, .svg or .pdf.", _PANEL),
    }
)


@taking(options=_STREAM)
def eval_(
    name: _console.Name,
    options: dict[str, Any],
    data: Annotated[
        str | None,
        typer.Option(help="A data set's id (`fastzoo data list`), or a prepared .npz file.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Measure events in a stream: in a --recording with its --truth, or in windows of --data strung "
            "together.",
        ),
    ] = False,
    layout: _console.Layout = "auto",
    as_json: _console.AsJson = False,
) -> None:
    """Measure accuracy and macro F1 on a data set, in all and per class; or how well events are found in a stream.

    A data set with other channels than the model takes, as ucihar for a model of har, is used if names say which.

    Example: fastzoo eval fastgrnn-har-int8 --data har

    Example: fastzoo eval my-words --stream --recording hour.wav --truth hour.csv --labels yes,no --sweep
    """
    _check_usage(data, stream, options)
    import fastzoo
    from fastzoo import data as datasets

    dataset = None if data is None else datasets.load(data)
    model = fastzoo.load(name, layout)
    part, note = None, ""
    if dataset is not None:
        from fastzoo.data import choice

        fitted, note = choice.fitted(dataset, model.bundle)
        part = dataset, _part(fitted, split)
        for warning in _doubts(model, dataset, part[1]):
            _console.warn(warning)
    if stream:
        from fastzoo.cli import _eval_stream

        if note:
            _console.warn(note)
        _eval_stream.evaluate(model, part, _eval_stream.Asked(split, **options), as_json)
    elif part is not None:
        _evaluate(model, *part, split, note, as_json)


def _check_usage(data: str | None, stream: bool, options: dict[str, Any]) -> None:
    """Refuse options that do not belong together."""
    if not stream:
        if options:
            raise typer.BadParameter(f"--{next(iter(options))} belongs to --stream")
        if data is None:
            raise typer.BadParameter("give --data, or --stream with --recording and --truth")
    elif (data is None) == ("recording" not in options):
        raise typer.BadParameter("--stream takes either --recording with --truth, or --data")
    elif ("recording" in options) != ("truth" in options):
        raise typer.BadParameter("--recording and --truth belong together")
    elif "plot" in options and "sweep" not in options:
        raise typer.BadParameter("--plot draws what --sweep finds: give both")


def _evaluate(model: Model, dataset: Dataset, part: Split, split: str, note: str, as_json: bool) -> None:
    """Each window by itself."""
    from fastzoo import _json
    from fastzoo import data as datasets
    from fastzoo.metrics import evaluate

    metrics = evaluate(model.logits(part.x).argmax(axis=1), part.y, model.labels, split)
    about = datasets.about(dataset.id)
    variant = about.variant if about else "your own file"
    if as_json:
        head = {"model": model.name, "layout": model.layout, "dataset": dataset.id, "variant": variant}
        if note:
            head["note"] = note
        _console.print_json({**head, "sha256": dataset.sha256, "metrics": _json.plain(metrics)})
        return
    console = _console.console()
    console.print(f"{model.name} ({model.layout}) on {metrics.n} {split} windows of {dataset.id}: {variant}")
    if note:
        console.print(f"{note}.")
    console.print(f"accuracy {_console.percent(metrics.accuracy)}, macro F1 {_console.percent(metrics.macro_f1)}\n")
    _print_classes(metrics)


def _print_classes(metrics: Metrics) -> None:
    names = tuple(metrics.per_class)
    numbers = ("precision", "recall", "F1", "windows")
    classes = _console.table("class", *numbers, right=numbers)
    for name, of in metrics.per_class.items():
        ratios = (_console.percent(value) for value in (of.precision, of.recall, of.f1))
        classes.add_row(name, *ratios, str(of.n))
    confusion = _console.table("true \\ predicted", *names, right=names)
    for name, row in zip(names, metrics.confusion, strict=True):
        confusion.add_row(name, *(str(count) if count else "." for count in row))
    console = _console.console()
    console.print(classes)
    console.print()
    console.print(confusion)


def _part(dataset: Dataset, split: str) -> Split:
    """The windows to evaluate on."""
    from fastzoo.errors import DataError

    if split not in ("train", "validation", "test"):
        raise DataError(f"no split {split!r}; there are train, validation and test")
    part: Split = getattr(dataset, split)
    if not len(part):
        raise DataError(f"data set {dataset.id!r} has no {split} windows")
    return part


def _doubts(model: Model, dataset: Dataset, part: Split) -> list[str]:
    """Reasons why the result may not be comparable with the published one."""
    from fastzoo.data import cross

    known = model.bundle.dataset
    if known is None:
        return []
    if known.id != dataset.id:
        doubts = [f"{model.name} was trained on {known.id!r}, not on {dataset.id!r}"]
        related = [relation for relation in cross.relations(known.id) if relation.id == dataset.id]
        if any(set(part.group.tolist()) - set(relation.unseen) for relation in related):
            doubts.append(f"some of these windows are of people in the training split of {known.id!r}")
        return doubts
    if known.sha256 not in (None, dataset.sha256):
        return [
            f"this {dataset.id!r} (sha256 {dataset.sha256[:12]}...) is not the one that {model.name} was made with "
            f"({str(known.sha256)[:12]}...): numbers may differ from the published ones"
        ]
    return []
