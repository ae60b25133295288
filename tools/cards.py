"""Model cards: what a bundle says of itself as a page in Markdown, with a picture of its confusions.

`tools/generate.py` writes them. A picture carries the numbers that it shows, and is compared by these alone: another
release of matplotlib may draw the same numbers with other pixels.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wording import kilobytes, microseconds, percent, table

from fastzoo import _scatter, boards
from fastzoo._scatter import Scene
from fastzoo.bundle import Bundle, LayoutFile, Metrics

PAGES = Path("docs/zoo")
PICTURES = PAGES / "pictures"
MADE = "<!-- made by tools/generate.py: edit the bundle, or that -->"
INK = "#2b3440"
COMPARISON = ("gru", "lstm")  # cells that the zoo holds only to compare its own with


@dataclass(frozen=True)
class Picture:
    """A picture by the numbers that it shows, drawn when it is needed."""

    numbers: Mapping[str, Any]
    draw: Callable[[], bytes]

    @property
    def text(self) -> str:
        """The numbers as a picture carries them."""
        return json.dumps(self.numbers, sort_keys=True)


def shown_by(png: bytes) -> str | None:
    """The numbers that a PNG of ours says it shows; None where it says nothing."""
    at = 8  # behind the signature
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"tEXt" and content.startswith(b"fastzoo\0"):
            return content.partition(b"\0")[2].decode("latin-1")
        at += length + 12
    return None


def cards(
    bundles: Sequence[Bundle],
    models: Mapping[str, dict[str, Any]],
    measured: Sequence[boards.Row],
    scenes: Mapping[str, Scene],
    root: Path,
) -> tuple[dict[Path, str], dict[Path, Picture]]:
    """The bundles' pages and pictures in the checkout ``root``.

    Args:
        bundles: those in the registry.
        models: its entries.
        measured: what boards reported, of any bundles.
        scenes: of each data set, the models against bytes.
        root: where the recipes are.
    """
    pages: dict[Path, str] = {}
    pictures: dict[Path, Picture] = {}
    names = {content.name for content in bundles}
    for content in bundles:
        recipe = root / "recipes" / f"{content.name}.toml"
        text = recipe.read_text(encoding="utf-8") if recipe.is_file() else None
        beside = scenes[content.dataset.id] if content.dataset else None
        own = {name: entry for name, entry in models.items() if Path(entry["bundle"]).name == content.name}
        here = [row for row in measured if row.measured.bundle_sha256 == own.get(row.model, {}).get("bundle_sha256")]
        pages[root / PAGES / f"{content.name}.md"] = "\n".join(_card(content, beside, here, text, names)) + "\n"
        if found := _shown(content):
            pictures[root / PICTURES / f"confusion-{content.name}.png"] = _confusion(content, *found)
    return pages, pictures


def for_comparison(cell: Mapping[str, Any]) -> bool:
    """Whether a model is there to be compared with, by its cell."""
    return cell.get("type") in COMPARISON


def judged_on(training: Mapping[str, Any] | None) -> str:
    """What seeds were chosen on: where all subjects were trained on, nobody was left to validate."""
    return "training windows alone" if "training" in (training or {}) else "validation groups"


def distillation(training: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """How a model was taught by others: their names as ``teachers``; None where it was not."""
    found: Mapping[str, Any] = ((training or {}).get("settings") or {}).get("distillation") or {}
    teachers = [Path(name).name for name in found.get("teachers", ())]  # of a folder the name, wherever it lay
    return {**found, "teachers": teachers} if teachers else None


# ---------------------------------------------------------------------------------------------------------------------
# The page


def _card(
    content: Bundle, scene: Scene | None, measured: Sequence[boards.Row], recipe: str | None, names: Collection[str]
) -> Iterator[str]:
    """Its lines; to the bundles in ``names`` it can link."""
    yield from (f"# {content.name}", "", MADE, "", f"{content.summary}.", "")
    if for_comparison(content.cell):
        yield from ("Here for comparison with the zoo's small cells.", "")
    yield from table(("", ""), _facts(content, names))
    yield from _loading(content)
    yield from _files(content)
    yield from _boards(measured)
    yield from _accuracy(content)
    yield from _seeds(content)
    if scene is not None and scene.points:
        name, metric = scene.dataset, _scatter.NAMES[scene.metric]
        yield from ("", "## Beside the others", "")
        yield f"![{metric} against bytes of all models of {name}](pictures/pareto-{name}.png)"
        yield from ("", f"Numbers and sources: [all models of {name}](index.md#{name}).")
    yield from _quantization(content)
    yield from _platforms(content)
    yield from _making(content, recipe)
    yield from _terms(content)


def _facts(content: Bundle, names: Collection[str]) -> Iterator[tuple[str, str]]:
    window, size, cell = content.input, content.size, content.cell
    if content.dataset is not None:
        yield "data", f"`{content.dataset.id}`: {content.dataset.variant or 'your own'}"
    seconds = window.steps / window.rate
    yield "window", f"{window.steps} steps at {window.rate:g} per second ({seconds:.3g} s)"
    yield "channels", _listed(window.channels)
    yield "labels", _listed(content.labels)
    given = [
        f"{key} {_value(value)}" for key, value in cell.items() if key not in ("type", "cut") and value is not None
    ]
    yield "cell", f"{cell.get('type', '')}: {', '.join(given)}"
    yield "pooling", "the last state" if content.pool == 1 else f"mean of the last {content.pool} states"
    if taught := distillation(content.training):
        yield "distilled from", _taught(taught, names)
    counts = {
        "parameters": size.parameters,
        "non-zeros": size.nonzeros,
        "multiply-adds a step": size.macs_per_step,
        "multiply-adds a window": size.macs_per_window,
    }
    yield (
        "size",
        ", ".join(f"{count:,} {what}".replace(",", " ") for what, count in counts.items() if count is not None),
    )
    stored = {"fp32": size.dense_bytes, "sparse fp32": size.sparse_bytes, "int8": size.int8_bytes}
    if texts := [f"{count} bytes {how}" for how, count in stored.items() if count is not None]:
        yield "weights", ", ".join(texts)
    if content.frontend is not None:
        yield "front end", f"`{content.frontend}`"
    yield "version", content.version


def _taught(taught: Mapping[str, Any], names: Collection[str]) -> str:
    """The teachers, and how much the model was to follow them."""
    teachers = [f"[{name}]({name}.md)" if name in names else f"`{name}`" for name in taught["teachers"]]
    settings = (f"{key} {taught[key]:g}" for key in ("weight", "temperature") if key in taught)
    return "; ".join(", ".join(words) for words in (teachers, settings)).removesuffix("; ")


def _loading(content: Bundle) -> Iterator[str]:
    name = content.model_name(_preferred(content))
    shape = f"{content.input.steps}, {len(content.input.channels)}"
    yield from ("", "## Load", "", "```python", "import numpy as np", "", "import fastzoo", "")
    yield f'model = fastzoo.load("{name}")'
    yield f"window = np.zeros(({shape}), np.float32)  # steps, channels; as the sensor gives them"
    yield "model.predict(window), model.predict_proba(window)"
    yield "stream = model.stream()  # for signals that do not end: stream.push(chunk)"
    yield "```"
    others = [f"`{content.model_name(p)}`" for p in content.precisions if content.model_name(p) != name]
    if others:
        yield from ("", f"Also as {', '.join(others)}. [What `load` takes](../models.md), [streams](../streams.md).")


def _files(content: Bundle) -> Iterator[str]:
    yield from ("", "## Files", "")
    rows = []
    for precision, files in content.precisions.items():
        for layout, file in files.layouts.items():
            latency, metrics = file.latency, file.metrics
            rows.append([
                f"`{file.file}`",
                percent(metrics.accuracy if metrics else None, 2),
                percent(metrics.macro_f1 if metrics else None, 2),
                kilobytes(files.weights_bytes),
                kilobytes(file.bytes),
                microseconds(latency.p50_us if latency else None),
                microseconds(latency.p95_us if latency else None),
                f"{latency.load_ms:.1f} ms" if latency else "",
                "**auto**" if layout == content.fastest(precision) else "",
            ])  # fmt: skip
    columns = ("file", "accuracy", "macro F1", "weights", "file's size", "p50", "p95", "load", "opened by")
    yield from table(columns, rows, right=range(1, 8))
    if (machine := content.measured_on) is not None:
        where = machine.board or machine.cpu
        yield from ("", f"Latency: one window at a time in {machine.threads} thread, {where}, {machine.cores} core(s),")
        yield f"{machine.os}, Python {machine.python}, onnxruntime {machine.onnxruntime}."
    if any(not file.metrics for _, _, file in _all(content)):
        yield from ("", "The layout `step` computes what the others do, a step at a time, for streams.")


def _boards(measured: Sequence[boards.Row]) -> Iterator[str]:
    """Every layout on every board that reported these very files."""
    if not measured:
        return
    yield from ("", "## On boards", "")
    rows = [
        [
            f"{row.board} ({row.machine.cpu})",
            f"`{row.model}`",
            f"{row.layout}, {row.backend}",
            microseconds(row.numbers.p50_us),
            microseconds(row.numbers.p95_us),
            f"{row.numbers.load_ms:.1f} ms",
            "" if row.numbers.start_ms is None else f"{row.numbers.start_ms:.0f} ms",
            "" if row.numbers.peak_rss_bytes is None else f"{row.numbers.peak_rss_bytes / 1e6:.0f} MB",
        ]
        for row in measured
    ]
    columns = ("board", "model", "layout, backend", "p50", "p95", "load", "start", "memory")
    yield from table(columns, rows, right=range(3, 8))
    yield from ("", "What the columns mean: [boards](../boards.md).")


def _accuracy(content: Bundle) -> Iterator[str]:
    if (found := _shown(content)) is None:
        return
    file, metrics = found
    yield from ("", "## Accuracy", "")
    yield f"`{file.file}` on the {metrics.split} split, {metrics.n} windows:"
    yield f"accuracy {percent(metrics.accuracy)}, macro F1 {percent(metrics.macro_f1)}."
    yield ""
    rows = [
        [label, percent(of.precision), percent(of.recall), percent(of.f1), str(of.n)]
        for label, of in metrics.per_class.items()
    ]
    yield from table(("class", "precision", "recall", "F1", "windows"), rows, right=range(1, 5))
    yield from ("", f"![confusion matrix of {file.file}](pictures/confusion-{content.name}.png)")
    yield from _cross_checks(content)


def _cross_checks(content: Bundle) -> Iterator[str]:
    """The fastest files on data sets that record the same otherwise."""
    found = [
        (files.layouts[check.layout].file, id, check)
        for files in content.precisions.values()
        for id, check in (files.cross_checks or {}).items()
    ]
    if not found:
        return
    where = "On other recordings of the same classes, of people who were not trained on ([data](../data.md)):"
    yield from ("", where, "")
    rows = [
        [f"`{id}`", f"`{file}`", str(check.n), percent(check.accuracy), percent(check.macro_f1)]
        for file, id, check in found
    ]
    yield from table(("data", "file", "windows", "accuracy", "macro F1"), rows, right=range(2, 5))
    variants = {id: check.variant for _, id, check in found if check.variant}
    yield from ("", *(f"- `{id}`: {variant}." for id, variant in variants.items()))


def _seeds(content: Bundle) -> Iterator[str]:
    seeds = content.seeds
    if not seeds:
        return
    yield from ("", "## Seeds", "")
    where = judged_on(content.training)
    yield f"{len(seeds['seeds'])} seeds were trained; seed {seeds['chosen']} was best on {where} and is"
    yield "published. Accuracy of all on the test split:"
    yield ""
    each = [f"seed {seed}" for seed in seeds["seeds"]]
    rows = [
        [kind, percent(of["mean"]), f"{100 * of['std']:.2f}", percent(of["worst"]), *map(percent, of["accuracy"])]
        for kind, of in seeds.items()
        if "/" in kind
    ]
    columns = ("files", "mean", "deviation", "worst", *each)
    yield from table(columns, rows, right=range(1, len(columns)))


def _quantization(content: Bundle) -> Iterator[str]:
    yield from ("", "## Quantization", "")
    for precision, layout, file in _all(content):
        if file.quantization != "none":
            same = file.verification.get("same_class")
            agree = f"; {100 * same:.1f} % of windows keep torch's class" if same is not None else ""
            yield f"- `{precision}-{layout}`: {file.quantization}{agree}."
    calibration = content.calibration
    if not calibration:
        return
    yield from ("", f"Ranges: {calibration.get('windows')} training windows, {calibration.get('method')}, sha256")
    yield f"`{calibration.get('sha256')}`."
    if tried := calibration.get("tried"):
        columns = ("state, ranges", "fp32's class", "accuracy")
        rows = [[kind, percent(of.get("same_class")), percent(of.get("accuracy"))] for kind, of in tried.items()]
        yield f"Tried on the {calibration.get('judged_on')}; chosen: a state of {calibration.get('state')}."
        yield ""
        yield from table(columns, rows, right=(1, 2))


def _platforms(content: Bundle) -> Iterator[str]:
    """The worst of all files on each platform."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for _, _, file in _all(content):
        for name, told in file.verification.get("platforms", {}).items():
            found.setdefault(name, []).append(told)
    if not found:
        return
    yield from ("", "## Elsewhere", "", "The same files on other platforms, the worst of all files:", "")
    rows = [
        [
            name,
            str(max(one["windows"] for one in told)),
            percent(min(one["same_class"] for one in told)),
            f"{max(one['max_logit_difference'] for one in told):.2g}",
        ]
        for name, told in found.items()
    ]
    yield from table(("platform", "windows", "same class", "largest difference of a logit"), rows, right=range(1, 4))


