"""The application: routes, who may use them, how errors are told."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security, WebSocket, status
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

import fastzoo
from fastzoo.errors import FastzooError, InputError
from fastzoo.model import Model
from fastzoo.serve import bodies, schema, websocket
from fastzoo.serve.batching import Batcher
from fastzoo.serve.limits import Limits, Refused
from fastzoo.serve.metrics import CONTENT_TYPE, Metrics
from fastzoo.serve.mqtt import Bridge
from fastzoo.serve.streams import Streams

log = logging.getLogger("fastzoo.serve")

_BEARER = HTTPBearer(auto_error=False, description="The token that the service was started with, if it was.")


class Service:
    """The models that are served, and what they share.

    Args:
        models: the models; each name once.
        limits: what the service takes on.
        token: who knows it may use the service; None = everybody.
        bridge: where samples come from and results go to over MQTT.

    Raises:
        InputError: no models, a name twice, or an empty token.
    """

    def __init__(self, models: Iterable[Model], limits: Limits, token: str | None, bridge: Bridge | None) -> None:
        self.models: dict[str, Model] = {}
        for model in models:
            if model.name in self.models:
                raise InputError(f"{model.name} is given twice; a service has one model of a name")
            self.models[model.name] = model
        if not self.models:
            raise InputError("a service needs a model")
        if token is not None and not token.strip():
            raise InputError("the token is empty; give one, or none at all")
        if bridge is not None and bridge.model not in self.models:
            raise InputError(f"MQTT's model {bridge.model!r} is not served; served are {', '.join(self.models)}")
        self.limits, self.token, self.bridge = limits, token, bridge
        self.metrics = Metrics()
        self.streams = Streams(limits, self.metrics)
        self.batchers = {name: Batcher(model, limits, self.metrics) for name, model in self.models.items()}

    def model(self, name: str) -> Model:
        """The model of a name.

        Raises:
            Refused: it is not served.
        """
        if name not in self.models:
            raise Refused(404, f"no model {name[:200]!r} is served here; there are {', '.join(self.models)}")
        return self.models[name]

    def allows(self, token: str | None) -> bool:
        """Whether who knows ``token`` may use the service."""
        return self.token is None or (token is not None and hmac.compare_digest(token.encode(), self.token.encode()))

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """MQTT runs as long as the application; in the end what waits is answered."""
        task = None
        if self.bridge is not None:
            model = self.models[self.bridge.model]
            task = asyncio.create_task(self.bridge.run(model, self.streams, self.limits, self.metrics))
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            for batcher in self.batchers.values():
                await asyncio.to_thread(batcher.close)
            await asyncio.to_thread(self.streams.close)


def create_app(
    models: Iterable[Model], limits: Limits | None = None, *, token: str | None = None, bridge: Bridge | None = None
) -> FastAPI:
    """An ASGI application over models.

    Args:
        models: from :func:`fastzoo.load`.
        limits: what it takes on; None = the defaults of :class:`Limits`.
        token: who sends it (``Authorization: Bearer ...``) may use the service; None = everybody.
        bridge: where samples come from and results go to over MQTT.

    Raises:
        InputError: no models, a name twice, an empty token, or a bridge to a model that is not served.
    """
    service = Service(models, limits or Limits(), token, bridge)
    app = FastAPI(
        title="fastzoo",
        version=fastzoo.__version__,
        summary="Classifiers of sensor windows and streams.",
        lifespan=service.lifespan,
    )
    app.include_router(_open_routes(service))
    app.include_router(_routes(service))
    _stream_route(app, service)
    _tell_errors(app)
    return app


def _open_routes(service: Service) -> APIRouter:
    """What needs no token."""
    router = APIRouter()

    @router.get("/health", response_model=schema.Health, response_model_exclude_none=True)
    async def health() -> schema.Health:
        """Whether the service runs; open to everybody."""
        mqtt = None if service.bridge is None else service.bridge.status
        return schema.Health(status="ok", version=fastzoo.__version__, models=list(service.models), mqtt=mqtt)

    return router


def _routes(service: Service) -> APIRouter:
    async def known(given: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> None:
        if not service.allows(None if given is None else given.credentials):
            wanted = "a token is needed here: send the header Authorization: Bearer ... with the right one"
            raise Refused(401, wanted, {"WWW-Authenticate": "Bearer"})

    router = APIRouter(dependencies=[Depends(known)], responses=schema.faults(401))
    first = next(iter(service.models.values())).bundle.input
    body = schema.predict_body(list(service.models), first.steps, len(first.channels))

    @router.get("/models", response_model=list[schema.Summary])
    async def models() -> JSONResponse:
        """The models that are served."""
        found = []
        for model in service.models.values():
            info = {key: model.info[key] for key in ("name", "summary", "precision", "labels", "input")}
            found.append({**info, "layout": model.layout})
        return JSONResponse(found)

    @router.get("/models/{name}", responses=schema.faults(404))
    async def model(name: str) -> JSONResponse:
        """All that the bundle says about a model: input, sizes, metrics, licences."""
        found = service.model(name)
        info = {key: value for key, value in found.info.items() if key != "bundle"}  # a folder of this machine
        return JSONResponse({**info, "layout": found.layout, "backend": found.backend})

    @router.post("/models/{name}/predict", responses=schema.PREDICTED, response_model=None, openapi_extra=body)
    async def predict(name: str, request: Request) -> Response:
        """Classify windows of raw samples, at most so many at a time."""
        begin = time.perf_counter()
        known, code = "", 500
        try:
            served = service.model(name)
            known = served.name
            content = await bodies.read(request, service.limits)
            kind = request.headers.get("content-type", "")
            x = bodies.windows(content, kind, served.bundle.input, service.limits)
            logits = await service.batchers[name].logits(x)
            answer = bodies.answer(served, logits, request.headers.get("accept", ""))
            service.metrics.windows.labels(known).inc(len(logits))
            code = 200
            return answer
        except Refused as refusal:
            code = refusal.status
            raise
        except InputError:
            code = 400
            raise
        finally:
            service.metrics.requests.labels(known, code).inc()
            service.metrics.seconds.labels(known).observe(time.perf_counter() - begin)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return router


def _stream_route(app: FastAPI, service: Service) -> None:
    @app.websocket("/models/{name}/stream")
    async def stream(socket: WebSocket, name: str) -> None:
        scheme, _, token = socket.headers.get("authorization", "").partition(" ")
        if not service.allows(token if scheme.lower() == "bearer" else None):
            await socket.close(status.WS_1008_POLICY_VIOLATION)  # before it is accepted: the client gets 403
            return
        await socket.accept()
        try:
            model = service.model(name)
        except Refused as refusal:
            await websocket.refuse(socket, str(refusal), status.WS_1008_POLICY_VIOLATION)
            return
        await websocket.serve(socket, model, service.streams)


def _tell_errors(app: FastAPI) -> None:
    """Every error is JSON, ``{"error": ...}``."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(InputError)
    async def faulty(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(FastzooError)
    async def broken(_: Request, error: FastzooError) -> JSONResponse:
        log.error("%s", error)
        return JSONResponse({"error": "the model failed; the service's log says why"}, 500)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log.debug("a request failed", exc_info=error)  # the server logs it as an error
        return JSONResponse({"error": "the service failed; its log says why"}, 500)
