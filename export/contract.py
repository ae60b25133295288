"""What a file needs to be used without its bundle, written into the ONNX file's own metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from fastzoo import _json
from fastzoo.export.network import Network
from fastzoo.frontend import FrontEnd


@dataclass(frozen=True)
class Contract:
    """What goes in and what comes out: names in order, units in the channel names, samples per second.

    ``frontend`` says how windows are made from sound, where they are.
    """

    name: str
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    rate: float
    frontend: FrontEnd | None = None


def inscribe(
    model: onnx.ModelProto, contract: Contract, network: Network, layout: str, precision: str, quantization: str
) -> None:
    """Write the contract into ``metadata_props``; lists and numbers as JSON."""
    properties: dict[str, Any] = {
        "name": contract.name,
        "labels": contract.labels,
        "channels": contract.channels,
        "rate": contract.rate,
        "steps": network.steps,
        "mean": [float(f"{value:.6g}") for value in network.mean],
        "std": [float(f"{value:.6g}") for value in network.std],
        "layout": layout,
        "precision": precision,
        "quantization": quantization,
    }
    if contract.frontend is not None:
        properties["frontend"] = _json.plain(contract.frontend)
    helper.set_model_props(
        model,
        {
            f"fastzoo.{key}": value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            for key, value in properties.items()
        },
    )
