"""Rewrite what is generated from the bundles in fastzoo/models: zoo_registry.json, the README's table, docs/zoo.

    python tools/generate.py [--check]

``--check`` writes nothing, and exits with status 1 after showing what differs. Drawing the pictures of docs/zoo needs
matplotlib, comparing them does not: each carries the numbers that it shows.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cards

from fastzoo import _files, boards, bundle, registry
from fastzoo._order import natural
from fastzoo.errors import FastzooError

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"


class Generated(NamedTuple):
    """The generated files of a checkout, with the content that they should have."""

    texts: Mapping[Path, str]
    pictures: Mapping[Path, cards.Picture]
    surplus: Sequence[Path]  # files that no bundle gives any more


def generated(root: Path) -> Generated:
    """What the checkout ``root`` should hold.

    Raises:
        FastzooError: a bundle is faulty or damaged, or the README has no place for the table.
    """
    package = root / "fastzoo"
    folders = sorted(path.parent for path in (package / "models").glob(f"*/{bundle.FILE}"))
    contents = [bundle.read(folder) for folder in folders]
    for content, folder in zip(contents, folders, strict=True):
        bundle.check(content, folder)
    models = registry.index(folders, package)
    readme = root / "README.md"
    others = registry.read(root / registry.FILE, package).others
    measured = boards.compare(registry=root / registry.FILE, every=True)
    pages, pictures = cards.cards(contents, models, measured, root)
    texts = {
        root / registry.FILE: registry.render(models, others).decode(),
        readme: with_table(readme.read_text(encoding="utf-8"), table(models)),
        **pages,
    }
    there = [*(root / cards.PAGES).glob("*.md"), *(root / cards.PICTURES).glob("*.png")]
    return Generated(texts, pictures, sorted(set(there) - texts.keys() - pictures.keys()))


def with_table(text: str, lines: str) -> str:
    """``text`` with ``lines`` between the two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise FastzooError(f"README.md needs the lines {BEGIN} and {END}, where the table of models goes")
    return f"{before}{begin}\n{lines}\n{end}{after}"


def table(models: Mapping[str, dict[str, Any]]) -> str:
    """The models in Markdown, and below it what their numbers were measured on."""
    if not models:
        return "No models yet."
    rows = ["| model | data | accuracy | weights | file | latency |", "|---|---|--:|--:|--:|---|"]
    notes: dict[str, None] = {}  # an ordered set
    for name in sorted(models, key=natural):
        rows.append(row(models[name]))
        notes.update(dict.fromkeys(remarks(models[name])))
    return "\n".join([*rows, "", *(f"- {note}" for note in notes)]).rstrip()


def row(entry: Mapping[str, Any]) -> str:
    """One line of the table."""
    best = registry.fastest(entry)
    layout = next(name for name, file in entry["layouts"].items() if file is best)
    latencies = {name: file["latency"]["p50_us"] for name, file in entry["layouts"].items() if "latency" in file}
    cells = [
        f"`{entry['name']}`",
        entry.get("dataset", {}).get("id", ""),
        f"{100 * best['accuracy']:.1f} %" if "accuracy" in best else "",
        f"{entry['weights_bytes'] / 1000:.1f} kB",
        f"{best['bytes'] / 1000:.1f} kB ({layout})",
        ", ".join(f"{name} {microseconds:.0f} us" for name, microseconds in latencies.items()),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def remarks(entry: Mapping[str, Any]) -> list[str]:
    """What must be said beside the numbers of a model."""
    dataset, machine = entry.get("dataset", {}), entry.get("measured_on")
    found = [f"{dataset['id']}: {dataset['variant']}."] if "variant" in dataset else []
    if brick := entry["cell"].get("brick"):
        found.append(f"`{entry['name']}` reads {brick} samples in one step.")
    seeds = entry.get("seeds", {})
    if spread := seeds.get(f"{entry['precision']}/{entry.get('fastest')}"):
        where = cards.judged_on(entry.get("training"))
        found.append(
            f"`{entry['name']}` was chosen on {where} from {len(seeds['seeds'])} seeds. "
            f"Test accuracy of all: mean {100 * spread['mean']:.1f} %, standard deviation {100 * spread['std']:.1f}, "
            f"worst {100 * spread['worst']:.1f} %."
        )
    if machine:
        found.append(
            f"Latency: median of single windows in {machine['threads']} thread, "
            f"{machine.get('board') or machine['cpu']}, "
            f"{machine['os']}, onnxruntime {machine['onnxruntime']}."
        )
    return found


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    try:
        files = generated(root)
    except FastzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = False
    for path, text in files.texts.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if text == old:
            continue
        stale = True
        if check:
            name = str(path.relative_to(root))
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, "generated"))
        else:
            _write(path, text.encode(), root)
    for path, picture in files.pictures.items():
        if path.exists() and cards.shown_by(path.read_bytes()) == picture.text:
            continue
        stale = True
        if check:
            print(f"{path.relative_to(root)} is missing, or shows other numbers")
        else:
            _write(path, picture.draw(), root)
    for path in files.surplus:
        stale = True
        if check:
            print(f"{path.relative_to(root)} belongs to no model")
        else:
            path.unlink()
            print(f"removed {path.relative_to(root)}")
    if check and stale:
        print("run `python tools/generate.py` and commit the result", file=sys.stderr)
    return int(check and stale)


def _write(path: Path, content: bytes, root: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write(path, content)
    print(f"wrote {path.relative_to(root)}")


if __name__ == "__main__":
    sys.exit(main())
