"""The format ``c``: a whole network as one C99 header that needs nothing but a compiler.

Knows nothing of cells: it is one more composition of the step graph, whose nodes become C by two small tables.
Everything is one row, so a tensor is a vector of known size. Products become calls, what is done element by element
becomes one loop over all of it, and columns of a matrix are read where they lie: no weight is stored twice.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from string import Template

import numpy as np
import onnx

import fastzoo
from fastzoo.errors import ExportError
from fastzoo.export import frame
from fastzoo.export.c_code import (
    HELPERS,
    Constants,
    Function,
    Vector,
    identifier,
    indented,
    number,
    string_literal,
    utf8,
    written,
)
from fastzoo.export.floats import FloatWriter
from fastzoo.export.graph import Op
from fastzoo.export.network import Network
from fastzoo.export.step import Port
from fastzoo.export.weights import Int8

LONGEST_STRING = 4095  # bytes of a literal that every C99 compiler takes


def c_header(
    network: Network,
    name: str,
    labels: Sequence[str],
    channels: Sequence[str],
    rate: float,
    int8: Int8 | None = None,
) -> str:
    """Write a network as a header in the manner of the stb libraries: declarations, and on request the code.

    The text is pure ASCII, C99 and C++11. The file is to be called :func:`c_name` of ``name``, with ``.h``.

    Args:
        network: one or both directions.
        name: of the model; what all identifiers begin with follows from it.
        labels: of the classes, in order.
        channels: in order, with their units.
        rate: samples per second.
        int8: how matrices are stored; None = float32.

    Raises:
        ExportError: the network reads bricks, labels or channels are not as many as it has, a label is too long for C,
            a number is not finite, or a step has an operator that is not written in C.
    """
    if network.brick > 1:
        raise ExportError(f"C reads one sample in a step, this network {network.brick}; use the layouts in ONNX")
    if not 0 < rate < math.inf:
        raise ExportError(f"{rate} is no number of samples per second")
    for what, names, size in (("label", labels, network.num_classes), ("channel", channels, network.input_size)):
        if len(names) != size:
            raise ExportError(f"{len(names)} {what}s for a network that has {size}: give one {what} for each")
        if long := [text for text in names if len(utf8(text)) > LONGEST_STRING]:
            raise ExportError(f"the {what} {long[0][:40]!r}.. is longer than the {LONGEST_STRING} bytes of a C string")
    return _Header(network.unit_scale(), name, labels, channels, rate, int8).text()


# A header of such a name would be found in the place of the system's.
SYSTEM = re.compile(
    "assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|memory|setjmp|signal|std[a-z]+|strings?|"
    "tgmath|threads|time|uchar|unistd|wchar|wctype",
    re.IGNORECASE,
)


def c_name(name: str) -> str:
    """A model's name as a C identifier: ``fastgrnn-har`` is ``fastgrnn_har``, ``6-axis`` is ``model_6_axis``.

    A keyword may stay, for in the file the name is always followed by more: ``int`` has ``int_predict``.
    """
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = re.sub(r"[^0-9A-Za-z]+", "_", ascii_).strip("_")
    if not found or found[0].isdigit() or SYSTEM.fullmatch(found):
        return f"model_{found}".strip("_")
    return found


class _Header:
    """Puts the file together; see :func:`c_header`. In what it collects, ``${name}`` stands for the model's name."""

    def __init__(
        self,
        network: Network,
        name: str,
        labels: Sequence[str],
        channels: Sequence[str],
        rate: float,
        int8: Int8 | None,
    ) -> None:
        self.network, self.model, self.labels, self.channels, self.rate = network, name, labels, channels, rate
        self.int8 = int8
        self.steps = [FloatWriter(cell, network.prefix(i), int8).step() for i, cell in enumerate(network.cells)]
        self.stream = network.directions == 1
        self.pool = min(network.pool, network.steps)
        self.outputs = network.directions * network.hidden_size
        self.constants = Constants()
        self.stack = 0  # floats in the local arrays of the deepest call
        # What the layers of both directions hand to one another, for all of a window; two in turns are enough.
        self.buffers = 0 if self.stream else min(2, len(network.layers) - 1)

    def text(self) -> str:
        """The file."""
        functions = [self._normalise(), *self._cells(), self._head()]
        functions += [self._advance(), RESET, Template(STEP).safe_substitute(last=self._last)] if self.stream else []
        functions.append(self._predict())
        code = "\n".join(functions)
        helpers = [text for helper, text in HELPERS.items() if f"${{name}}_{helper}(" in code]
        body = "\n".join([self._labels(), *self.constants.definitions(), *helpers, code])
        calls = {"math": ("expf(", "tanhf("), "stdint": ("int8_t ",), "string": ("memcpy(", "memset(")}
        includes = "".join(
            f"#include <{file}.h>\n" for file, used in calls.items() if any(map(body.__contains__, used))
        )
        parts = {"head": self._head_comment(), "declarations": self._declarations(), "includes": includes, "body": body}
        name = c_name(self.model)
        return Template(Template(FILE).safe_substitute(parts)).substitute(name=name, NAME=name.upper())

    @property
    def _workspace(self) -> dict[str, str]:
        """What the texts say where predict takes a workspace."""
        if not self.buffers:
            return {"taken": "", "given": "", "workspace": ""}
        taken, workspace = "${name}_workspace *workspace, ", "static ${name}_workspace workspace;\n"
        return {"taken": taken, "given": "&workspace, ", "workspace": workspace}

    # The head and the declarations.

    def _head_comment(self) -> str:
        network, total = self.network, self.constants.bytes
        matrices = sum(values.size for values in self.constants.arrays.values() if values.dtype == np.int8)
        scales = "per output channel" if self.int8 and self.int8.per_channel else "per matrix"
        stored = f"{matrices:,} of them int8, with a scale {scales}" if matrices else "fp32"
        ram = f"about {4 * self.stack:,} bytes of stack; no heap, no variables: any thread may call it"
        if self.stream:
            ram = f"{4 * self._state_size:,} bytes for the state of a stream, " + ram
        elif self.buffers:
            ram = f"{4 * self.buffers * network.steps * self.outputs:,} bytes of workspace, " + ram
        lines = [
            f"${{name}}.h: the model {_text(self.model)} in C99, without dependencies.",
            f"Written by fastzoo {fastzoo.__version__}; export the model again rather than edit this.",
            "",
            f"From {network.steps} samples, {network.steps / self.rate:.4g} s at {self.rate:.6g} a second, "
            "in the raw units of the channels",
            *(f"    {i} {_text(channel)}" for i, channel in enumerate(self.channels)),
            "it tells the classes",
            *(f"    {i} {_text(label)}" for i, label in enumerate(self.labels)),
            "",
            f"Flash  {total:,} bytes of weights ({stored}), and the code",
            f"RAM    {ram}",
            "",
            "One source file defines ${NAME}_IMPLEMENTATION before it includes this, and is linked with -lm:",
            "",
            *(f"    {line}" for line in Template(EXAMPLE).safe_substitute(self._workspace).splitlines()),
            "",
            "Faster on processors with vector instructions: -O3 -ffast-math, and -march=native for the one at hand.",
        ]
        return "/* " + "\n".join(f" * {line}".rstrip() for line in lines)[3:] + "\n */"

    def _declarations(self) -> str:
        sizes = {
            "STEPS": (self.network.steps, "samples in a window"),
            "CHANNELS": (self.network.input_size, "numbers in a sample"),
            "CLASSES": (self.network.num_classes, "logits"),
            "POOL": (self.pool, "steps whose states are averaged, the last of a window"),
        }
        if self.stream:
            sizes["STATE"] = (self._state_size, "numbers in a state")
        defines = "\n".join(f"#define ${{NAME}}_{key} {size} /* {what} */" for key, (size, what) in sizes.items())
        ports = "\n".join(f"    float {identifier(port.name)}[{port.size}];" for port in self._ports)
        parts = [defines, LABELS, *(STREAM if self.stream else WORKSPACE if self.buffers else ()), WINDOW]
        filled = {**self._workspace, "ports": ports, "buffers": self.buffers, "size": self.outputs}
        return Template("\n\n".join(parts)).safe_substitute(filled)

    def _labels(self) -> str:
        labels = "\n".join(f"    {_text(label)}," for label in self.labels)
        return f"const char *const ${{name}}_labels[${{NAME}}_CLASSES] = {{\n{labels}\n}};\n"

    # The code.

    @property
    def _ports(self) -> list[Port]:
        return [port for step in self.steps for port in step.states]

    @property
    def _state_size(self) -> int:
        return sum(port.size for port in self._ports)

    @property
    def _last(self) -> str:
        """The states that the head reads, in a stream's state."""
        return f"state->{identifier(self.steps[-1].states[0].name)}"

    def _function(
        self,
        signature: str,
        comment: str,
        nodes: Iterable[onnx.NodeProto],
        tensors: Mapping[str, onnx.TensorProto],
        inputs: Mapping[str, Vector],
        outputs: Mapping[str, Vector],
    ) -> tuple[str, int]:
        """A C function that is a graph, and the floats in its local arrays."""
        function = Function(self.constants, tensors, inputs)
        return written(signature, comment, function.body(nodes, outputs)), function.floats

    def _normalise(self) -> str:
        op, size = Op("n"), self.network.input_size
        normalised = frame.normalise(op, self.network, "x")
        inputs, outputs = {"x": Vector("x", size)}, {normalised: Vector("normalised", size)}
        comment = "(x - mean) / std, per channel."
        self.stack += size
        signature = "normalise(const float *x, float *normalised)"
        return self._function(signature, comment, op.nodes, op.constants, inputs, outputs)[0]

    def _cells(self) -> list[str]:
        """One function for each step, with the names of the graph."""
        functions, most = [], 0
        for index, step in enumerate(self.steps):
            x = Vector(identifier(step.x), step.input_size)
            states = [Vector(identifier(port.name), port.size) for port in step.states]
            inputs = {step.x: x} | {port.name: state for port, state in zip(step.states, states, strict=True)}
            outputs = dict(zip(step.following, states, strict=True))
            arguments = ", ".join([f"const float *{x.array}", *(f"float *{state.array}" for state in states)])
            sizes = ", ".join(f"{state.array} [{state.size}]" for state in states)
            comment = (
                f"{step.name}: reads {x.array} [{x.size}] and moves {sizes} on. Names are those of the ONNX graph."
            )
            nodes = [*step.shared, *step.project, *step.recur]
            signature = f"{self._cell(index)}({arguments})"
            function, floats = self._function(signature, comment, nodes, step.constants, inputs, outputs)
            functions.append(function)
            most = max(most, floats)
        self.stack += most
        return functions

    def _cell(self, index: int) -> str:
        return f"{self.network.prefix(index)}cell"

    def _head(self) -> str:
        op, size = Op("n"), self.outputs
        frame.head(op, self.network, "states", self.int8)
        inputs = {"states": Vector("states", size)}
        outputs = {"logits": Vector("logits", self.network.num_classes)}
        comment = f"states [{size}] -> logits."
        signature = "classify(const float *states, float *logits)"
        return self._function(signature, comment, op.nodes, op.constants, inputs, outputs)[0]

    def _advance(self) -> str:
        lines = [f"float normalised[{self.network.input_size}];", "", "${name}_normalise(x, normalised);"]
        reads = "normalised"
        for index, step in enumerate(self.steps):
            states = [f"state->{identifier(port.name)}" for port in step.states]
            lines.append(f"${{name}}_{self._cell(index)}({', '.join([reads, *states])});")
            reads = states[0]
        comment = "One step of everything but the head."
        return written("advance(${name}_state *state, const float *x)", comment, lines)

    def _predict(self) -> str:
        lines = [f"float pooled[{self.outputs}] = {{0.0f}};"]
        self.stack += self.outputs + (self._state_size if self.stream else self._state_size // len(self.steps))
        if self.stream:
            pooled = _pooled("pooled", self._last.replace("->", "."), self.outputs)
            lines += [
                "${name}_state state;", "", "${name}_reset(&state);", "for (int t = 0; t < ${NAME}_STEPS; ++t) {",
                "    ${name}_advance(&state, x + t * ${NAME}_CHANNELS);",
                *indented(["if (t >= ${NAME}_STEPS - ${NAME}_POOL)", *indented(pooled)]), "}",
            ]  # fmt: skip
        else:
            lines += ["", *itertools.chain.from_iterable(map(self._pass, range(len(self.steps))))]
        lines += [
            f"for (int i = 0; i < {self.outputs}; ++i)", f"    pooled[i] = pooled[i] / {number(self.pool)};",
            "${name}_classify(pooled, logits);",
        ]  # fmt: skip
        return Template(PREDICT).safe_substitute(self._workspace, lines="\n".join(indented(lines)))

    def _pass(self, index: int) -> list[str]:
        """One cell over the window, in its own order of time."""
        layer, backwards = divmod(index, self.network.directions)
        step, hidden = self.steps[index], self.network.hidden_size
        states = [identifier(port.name) for port in step.states]
        local = [f"float {name}[{hidden}] = {{0.0f}};" for name in states]
        body = []
        if layer == 0:
            local.append(f"float normalised[{step.input_size}];")
            body.append("${name}_normalise(x + t * ${NAME}_CHANNELS, normalised);")
            reads = "normalised"
        else:
            reads = f"workspace->states[{(layer - 1) % 2}] + t * {self.outputs}"
        body.append(f"${{name}}_{self._cell(index)}({', '.join([reads, *states])});")
        if layer < len(self.network.layers) - 1:
            to = f"workspace->states[{layer % 2}] + t * {self.outputs}" + f" + {hidden}" * backwards
            body.append(f"memcpy({to}, {states[0]}, {hidden} * sizeof(float));")
        else:
            body.append("if (t < ${NAME}_POOL)" if backwards else "if (t >= ${NAME}_STEPS - ${NAME}_POOL)")
            body += indented(_pooled("pooled", states[0], hidden, hidden * backwards))
        order = "int t = ${NAME}_STEPS - 1; t >= 0; --t" if backwards else "int t = 0; t < ${NAME}_STEPS; ++t"
        way = "backwards" if backwards else "forwards"
        loop = [f"for ({order}) {{", *indented(body), "}"]
        return [f"{{ /* layer {layer}, {way} */", *indented([*local, "", *loop]), "}"]


def _text(text: str) -> str:
    """A literal in a text that is a Template."""
    return string_literal(text).replace("$", "$$")


def _pooled(to: str, states: str, size: int, first: int = 0) -> list[str]:
    element = Vector(to, size, first).element.text
    return [f"for (int i = 0; i < {size}; ++i)", f"    {element} += {states}[i];"]


# The file's text.

FILE = """\
${head}
#ifndef ${NAME}_H_INCLUDED
#define ${NAME}_H_INCLUDED

#ifdef __cplusplus
extern "C" {
#endif

${declarations}

#ifdef __cplusplus
}
#endif

#endif /* ${NAME}_H_INCLUDED */

#if defined(${NAME}_IMPLEMENTATION) && !defined(${NAME}_IMPLEMENTED)
#define ${NAME}_IMPLEMENTED

${includes}
${body}
#endif /* ${NAME}_IMPLEMENTATION */
"""
LABELS = "/* The names of the classes, in UTF-8. */\nextern const char *const ${name}_labels[${NAME}_CLASSES];"
STREAM = (
    """\
/* What goes from one step to the next. */
typedef struct ${name}_state {
${ports}
} ${name}_state;""",
    """\
/* Makes it the state before the first step. */
void ${name}_reset(${name}_state *state);""",
    """\
/* Takes the next sample of a stream, in raw units, and gives the logits after it. Those of a window are the mean of
 * the logits of its last ${NAME}_POOL steps; a window begins with a reset. */
void ${name}_step(${name}_state *state, const float x[${NAME}_CHANNELS], float logits[${NAME}_CLASSES]);""",
)
WORKSPACE = (
    """\
/* What the layers hand to one another; predict needs no particular content. */
typedef struct ${name}_workspace {
    float states[${buffers}][${NAME}_STEPS * ${size}];
} ${name}_workspace;""",
)
WINDOW = """\
/* Takes a window x[${NAME}_STEPS][${NAME}_CHANNELS], sample after sample in raw units.
 * Fills in the logits and returns the class with the largest. */
int ${name}_predict(${taken}const float *x, float logits[${NAME}_CLASSES]);"""
EXAMPLE = """\
#define ${NAME}_IMPLEMENTATION
#include "${name}.h"
#include <stdio.h>

${workspace}static float window[${NAME}_STEPS * ${NAME}_CHANNELS]; // to be filled with samples

int main(void)
{
    float logits[${NAME}_CLASSES];
    const int found = ${name}_predict(${given}window, logits);

    printf("%s (%g)\\n", ${name}_labels[found], (double)logits[found]);
    return 0;
}"""
RESET = """\
void ${name}_reset(${name}_state *state)
{
    memset(state, 0, sizeof *state);
}
"""
STEP = """\
void ${name}_step(${name}_state *state, const float x[${NAME}_CHANNELS], float logits[${NAME}_CLASSES])
{
    ${name}_advance(state, x);
    ${name}_classify(${last}, logits);
}
"""
PREDICT = """\
int ${name}_predict(${taken}const float *x, float logits[${NAME}_CLASSES])
{
${lines}

    int best = 0;
    for (int k = 1; k < ${NAME}_CLASSES; ++k)
        if (logits[k] > logits[best])
            best = k;
    return best;
}
"""
