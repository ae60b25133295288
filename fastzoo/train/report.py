"""What is left of a run for people to look at: curves and confusion as pictures, a page in Markdown."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastzoo.errors import require
from fastzoo.nn import model_size
from fastzoo.records import Metrics
from fastzoo.train.checkpoint import this_environment
from fastzoo.train.folder import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastzoo.train.log import Epoch
    from fastzoo.train.loop import Run


def write(folder: Path, run: Run, test: Metrics | None) -> None:
    """``report.md``, ``metrics.json``, ``curves.png`` and ``confusion.png`` of one run.

    Args:
        folder: of the run.
        run: with a best epoch.
        test: metrics of the test split, where it was looked at.

    Raises:
        TrainingError: the folder cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    files = {
        "metrics.json": _json({found.split: asdict(found) for found in (run.validation, test) if found}),
        "curves.png": _png(_curves(run.history, run.best)),
        "report.md": _page(run, test).encode(),
    }
    if shown := test or run.validation:
        files["confusion.png"] = _png(_confusion(shown))
    write_files(folder, files)


def write_summary(folder: Path, names: Sequence[str], runs: Sequence[Run], tests: Sequence[Metrics | None]) -> None:
    """``report.md`` over several runs: each one's accuracy, mean, spread and worst.

    Raises:
        TrainingError: the folder cannot be written.
    """
    columns = {
        "validation accuracy": [run.validation.accuracy if run.validation else None for run in runs],
        "validation macro F1": [run.validation.macro_f1 if run.validation else None for run in runs],
        "test accuracy": [test.accuracy if test else None for test in tests],
        "test macro F1": [test.macro_f1 if test else None for test in tests],
    }
    measured = {title: [v for v in values if v is not None] for title, values in columns.items()}
    titles = [title for title, values in measured.items() if len(values) == len(runs)]
    rows = [[f"[{name}]({name}/report.md)", *(_percent(columns[t][i]) for t in titles)] for i, name in enumerate(names)]
    for what, of in (("mean", np.mean), ("standard deviation", _spread), ("worst", np.min)):
        rows.append([f"**{what}**", *(_percent(float(of(measured[title]))) for title in titles)])
    text = f"# {folder.name}\n\n{len(runs)} runs.\n\n" + _table(["", *titles], rows)
    write_files(folder, {"report.md": text.encode()})


def was_tested(folder: Path | None) -> bool:
    """Whether an earlier report in this folder tells of the test split."""
    try:
        return folder is not None and "test" in json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return False


def environment_json() -> bytes:
    """The versions and the machine of this process, as a file."""
    return _json(this_environment())


def _page(run: Run, test: Metrics | None) -> str:
    assert run.best is not None
    split = run.dataset
    facts = [
        ["data", f"{run.source.id}: {len(split.train)} training, {len(split.validation)} validation windows"],
        ["network", ", ".join(f"{name} {value}" for name, value in run.net.rnn.config().items() if value is not None)],
        ["size", str(model_size(run.net, run.source.x.shape[1]))],
        ["best epoch", f"{run.best.epoch} of {len(run.history)}"],
    ]
    for found in (run.validation, test):
        if found:
            facts.append(
                [found.split, f"{_percent(found.accuracy)} right, macro F1 {_percent(found.macro_f1)}, n = {found.n}"]
            )
    sections = [f"# {run.folder.name if run.folder else run.source.id}\n", _table(["", ""], facts)]
    sections.append("\n![loss and accuracy](curves.png)\n")
    if shown := test or run.validation:
        each = [
            [name, _percent(c.precision), _percent(c.recall), _percent(c.f1), str(c.n)]
            for name, c in shown.per_class.items()
        ]
        sections.append(f"\n## Classes ({shown.split})\n\n" + _table(["class", "precision", "recall", "F1", "n"], each))
        sections.append("\n![confusion](confusion.png)\n")
    settings = [[name, str(value)] for name, value in _flat(asdict(run.settings))]
    sections.append("\n## Settings\n\n" + _table(["", ""], settings))
    sections.append("\n## Environment\n\n" + _table(["", ""], [[k, v] for k, v in this_environment().items()]))
    return "".join(sections)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings, one line each: ``sparsity.w``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _figure(width: float, height: float) -> Figure:
    require("matplotlib", extra="train", purpose="a training report")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    return data.getvalue()


def _curves(history: Sequence[Epoch], best: Epoch | None) -> Figure:
    """Loss, validation accuracy, and where there are phases, the entries that are left."""
    epochs = [epoch.epoch for epoch in history]
    sparse = [epoch for epoch in history if epoch.nonzeros is not None]
    figure = _figure(8, 7 if sparse else 5)
    axes = figure.subplots(3 if sparse else 2, 1, sharex=True)
    axes[0].plot(epochs, [epoch.loss for epoch in history], color="tab:blue")
    axes[0].set_ylabel("training loss")
    axes[1].plot(epochs, [100 * epoch.validation_accuracy for epoch in history], color="tab:green", label="accuracy")
    axes[1].plot(epochs, [100 * e.validation_macro_f1 for e in history], color="tab:olive", ls="--", label="macro F1")
    axes[1].set_ylabel("validation [%]")
    if best is not None:
        axes[1].axvline(best.epoch, color="grey", lw=1, ls=":", label=f"kept: epoch {best.epoch}")
    axes[1].legend(loc="lower right")
    if sparse:
        axes[2].step(epochs, [epoch.nonzeros or 0 for epoch in history], where="mid", color="tab:purple")
        axes[2].set_ylabel("non-zeros in W, U")
        axes[2].set_ylim(bottom=0)
        for phase in ("thresholding", "frozen"):
            begins = [epoch.epoch for epoch in history if epoch.phase.startswith(phase)]
            for axis in axes if begins else ():
                axis.axvline(begins[0] - 0.5, color="black", lw=0.8)
            if begins:
                axes[2].text(begins[0], axes[2].get_ylim()[1], f" {phase}", va="top", fontsize=8)
    axes[-1].set_xlabel("epoch")
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def _confusion(found: Metrics) -> Figure:
    """Rows are true classes, shaded by the share of the row."""
    counts = np.array(found.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(found.per_class)
    side = 2.5 + 0.55 * len(names)
    figure = _figure(side + 1, side)
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axis, shrink=0.8, label="share of the true class")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(f"{found.split}: {_percent(found.accuracy)} of {found.n} windows right")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            axis.text(j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    return figure
