"""``fastzoo eval``: a model on a data set it has not seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from fastzoo.cli import _console

if TYPE_CHECKING:
    from fastzoo.data import Dataset, Split
    from fastzoo.model import Model
    from fastzoo.records import Metrics


def eval_(
    name: _console.Name,
    data: Annotated[str, typer.Option(help="A data set's id (`fastzoo data list`), or a prepared .npz file.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    layout: _console.Layout = "auto",
    as_json: _console.AsJson = False,
) -> None:
    """Measure accuracy and macro F1 on a data set, in all and per class.

    Example: fastzoo eval fastgrnn-har-int8 --data har
    """
    import fastzoo
    from fastzoo import _json
    from fastzoo import data as datasets
    from fastzoo.metrics import evaluate

    dataset = datasets.load(data)
    model = fastzoo.load(name, layout)
    part = _fitting_split(model, dataset, split)
    for warning in _doubts(model, dataset):
        _console.warn(warning)
    metrics = evaluate(model.logits(part.x).argmax(axis=1), part.y, model.labels, split)
    about = datasets.about(dataset.id)
    variant = about.variant if about else "your own file"
    if as_json:
        head = {"model": model.name, "layout": model.layout, "dataset": dataset.id, "variant": variant}
        _console.print_json({**head, "sha256": dataset.sha256, "metrics": _json.plain(metrics)})
        return
    console = _console.console()
    console.print(f"{model.name} ({model.layout}) on {metrics.n} {split} windows of {dataset.id}: {variant}")
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


def _fitting_split(model: Model, dataset: Dataset, split: str) -> Split:
    """The windows to evaluate on, if the data set is what the model was made for."""
    from fastzoo.errors import DataError

    wanted = model.bundle.input
    pairs = {
        "classes": (dataset.classes, model.labels),
        "channels": (dataset.channels, wanted.channels),
        "steps per window": (dataset.x.shape[1], wanted.steps),
    }
    faults = [f"{what} {has}, where the model has {wants}" for what, (has, wants) in pairs.items() if has != wants]
    if not math.isclose(dataset.rate, wanted.rate, rel_tol=1e-3):
        faults.append(f"{dataset.rate:g} samples per second, where the model has {wanted.rate:g}")
    made, takes = dataset.frontend, model.frontend
    if made is not None and takes is not None and made != takes:
        faults.append(f"another front end ({made}), where the model has {takes}")
    if faults:
        raise DataError(f"data set {dataset.id!r} does not fit {model.name}: it has " + "; ".join(faults))
    if split not in ("train", "validation", "test"):
        raise DataError(f"no split {split!r}; there are train, validation and test")
    part: Split = getattr(dataset, split)
    if not len(part):
        raise DataError(f"data set {dataset.id!r} has no {split} windows")
    return part


def _doubts(model: Model, dataset: Dataset) -> list[str]:
    """Reasons why the result may not be comparable with the published one."""
    known = model.bundle.dataset
    if known is None:
        return []
    if known.id != dataset.id:
        return [f"{model.name} was trained on {known.id!r}, not on {dataset.id!r}"]
    if known.sha256 not in (None, dataset.sha256):
        return [
            f"this {dataset.id!r} (sha256 {dataset.sha256[:12]}...) is not the one that {model.name} was made with "
            f"({str(known.sha256)[:12]}...): numbers may differ from the published ones"
        ]
    return []
