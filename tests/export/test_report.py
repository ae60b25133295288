"""The page on a bundle: its numbers are those of ``bundle.json``, its drawings are whole, its errors are measured."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from fastzoo import nn
from fastzoo.bundle import Bundle
from fastzoo.data import Dataset
from fastzoo.export import export, pipeline
from fastzoo.export.from_torch import from_torch
from fastzoo.export.kernels import FREE, kernels_of_a_step, optimised
from fastzoo.export.layouts import INTEGERS, PRODUCTS, WEIGHTS, Builder, Form, Scheme
from fastzoo.export.network import Floats
from fastzoo.export.report import memory, report
from fastzoo.export.report.diagram import BETWEEN, Box, Diagram, Wire
from fastzoo.export.report.errors import Trace, schemes_of, traces
from fastzoo.export.report.page import verdict
from fastzoo.export.report.pictures import of_kernels, of_step
from fastzoo.export.report.plots import Bar, Line, bars, lines
from fastzoo.nn import SequenceClassifier

D, H, T = 3, 8, 12
CELLS: dict[str, Callable[[], Any]] = {
    "fastgrnn": lambda: nn.FastGRNN(D, H, w_rank=2, u_rank=4, nu=0.0),
    "fastgrnn nu": lambda: nn.FastGRNN(D, H, w_rank=2, u_rank=4),
    "fastrnn": lambda: nn.FastRNN(D, H),
    "ugrnn": lambda: nn.UGRNN(D, H),
    "lstm": lambda: nn.LSTM(D, H),
    "gru": lambda: nn.GRU(D, H, u_rank=4),
}
STACK: dict[str, Callable[[], Any]] = {"stack": lambda: nn.GRU(D, H, num_layers=2, bidirectional=True)}
SCHEMES: dict[str, Scheme | None] = {
    "fp32": None, WEIGHTS: Scheme(WEIGHTS), PRODUCTS: Scheme(PRODUCTS), INTEGERS: Scheme(INTEGERS),
    "per channel": Scheme(INTEGERS, per_channel=True),
}  # fmt: skip


def windows(seed: int = 0, count: int = 30) -> Floats:
    noise = np.random.default_rng(seed).normal(size=(count, T, D))
    return (0.5 * noise.cumsum(axis=1)).astype(np.float32)


def network(kind: str) -> SequenceClassifier:
    torch.manual_seed(0)
    net = SequenceClassifier({**CELLS, **STACK}[kind](), 4, 2)
    with torch.no_grad():  # EdgeML's own beginning is so small beside its biases of 1 that states never are negative
        for name, parameter in net.rnn.named_parameters():
            if parameter.dim() == 2:
                parameter.copy_(
                    torch.randn(parameter.shape) * (0.5 if "u" in name.lower() else 1) / len(parameter) ** 0.5
                )
            elif "bias" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape))
    net.set_normalisation(torch.from_numpy(windows()))
    return net


def builder(kind: str) -> Builder:
    return Builder(from_torch(network(kind), T), windows())


# The drawing.


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", [*CELLS, *STACK])
def test_a_drawing_has_every_operator_once_and_no_two_boxes_overlap(kind: str, scheme: str) -> None:
    for step in builder(kind).steps(SCHEMES[scheme]):
        drawn = of_step(step)
        keys = [box.key for box in drawn.boxes if box.kind != "pill"]
        assert sorted(keys) == sorted(node.output[0] for node in (*step.project, *step.recur))
        pills = Counter(box.title for box in drawn.boxes if box.kind == "pill")
        assert pills == Counter(["x", *(name for p in step.states for name in (p.name[-1], f"{p.name[-1]}\u2032"))])
        apart(drawn)
        assert drawn.svg("step").count('class="box ') == len(drawn.boxes)


@pytest.mark.parametrize("scheme", [PRODUCTS, INTEGERS])
@pytest.mark.parametrize("kind", [*CELLS, *STACK])
def test_kernels_are_drawn_as_the_runtime_runs_them(kind: str, scheme: str) -> None:
    made, form = builder(kind), Form("int8", "scan", SCHEMES[scheme])
    model = made.build(form)
    kernels, total = optimised(model, form.session), Counter[str]()
    bodies = [attribute.g for node in kernels.graph.node for attribute in node.attribute if attribute.HasField("g")]
    for index, step in enumerate(made.steps(form.scheme)):
        drawn = of_kernels(step, kernels, index)
        assert drawn is not None
        body = next(body for body in bodies if body.name == step.name)
        wanted = [node.output[0] for node in body.node if node.op_type not in FREE]
        assert sorted(box.key for box in drawn.boxes if box.kind != "pill") == sorted(wanted)
        assert all(wire.label for name, wire in drawn.wires.items() if name not in box_outputs_unknown(drawn))
        total.update(box.hint.split(":")[0] for box in drawn.boxes if box.kind != "pill")
        apart(drawn)
        ends = [box for box in drawn.boxes if box.key.startswith("out ")]
        assert [box.inputs for box in ends] == [(name,) for name in step.following]
    assert total == kernels_of_a_step(model, "scan", form.session, T)


def box_outputs_unknown(drawn: Diagram) -> set[str]:
    """What onnxruntime made and named itself."""
    return {name for name, wire in drawn.wires.items() if not wire.label and "_token_" in name}


def test_eight_kernels_and_their_weights_are_seen() -> None:
    made, form = builder("fastgrnn"), Form("int8", "scan", Scheme(INTEGERS))
    drawn = of_kernels(made.steps(form.scheme)[0], optimised(made.build(form), form.session), 0)
    assert drawn is not None
    boxes = [box for box in drawn.boxes if box.kind != "pill"]
    assert len(boxes) == 8
    assert [chip.text for box in boxes for chip in box.chips] == [f"U1 {H}\u00d74", f"U2 4\u00d7{3 * H}"]
    assert {chip.kind for box in boxes for chip in box.chips} == {"int8"}
    assert {wire.kind for wire in drawn.wires.values()} == {"bytes"}
    assert drawn.wires["h"].label == str(H)
    step = of_step(made.steps(None)[0])
    assert {wire.kind for wire in step.wires.values()} == {"floats"}
    assert [chip.text for box in step.boxes for chip in box.chips if chip.kind == "weight"] == [
        f"W1 {D}\u00d72", f"W2 2\u00d7{H}", f"U1 {H}\u00d74", f"U2 4\u00d7{H}",
    ]  # fmt: skip


def apart(drawn: Diagram) -> None:
    """No two boxes overlap, all lie inside of the picture, and every wire runs from left to right."""
    for (_, a), (_, b) in itertools.combinations(drawn.rects.items(), 2):
        beside = a.x + a.width < b.x or b.x + b.width < a.x
        gap = BETWEEN - 1e-6
        assert beside or a.y + a.height + gap <= b.y or b.y + b.height + gap <= a.y
    for rect in drawn.rects.values():
        assert rect.x >= 0
        assert rect.y >= 0
        assert rect.x + rect.width <= drawn.width
        assert rect.y + rect.height <= drawn.height
    made = {wire: box.key for box in drawn.boxes for wire in box.outputs}
    for box in drawn.boxes:
        for wire in box.inputs:
            before = drawn.rects[made[wire]]
            assert before.x + before.width < drawn.rects[box.key].x


def test_any_graph_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    for count in range(1, 30):
        boxes: list[Box] = []
        for i in range(count):
            found = [str(name) for name in rng.choice(i, min(i, int(rng.integers(0, 4))), replace=False)] if i else []
            several = tuple(f"{i}.{k}" for k in range(int(rng.integers(0, 4))))
            boxes.append(Box(str(i), "Op" * int(rng.integers(1, 6)), "each", tuple(found), (str(i), *several)))
        drawn = Diagram(boxes, {str(i): Wire("1000") for i in range(count)})
        apart(drawn)
        assert drawn.svg("any") == Diagram(boxes, dict(drawn.wires)).svg("any")


def test_names_in_drawings_are_escaped() -> None:
    drawn = Diagram([Box("<a>", "<b>", "each", (), ("w",)), Box("c", "d", "each", ("w",))], {"w": Wire("<e>")})
    assert not {"<a>", "<b>", "<e>"} & set(re.findall(r"<[abe]>", drawn.svg('<f>"')))
    assert 'aria-label="&lt;f&gt;&quot;"' in drawn.svg('<f>"')


# The errors.


@pytest.mark.parametrize("kind", [*CELLS, *STACK])
def test_fp32_does_not_differ_from_itself(kind: str) -> None:
    for cell in traces(builder(kind), None, windows(1)):
        assert cell[0].state
        for trace in cell:
            assert not trace.noise.any()
            assert trace.mean == float("inf")
            assert not len(trace.finite)


@pytest.mark.parametrize("kind", [*CELLS, *STACK])
def test_weights_cost_something_and_an_8_bit_state_costs_more(kind: str) -> None:
    made = builder(kind)
    found = {kind: traces(made, Scheme(kind), windows(1)) for kind in (WEIGHTS, PRODUCTS, INTEGERS)}
    for weights, products, integers in zip(*found.values(), strict=True):
        for cell in (weights, products, integers):
            names = [trace.label for trace in cell]
            assert len(set(names)) == len(names)
            for trace in cell:
                assert trace.signal.shape == trace.noise.shape == (T,)
                assert len(trace.finite) >= T - 1  # before the first step the state is zero
                assert trace.mean > (15 if cell is weights or trace.state else 5)
                assert trace.worst[0] <= trace.mean
        assert integers[0].sqnr[0] > 20  # the first state is zero, whatever byte that is
        assert weights[0].label == products[0].label == integers[0].label == "h"
        assert integers[0].mean < weights[0].mean - 1
        assert integers[0].noise_to_signal > weights[0].noise_to_signal > 0
        assert any(trace.label == "h, as it is read in 8 bits" for trace in products)
        assert len(weights) > 3
        assert len(integers) > 3


def test_what_the_step_and_the_file_compute_is_the_same() -> None:
    """The noise of the last state, times the head, is the difference of the logits."""
    made, x = builder("fastgrnn"), windows(1)
    scheme = Scheme(INTEGERS)
    (cell,) = traces(made, scheme, x)
    logits = []
    for form in (Form("fp32", "scan"), Form("int8", "scan", scheme)):
        session = onnxruntime.InferenceSession(made.build(form).SerializeToString())
        logits.append(session.run(None, {"x": x})[0])
    noise = np.linalg.norm(logits[0] - logits[1])
    bound = np.sqrt(cell[0].noise[-2:].mean()) * np.linalg.norm(made.network.head_weight, 2)
    assert 0.05 * bound < noise < 3 * bound


def test_decibels() -> None:
    signal, noise = np.array([0, 100, 100, 100.0]), np.array([0, 1, 10, 0.0])
    trace = Trace("h", signal, noise, True)
    assert np.isnan(trace.sqnr[0])
    assert trace.sqnr[1:].tolist() == [20, 10, float("inf")]
    assert trace.mean == 15
    assert trace.worst == (10, 2)


def test_the_verdict_names_what_dominates() -> None:
    def h(noise: float) -> list[list[Trace]]:
        return [[Trace("h", np.ones(2), np.full(2, noise), True)]]  # type: ignore[arg-type]

    few, many = Scheme(WEIGHTS), Scheme(INTEGERS)
    assert "8-bit activations make about 90 %" in verdict({few: h(0.001), many: h(0.01)}, [""])
    assert "int8 weights make about 80 %" in verdict({few: h(0.008), many: h(0.01)}, [""])
    assert "add next to nothing" in verdict({few: h(0.01), many: h(0.01)}, ["layer 2"])
    assert "30.0 dB" in verdict({few: h(0.001)}, [""])
    assert "no noise" in verdict({few: h(0)}, [""])


def test_weights_alone_are_measured_beside_activations_even_where_no_file_has_them() -> None:
    form = Form("int8", "unrolled", Scheme(PRODUCTS, per_channel=True, signed=True))
    assert schemes_of([form]) == [Scheme(WEIGHTS, per_channel=True), Scheme(PRODUCTS, per_channel=True)]
    assert schemes_of([Form("fp32", "scan")]) == []


# Plots and memory.


def test_gaps_and_nothing_at_all() -> None:
    values = np.array([np.nan, 1, np.inf, 3, 4], np.float32)
    assert len(re.findall(r"M[\d.]+ [\d.]+L?", lines("t", [Line("h", values, True)], "y", "x"))) >= 2
    assert "nan" not in lines("t", [Line("h", values)], "y", "x")
    assert lines("t", [], "y", "x") == lines("t", [Line("h", np.full(3, np.nan, np.float32))], "y", "x") == ""
    assert "<svg" in lines("t", [Line("h", np.full(1, 5, np.float32))], "y", "x")
    assert bars("t", [], "s", {}) == ""
    assert "&lt;b&gt;" in bars("t", [Bar("<b>", 1, 2)], "s", {0: "k"})


@pytest.mark.skipif(not memory.STATM.exists(), reason="there is no /proc here")
def test_the_memory_of_a_session_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    form = Form("int8", "step", Scheme(WEIGHTS))
    model = builder("fastgrnn").build(form)
    used = memory.session_memory(model, form.session, T)
    assert used is not None
    assert 100_000 < used.own <= used.resident < 100_000_000
    assert memory.session_memory(type(model)(), {}, T) is None  # no model: the process fails
    monkeypatch.setattr(memory, "STATM", tmp_path / "none")
    assert memory.session_memory(model, form.session, T) is None


# The page.


class Page(HTMLParser):
    """Well-formed, or it raises; what is in it."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.values: Counter[str] = Counter()
        self.text: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert len({name for name, _ in attrs}) == len(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "data":
            self.values[dict(attrs)["value"] or ""] += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass(frozen=True)
class Made:
    bundle: Bundle
    builder: Builder
    forms: list[Form]
    windows: Floats


def made(folder: Path, net: SequenceClassifier, **arguments: Any) -> Made:
    """A real export, and what it was made with."""
    seen: dict[str, Any] = {}
    original = pipeline._Export._forms

    def spy(self: Any, builder: Builder) -> Any:
        wanted, choice = original(self, builder)
        seen.update(builder=builder, forms=wanted, windows=self.calibration)
        return wanted, choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline._Export, "_forms", spy)
        bundle = export(net, folder, **arguments)
    return Made(bundle, **seen)


