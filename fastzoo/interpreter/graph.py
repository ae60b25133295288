"""From a graph to a tape: operators in order, functions inlined, what is constant computed once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastzoo.errors import BundleError
from fastzoo.interpreter.operators import OPERATORS
from fastzoo.interpreter.tape import Array, Tape, Value
from fastzoo.interpreter.wire import File, Graph, Node

DEEPEST = 16  # functions and graphs within each other

Scope = dict[str, Value]


class Writer:
    """Writes the graph of a file to tapes.

    Raises:
        BundleError: the file holds an operator that is not known here.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        for graph in (file.graph, *file.functions.values()):
            self._check(graph)
        self._constants = _frozen(file.graph)

    def write(self, tape: Tape, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, computed whenever ``tape`` runs, from arrays ``inputs`` that are filled before.

        Raises:
            BundleError: shapes do not fit, or the graph contradicts itself.
        """
        scope = {**self._constants, **{name: Value(array) for name, array in inputs.items()}}
        try:
            self._nodes(tape, self._file.graph.nodes, scope, 0)
            return {value.name: scope[value.name].array for value in self._file.graph.outputs}
        except BundleError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, MemoryError, OverflowError, AttributeError) as error:
            raise BundleError(f"the graph contradicts itself ({type(error).__name__}: {error})") from None

    def _check(self, graph: Graph) -> None:
        for node in graph.nodes:
            known = not node.domain and (node.op_type in OPERATORS or node.op_type == "Scan")
            if not known and (node.domain, node.op_type) not in self._file.functions:
                name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise BundleError(f"the NumPy backend does not know the operator {name}")
            for value in node.attributes.values():
                if isinstance(value, Graph):
                    self._check(value)

    def _nodes(self, tape: Tape, nodes: tuple[Node, ...], scope: Scope, depth: int) -> None:
        """Add the outputs of ``nodes`` to ``scope``."""
        if depth > DEEPEST:
            raise BundleError("functions call each other without end")
        for node in nodes:
            tape.visit()
            inputs = [scope[name] if name else None for name in node.inputs]
            if node.op_type == "Scan" and not node.domain:
                outputs = self._scan(tape, node, [value for value in inputs if value], scope, depth)
            elif (function := self._file.functions.get((node.domain, node.op_type))) is not None:
                outputs = self._call(tape, function, inputs, depth)
            else:
                outputs = _operator(tape, node, inputs)
            scope.update(zip(node.outputs, outputs, strict=False))  # trailing outputs may be left out

    def _call(self, tape: Tape, function: Graph, inputs: list[Value | None], depth: int) -> list[Value]:
        inner: Scope = {of.name: value for of, value in zip(function.inputs, inputs, strict=False) if value}
        self._nodes(tape, function.nodes, inner, depth + 1)
        return [inner[of.name] for of in function.outputs]

    def _scan(self, tape: Tape, node: Node, inputs: list[Value], scope: Scope, depth: int) -> list[Value]:
        """The body once for each step, one after the other."""
        body: Graph = node.attributes["body"]
        count = node.attributes["num_scan_inputs"]
        states, sequences = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
        backwards = node.attributes.get("scan_input_directions", [0] * count)
        reversed_outputs = node.attributes.get("scan_output_directions", [0] * (len(body.outputs) - len(states)))
        if any(any(node.attributes.get(f"scan_{side}_axes", [])) for side in ("input", "output")):
            raise BundleError("a Scan over another axis than the first")
        steps = sequences[0].array.shape[0]
        constants = _frozen(body)
        stacks: list[list[Array]] = [[] for _ in body.outputs[len(states) :]]
        for step in range(steps):
            slices = [
                Value(sequence.array[-1 - step if back else step])
                for sequence, back in zip(sequences, backwards, strict=True)
            ]
            arguments = zip(body.inputs, [*states, *slices], strict=True)
            inner = {**scope, **constants, **{of.name: value for of, value in arguments}}
            self._nodes(tape, body.nodes, inner, depth + 1)
            results = [inner[of.name] for of in body.outputs]
            states = results[: len(states)]
            for stack, result in zip(stacks, results[len(states) :], strict=True):
                stack.append(result.array)
        outputs = []
        for stack, back in zip(stacks, reversed_outputs, strict=True):
            whole = tape.empty((steps, *stack[0].shape), stack[0].dtype)
            tape.call(_stack, stack[::-1] if back else stack, whole)
            outputs.append(Value(whole))
        return [*states, *outputs]


def _operator(tape: Tape, node: Node, inputs: list[Value | None]) -> list[Value]:
    """One operator; at once, where all it needs is known."""
    operator = OPERATORS[node.op_type]
    given = [value for value in inputs if value is not None]
    if all(value.constant for value in given) or node.op_type == "Shape":
        own = Tape()
        arrays = operator(own, node, inputs)
        with np.errstate(all="ignore"):
            own.run()
        return [Value(array, constant=True) for array in arrays]
    return [Value(array) for array in operator(tape, node, inputs)]


def _frozen(graph: Graph) -> Scope:
    return {name: Value(array, constant=True) for name, array in graph.constants.items()}


def _stack(arrays: list[Array], out: Array) -> None:
    np.stack(arrays, out=out)