def _making(content: Bundle, recipe: str | None) -> Iterator[str]:
    yield from ("", "## Made again", "")
    training, environment = content.training or {}, content.environment or {}
    if recipe is not None:
        yield from ("```sh", f"fastzoo reproduce {content.name} --from weights  # seconds: every file, bit by bit")
        yield from (f"fastzoo reproduce {content.name}  # trains it again", "```", "")
    if validation := training.get("validation"):
        epoch = f"epoch {training['epoch']}, " if "epoch" in training else ""
        accuracy, n = percent(validation.get("accuracy")), validation.get("n")
        yield f"The weights are those of {epoch}{accuracy} accuracy on {n} validation windows."
        yield ""
    for what in ("training", "export"):
        if versions := environment.get(what):
            yield f"- {what}: {', '.join(f'{name} {value}' for name, value in versions.items())}"
    digests = {"weights": content.weights.sha256}
    if content.dataset is not None and content.dataset.sha256:
        digests["data"] = content.dataset.sha256
    yield from ("", *(f"- sha256 of the {what}: `{digest}`" for what, digest in digests.items()))
    if recipe is not None:
        yield from ("", f"The [recipe](../../recipes/{content.name}.toml):", "", "```toml", recipe.rstrip(), "```")


def _terms(content: Bundle) -> Iterator[str]:
    yield from ("", "## Licences", "")
    terms = {"code": content.licences.code, "weights": content.licences.weights, "data": content.licences.data}
    yield from (f"- {what}: {text}" for what, text in terms.items() if text)
    cited = [text for text in (content.citation, content.dataset.citation if content.dataset else None) if text]
    if cited:
        yield from ("", "## Cite", "", *(f"- {text}" for text in cited))


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def _confusion(content: Bundle, file: LayoutFile, metrics: Metrics) -> Picture:
    title = f"{content.name}, {file.file}: {metrics.n} {metrics.split} windows"
    counts = [list(row) for row in metrics.confusion]
    numbers = {"title": title, "labels": list(content.labels), "confusion": counts}
    return Picture(numbers, lambda: _draw_confusion(title, content.labels, counts, json.dumps(numbers, sort_keys=True)))


