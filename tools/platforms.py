"""Run the .onnx files of bundles on other platforms, and compare their logits with those of the onnxruntime here.

    python tools/platforms.py setup NAME...
    python tools/platforms.py check BUNDLE... [--on NAME,NAME] [--windows FILE] [--limit N] [--budget N] [--out FILE]

========  ==========================================================================================================
native    the onnxruntime of this Python, against which the others are compared; itself against the golden logits
oldest    the oldest onnxruntime that fastzoo supports, in a virtual environment of its own
aarch64   the aarch64 wheel of the native release on Debian's arm64 Python, run by qemu-user as a Raspberry Pi 4's CPU
web       onnxruntime-web, the browser's runtime, as wasm in Node.js
========  ==========================================================================================================

``check`` runs every file on the golden windows, one by one and all at once, and on those of ``--windows``; it sets up
what is missing. Each platform is started once for all bundles, side by side where there are cores. ``--budget`` bounds
what the emulated ones take, however many files there are (see :func:`affordable`). The exit status is 1 if a limit is
broken: files whose arithmetic is fp32 (int8 weights included) give the same logits and classes, those that compute in
int8 the same class for nearly all windows, where there are enough of them. ``--out`` writes what was measured as JSON:
the mapping ``platforms`` of a file is for the record ``verification`` of ``bundle.json``, where ``--record`` writes it.

Platforms lie in ``$FASTZOO_PLATFORMS``, default the user's cache. Setting them up needs no root rights.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from platform_setup import PLATFORMS, Platform, PlatformError, execute, prepare, say

from fastzoo import _files, bench, bundle, golden
from fastzoo._json import parse
from fastzoo.bundle import Bundle
from fastzoo.cli import _console
from fastzoo.errors import FastzooError
from fastzoo.records import LayoutFile
from fastzoo.samples import UNREADABLE

LARGEST_DIFFERENCE = 1e-4  # of logits up to LARGE, where arithmetic is fp32; larger ones are rounded more coarsely
LARGE = 10.0
SAME_CLASS = 0.995  # where products are int8, whose rounding differs between kinds of CPU ..
ENOUGH = 200  # .. of at least so many windows: fewer say nothing about a share

TEST = 2  # the split of a prepared data set that windows are taken from

# When emulated, starting the operators of a step takes as long as so many multiply-adds do; calling a graph, too.
STEP_WORK, CALL_WORK = 1000, 4000
PROGRESS = 20.0  # seconds between lines

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


# ---------------------------------------------------------------------------------------------------------------------
# What is run, and what comes back


class Graph(NamedTuple):
    """One ``.onnx`` file and how it is run."""

    path: Path
    layout: str
    pool: int  # steps whose logits are averaged, where the layout is `step`
    session: Mapping[str, str]
    windows: Floats  # [N, T, D]


class Answer(NamedTuple):
    """The logits [N, C] of a graph's windows, one at a time and all at once; or why there are none."""

    single: Floats
    batch: Floats
    fault: str | None = None


class Report(NamedTuple):
    """What a platform is, and its answers in the order of the graphs, to those of their windows that it was given."""

    name: str  # "onnxruntime 1.16.3 x86-64"
    about: dict[str, str]
    answers: list[Answer]
    given: list[Indices]  # [n] each


# ---------------------------------------------------------------------------------------------------------------------
# Running and comparing


def run(target: Platform, graphs: Sequence[Graph], given: Sequence[Indices] | None = None) -> Report:
    """All graphs on one platform, which is set up if it is missing.

    Args:
        target: the platform.
        graphs: in any order.
        given: which of each graph's windows it runs on; default all.

    Raises:
        PlatformError: it cannot be set up, or its runner died; a graph that it refuses is a fault in its answer.
    """
    folder = prepare(target)
    given = list(given) if given is not None else [np.arange(len(graph.windows)) for graph in graphs]
    graphs = [graph._replace(windows=graph.windows[which]) for graph, which in zip(graphs, given, strict=True)]
    say(target, f"{len(graphs)} graph(s), {sum(map(len, given))} windows")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastzoo-platform-") as temporary:
        job = Path(temporary)
        _write_job(job, graphs)
        execute(target.command(folder, job), _progress(target, len(graphs)))
        about = parse((job / "answer.json").read_bytes())
        faults = about.pop("faults")
        answers = [_read_answer(job, number, graph, faults.get(str(number))) for number, graph in enumerate(graphs)]
    say(target, f"done in {time.monotonic() - begin:.0f} s")
    name, cpu = f"{about['runtime']} {about['arch']}", bench.describe_machine().cpu
    if target.emulated_cpu:
        name, cpu = f"{name} (qemu-user)", f"{target.emulated_cpu}, emulated on {cpu}"
    return Report(name, {"platform": target.name, **about, "cpu": cpu}, answers, given)


