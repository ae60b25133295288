"""Measure bundles on data sets related to their own, and write the result into ``bundle.json``.

    FASTZOO_DATA=DIR python tools/cross_check.py BUNDLE...

``fastzoo export`` does the same where the data set is prepared. Nothing else in a bundle changes: weights, files and
latencies stay as they are. Which data set checks which: ``fastzoo.data.cross``. Run ``tools/generate.py`` afterwards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastzoo import bundle, data
from fastzoo.errors import FastzooError
from fastzoo.export import cross


def record(folder: Path) -> None:
    """Measure one bundle anew.

    Raises:
        FastzooError: its files are not what it says, or a related data set is not prepared or does not fit.
    """
    content = bundle.read(folder)
    bundle.check(content, folder)
    related = cross.relations(content)
    if not related:
        print(f"{content.name}: no data set is related to {content.dataset.id if content.dataset else 'its own'}")
        return
    for relation in related:
        content = cross.recorded(content, folder, relation, data.load(relation.id))
    bundle.write(content, folder)
    for precision, files in content.precisions.items():
        for id, check in (files.cross_checks or {}).items():
            print(
                f"{content.model_name(precision)} ({check.layout}) on {check.n} {check.split} windows of {id}: "
                f"accuracy {100 * check.accuracy:.1f} %, macro F1 {100 * check.macro_f1:.1f} %"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", type=Path, help="a bundle's folder")
    try:
        for folder in parser.parse_args(arguments).bundles:
            record(folder)
    except FastzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
