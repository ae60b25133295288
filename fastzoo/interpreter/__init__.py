"""Run fastzoo's ``.onnx`` files with NumPy alone, where onnxruntime has no wheel (armv7, riscv64, musl).

It knows no cells: it runs the standard operators that the exporter writes, in all layouts and precisions.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastzoo.errors import BundleError
from fastzoo.interpreter.graph import Writer
from fastzoo.interpreter.tape import Tape
from fastzoo.interpreter.wire import Value, read

__all__ = ["OPSET", "Session"]

OPSET = 17
_KEPT = 8  # tapes, for as many shapes of inputs or threads at once

Array = npt.NDArray[Any]
Key = tuple[tuple[int, ...], ...]


class _Prepared:
    """A tape for one shape of inputs."""

    def __init__(self, writer: Writer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.tape = Tape(rows_alone="state" in shapes)  # one step of a stream
        self.inputs = {name: self.tape.empty(shape) for name, shape in shapes.items()}
        self.outputs = writer.write(self.tape, self.inputs)


class Session:
    """An opened file, used like an ``onnxruntime.InferenceSession``; threads may share it.

    Args:
        data: the content of an ``.onnx`` file.

    Raises:
        BundleError: it is damaged, or holds what cannot be run here.
    """

    def __init__(self, data: bytes) -> None:
        file = read(data)
        if file.opset != OPSET:
            raise BundleError(f"it has opset {file.opset}, the NumPy backend runs {OPSET}: export the bundle again")
        self._graph = file.graph
        self._writer = Writer(file)
        self._prepared: OrderedDict[Key, list[_Prepared]] = OrderedDict()
        self._lock = threading.Lock()

    def get_inputs(self) -> Sequence[Value]:
        """Names, types and shapes of the inputs."""
        return [value for value in self._graph.inputs if value.name not in self._graph.constants]

    def get_outputs(self) -> Sequence[Value]:
        """Names, types and shapes of the outputs."""
        return self._graph.outputs

    def run(self, outputs: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs of these names (None: all) for ``feeds``, float32 by input name.

        Raises:
            BundleError: feeds do not fit the file, or the file cannot be run for them.
        """
        wanted = [value.name for value in self._graph.outputs] if outputs is None else list(outputs)
        self._check(wanted, feeds)
        key = tuple(feeds[value.name].shape for value in self.get_inputs())
        prepared = self._take(key) or _Prepared(
            self._writer, {value.name: feeds[value.name].shape for value in self.get_inputs()}
        )
        for name, array in prepared.inputs.items():
            np.copyto(array, feeds[name])
        with np.errstate(all="ignore"):  # infinities are looked for in the end
            prepared.tape.run()
        results = [prepared.outputs[name].copy() for name in wanted]
        self._give_back(key, prepared)
        return results

    def _check(self, wanted: Sequence[str], feeds: Mapping[str, Array]) -> None:
        names = [value.name for value in self.get_inputs()]
        if feeds.keys() != set(names):
            raise BundleError(f"the file takes {', '.join(names)}, not {', '.join(feeds)}")
        if unknown := set(wanted) - {value.name for value in self._graph.outputs}:
            raise BundleError(f"the file does not give {', '.join(sorted(unknown))}")
        for value in self.get_inputs():
            array = feeds[value.name]
            fits = len(array.shape) == len(value.shape) and all(
                isinstance(size, str) or size == has for size, has in zip(value.shape, array.shape, strict=True)
            )
            if array.dtype != np.float32 or not fits:
                raise BundleError(f"{value.name} is {array.dtype} {list(array.shape)}, the file takes {value.shape}")

    def _take(self, key: Key) -> _Prepared | None:
        """A tape that no other thread runs, if there is one."""
        with self._lock:
            free = self._prepared.get(key)
            if not free:
                return None
            self._prepared.move_to_end(key)
            return free.pop()

    def _give_back(self, key: Key, prepared: _Prepared) -> None:
        with self._lock:
            self._prepared.setdefault(key, []).append(prepared)
            self._prepared.move_to_end(key)
            while sum(map(len, self._prepared.values())) > _KEPT:
                oldest = next(iter(self._prepared))
                self._prepared[oldest].pop()
                if not self._prepared[oldest]:
                    del self._prepared[oldest]
