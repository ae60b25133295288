"""What a bundle may say: names, sizes and numbers that fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fastzoo import frontend
from fastzoo.frontend import FrontEnd
from fastzoo.records import Bundle, Input, Metrics, Precision

_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_WORD = re.compile(r"[a-z0-9]{1,16}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def content_faults(bundle: Bundle) -> Iterator[str]:
    """What the types cannot say; every fault on its own."""
    if not _NAME.fullmatch(bundle.name) or len(bundle.name) > 64:
        yield f"name {bundle.name!r} must be lower-case letters and digits joined by single '-', '_' or '.', at most 64"
    if not _VERSION.fullmatch(bundle.version):
        yield f"version {bundle.version!r} must look like 1.0.0"
    if not 1 <= bundle.pool <= bundle.input.steps:
        yield f"pool must be between 1 and the {bundle.input.steps} steps of a window, not {bundle.pool}"
    if not bundle.input.rate > 0:
        yield f"input.rate must be positive, not {bundle.input.rate}"
    yield from _line_faults("summary", [bundle.summary], least=1)
    yield from _line_faults("input.channels", bundle.input.channels, least=1)
    yield from _line_faults("labels", bundle.labels, least=2)
    if bundle.frontend is not None:
        yield from (f"frontend: {fault}" for fault in _frontend_faults(bundle.frontend, bundle.input))
    if bundle.size.parameters < 1 or not 0 <= (bundle.size.nonzeros or 0) <= bundle.size.parameters:
        yield f"size: {bundle.size.nonzeros} non-zeros of {bundle.size.parameters} parameters"
    for name, count in vars(bundle.size).items():
        if (count or 0) < 0:
            yield f"size.{name} must be positive, not {count}"
    if not bundle.precisions:
        yield "precisions is empty"
    for name, precision in bundle.precisions.items():
        yield from _precision_faults(name, precision, bundle.labels)
    for record in bundle.files:
        if not _FILE_NAME.fullmatch(record.file) or len(record.file) > 128:
            yield f"file {record.file!r} must be a plain name of letters, digits, '.', '_' and '-' inside the folder"
        if not _SHA256.fullmatch(record.sha256):
            yield f"the sha256 of {record.file!r} must be 64 hexadecimal digits"
        if record.bytes < 1:
            yield f"{record.file!r} cannot have {record.bytes} bytes"
    names = [record.file.lower() for record in bundle.files] + ["bundle.json"]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"two files have the same name: {', '.join(twice)}"


def _frontend_faults(made: FrontEnd, window: Input) -> list[str]:
    return frontend.faults(made) or frontend.misfits(made, window.steps, len(window.channels), window.rate)


def _line_faults(path: str, lines: Iterable[str], least: int) -> Iterator[str]:
    lines = list(lines)
    if len(lines) < least or len(set(lines)) < len(lines):
        yield f"{path} must be at least {least} different line(s), not {len(lines)} of which {len(set(lines))} differ"
    if any(not line.strip() or not line.isprintable() for line in lines):
        yield f"{path}: each must be one line of text, not empty"


def _precision_faults(name: str, precision: Precision, labels: tuple[str, ...]) -> Iterator[str]:
    path = f"precisions.{name}"
    if not _WORD.fullmatch(name):
        yield f"the precision's name {name!r} must be up to 16 lower-case letters and digits"
    if precision.weights_bytes < 1:
        yield f"{path}.weights_bytes must be positive, not {precision.weights_bytes}"
    if not precision.layouts:
        yield f"{path}.layouts is empty"
    for layout, file in precision.layouts.items():
        where = f"{path}.layouts.{layout}"
        if not _WORD.fullmatch(layout):
            yield f"the layout's name {layout!r} must be up to 16 lower-case letters and digits"
        if min(file.ir_version, file.opset, *file.operators.values(), 1) < 1:
            yield f"{where}: ir_version, opset and counts of operators must be positive"
        if file.latency and not 0 < file.latency.p50_us <= file.latency.p95_us:
            yield f"{where}.latency: p50 {file.latency.p50_us} us, but p95 {file.latency.p95_us} us"
        if file.metrics:
            yield from _metrics_faults(f"{where}.metrics", file.metrics, labels)
    for id, check in (precision.cross_checks or {}).items():
        where = f"{path}.cross_checks.{id}"
        if check.layout not in precision.layouts:
            yield f"{where}.layout {check.layout!r} is not one of its layouts"
        if not (0 <= check.accuracy <= 1 and 0 <= check.macro_f1 <= 1 and check.n > 0):
            yield f"{where}: accuracy and macro_f1 must be between 0 and 1, of at least one window"


def _metrics_faults(path: str, metrics: Metrics, labels: tuple[str, ...]) -> Iterator[str]:
    if not (0 <= metrics.accuracy <= 1 and 0 <= metrics.macro_f1 <= 1):
        yield f"{path}: accuracy and macro_f1 must be between 0 and 1"
    if set(metrics.per_class) != set(labels):
        yield f"{path}.per_class must have one entry per label"
    if [len(row) for row in metrics.confusion] != [len(labels)] * len(labels):
        yield f"{path}.confusion must be {len(labels)} rows of {len(labels)}"
    elif sum(map(sum, metrics.confusion)) != metrics.n:
        yield f"{path}.confusion must count n = {metrics.n} windows"