def _draw_confusion(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]], numbers: str) -> bytes:
    """Rows are the true classes; the shade is the share of a row, the number how many windows."""
    from matplotlib.figure import Figure

    n = len(labels)
    side = max(2.6, 0.62 * n) if n <= 12 else 0.42 * n
    size = 9 if n <= 12 else 7
    figure = Figure(figsize=(side + 1.9, side + 1.7), layout="constrained")
    axes = figure.subplots()
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                colour = "white" if shares[i][j] > 0.55 else INK
                axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=colour)
    names = [label.replace("$", r"\$").replace("_", " ") for label in labels]
    axes.set_xticks(range(n), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.set_xticks([x - 0.5 for x in range(1, n)], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, n)], minor=True)
    axes.grid(which="minor", color="white", lw=1.5)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    figure.suptitle(title, fontsize=10, color=INK)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"fastzoo": numbers})
    return content.getvalue()


def _shown(content: Bundle) -> tuple[LayoutFile, Metrics] | None:
    """The file whose accuracy the card shows in full: the one that is opened, in int8 where there is that."""
    precision = _preferred(content)
    layout = content.fastest(precision)
    file = content.precisions[precision].layouts[layout] if layout else None
    return (file, file.metrics) if file is not None and file.metrics is not None else None


def _preferred(content: Bundle) -> str:
    return "int8" if "int8" in content.precisions else next(iter(content.precisions))


def _all(content: Bundle) -> Iterator[tuple[str, str, LayoutFile]]:
    for precision, files in content.precisions.items():
        for layout, file in files.layouts.items():
            yield precision, layout, file


def _listed(names: Sequence[str], most: int = 24) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
