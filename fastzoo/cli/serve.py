"""``fastzoo serve``: models over HTTP, WebSocket and MQTT."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from fastzoo.cli import _console

_LIMITS, _MQTT = "Limits", "MQTT"
_LEVELS = ("debug", "info", "warning", "error")


def serve(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Names from `fastzoo list`, or bundles' folders.", show_default=False),
    ],
    layout: _console.Layout = "auto",
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    uds: Annotated[str | None, typer.Option(help="A Unix domain socket instead.", metavar="PATH")] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for the bearer token in $FASTZOO_TOKEN; set, it is asked for anyway.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    max_body: Annotated[int, typer.Option(help="Bytes of a request or message.", rich_help_panel=_LIMITS)] = 1 << 20,
    max_windows: Annotated[int, typer.Option(help="Windows of a request.", rich_help_panel=_LIMITS)] = 1024,
    max_queue: Annotated[int, typer.Option(help="Windows that wait for a model.", rich_help_panel=_LIMITS)] = 4096,
    max_batch: Annotated[int, typer.Option(help="Windows computed at once.", rich_help_panel=_LIMITS)] = 64,
    max_wait: Annotated[
        float, typer.Option(help="Milliseconds a request waits for company.", rich_help_panel=_LIMITS)
    ] = 0.0,
    max_streams: Annotated[int, typer.Option(help="Open streams.", rich_help_panel=_LIMITS)] = 64,
    max_connections: Annotated[int, typer.Option(help="Open connections.", rich_help_panel=_LIMITS)] = 256,
    stop_timeout: Annotated[
        int, typer.Option(help="Seconds for the answers under way when it is stopped.", rich_help_panel=_LIMITS)
    ] = 10,
    mqtt: Annotated[
        str | None,
        typer.Option(
            help="A broker, mqtt://host:1883; credentials are in $FASTZOO_MQTT_USERNAME and $FASTZOO_MQTT_PASSWORD.",
            metavar="URL",
            rich_help_panel=_MQTT,
        ),
    ] = None,
    mqtt_in: Annotated[
        str | None,
        typer.Option(help="Topic or topics (+, #) of chunks, each a stream.", metavar="TOPIC", rich_help_panel=_MQTT),
    ] = None,
    mqtt_out: Annotated[
        str | None,
        typer.Option(help="Topic of results, {topic} and {model} filled in.", metavar="TOPIC", rich_help_panel=_MQTT),
    ] = None,
    mqtt_model: Annotated[
        str | None, typer.Option(help="The model, where several are served.", rich_help_panel=_MQTT)
    ] = None,
    mqtt_hop: Annotated[int | None, typer.Option(help="Samples between two windows.", rich_help_panel=_MQTT)] = None,
    mqtt_smooth: Annotated[str | None, typer.Option(help="majority:5 or exponential:5.", rich_help_panel=_MQTT)] = None,
    mqtt_events: Annotated[
        str | None, typer.Option(help="on,off,seconds, for example 0.8,0.5,1.0.", rich_help_panel=_MQTT)
    ] = None,
) -> None:
    """Serve models: windows by POST, streams by WebSocket and MQTT, metrics for Prometheus; see /docs of the service.

    Example: fastzoo serve fastgrnn-har-int8 --port 8000
    """
    import fastzoo
    from fastzoo import serve as service
    from fastzoo.errors import InputError
    from fastzoo.serve.streams import Options

    if log_level not in _LEVELS:
        raise InputError(f"no log level {log_level!r}; there are {', '.join(_LEVELS)}")
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    secret = os.environ.get("FASTZOO_TOKEN")
    if token and not secret:
        raise InputError("--token needs the token in the environment: FASTZOO_TOKEN=... fastzoo serve ...")
    limits = service.Limits(
        max_body=max_body, max_windows=max_windows, max_queue=max_queue, max_batch=max_batch, max_wait=max_wait,
        max_streams=max_streams, max_connections=max_connections, stop_timeout=stop_timeout,
    )  # fmt: skip
    models = [fastzoo.load(name, layout) for name in names]
    bridge = None
    if mqtt is not None:
        if mqtt_in is None or mqtt_out is None:
            raise InputError("--mqtt needs --mqtt-in and --mqtt-out, the topics of chunks and of results")
        if mqtt_model is None and len(models) > 1:
            raise InputError(f"--mqtt needs --mqtt-model: one of {', '.join(model.name for model in models)}")
        bridge = service.Bridge(
            mqtt,
            mqtt_in,
            mqtt_out,
            mqtt_model or models[0].name,
            Options(mqtt_hop, mqtt_smooth, mqtt_events),
            username=os.environ.get("FASTZOO_MQTT_USERNAME"),
            password=os.environ.get("FASTZOO_MQTT_PASSWORD"),
        )
    app = service.create_app(models, limits, token=secret or None, bridge=bridge)

    def ready(where: str) -> None:
        typer.echo(f"serving {', '.join(model.name for model in models)} on {where}", err=True)

    service.run(app, service.Address(host, port, uds), limits, ready)
