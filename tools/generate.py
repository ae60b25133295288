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
from typing import NamedTuple

import cards
import overview

from fastzoo import _files, boards, bundle, registry
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
    scenes = overview.scenes(models)
    pages, confusions = cards.cards(contents, models, measured, {id: of.by_bytes for id, of in scenes.items()}, root)
    texts = {
        root / registry.FILE: registry.render(models, others).decode(),
        readme: with_table(readme.read_text(encoding="utf-8"), overview.summary(models, scenes)),
        root / cards.PAGES / "index.md": overview.index(models, scenes),
        **pages,
    }
    pictures = {**overview.pictures(scenes, root), **confusions}
    there = [*(root / cards.PAGES).glob("*.md"), *(root / cards.PICTURES).glob("*.png")]
    return Generated(texts, pictures, sorted(set(there) - texts.keys() - pictures.keys()))


def with_table(text: str, lines: str) -> str:
    """``text`` with ``lines`` between the two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise FastzooError(f"README.md needs the lines {BEGIN} and {END}, where the table of models goes")
    return f"{before}{begin}\n{lines}\n{end}{after}"


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
