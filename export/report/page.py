"""The page itself, in HTML: everything that is text is escaped, every number stands beside what it means."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from fastzoo.export.layouts import INTEGERS, PRODUCTS, WEIGHTS, Form, Scheme
from fastzoo.export.report import plots
from fastzoo.export.report.errors import Trace
from fastzoo.export.report.memory import Memory
from fastzoo.export.report.snippets import cpp, python
from fastzoo.export.report.style import STYLE
from fastzoo.records import Bundle, LayoutFile, Size

KINDS = {WEIGHTS: "int8 weights", PRODUCTS: "8-bit products, fp32 state", INTEGERS: "8-bit state"}
SHOWN = 8  # curves in a plot
MOST_LOST = 0.003  # accuracy, to be marked
# CSS classes of table columns; all others hold numbers.
COLUMNS = {
    "file": "name", "int8": "text", "which": "kernels", "tensor": "name", "session entries it needs": "text",
    "takes, float32": "text", "gives": "text",
}  # fmt: skip
Key = tuple[str, str]  # precision, layout


class Drawing(NamedTuple):
    """One picture; no scheme: fp32."""

    cell: str
    scheme: Scheme | None
    svg: str


@dataclass(frozen=True)
class Content:
    """What the page shows."""

    bundle: Bundle
    forms: Mapping[Key, Form]
    memories: Mapping[Key, Memory | None]
    floor: Memory | None
    drawings: Sequence[Drawing]
    errors: Mapping[Scheme, Sequence[Sequence[Trace]]]  # by cell
    cells: Sequence[str]
    state_size: int  # S of the layout step

    def html(self) -> str:
        """The whole page."""
        name = escape(self.bundle.name)
        sections = "\n".join([*self._head(), *self._files(), *self._graphs(), *self._noise(), *self._running()])
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{name}: export report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{sections}\n</body>\n"
            "</html>\n"
        )

    @property
    def _each(self) -> Iterator[tuple[Key, LayoutFile]]:
        for precision, found in self.bundle.precisions.items():
            for layout, file in found.layouts.items():
                yield (precision, layout), file

    def _head(self) -> Iterator[str]:
        bundle = self.bundle
        yield f"<h1>{escape(bundle.name)}</h1>"
        yield f'<p class="soft">{escape(bundle.summary)} \u00b7 version {escape(bundle.version)}</p>'
        size, shape = bundle.size, bundle.input
        facts = [
            ("cell", escape(_settings({k: v for k, v in bundle.cell.items() if k != "cut"}))),
            ("input", escape(f"{shape.steps} steps of {len(shape.channels)} channels at {shape.rate:g} per second: "
                             + ", ".join(shape.channels))),
            ("classes", escape(", ".join(bundle.labels))),
            ("parameters", _parameters(size)),
            ("multiplications", _count(size.macs_per_step, " a step")),
            ("cut at export", escape(str(bundle.cell.get("cut", "nothing: all units and ranks have influence")))),
        ]  # fmt: skip
        if bundle.dataset:
            data = bundle.dataset
            of = [text for text in (data.variant, data.licence and f"licence {data.licence}", data.citation) if text]
            facts.append(("data set", escape("; ".join([data.id, *of]))))
        if bundle.calibration:
            facts.append(("calibration", escape(_settings(
                {k: v for k, v in bundle.calibration.items() if k not in ("sha256", "tried")}))))  # fmt: skip
        rows = "".join(f"<tr><th>{what}</th><td>{text}</td></tr>\n" for what, text in facts if text)
        yield f"<table><tbody>\n{rows}</tbody></table>"
        yield from self._accuracy()

    def _accuracy(self) -> Iterator[str]:
        rows = []
        for (precision, layout), file in self._each:
            parent = self._parent(precision, layout)
            validation = file.verification.get("validation_accuracy")
            cells = [escape(file.file), escape(file.quantization)]
            for value, of in (
                (validation, parent.verification.get("validation_accuracy") if parent else None),
                (_test(file), _test(parent) if parent else None),
            ):
                cells += [_percent(value), _points(value, of)]
            cells.append(_percent(file.verification.get("same_class")))
            if validation is not None or _test(file) is not None or cells[-1]:
                rows.append(cells)
        if not rows:
            return
        names = ["file", "int8", "validation", "lost to fp32", "test", "lost to fp32", "class of torch"]
        kept = [i for i in range(len(names)) if i < 2 or any(row[i] for row in rows)]
        yield "<h2>Accuracy</h2>"
        yield _table([names[i] for i in kept], [[row[i] for i in kept] for row in rows])
        yield '<p class="soft">Lost: in percentage points, to the fp32 file of the same layout.</p>'

    def _parent(self, precision: str, layout: str) -> LayoutFile | None:
        fp32 = self.bundle.precisions.get("fp32")
        if fp32 is None or precision == "fp32":
            return None
        return fp32.layouts.get(layout) or next(iter(fp32.layouts.values()), None)

    def _files(self) -> Iterator[str]:
        rows, timed = [], []
        for key, file in self._each:
            precision = self.bundle.precisions[key[0]]
            latency, kernels = file.latency, file.verification.get("kernels_per_step", {})
            count = sum(kernels.values())
            used = self.memories.get(key)
            rows.append([
                escape(file.file), _bytes(file.bytes), _bytes(precision.weights_bytes),
                _data(latency.load_ms, f"{latency.load_ms:.1f} ms") if latency else "",
                _data(latency.p50_us, f"{latency.p50_us:,.0f} \u00b5s") if latency else "",
                _data(latency.p95_us, f"{latency.p95_us:,.0f} \u00b5s") if latency else "",
                _data(count, f"{count}{' a window' if key[1] == 'fused' else ''}") if kernels else "",
                ", ".join(f"{_data(n, str(n))} {escape(name)}" for name, n in kernels.items()),
                _megabytes(used.resident) if used else "",
                _megabytes(used.resident - self.floor.resident, sign=True) if used and self.floor else "",
            ])  # fmt: skip
            if latency:
                kind = int(key[0] != "fp32")
                timed.append(plots.Bar(f"{key[0]} {key[1]}", latency.p50_us, latency.p95_us, kind))
        names = ["file", "size", "weights", "load", "p50", "p95", "kernels a step", "which", "memory", "of its own"]
        kept = [i for i in range(len(names)) if any(row[i] for row in rows)]
        yield "<h2>Files</h2>"
        yield _table([names[i] for i in kept], [[row[i] for i in kept] for row in rows])
        if others := [f"{escape(header.file)} {_bytes(header.bytes)}" for header in self.bundle.headers.values()]:
            yield f"<p>Beside them in C: {', '.join(others)}.</p>"
        yield f'<p class="soft">{" ".join(self._notes())}</p>'
        if timed:
            picture = plots.bars("Latency of one window", timed, "\u00b5s", {0: "fp32", 1: "int8"})
            yield "<h3>Latency of one window: median, and the 95th percentile as a line</h3>"
            yield f"<figure>{picture}</figure>"

    def _notes(self) -> Iterator[str]:
        yield "Weights: what they take without the graph around them."
        yield "Kernels: what onnxruntime runs once it has optimised the file, without views and copies."
        if "fused" in {layout for _, layout in self.forms}:
            yield "The loop of fused is inside of one kernel."
        if self.floor and any(self.memories.values()):
            yield (
                "Memory: growth of the resident memory of a fresh process, with onnxruntime already imported, by "
                "opening the file and answering one window; a file with a single Identity takes "
                f"{_megabytes(self.floor.resident)}, what a file takes beyond that is its own."
            )
        if machine := self.bundle.measured_on:
            board = f"{machine.board}, " if machine.board else ""
            yield escape(
                f"Times on {board}{machine.cpu}, {machine.threads} thread(s), onnxruntime {machine.onnxruntime}."
            )

    def _graphs(self) -> Iterator[str]:
        if not self.drawings:
            return
        yield "<h2>One step, drawn</h2>"
        yield f'<p class="soft legend">{_legend()} Numbers on wires are sizes of tensors.</p>'
        for drawing in self.drawings:
            where = f"{escape(drawing.cell)}: " if drawing.cell else ""
            if drawing.scheme is None:
                title = "the step as it is written in fp32"
                note = "What does not depend on the state is computed for all steps at once, outside of the loop."
            else:
                title = f"the kernels that onnxruntime runs in int8 ({KINDS[drawing.scheme.kind]})"
                count = drawing.svg.count("data-key=") - drawing.svg.count('class="box pill"')
                note = f"{count} kernels in the layout scan: {escape(str(drawing.scheme))}."
            yield f"<h3>{where + title if where else title[0].upper() + title[1:]}</h3>"
            yield f'<figure><div class="scroll">{drawing.svg}</div><figcaption>{note}</figcaption></figure>'
        if len(self.cells) > len({drawing.cell for drawing in self.drawings}):
            yield '<p class="soft">The other cells look alike.</p>'

    def _noise(self) -> Iterator[str]:
        if not self.errors:
            return
        yield "<h2>Where the error comes from</h2>"
        yield f"<p>{escape(verdict(self.errors, self.cells))}</p>"
        yield (
            '<p class="soft">SQNR: how much stronger a tensor is in fp32 than its difference in int8, in dB at each '
            "step over all windows and units; 6 dB are one bit. int8 reads its own state: errors can add up.</p>"
        )
        shown = {drawing.cell for drawing in self.drawings}
        for index, cell in enumerate(self.cells):
            if cell not in shown:
                continue
            if cell:
                yield f"<h3>{escape(cell[0].upper() + cell[1:])}</h3>"
            figures = []
            states = [
                plots.Line(f"{trace.label}, {KINDS[scheme.kind]}", trace.sqnr, trace.label == "h")
                for scheme, found in self.errors.items()
                for trace in found[index]
                if trace.state
            ]
            figures.append(_plot("The state", states))
            for scheme, found in self.errors.items():
                figures.append(_plot(f"Tensors, {KINDS[scheme.kind]}", _curves(found[index])))
            yield f'<div class="plots">\n{"".join(figures)}</div>'
            yield '<div class="tables">'
            for scheme, found in self.errors.items():
                yield f"<div><b>{escape(KINDS[scheme.kind])}</b>"
                yield _table(["tensor", "mean", "worst", "at step"], [_row(trace) for trace in found[index]])
                yield "</div>"
            yield "</div>"

    def _running(self) -> Iterator[str]:
        bundle = self.bundle
        yield "<h2>How to run each file</h2>"
        rows = []
        sizes = f"{bundle.input.steps}, {len(bundle.input.channels)}"
        for (_, layout), file in self._each:
            entries = [f"{key} = {value}" for key, value in file.session.items()]
            stream = layout == "step"
            takes = (
                f"x [N, {len(bundle.input.channels)}], state [N, {self.state_size}]" if stream else f"x [N, {sizes}]"
            )
            gives = f"logits [N, {len(bundle.labels)}]" + (f", state_next [N, {self.state_size}]" if stream else "")
            needs = "".join(f"<code>{escape(entry)}</code>" for entry in entries) or "none"
            rows.append([escape(file.file), needs, escape(takes), escape(gives)])
        yield _table(["file", "session entries it needs", "takes, float32", "gives"], rows)
        if bundle.sound:
            yield f"<p>x are frames that {escape(bundle.sound.file)} makes of audio; fastzoo does both.</p>"
        for i, ((precision, layout), file) in enumerate(self._each):
            opened = " open" if i == 0 else ""
            one = python(bundle, precision, layout, file, self.state_size)
            yield f"<details{opened}><summary>{escape(file.file)}</summary>"
            yield f"<pre>{escape(one)}</pre>\n<pre>{escape(cpp(bundle, layout, file, self.state_size))}</pre></details>"


def verdict(errors: Mapping[Scheme, Sequence[Sequence[Trace]]], cells: Sequence[str]) -> str:
    """One sentence for each scheme: what the noise in the last state comes from."""
    index, texts = len(cells) - 1, []
    where = f"the last h ({cells[index]})" if cells[index] else "h"
    weights = next((found[index][0] for scheme, found in errors.items() if scheme.kind == WEIGHTS), None)
    for scheme, found in errors.items():
        h = found[index][0]
        total, db = h.noise_to_signal, _decibels(h.noise_to_signal)
        if scheme.kind == WEIGHTS:
            texts.append(f"With int8 weights alone {where} has {db} over all steps.")
        elif weights is not None and total > 0:
            share = min(max(1 - weights.noise_to_signal / total, 0.0), 1.0)
            if share >= 0.5:
                part = f"about {100 * share:.0f} %" if share < 0.99 else "nearly all"
                which = f"8-bit activations make {part} of its noise power: they dominate, not weights."
            elif share > 0.05:
                which = f"int8 weights make about {100 * (1 - share):.0f} % of its noise power: they dominate."
            else:
                which = "int8 weights make nearly all of its noise: activations add next to nothing."
            texts.append(f"With {KINDS[scheme.kind]} it has {db}; {which}")
    inner = [trace for found in errors.values() for trace in found[index] if not trace.state and len(trace.finite)]
    if inner and len(errors) == 1:
        least = min(inner, key=lambda trace: trace.mean)
        texts.append(f"Of the tensors inside, {least.label} is the noisiest ({least.mean:.1f} dB).")
    return " ".join(texts)


def _decibels(ratio: float) -> str:
    return f"{-10 * math.log10(ratio):.1f} dB" if ratio > 0 else "no noise"


def _curves(found: Sequence[Trace]) -> list[plots.Line]:
    """The states, and of the others the noisiest, in their order."""
    states = [trace for trace in found if trace.state]
    others = sorted((trace for trace in found if not trace.state), key=lambda trace: trace.mean)
    kept = {id(trace) for trace in (*states, *others[: SHOWN - len(states)])}
    return [plots.Line(trace.label, trace.sqnr, trace.state) for trace in found if id(trace) in kept]


def _plot(title: str, curves: Sequence[plots.Line]) -> str:
    picture = plots.lines(title, curves, "SQNR [dB]", "step")
    return f"<figure><b>{escape(title)}</b>\n{picture}</figure>\n" if picture else ""


def _row(trace: Trace) -> list[str]:
    name = f"<b>{escape(trace.label)}</b>" if trace.state else escape(trace.label)
    if not len(trace.finite):
        return [name, "exact", "", ""]
    worst, at = trace.worst
    return [name, _data(trace.mean, f"{trace.mean:.1f} dB"), _data(worst, f"{worst:.1f} dB"), str(at)]


def _legend() -> str:
    keys = {"blue": "product with x", "green": "product with the state", "violet": "nonlinearity",
            "page": "element by element", "amber": "to bytes and back, int8 weights"}  # fmt: skip
    boxes = "".join(f'<span class="key" style="background:var(--{k})"></span>{name}' for k, name in keys.items())
    wires = {"floats": "float32", "bytes": "bytes"}
    return boxes + "".join(
        f'<span class="key line" style="border-color:var(--{k})"></span>{name}' for k, name in wires.items()
    ) + "."  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""

    def line(cells: Sequence[str], tag: str) -> str:
        made = []
        for i, cell in enumerate(cells):
            kind = COLUMNS.get(head[i], "number")
            made.append(f'<{tag} class="{kind}">{cell}</{tag}>')
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>\n{body}\n</tbody></table></div>'


def _parameters(size: Size) -> str:
    some = _count(size.nonzeros, " of them not zero") if size.nonzeros not in (None, size.parameters) else ""
    return ", ".join(filter(None, [_count(size.parameters), some]))


def _count(value: int | None, what: str = "") -> str:
    return "" if value is None else _data(value, f"{value:,}") + what


def _data(value: float | int | None, text: str) -> str:
    """A number for people, and exactly as it stands in bundle.json for programs."""
    return f'<data value="{escape(json.dumps(value))}">{escape(text)}</data>'


def _bytes(value: int) -> str:
    return _data(value, f"{value / 1000:.1f} kB" if value >= 1000 else f"{value} B")


def _megabytes(value: int, sign: bool = False) -> str:
    return _data(value, f"{value / 1e6:{'+' if sign else ''}.1f} MB")


def _percent(value: float | None) -> str:
    return "" if value is None else _data(value, f"{100 * value:.1f} %")


def _points(value: float | None, parent: float | None) -> str:
    """What was lost; more than may be is marked."""
    if value is None or parent is None:
        return ""
    text = f"{100 * (parent - value):.1f}".replace("-0.0", "0.0").replace("-", "\u2212")
    return f'<span class="worse">{text}</span>' if parent - value > MOST_LOST else text


def _test(file: LayoutFile) -> float | None:
    return file.metrics.accuracy if file.metrics else None


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in values.items()
        if value is not None
    )