def _progress(target: Platform, count: int) -> Callable[[str], None]:
    """What takes the lines that a runner prints, of which one ends each graph, and says now and then how far it is."""
    begin = last = time.monotonic()
    done = 0

    def heard(line: str) -> None:
        nonlocal last, done
        done += line.startswith("done ")
        if time.monotonic() > last + PROGRESS:
            last = time.monotonic()
            say(target, f"{done} of {count} graphs, {last - begin:.0f} s")

    return heard


def _write_job(job: Path, graphs: Sequence[Graph]) -> None:
    entries = []
    for number, graph in enumerate(graphs):
        graph.windows.astype("<f4").tofile(job / f"{number}.windows")
        entries.append(
            {
                "file": str(graph.path.resolve()),
                "shape": graph.windows.shape,
                "layout": graph.layout,
                "pool": graph.pool,
                "session": dict(graph.session),
            }
        )
    (job / "job.json").write_text(json.dumps(entries), encoding="utf-8")


def _read_answer(job: Path, number: int, graph: Graph, fault: str | None) -> Answer:
    if fault is not None:
        nothing = np.empty((0, 0), np.float32)
        return Answer(nothing, nothing, fault)
    single, batch = (
        np.fromfile(job / f"{number}.{name}", "<f4").reshape(len(graph.windows), -1) for name in ("single", "batch")
    )
    return Answer(single, batch)


class Difference(NamedTuple):
    """Between a platform's logits and the reference: the largest, and the share of windows with the same class."""

    logits: float
    same_class: float
    windows: int

    def record(self) -> dict[str, Any]:
        """As it stands in ``bundle.json``."""
        return {
            "max_logit_difference": float(f"{self.logits:.6g}") if np.isfinite(self.logits) else None,
            "same_class": float(f"{self.same_class:.6g}"),
            "windows": self.windows,
        }


def compare(answer: Answer, reference: Floats) -> Difference:
    """Both answers, of single windows and of all at once, with the same reference [N, C]."""
    both = np.stack([answer.single, answer.batch])  # [2, N, C]
    with np.errstate(invalid="ignore"):  # infinities: the limits will say so
        largest = float(np.abs(both - reference).max())
    same = (both.argmax(2) == reference.argmax(1)).all(0)  # [N]
    return Difference(largest, float(same.mean()), len(reference))


def computes_in_fp32(precision: str, file: LayoutFile) -> bool:
    """Whether weights alone, or nothing at all, are in int8."""
    return precision == "fp32" or file.quantization.startswith("weights int8")


def broken(difference: Difference, fp32: bool, largest_logit: float = 0.0) -> str | None:
    """The limit that a difference breaks."""
    limit = LARGEST_DIFFERENCE * max(1.0, largest_logit / LARGE)
    if not np.isfinite(difference.logits):
        return "logits are not finite"
    if fp32 and difference.logits > limit:
        return f"logits differ by more than {limit:g}"
    least = 1.0 if fp32 else SAME_CLASS if difference.windows >= ENOUGH else 0.0
    if difference.same_class < least:
        return f"less than {100 * least:g} % of the windows have the same class"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Bundles


class File(NamedTuple):
    """A graph of a bundle, and what is known of it."""

    bundle: str
    name: str  # "int8/fused"
    sha256: str
    fp32: bool
    graph: Graph
    golden: Floats | None  # the recorded logits of the first windows
    own: int  # so many of its windows are golden ones, the first
    work: int  # of a window, see `work_of`


def files_of(folder: Path, more: Path | None = None, limit: int | None = None) -> list[File]:
    """The files of a bundle with their windows: the golden ones, then at most ``limit`` of ``more``.

    Raises:
        FastzooError: the bundle is faulty or damaged, or the windows do not fit it.
    """
    content = bundle.read(folder)
    bundle.check(content, folder)
    arrays = golden.read(content, folder)
    x = arrays["x"]
    if more is not None and more.is_dir():  # of prepared data sets, of which the bundle names its own
        own = more / f"{content.dataset.id}.npz" if content.dataset else None
        more = own if own and own.exists() else None
    if more is not None:
        x = np.concatenate([x, read_windows(more, x.shape[1:], limit)])
    return [
        File(
            content.name,
            f"{precision}/{layout}",
            file.sha256,
            computes_in_fp32(precision, file),
            Graph(folder / file.file, layout, content.pool, file.session, x),
            arrays.get(f"{precision}/{layout}"),
            len(arrays["x"]),
            work_of(content, layout),
        )
        for precision, entry in content.precisions.items()
        for layout, file in entry.layouts.items()
    ]


