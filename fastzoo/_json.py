"""JSON in and out of dataclasses: every fault with its path, and a form that reads well in a diff."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH = 100  # columns within which a list or an object stays on one line
_DEEPEST = 32  # levels below a free field; deeper ones only come from a hostile file
_WHITE = str.maketrans("\n\t", "  ")  # as good as printable
_LARGEST = 2**53  # beyond it JSON readers in other languages round
_KINDS = {
    str: "text",
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def parse(text: bytes) -> Any:
    """Read UTF-8 JSON.

    Raises:
        ValueError: it is not UTF-8, not JSON, holds NaN or infinity, or is nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def faults(value: object, hint: Any, path: str = "") -> Iterator[str]:
    """Say where ``value`` (parsed JSON) does not fit the type ``hint``; unknown fields of a record are no fault.

    Understands dataclasses, ``str``, ``int``, ``float``, ``Any``, ``X | None``, ``tuple[X, ...]`` and
    ``Mapping[str, X]``.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is not None:
            yield from faults(value, arguments[0], path)
    elif dataclasses.is_dataclass(hint):
        yield from _record_faults(value, hint, path)
    elif hint is Any:
        yield from _free_faults(value, path)
    elif origin is tuple:
        if not isinstance(value, list):
            yield _expected("a list", value, path)
            return
        for position, item in enumerate(value):
            yield from faults(item, arguments[0], f"{path}[{position}]")
    elif origin is not None:  # Mapping[str, X]
        if not isinstance(value, dict):
            yield _expected("an object", value, path)
            return
        for key, item in value.items():
            yield from _text_faults(key, f"a key in {path}")
            yield from faults(item, arguments[1], _join(path, key))
    else:
        yield from _scalar_faults(value, hint, path)


def _record_faults(value: object, record: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _expected("an object", value, path)
        return
    hints = _hints(record)
    for field in dataclasses.fields(record):
        where = _join(path, field.name)
        if field.name in value:
            yield from faults(value[field.name], hints[field.name], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            yield f"{where} is missing"


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    return typing.get_type_hints(record)


def _scalar_faults(value: object, hint: type, path: str) -> Iterator[str]:
    allowed = (int, float) if hint is float else (hint,)
    if type(value) not in allowed:
        yield _expected(_KINDS[hint], value, path)
    elif isinstance(value, str):
        yield from _text_faults(value, path)
    elif isinstance(value, (int, float)) and not (math.isfinite(value) and abs(value) <= _LARGEST):
        yield f"{path} is too large a number"


def _free_faults(value: object, path: str, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        yield f"{path} is nested too deeply"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _text_faults(key, f"a key in {path}")
            yield from _free_faults(item, path, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _free_faults(item, path, depth + 1)
    elif value is not None and not isinstance(value, bool):
        hint = type(value)
        if hint not in _KINDS:
            yield f"{path} holds a {hint.__name__}, which JSON cannot"
        else:
            yield from _scalar_faults(value, hint, path)


def _text_faults(text: str, path: str) -> Iterator[str]:
    # A terminal would obey control characters, and lone surrogates cannot be printed at all.
    if not text.isprintable() and not text.translate(_WHITE).isprintable():
        yield f"{path} holds characters that cannot be printed"


def _expected(what: str, value: object, path: str) -> str:
    found = "nothing" if value is None else _KINDS.get(type(value), type(value).__name__)
    return f"{path or 'the file'} must be {what}, not {found}"


def _join(path: str, key: str) -> str:
    name = key if key.isprintable() and len(key) <= 60 else "?"
    return f"{path}.{name}" if path else name


def build(value: Any, hint: Any) -> Any:
    """Parsed JSON without :func:`faults` as what ``hint`` says: records, tuples, mappings; unknown fields dropped."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else build(value, arguments[0])
    if dataclasses.is_dataclass(hint):
        record: Any = hint
        hints = _hints(record)
        return record(**{name: build(item, hints[name]) for name, item in value.items() if name in hints})
    if origin is tuple:
        return tuple(build(item, arguments[0]) for item in value)
    if origin is not None:  # Mapping[str, X]
        return {key: build(item, arguments[1]) for key, item in value.items()}
    return float(value) if hint is float else value


def plain(value: object) -> Any:
    """Records as what JSON can hold: absent fields dropped, numbers to 6 digits, NumPy's numbers as Python's."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: plain(item) for name, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy, which reading a registry need not import
        return plain(value.tolist())
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    return value


def render(value: object, indent: int = 0) -> str:
    """JSON text in which what fits on a line stays on it: a confusion matrix reads as one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or len(line) + indent <= _WIDTH:
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {render(item, indent + 2)}" for key, item in value.items()]
        left, right = "{}"
    else:
        items = [render(item, indent + 2) for item in value]
        left, right = "[]"
    return f"{left}\n{inner}" + f",\n{inner}".join(items) + f"\n{' ' * indent}{right}"


def listing(found: list[str], most: int = 20) -> str:
    """All faults in one sentence; of a file full of them the first ``most``."""
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more
