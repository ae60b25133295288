"""All models on one page: the README's table, docs/zoo/index.md, and the pictures of each data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cards import MADE, PAGES, PICTURES, Picture, distillation, for_comparison, judged_on
from wording import kilobytes, microseconds, percent, sentence, table, within

from fastzoo import _scatter, compare, data, registry
from fastzoo._order import natural
from fastzoo._scatter import Scene
from fastzoo.data import literature
from fastzoo.data.literature import Published

Entry = Mapping[str, Any]


class Scenes(NamedTuple):
    """The models of a data set against each cost."""

    by_bytes: Scene
    by_latency: Scene


def scenes(models: Mapping[str, Entry]) -> dict[str, Scenes]:
    """Those of every data set of a registry's entries, by its id."""
    found = {}
    for id in compare.data_sets(models.values()):
        metric = compare.usual_metric(id)
        others = literature.published(id, metric)
        rows = (compare.compare(id, by, metric, list(models.values()))[1] for by in compare.COSTS)
        found[id] = Scenes(*(Scene(id, by, metric, of, others) for by, of in zip(compare.COSTS, rows, strict=True)))
    return found


def pictures(of: Mapping[str, Scenes], root: Path) -> dict[Path, Picture]:
    """Two for every data set, but for those where nothing was measured."""
    return {
        root / PICTURES / f"{name}-{id}.png": Picture(scene.numbers(), partial(_scatter.draw, scene))
        for id, both in of.items()
        for name, scene in zip(("pareto", "latency"), both, strict=True)
        if scene.points
    }


# ---------------------------------------------------------------------------------------------------------------------
# README.md


def summary(models: Mapping[str, Entry], of: Mapping[str, Scenes]) -> str:
    """The README's table, a row for each bundle on the front of its data set, and what was measured on what."""
    if not models:
        return "No models yet."
    best = {row.name for both in of.values() for row in both.by_bytes.rows if row.on_front}
    every = _bundles(models.values())
    bundles = [bundle for bundle in every if bundle.entry["name"] in best or not bundle.data]
    columns = ("model", "data", "accuracy", "weights", "file", "latency", "seeds: mean, worst")
    lines = list(table(columns, map(_summary_row, bundles), right=range(2, 7)))
    lines += ["", _what_is_shown(bundles), ""]
    for id in compare.data_sets(models.values()):
        variants = sorted({of.entry["dataset"].get("variant", "your own") for of in bundles if of.data == id})
        about = data.about(id)
        what = f", {within(about.title)}: {about.brief}" if about else f": {'; '.join(variants)}"
        lines.append(f"- {id}{what}.")
    rest = f"All {len(models)} models of {len(every)} networks, and everything else about them"
    return "\n".join([*lines, "", f"{rest}: [{PAGES.as_posix()}]({PAGES.as_posix()}/index.md)."])


class _Model(NamedTuple):
    """A bundle as one loads it: int8 where there is that, and fp32 beside it."""

    entry: Entry
    fp32: Entry | None

    @property
    def data(self) -> str:
        id: str = self.entry.get("dataset", {}).get("id", "")
        return id

    @property
    def card(self) -> str:
        """The name of its page, and of the bundle."""
        return Path(self.entry["bundle"]).name


def _bundles(entries: Iterable[Entry]) -> list[_Model]:
    """By data set, the smallest first."""
    together: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        together.setdefault(entry["bundle"], {})[entry["precision"]] = entry
    found = [
        _Model(of.get("int8") or next(iter(of.values())), of.get("fp32") if "int8" in of else None)
        for of in together.values()
    ]
    return sorted(found, key=lambda of: (natural(of.data), of.entry["weights_bytes"], natural(of.card)))


def _summary_row(of: _Model) -> list[str]:
    entry = of.entry
    best = registry.fastest(entry)
    accuracy, wide = _accuracy(entry), _accuracy(of.fp32) if of.fp32 else []
    differs = ", ".join(other for one, other in zip(accuracy, wide, strict=False) if one != other)
    beside = " (comparison)" if for_comparison(entry["cell"]) else ""
    return [
        f"[`{entry['name']}`]({PAGES.as_posix()}/{of.card}.md){beside}",
        of.data,
        ", ".join(accuracy) + (f" (fp32: {differs})" if differs else ""),
        kilobytes(entry["weights_bytes"]),
        kilobytes(best["bytes"]),
        microseconds(_latency(entry)),
        ", ".join(percent(value) for value in _spread(entry)),
    ]


