"""What OpenAPI says about bodies that are read and written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from fastzoo.serve.bodies import BINARY, JSON, NPY


class Fault(BaseModel):
    """What was wrong, what was expected, what to do."""

    error: str


class Answer(BaseModel):
    """What the model says about N windows."""

    model: str
    classes: list[str] = Field(description="The C classes, in the order of the columns of `probabilities`.")
    labels: list[str] = Field(description="The label of each window, [N].")
    probabilities: list[list[float]] = Field(description="The probability of each class, [N, C].")


class Summary(BaseModel):
    """A model that is served."""

    name: str
    summary: str
    precision: str
    layout: str
    labels: list[str]
    input: dict[str, Any] = Field(description="Steps, channels with their units, samples per second.")


class Health(BaseModel):
    """The service runs."""

    status: str
    version: str
    models: list[str]
    mqtt: str | None = Field(None, description="`connected` or `disconnected`; absent without MQTT.")


def faults(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of these codes."""
    said = {
        400: "The body cannot be taken.", 401: "The token is missing or wrong.", 404: "No such model is served.",
        408: "The body came too slowly.", 413: "Too many bytes or windows.", 415: "An unknown type of body.",
        503: "Too much waits already; the header Retry-After says when to come back.",
    }  # fmt: skip
    return {code: {"model": Fault, "description": said[code]} for code in codes}


def predict_body(names: Sequence[str], steps: int, channels: int) -> dict[str, Any]:
    """The body of ``/models/{name}/predict``, with examples for a model of so many steps and channels."""
    window = [[0.0] * channels] * steps
    number = {"type": "number"}
    row = {"type": "array", "items": number}
    one = {"type": "array", "items": row}
    x = {"oneOf": [one, {"type": "array", "items": one}], "description": "A window [T, D], or several [N, T, D]."}
    binary = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "description": "Windows of raw samples, in the units that the model's channels name.",
            "content": {
                JSON: {
                    "schema": {"type": "object", "required": ["x"], "properties": {"x": x}},
                    "examples": {
                        "one": {"summary": f"A window for {names[0]}", "value": {"x": window}},
                        "several": {"summary": f"Two windows for {names[0]}", "value": {"x": [window, window]}},
                    },
                },
                BINARY: {"schema": {**binary, "description": "float32, little-endian, [N, T, D], nothing else."}},
                NPY: {"schema": {**binary, "description": "An array of numbers as `np.save` writes it."}},
            },
        }
    }


PREDICTED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Answer,
        "description": "JSON, or with `Accept: application/octet-stream` the probabilities alone, float32, "
        "little-endian, [N, C].",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
    },
    **faults(400, 401, 404, 408, 413, 415, 503),
}