def work_of(content: Bundle, layout: str) -> int:
    """What one window costs in a layout: its multiply-adds, and what is to be done around them."""
    brick: int = content.cell.get("brick", 1)
    steps = content.input.steps // brick
    around = STEP_WORK + (CALL_WORK if layout == "step" else 0)
    return steps * around + (content.size.macs_per_window or 0)


def affordable(files: Sequence[File], budget: int) -> list[Indices]:
    """The windows [n] of each file that a slow platform is given, where all share ``budget`` multiply-adds evenly.

    The golden windows always, and at least :data:`ENOUGH` where the limit is a share of windows; then, evenly spread,
    as many as the file's share pays for. The same files and budget give the same windows, on any machine.
    """
    given = []
    for file in files:
        least = file.own if file.fp32 else max(file.own, ENOUGH)
        count = min(len(file.graph.windows), max(least, budget // len(files) // file.work))
        recorded = spread(len(file.graph.windows) - file.own, count - file.own)
        given.append(np.concatenate([np.arange(file.own), file.own + recorded]))
    return given


def spread(count: int, wanted: int) -> Indices:
    """``wanted`` of the numbers 0 .. count - 1, evenly spread."""
    return np.linspace(0, count - 1, wanted).round().astype(np.intp)


@functools.cache  # a data set may be that of many bundles
def read_windows(path: Path, shape: tuple[int, ...], limit: int | None = None) -> Floats:
    """The array ``x`` of an ``.npz``, at most ``limit`` windows evenly spread; the test split of a prepared data set.

    Raises:
        PlatformError: the file cannot be read, or its windows have another shape.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            x = archive["x"]
            if "split" in archive.files:
                x = x[archive["split"] == TEST]
    except (IndexError, *UNREADABLE) as error:
        raise PlatformError(f"{path} is no .npz with windows x [N, T, D] ({error})") from error
    if x.ndim != 3 or x.shape[1:] != shape or not len(x):
        raise PlatformError(f"{path} holds windows {list(x.shape)}, the bundle takes [N, {shape[0]}, {shape[1]}]")
    if limit is not None and limit < len(x):
        x = x[spread(len(x), limit)]
    return np.ascontiguousarray(x, np.float32)


class Row(NamedTuple):
    """One file on one platform."""

    file: File
    platform: str
    difference: Difference | None  # None: it could not be run
    fault: str | None


def compared(files: Sequence[File], reports: Sequence[Report]) -> list[Row]:
    """Every file on every platform; the first report is the native one."""
    rows = []
    for number, file in enumerate(files):
        native = reports[0].answers[number]
        for report in reports:
            answer = report.answers[number]
            if report is reports[0] and file.golden is not None and not answer.fault:
                count = len(file.golden)
                answer, reference = Answer(answer.single[:count], answer.batch[:count]), file.golden
            else:
                reference = native.batch[report.given[number]]
            if answer.fault or native.fault:
                rows.append(Row(file, report.name, None, answer.fault or "nothing to compare with"))
            else:
                difference = compare(answer, reference)
                largest_logit = float(np.abs(reference).max())
                rows.append(Row(file, report.name, difference, broken(difference, file.fp32, largest_logit)))
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def check(arguments: argparse.Namespace) -> int:
    """Run, compare, print, write; 1 if a limit is broken, or a bundle or a platform failed."""
    files, failed = list[File](), list[FastzooError]()
    for folder in arguments.bundles:
        try:
            files += files_of(folder, arguments.windows, arguments.limit)
        except FastzooError as error:  # the others still have something to say
            failed.append(error)
    if len({(file.bundle, file.name) for file in files}) < len(files):
        raise PlatformError("two of the bundles have the same name: check them one after the other")
    reports = list[Report]()
    if files:
        reports, broke = run_all(arguments.on, files, arguments.budget)
        failed += broke
    rows = compared(files, reports)
    _print(rows, reports)
    if arguments.out:
        _files.write(arguments.out, (json.dumps(document(rows, reports), indent=2) + "\n").encode())
    for failure in failed:
        print(f"error: {failure}", file=sys.stderr)
    if failed or any(row.fault for row in rows):
        return 1
    if arguments.record:
        for folder in arguments.bundles:
            record(folder, document(rows, reports)["bundles"])
    return 0


def run_all(
    names: Sequence[str], files: Sequence[File], budget: int | None
) -> tuple[list[Report], list[PlatformError]]:
    """The reports of the platforms, the native one first, and why others have none.

    Emulated platforms, which take longest, begin first; ``budget`` says in multiply-adds what they run on.

    Raises:
        PlatformError: the native one failed, with which all others are compared.
    """
    graphs = [file.graph for file in files]
    targets = [PLATFORMS["native"], *(PLATFORMS[name] for name in names if name != "native")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            target.name: pool.submit(
                run, target, graphs, affordable(files, budget) if target.emulated_cpu and budget is not None else None
            )
            for target in sorted(targets, key=lambda target: target.emulated_cpu is None)
        }
    reports, failed = [running.pop("native").result()], list[PlatformError]()
    for target in targets[1:]:
        try:
            reports.append(running[target.name].result())
        except PlatformError as error:  # the others still have something to say
            failed.append(error)
    return reports, failed


def record(folder: Path, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what was measured on other platforms into a bundle's ``bundle.json``, file by file."""
    content = bundle.read(folder)
    of_files = measured[content.name]
    precisions = {
        precision: replace(
            entry,
            layouts={
                layout: replace(
                    file,
                    verification={
                        **file.verification,
                        "platforms": {
                            **file.verification.get("platforms", {}),
                            **of_files[f"{precision}/{layout}"]["platforms"],
                        },
                    },
                )
                for layout, file in entry.layouts.items()
            },
        )
        for precision, entry in content.precisions.items()
    }
    bundle.write(replace(content, precisions=precisions), folder)


def document(rows: Sequence[Row], reports: Sequence[Report]) -> dict[str, Any]:
    """What ``--out`` holds: the platforms, and per bundle and file what was measured on them."""
    bundles: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        files = bundles.setdefault(row.file.bundle, {})
        entry = files.setdefault(row.file.name, {"sha256": row.file.sha256, "platforms": {}, "faults": {}})
        if row.difference:
            entry["platforms"][row.platform] = row.difference.record()
        if row.fault:
            entry["faults"][row.platform] = row.fault
    return {"platforms": {report.name: report.about for report in reports}, "bundles": bundles}


def _print(rows: Sequence[Row], reports: Sequence[Report]) -> None:
    numbers = ("windows", "largest difference", "same class")
    table = _console.table("file", "platform", *numbers, "", right=numbers)
    for row in rows:
        cells = ("", "", "")
        if row.difference:
            cells = (
                str(row.difference.windows),
                f"{row.difference.logits:.2g}",
                f"{100 * row.difference.same_class:.4g} %",
            )
        table.add_row(f"{row.file.bundle} {row.file.name}", row.platform, *cells, row.fault or "")
    console = _console.console()
    console.print(table)
    for report in reports:
        console.print(f"{report.name}: {report.about['host']}, {report.about['cpu']}")


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PLATFORMS]:
        raise argparse.ArgumentTypeError(f"no platform {unknown[0]!r}; there are {', '.join(PLATFORMS)}")
    return names


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a whole number is needed, 1 or more, not {text!r}")
    return int(text)


def _millions(text: str) -> int:
    return 1_000_000 * _count(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="prepare platforms; those that are ready stay as they are")
    setup.add_argument("names", nargs="+", metavar="NAME", choices=PLATFORMS, help=", ".join(PLATFORMS))
    checked = commands.add_parser("check", help="run bundles on platforms and compare the logits")
    checked.add_argument("bundles", nargs="+", metavar="BUNDLE", type=Path, help="a bundle's folder")
    checked.add_argument("--on", type=_names, default=list(PLATFORMS), metavar="NAMES", help="default: all")
    checked.add_argument(
        "--windows", type=Path, help="an .npz with windows x, or a folder of prepared data sets ($FASTZOO_DATA)"
    )
    checked.add_argument("--limit", type=_count, help="take at most so many of these windows, evenly spread")
    checked.add_argument(
        "--budget", type=_millions, metavar="MILLIONS",
        help="of multiply-adds, shared evenly by all files: emulated platforms take only as many windows as that pays "
        "for, and the golden ones always; default: all windows",
    )  # fmt: skip
    checked.add_argument("--out", type=Path, help="write JSON")
    checked.add_argument("--record", action="store_true", help="if no limit is broken, write it into each bundle.json")
    parsed = parser.parse_args(arguments)
    try:
        if parsed.command == "check":
            return check(parsed)
        for name in parsed.names:
            prepare(PLATFORMS[name])
            say(PLATFORMS[name], "ready")
    except FastzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
