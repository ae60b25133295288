"""A service: models over HTTP, WebSocket and MQTT, bounded in every direction. `fastzoo serve` starts it.

``create_app`` makes an ASGI application, ``run`` serves it.
"""

from fastzoo.errors import require

for _module in ("fastapi", "uvicorn", "websockets", "prometheus_client", "aiomqtt"):
    require(_module, extra="serve", purpose="fastzoo serve")

from fastzoo.serve.app import create_app
from fastzoo.serve.limits import Limits
from fastzoo.serve.mqtt import Bridge
from fastzoo.serve.server import Address, run

__all__ = ["Address", "Bridge", "Limits", "create_app", "run"]
