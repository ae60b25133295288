"""Bodies of requests, read into windows or refused with the reason, and bodies of answers."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import anyio
import numpy as np
import numpy.typing as npt
from fastapi import Request, Response

from fastzoo import _json
from fastzoo._engine import Floats
from fastzoo.errors import InputError
from fastzoo.model import Model, softmax
from fastzoo.records import Input
from fastzoo.samples import UNREADABLE
from fastzoo.serve.limits import Limits, Refused

JSON, BINARY, NPY = "application/json", "application/octet-stream", "application/x-npy"

_FLOAT = np.dtype("<f4")


async def read(request: Request, limits: Limits) -> bytes:
    """The body.

    Raises:
        Refused: it is too large, or takes too long.
    """
    too_large = Refused(413, f"the body has more than {limits.max_body} bytes; send fewer windows at a time")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limits.max_body:
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(limits.body_timeout):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.max_body:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {limits.body_timeout:g} s") from None
    return bytes(body)


def windows(body: bytes, kind: str, expected: Input, limits: Limits) -> npt.NDArray[Any]:
    """What a body holds; whether it fits the model, the model says.

    Args:
        body: the body.
        kind: its content type; JSON where none is given.
        expected: what the model takes.
        limits: how many windows may come at once.

    Raises:
        InputError: it is not what its type says.
        Refused: its type is unknown, or there are too many windows.
    """
    kind = kind.partition(";")[0].strip().lower() or JSON
    if kind not in _READERS:
        raise Refused(415, f"bodies of type {kind[:100]!r} are not read; send {', '.join(_READERS)}")
    array = _READERS[kind](body, expected)
    if array.ndim == 3 and len(array) > limits.max_windows:
        raise Refused(
            413, f"{len(array)} windows at once; at most {limits.max_windows} are taken, send several requests"
        )
    return array


def _json_body(body: bytes, expected: Input) -> npt.NDArray[Any]:
    try:
        document = _json.parse(body)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or "x" not in document:
        steps, channels = expected.steps, len(expected.channels)
        raise InputError(f'the body must be {{"x": ...}}, with a window [{steps}, {channels}] or several')
    return numbers(document["x"], "x")


def numbers(value: object, name: str) -> npt.NDArray[Any]:
    """Nested lists of JSON as an array.

    Raises:
        InputError: they do not form one, or hold something else than numbers.
    """
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:  # ragged, or nested too deeply
        raise InputError(f"{name} cannot be made an array: {error}") from None
    if array.size and array.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold numbers only")
    return array.astype(np.float64)


def floats(body: bytes, channels: int) -> Floats:
    """Rows [n, D] of little-endian float32; ``channels`` is D.

    Raises:
        InputError: the length is not a multiple of a row's.
    """
    if len(body) % (_FLOAT.itemsize * channels):
        raise InputError(
            f"{len(body)} bytes are no float32 [n, {channels}]: the length must be a multiple of "
            f"{_FLOAT.itemsize * channels}"
        )
    return np.frombuffer(body, _FLOAT).reshape(-1, channels)


def _binary_body(body: bytes, expected: Input) -> npt.NDArray[Any]:
    size = _FLOAT.itemsize * expected.steps * len(expected.channels)
    if len(body) % size or not body:
        raise InputError(
            f"the body has {len(body)} bytes; a window of {expected.steps} steps and {len(expected.channels)} "
            f"channel(s) of float32 has {size}, and windows stand one behind the other"
        )
    return np.frombuffer(body, _FLOAT).reshape(-1, expected.steps, len(expected.channels))


def _npy_body(body: bytes, expected: Input) -> npt.NDArray[Any]:
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:
            raise InputError(f"the body is .npy of version {version[0]}.{version[1]}; versions 1.0 and 2.0 are read")
        shape, _, dtype = header[version](file)
        # Before np.load, which makes room for whatever the header promises.
        if dtype.kind not in "fiu" or math.prod(shape) * dtype.itemsize != len(body) - file.tell():
            raise InputError(f"the body is no .npy of numbers: it promises {dtype} {list(shape)[:8]} and holds another")
        file.seek(0)
        array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except InputError:
        raise
    except (*UNREADABLE, Warning) as error:  # a warning: headers of Python 2
        raise InputError(f"the body is no .npy: {str(error)[:200]}") from None
    return array


_READERS = {JSON: _json_body, BINARY: _binary_body, NPY: _npy_body}


def answer(model: Model, logits: Floats, accepted: str) -> Response:
    """What is said about windows whose logits [N, C] these are: as numbers only, if the client asks for them."""
    probabilities = softmax(logits)
    if BINARY in accepted:
        return Response(probabilities.astype(_FLOAT, copy=False).tobytes(), media_type=BINARY)
    document = {
        "model": model.name,
        "classes": model.labels,
        "labels": [model.labels[best] for best in logits.argmax(axis=1)],  # as predict does
        "probabilities": probabilities.tolist(),
    }
    return Response(json.dumps(document), media_type=JSON)