@pytest.fixture(scope="module")
def exported(dataset: Dataset, net: SequenceClassifier, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report") / "my-model"
    return made(folder, net, dataset=dataset, state="8", formats=("onnx", "c"))


def html(of: Made, monkeypatch: pytest.MonkeyPatch | None = None, **changes: Any) -> str:
    """The page; with a monkeypatch, without the processes that measure memory."""
    if monkeypatch:
        monkeypatch.setattr(memory, "session_memory", lambda *_: memory.Memory(11_000_000, 2_000_000))
        monkeypatch.setattr(memory, "floor", lambda: memory.Memory(10_000_000, 1_000_000))
    files = report(replace(of.bundle, **changes), of.builder, of.forms, of.windows)
    assert list(files) == ["report.html"]
    return files["report.html"].decode()


def test_the_page_says_what_the_bundle_says(exported: Made) -> None:
    bundle, text = exported.bundle, html(exported)
    page = Page(text)
    assert page.tags["script"] == 0
    assert page.links == []
    assert not re.search(r"https?:|url\(|@import", text)
    assert page.tags["svg"] >= 2 + 3
    visible = "".join(page.text)
    wanted: Counter[str] = Counter()
    for precision in bundle.precisions.values():
        for file in precision.layouts.values():
            assert file.file in visible
            numbers: list[float] = [file.bytes, precision.weights_bytes]
            if file.latency:
                numbers += [file.latency.load_ms, file.latency.p50_us, file.latency.p95_us]
            kernels = file.verification["kernels_per_step"]
            numbers += [sum(kernels.values()), *kernels.values(), file.verification["same_class"]]
            if file.metrics:
                numbers.append(file.metrics.accuracy)
            wanted.update(map(repr, numbers))
    wanted.update(str(header.bytes) for header in bundle.headers.values())
    assert not wanted - page.values
    assert str(bundle.size.parameters) in page.values
    for text in (*bundle.labels, *bundle.input.channels, "session.disable_quant_qdq", "onnxruntime_cxx_api.h"):
        assert text in visible
    assert "8 kernels" in visible
    assert "QLinearMatMul" in visible
    assert ("MB" in visible) == memory.STATM.exists()


def test_the_same_bundle_gives_the_same_bytes(exported: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert html(exported, monkeypatch) == html(exported, monkeypatch)


def test_hostile_names_are_text(exported: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "<script>alert('1')</script>\"&"
    bundle = exported.bundle
    text = html(
        exported, monkeypatch, name=bad, summary=bad, version=bad, labels=(bad, "b"), cell={bad: bad, "cut": bad},
        input=replace(bundle.input, channels=(bad,) * len(bundle.input.channels)),
        dataset=bundle.dataset and replace(bundle.dataset, id=bad, licence=bad, citation=bad),
        calibration={bad: bad}, measured_on=bundle.measured_on and replace(bundle.measured_on, cpu=bad, board=bad),
    )  # fmt: skip
    page = Page(text)
    assert page.tags["script"] == 0
    assert bad in "".join(page.text)
    assert "<script" not in text


def test_sections_shrink(exported: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    some = replace(exported, forms=[form for form in exported.forms if form.precision == "fp32"])
    fp32 = {"fp32": exported.bundle.precisions["fp32"]}
    text = html(some, monkeypatch, precisions=fp32, dataset=None, measured_on=None, calibration=None, headers={})
    page = Page(text)
    assert "Where the error comes from" not in "".join(page.text)
    assert "int8-" not in "".join(page.text)
    assert text.count('class="graph"') == 1
    weights = [form for form in exported.forms if not (form.scheme and form.scheme.kind == INTEGERS)]
    text = html(replace(exported, forms=weights), monkeypatch)
    assert text.count('class="graph"') == 1
    assert "noisiest" in text


@pytest.mark.parametrize("kind", ["stack", "lstm"])
def test_several_cells_and_states(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = made(tmp_path / "m", network(kind), calibration=windows(), labels=list("abcd"), channels=list("xyz"), rate=50,
              layouts=["scan"], activations_in=("scan",), state="8")  # fmt: skip
    text = html(of, monkeypatch)
    visible = "".join(Page(text).text)
    assert text.count('class="graph"') == 2 * len(of.builder.network.cells)
    assert ("layer 2, backwards" in visible) == (kind == "stack")
    assert ("c\u2032" in visible) == (kind == "lstm")
