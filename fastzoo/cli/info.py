"""``fastzoo info``: everything known about one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastzoo import _json
from fastzoo.cli import _console
from fastzoo.frontend import FrontEnd


def info(name: _console.Name, as_json: _console.AsJson = False) -> None:
    """Show what a model takes, gives, costs and comes from.

    Example: fastzoo info fastgrnn-har-int8
    """
    from fastzoo import registry

    entry, folder = registry.locate(name)
    if as_json:
        _console.print_json(entry)
        return
    console = _console.console()
    facts = _console.table("", "")
    facts.show_header = False
    for key, text in _facts(entry, folder):
        facts.add_row(key, text)
    console.print(facts)
    console.print()
    numbers = ("bytes", "accuracy", "macro F1", "p50", "p95", "load")
    layouts = _console.table("layout", "file", *numbers, "quantization", right=numbers)
    for layout, file in entry["layouts"].items():
        latency = file.get("latency", {})
        layouts.add_row(
            layout,
            file["file"],
            str(file["bytes"]),
            _console.percent(file.get("accuracy")),
            _console.percent(file.get("macro_f1")),
            _console.microseconds(latency.get("p50_us")),
            _console.microseconds(latency.get("p95_us")),
            f"{latency['load_ms']:.1f} ms" if latency else "",
            file["quantization"],
        )
    console.print(layouts)


def _facts(entry: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """What is worth a line; what nobody recorded gets none."""
    window = entry["input"]
    yield "model", f"{entry['name']} {entry['version']}: {entry['summary']}"
    yield "input", f"{window['steps']} steps at {window['rate']:g} Hz of {', '.join(window['channels'])}"
    if "frontend" in entry:
        yield "front end", str(_json.build(entry["frontend"], FrontEnd))
    yield "labels", ", ".join(entry["labels"])
    yield "cell", _pairs(entry["cell"]) + f", mean of the last {entry['pool']} state(s)"
    counts = {
        "non-zero": entry.get("nonzeros"),
        "bytes sparse": entry.get("sparse_bytes"),
        "multiply-adds per step": entry.get("macs_per_step"),
        "multiply-adds per window": entry.get("macs_per_window"),
    }
    size = f"{entry['parameters']} parameters, {entry['weights_bytes']} bytes of weights in {entry['precision']}"
    yield "size", ", ".join([size, *(f"{count} {what}" for what, count in counts.items() if count is not None)])
    for key in ("dataset", "training", "seeds", "calibration", "measured_on", "environment", "licences"):
        if entry.get(key):
            yield key.replace("_", " "), _pairs(entry[key])
        if key == "dataset":
            yield from ((f"on {id}", _cross_check(check)) for id, check in entry.get("cross_checks", {}).items())
    if entry.get("citation"):
        yield "cite", entry["citation"]
    yield "folder", str(folder)


def _cross_check(check: Mapping[str, Any]) -> str:
    values = f"accuracy {_console.percent(check['accuracy'])}, macro F1 {_console.percent(check['macro_f1'])}"
    return f"{values} ({check['layout']}) on {check['n']} {check['split']} windows: {check.get('variant', 'your own')}"


def _pairs(mapping: Mapping[str, Any]) -> str:
    """Free fields as one line, what is nested in brackets."""
    texts = {key: f"({_pairs(value)})" if isinstance(value, Mapping) else value for key, value in mapping.items()}
    return ", ".join(f"{key} {text}" for key, text in texts.items() if text is not None)