def _accuracy(entry: Entry) -> list[str]:
    """On the test split; with macro F1 where one class outnumbers the others."""
    best = registry.fastest(entry)
    metric = compare.usual_metric(entry.get("dataset", {}).get("id", ""))
    other = [f"{_scatter.NAMES[metric]} {percent(best[metric])}"] if metric != "accuracy" and metric in best else []
    return [percent(best.get("accuracy")), *other]


def _latency(entry: Entry) -> float | None:
    found: float | None = registry.fastest(entry).get("latency", {}).get("p50_us")
    return found


def _spread(entry: Entry) -> list[float]:
    """The mean and the worst test accuracy of its seeds; nothing where there was one."""
    of = entry.get("seeds", {}).get(f"{entry['precision']}/{entry.get('fastest')}")
    return [of["mean"], of["worst"]] if of else []


def _what_is_shown(bundles: Sequence[_Model]) -> str:
    """What the columns mean."""
    parts = ["Of each data set the models that no other of as few bytes of weights equals."]
    if any(of.fp32 for of in bundles):
        parts.append("Accuracy on the test split, with that of fp32 where it differs.")
    if machines := _machines(of.entry for of in bundles):
        parts.append(f"Latency: {machines}")
    if any(_spread(of.entry) for of in bundles):
        parts.append("Seeds: test accuracy of all that were trained, of which one is published.")
    if any(for_comparison(of.entry["cell"]) for of in bundles):
        parts.append("(comparison): a plain GRU or LSTM, to hold the small cells against.")
    return " ".join(parts)


def _machines(entries: Iterable[Entry]) -> str:
    """Where latencies were measured."""
    found = {
        f"{at['threads']} thread, {at.get('board') or at['cpu']}, {at['os']}, onnxruntime {at['onnxruntime']}"
        for at in (entry.get("measured_on") for entry in entries if _latency(entry) is not None)
        if at
    }
    return f"median of one window by the fastest layout, {'; '.join(sorted(found))}." if found else ""


# ---------------------------------------------------------------------------------------------------------------------
# docs/zoo/index.md


def index(models: Mapping[str, Entry], of: Mapping[str, Scenes]) -> str:
    """The page: for each data set its models, pictures, remarks, and what others published."""
    lines = ["# The zoo", "", MADE, ""]
    if not models:
        return "\n".join([*lines, "No models yet.", ""])
    bundles = _bundles(models.values())
    lines += [
        "Every model with its numbers. `fastzoo compare --data ID` prints the tables below and draws the pictures,",
        "with your own registered models among them: [how to read them](../compare.md).",
    ]
    contents: list[str] = []
    sections: list[str] = []
    for id, both in of.items():
        here = [bundle for bundle in bundles if bundle.data == id]
        contents.append(f"- [{id}](#{id}): {_contents(id, here)}")
        sections += ["", f"## {id}", "", *_of_data_set(id, here, both)]
    if loose := [bundle.card for bundle in bundles if not bundle.data]:
        sections += ["", "## Others", "", *(f"- [{name}]({name}.md)" for name in sorted(loose, key=natural))]
    return "\n".join([*lines, *([""] if contents else []), *contents, *sections]) + "\n"


def _contents(id: str, bundles: Sequence[_Model]) -> str:
    """A data set in the list above the sections."""
    about, sizes = data.about(id), [bundle.entry["weights_bytes"] for bundle in bundles]
    title = f"{within(about.title)}; " if about else ""
    span = " to ".join(dict.fromkeys(map(kilobytes, (min(sizes), max(sizes)))))
    return f"{title}{len(bundles)} model{'s' if len(bundles) > 1 else ''}, weights of {span}"


