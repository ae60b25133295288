"""A page on a bundle for people to look at: its files in numbers, its step drawn, where int8 departs from fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastzoo.export.kernels import optimised
from fastzoo.export.layouts import WEIGHTS, Builder, Form, obstacles
from fastzoo.export.network import Floats
from fastzoo.export.report import memory, page
from fastzoo.export.report.errors import schemes_of, traces
from fastzoo.export.report.pictures import of_kernels, of_step
from fastzoo.export.stepwise import state_size
from fastzoo.records import Bundle

FILE = "report.html"
CELLS = 4  # at most so many are drawn


def report(bundle: Bundle, builder: Builder, forms: Sequence[Form], windows: Floats) -> dict[str, bytes]:
    """The files to write beside ``bundle.json``: one page that needs nothing else.

    The same bundle gives the same bytes, up to the memory of sessions, which is measured here.

    Args:
        bundle: as it was written, with its measurements.
        builder: that made its files.
        forms: of its files.
        windows: raw windows [n, T, D] on which int8 is compared with fp32.
    """
    schemes = schemes_of(forms)
    content = page.Content(
        bundle,
        {(form.precision, form.layout): form for form in forms},
        memories={
            (form.precision, form.layout): memory.session_memory(
                builder.build(form), form.session, builder.network.count
            )
            for form in forms
        },
        floor=memory.floor(),
        drawings=list(_drawings(builder, forms)),
        errors={scheme: traces(builder, scheme, windows) for scheme in schemes},
        cells=[_cell(builder, index) for index in range(len(builder.network.cells))],
        state_size=0 if "step" in obstacles(builder.network) else state_size(builder.network),
    )
    return {FILE: content.html().encode()}


def _drawings(builder: Builder, forms: Sequence[Form]) -> Iterator[page.Drawing]:
    """Each cell's step as it is written in fp32, and as onnxruntime runs it with 8-bit activations."""
    loops = []
    for scheme in dict.fromkeys(form.scheme for form in forms if form.scheme and form.scheme.kind != WEIGHTS):
        form = Form("int8", "scan", scheme)
        loops.append((scheme, optimised(builder.build(form), form.session)))
    for index, step in enumerate(builder.steps(None)[:CELLS]):
        cell = _cell(builder, index)
        yield page.Drawing(cell, None, of_step(step).svg(f"The step in fp32{cell and f', {cell}'}"))
        for scheme, model in loops:
            drawn = of_kernels(builder.steps(scheme)[index], model, index)
            if drawn is not None:
                yield page.Drawing(cell, scheme, drawn.svg(f"The kernels in int8{cell and f', {cell}'}"))


def _cell(builder: Builder, index: int) -> str:
    """Which one it is; nothing where it is the only one."""
    network = builder.network
    if len(network.cells) == 1:
        return ""
    layer, way = divmod(index, network.directions)
    if network.directions == 1:
        return f"layer {layer + 1}"
    return f"layer {layer + 1}, {'backwards' if way else 'forwards'}"


__all__ = ["FILE", "report"]
