"""What a comparison shows: our models, what others published, and the words about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastzoo.compare import Row
from fastzoo.data.literature import Published

NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}
BELOW = 0.08  # published results so much below the best are told in words, not drawn
FEW = 10  # points whose names are written in full, each


@dataclass(frozen=True)
class Scene:
    """What is drawn: everything that the picture's numbers depend on.

    Args:
        dataset: id.
        by: ``"bytes"`` or ``"latency"``.
        metric: ``"accuracy"`` or ``"macro_f1"``.
        rows: ours; those without a number are left out.
        published: of others, in the same metric.
    """

    dataset: str
    by: str
    metric: str
    rows: Sequence[Row]
    published: Sequence[Published]

    @property
    def points(self) -> list[Row]:
        """Those of ours that have both numbers."""
        return [row for row in self.rows if row.value is not None and row.cost(self.by) is not None]

    @property
    def variant(self) -> str:
        """Our data in a few words."""
        return self.variant_of(self.points)

    def variant_of(self, rows: Iterable[Row]) -> str:
        """The data of some of ours in a few words."""
        first, *others = sorted({short(row.variant) for row in rows if row.variant}) or [self.dataset]
        return " and ".join([first, *others]).replace(f" and {first} in steps", ", some in steps")

    @property
    def floor(self) -> float:
        """What lies below is not drawn."""
        values = [row.value or 0.0 for row in self.points]
        best = max([*values, *(other.value for other in self.published)])
        return min([*values, best - BELOW])

    def cost(self, other: Published) -> float | None:
        """The size or latency of a published result."""
        return other.bytes if self.by == "bytes" else other.latency_us

    @property
    def elsewhere(self) -> list[Published]:
        """Published results with a size, or latency, that are drawn as points."""
        return [one for one in self.published if self.cost(one) is not None and one.value >= self.floor]

    @property
    def levels(self) -> list[Published]:
        """Published results without a size, drawn as lines; beside latencies they say nothing."""
        if self.by != "bytes":
            return []
        return [one for one in self.published if one.bytes is None and one.value >= self.floor]

    @property
    def hidden(self) -> list[Published]:
        """Published results that are too far below."""
        shown = self.by == "bytes"
        return [one for one in self.published if (shown or self.cost(one) is not None) and one.value < self.floor]

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """Among many points: int8 and fp32 of one model, which are joined by a line and named once."""
        if len(self.points) <= FEW:
            return []
        wide = {_stem(row): row for row in self.points if row.precision == "fp32"}
        return [(row, wide[_stem(row)]) for row in self.points if row.precision == "int8" and _stem(row) in wide]

    def numbers(self) -> dict[str, Any]:
        """Everything drawn, as JSON: by this two pictures are compared."""
        return {
            "title": title(self),
            "caption": caption(self),
            "points": [[row.name, row.cost(self.by), row.value, row.on_front] for row in self.points],
            "published": [[one.model, self.cost(one), one.value] for one in (*self.elsewhere, *self.levels)],
        }


def short(variant: str | None) -> str:
    """A variant up to its first stop: "HAPT windows"."""
    text = (variant or "").replace(";", ":").replace(",", ":").partition(":")[0]
    return text if len(text) <= 64 else text[:61].rstrip() + "..."


def title(scene: Scene) -> str:
    """Above the picture."""
    against = "bytes of weights" if scene.by == "bytes" else "latency"
    name = NAMES[scene.metric]
    return f"{scene.dataset}: test {name} against {against}"


def caption(scene: Scene) -> str:
    """What must be said beside the numbers."""
    parts = [f"fastzoo: {scene.variant}, test split."]
    pairs = scene.pairs
    for row in scene.points:
        full = _loaded_as(row, pairs)
        if (name := label(row, scene, pairs)) != full:
            parts.append(f"Names leave out the data set: {name} is {full}.")
            break
    if pairs:
        parts.append("A thin line joins int8 and fp32 of one model.")
    if variants := sorted({one.variant for one in (*scene.elsewhere, *scene.levels)}):
        parts.append(f"Published by others: {'; '.join(variants)}. Where the data differ, compare with care.")
    if scene.by == "bytes":
        parts.append("fastzoo counts dense weights: int8 with their scales, biases in fp32; not the graph around them.")
        if counted := sorted({one.counted for one in scene.elsewhere if one.counted}):
            parts.append(f"Others count: {'; '.join(counted)}.")
        if scene.levels:
            parts.append("Dashed: no bytes were published.")
    else:
        parts.append(f"fastzoo: one thread, {'; '.join(sorted({row.machine or '' for row in scene.points}))}.")
        if devices := sorted({one.device for one in scene.elsewhere if one.device}):
            parts.append(f"Others: {'; '.join(devices)}.")
    if scene.hidden:
        names = ", ".join(f"{one.model} {percent(one.value)}" for one in scene.hidden)
        parts.append(f"Below the picture: {names}.")
    if sources := sorted({one.source.partition(", table")[0] for one in (*scene.elsewhere, *scene.levels)}):
        parts.append(f"Sources: {'; '.join(sources)}.")
    return " ".join(parts)


def _stem(row: Row) -> str:
    """The bundle's name."""
    return row.name.removesuffix(f"-{row.precision}")


def _loaded_as(row: Row, pairs: Sequence[tuple[Row, Row]]) -> str:
    """As it is loaded; where one name stands for both precisions, the bundle's."""
    return _stem(row) if any(row in pair for pair in pairs) else row.name


def label(row: Row, scene: Scene, pairs: Sequence[tuple[Row, Row]]) -> str:
    """Its name; among many without that of the data set, which stands in the title."""
    name = _loaded_as(row, pairs)
    return name if len(scene.points) <= FEW else name.replace(f"-{scene.dataset}", "", 1)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"