def _of_data_set(id: str, bundles: Sequence[_Model], both: Scenes) -> Iterator[str]:
    about = data.about(id)
    usual = about.variant if about else bundles[0].entry["dataset"].get("variant")
    if usual is not None:
        yield f"{about.title}. {sentence(usual)}" if about else sentence(usual)
        yield ""
    yield from _numbers(bundles, both)
    for name, scene in zip(("pareto", "latency"), both, strict=True):
        if scene.points:
            yield from ("", f"![{_scatter.title(scene)}](pictures/{name}-{id}.png)")
    if remarks := list(_remarks(bundles, usual)):
        yield from ("", *remarks)
    others = literature.published(id, "accuracy") + literature.published(id, "macro_f1")
    if others:
        yield from ("", "Published by others, on the data named there, which is not always ours:", "")
        columns = ("model", "", "size", "latency", "data", "source", "what else")
        yield from table(columns, map(_other, others), right=(1, 2, 3))


def _numbers(bundles: Sequence[_Model], both: Scenes) -> Iterator[str]:
    """Every model in each of its precisions, the smallest first."""
    metric = both.by_bytes.metric
    entries = {one["name"]: one for of in bundles for one in (of.entry, of.fp32) if one}
    front = {row.name for row in both.by_latency.rows if row.on_front}
    rows = []
    for row in both.by_bytes.rows:
        entry = entries[row.name]
        mean, worst = map(percent, _spread(entry) or (None, None))
        rows.append([
            f"[{row.name}]({Path(row.bundle).name}.md)",
            f"{row.cell}, comparison" if for_comparison(entry["cell"]) else row.cell,
            *([] if metric == "accuracy" else [percent(row.value, 2)]),
            percent(registry.fastest(entry).get("accuracy"), 2),
            mean,
            worst,
            kilobytes(row.bytes),
            kilobytes(row.file_bytes),
            microseconds(row.latency_us),
            "*" if row.on_front else "",
            "*" if row.name in front else "",
        ])  # fmt: skip
    kinds = () if metric == "accuracy" else (_scatter.NAMES[metric],)
    numbers = (*kinds, "accuracy", "seeds' mean", "worst", "weights", "file", "latency")
    yield from table(("model", "cell", *numbers, "bytes", "us"), rows, right=range(2, 2 + len(numbers)))
    yield from ("", "* = no model of no more bytes, or microseconds, is as good.")


def _remarks(bundles: Sequence[_Model], usual: str | None) -> Iterator[str]:
    """A line for each bundle, and one on latencies; ``usual`` is what is said of the data set above them."""
    for of in bundles:
        entry = of.entry
        parts = ["for comparison with the small cells"] if for_comparison(entry["cell"]) else []
        if brick := entry["cell"].get("brick"):
            parts.append(f"reads {brick} samples in one step")
        variant = entry["dataset"].get("variant")
        if variant != usual:
            parts.append(f"data: {variant or 'your own'}")
        if taught := distillation(entry.get("training")):
            parts.append(f"distilled from {', '.join(taught['teachers'])}")
        seeds = entry.get("seeds", {})
        if spread := seeds.get(f"{entry['precision']}/{entry.get('fastest')}"):
            where = judged_on(entry.get("training"))
            parts.append(
                f"the best of {len(seeds['seeds'])} seeds on {where} "
                f"(standard deviation of their test accuracies: {100 * spread['std']:.1f} points)"
            )
        if parts:
            yield f"- [{of.card}]({of.card}.md): {'; '.join(parts)}."
    if machines := _machines(of.entry for of in bundles):
        yield f"- Latency: {machines}"


def _other(one: Published) -> list[str]:
    """A row of the table of published numbers."""
    size = kilobytes(one.bytes) or (f"{one.parameters} parameters" if one.parameters else "")
    latency = f"{one.latency_us / 1000:g} ms, {one.device}" if one.latency_us else ""
    notes = "; ".join(text for text in (one.counted and f"size: {one.counted}", one.note) if text)
    value = f"{_scatter.NAMES[one.metric]} {percent(one.value)}"
    return [one.model, value, size, latency, one.variant, one.source, notes]
