"""``/models/{name}/stream``: chunks in, results out, one text each."""

from __future__ import annotations

import asyncio
import json
import logging

from fastapi import WebSocket, WebSocketDisconnect, status
from starlette.websockets import WebSocketState

from fastzoo.errors import InputError
from fastzoo.model import Model
from fastzoo.serve.limits import Refused
from fastzoo.serve.streams import Options, Streams

log = logging.getLogger("fastzoo.serve")

_OPTIONS = ("hop", "smooth", "events")


async def serve(socket: WebSocket, model: Model, streams: Streams) -> None:
    """Run one stream until the client goes, or sends what cannot be taken."""
    try:
        with streams.opened(model, _options(socket)) as stream:
            while (message := await _received(socket)) is not None:
                async for results in streams.push(stream, message):
                    for result in results:
                        await socket.send_text(json.dumps(result.to_dict()))
    except Refused as refusal:
        await refuse(socket, str(refusal), status.WS_1013_TRY_AGAIN_LATER)
    except InputError as error:
        await refuse(socket, str(error), status.WS_1007_INVALID_FRAME_PAYLOAD_DATA)
    except WebSocketDisconnect:
        return
    except asyncio.CancelledError:  # the service stops, and the client does not read: nobody is left to be told
        log.info("a client that did not read its results is left behind")
    except Exception:
        log.exception("a stream of %s failed", model.name)
        await refuse(socket, "the service failed; its log says why", status.WS_1011_INTERNAL_ERROR)


async def refuse(socket: WebSocket, message: str, code: int) -> None:
    """Say why, and close."""
    if socket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        await socket.send_text(json.dumps({"error": message}))
        await socket.close(code)
    except (WebSocketDisconnect, RuntimeError):  # the client did not wait for it
        log.debug("a client left before it was told: %s", message)


def _options(socket: WebSocket) -> Options:
    given = dict(socket.query_params)
    if unknown := [key for key in given if key not in _OPTIONS]:
        raise InputError(f"no option {', '.join(map(repr, unknown))} of a stream; there are {', '.join(_OPTIONS)}")
    hop = given.pop("hop", None)
    if hop is not None and not (hop.isdecimal() and len(hop) <= 10):
        raise InputError(f"hop must be a number of samples, not {hop[:100]!r}")
    return Options(None if hop is None else int(hop), **given)


async def _received(socket: WebSocket) -> str | bytes | None:
    """The next message; None when the client is gone."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    data: bytes = message.get("bytes") or b""
    return data if text is None else text
