"""Ranges of activations: a step runs over real windows in float32, and what its tensors hold is watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from fastzoo.errors import ExportError
from fastzoo.export.floats import FloatWriter
from fastzoo.export.network import Floats, Network
from fastzoo.export.step import Levels, Step
from fastzoo.export.writer import Writer

PERCENTILE_WINDOWS = 64  # a percentile needs all values at once, min and max do not


@dataclass(frozen=True)
class Method:
    """How a range follows from what was seen: all of it, or ``percentile`` of it with both ends cut."""

    percentile: float = 100.0

    def __str__(self) -> str:
        return "min-max" if self.percentile == 100 else f"percentile {self.percentile:g}"


class Calibration:
    """What every cell of a network sees on raw windows [n, T, D].

    Raises:
        ExportError: a state overflows.
    """

    def __init__(self, network: Network, windows: Floats, method: Method = Method()) -> None:
        self.network, self.windows, self.method = network, windows, method
        self._inputs: dict[int, Floats] = {}  # of each layer, [T, n, D]

    def levels(self, index: int, writer: Writer[Any]) -> dict[str, Levels]:
        """The levels of everything that ``writer`` wants watched in cell ``index``."""
        step = writer.step()
        _, seen = self._run(step, self._input(index), writer.observed)
        return {key: Levels.spanning(*found) for key, found in seen.items()}

    def _input(self, index: int) -> Floats:
        """What cell ``index`` reads, in its own order of time."""
        layer, direction = divmod(index, self.network.directions)
        if layer not in self._inputs:
            self._inputs[layer] = self._outputs(layer - 1) if layer else self._normalised()
        x = self._inputs[layer]
        return x[::-1] if direction else x

    def _normalised(self) -> Floats:
        x: Floats = self.network.read(self.windows).astype(np.float32)
        return x

    def _outputs(self, layer: int) -> Floats:
        """All states of a layer, both directions side by side."""
        outputs = []
        for direction, cell in enumerate(self.network.layers[layer]):
            index = layer * self.network.directions + direction
            states, _ = self._run(FloatWriter(cell).step(), self._input(index), {})
            outputs.append(states[::-1] if direction else states)
        joined: Floats = np.concatenate(outputs, axis=2)
        return joined

    def _run(self, step: Step, x: Floats, watched: Mapping[str, str]) -> tuple[Floats, dict[str, tuple[float, float]]]:
        """All outputs [T, n, H] of a step over ``x`` [T, n, D], and the range of each watched tensor."""
        inputs = {port.name for port in step.states}
        names = [name for name in dict.fromkeys(watched.values()) if name not in inputs]
        model = step.model(names).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        state = {port.name: np.zeros((x.shape[1], port.size), np.float32) for port in step.states}
        outputs, seen = [], {name: _Range(self.method) for name in {*names, *inputs}}
        for x_t in x:
            for name in inputs:
                seen[name].add(state[name])
            found = session.run([*step.following, *names], {step.x: np.ascontiguousarray(x_t), **state})
            state = dict(zip((port.name for port in step.states), found, strict=False))
            outputs.append(found[0])
            for name, value in zip(names, found[len(state) :], strict=True):
                seen[name].add(value)
        if not np.isfinite(outputs[-1]).all():
            raise ExportError(
                "the state overflows on the calibration windows; train again, with bounded nonlinearities"
            )
        return np.stack(outputs), {key: seen[name].ends() for key, name in watched.items()}


class _Range:
    """The range of a tensor, step by step."""

    def __init__(self, method: Method) -> None:
        self.method, self.low, self.high = method, 0.0, 0.0
        self.values: list[Floats] = []

    def add(self, value: Floats) -> None:
        if self.method.percentile < 100:
            self.values.append(value[:: -(-len(value) // PERCENTILE_WINDOWS)])
        else:
            self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))

    def ends(self) -> tuple[float, float]:
        if not self.values:
            return self.low, self.high
        percentile = self.method.percentile
        low, high = np.percentile(np.concatenate(self.values), [100 - percentile, percentile])
        return float(low), float(high)
