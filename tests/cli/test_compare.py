"""``fastzoo compare``: the models of a data set side by side, the front, what others published, a picture."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from runtime import toy

from fastzoo import _scatter, bundle, compare
from fastzoo._scatter import picture
from fastzoo._scatter.labels import Labels, _meet
from fastzoo.compare import Row
from fastzoo.data import literature

from .shell import good, message_of, run

pytest.importorskip("matplotlib")


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two more bundles, of the data set `toy`, in a registry of the user's."""
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "registry"))
    for name, bytes_, accuracy in (("gru-toy", 300, 0.9), ("gru-toy-big", 900, 0.8)):
        folder = toy.make(tmp_path / name, name)
        made = bundle.read(folder)
        precisions = {
            p: bundle.Precision(
                bytes_ * (4 if p == "fp32" else 1),
                {
                    layout: dataclasses.replace(file, metrics=dataclasses.replace(file.metrics, accuracy=accuracy))
                    for layout, file in precision.layouts.items()
                    if file.metrics
                },
            )
            for p, precision in made.precisions.items()
        }
        bundle.write(dataclasses.replace(made, precisions=precisions), folder)
        good("register", folder)
    return tmp_path


def row(name: str, bytes_: int, value: float | None, latency: float | None = 100.0, variant: str = "made up") -> Row:
    return Row(name, f"models/{name}", "gru", "int8", value, bytes_, bytes_ + 99, "fused", latency, "a board", variant)


def test_the_front_is_what_no_cheaper_model_equals() -> None:
    rows = [row("d", 400, 0.95), row("a", 100, 0.9), row("b", 200, 0.9), row("c", 300, 0.8), row("e", 50, None)]
    found = compare.marked(rows, "bytes")
    assert [one.name for one in found] == ["a", "b", "c", "d", "e"]
    assert [one.name for one in found if one.on_front] == ["a", "d"]


def test_by_latency_another_front_and_those_without_a_number_last() -> None:
    rows = [row("a", 100, 0.9, 50.0), row("b", 50, 0.99, 80.0), row("c", 10, 0.8, 60.0), row("d", 10, 0.99, None)]
    found = compare.marked(rows, "latency")
    assert [(one.name, one.on_front) for one in found] == [("a", True), ("c", False), ("b", True), ("d", False)]


def test_the_table_names_models_front_variant_and_machine(zoo: Path) -> None:
    text = good("compare", "--data", "toy")
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith("gru-toy")]
    assert [line[0] for line in lines] == ["gru-toy-int8", "gru-toy-big-int8", "gru-toy-fp32", "gru-toy-big-fp32"]
    assert lines[0][:5] == ["gru-toy-int8", "*", "gru", "90.0 %", "0.3 kB"]
    assert [line[0] for line in lines if line[1] == "*"] == ["gru-toy-int8"]
    assert "fastzoo: made up" in text
    assert "a board, onnxruntime 1.16" in text


def test_json_holds_the_same(zoo: Path) -> None:
    found = json.loads(good("compare", "--data", "toy", "--by", "latency", "--pattern", "*-int8", "--json"))
    assert (found["dataset"], found["by"], found["metric"]) == ("toy", "latency", "accuracy")
    assert [model["name"] for model in found["models"]] == ["gru-toy-int8", "gru-toy-big-int8"]
    assert found["models"][0] | {"on_front": True, "value": 0.9, "bytes": 300} == found["models"][0]
    assert found["published"] == []


def test_the_papers_numbers_stand_beside_with_their_data_and_source(zoo: Path) -> None:
    text = good("compare", "--data", "har")
    assert "HAPT windows" in text
    assert "UCI HAR windows, 6 classes, 9 channels" in text
    assert "Shallow RNN" in text
    number = re.search(r"ShaRNN +94\.0 % +(\[\d\])", text)
    assert number, text
    assert re.search(rf"^{re.escape(number[1])} UCI HAR windows.*; Dennis et al\.: Shallow RNN", text, re.MULTILINE)


def test_one_remark_serves_all_numbers_that_it_is_about(zoo: Path) -> None:
    text = good("compare", "--data", "har")
    remarks = [line for line in text.splitlines() if line.startswith("[")]
    assert len(remarks) == len(set(remarks)) < len(literature.published("har"))


def test_a_picture_is_drawn_in_each_format(zoo: Path) -> None:
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        picture = zoo / f"toy{suffix}"
        assert f"drawn: {picture}" in good("compare", "--data", "toy", "--out", picture)
        assert picture.read_bytes().startswith(start)


def test_of_several_data_sets_one_must_be_named(zoo: Path) -> None:
    assert "There are models of" in message_of("compare")
    assert "toy" in message_of("compare")
    assert "no model of the data set 'tyo'" in message_of("compare", "--data", "tyo")
    assert "unknown cost 'price'" in message_of("compare", "--data", "toy", "--by", "price")
    assert "unknown metric" in message_of("compare", "--data", "toy", "--metric", "beauty")


def test_where_the_picture_cannot_go_is_said_before_the_work(zoo: Path) -> None:
    assert "must end in .png" in message_of("compare", "--data", "toy", "--out", zoo / "toy.gif")
    assert "there is no folder" in message_of("compare", "--data", "toy", "--out", zoo / "no" / "toy.png")


def test_unlike_models_are_warned_about(zoo: Path) -> None:
    folder = toy.make(zoo / "other", "gru-other")
    made = bundle.read(folder)
    assert made.dataset is not None
    assert made.measured_on is not None
    other = dataclasses.replace(
        made,
        dataset=dataclasses.replace(made.dataset, variant="made up differently"),
        measured_on=dataclasses.replace(made.measured_on, board="another board"),
    )
    bundle.write(other, folder)
    good("register", folder)
    output = run("compare", "--data", "toy", "--by", "latency").output
    assert "warning: latencies come from 2 machines" in output
    assert "warning: the models were measured on 2 variants" in output


def test_what_reads_several_samples_in_a_step_is_another_variant(zoo: Path) -> None:
    folder = toy.make(zoo / "other", "gru-other")
    made = bundle.read(folder)
    assert made.dataset is not None
    read = dataclasses.replace(
        made, cell={**made.cell, "brick": 4}, dataset=dataclasses.replace(made.dataset, variant="waves: 8 samples")
    )
    bundle.write(read, folder)
    good("register", folder)
    _, rows = compare.compare("toy")
    assert {one.variant for one in rows if "other" in one.name} == {"waves in steps of 4: 8 samples"}


@pytest.mark.parametrize("dataset", literature.RESULTS)
def test_every_published_number_names_its_data_and_source(dataset: str) -> None:
    for one in literature.RESULTS[dataset]:
        assert 0.5 < one.value < 1
        assert one.variant
        assert one.source
        assert (one.bytes is None) == (one.counted is None), one
        assert (one.latency_us is None) == (one.device is None), one
        assert one.bytes is None or 500 < one.bytes < 2_000_000


def test_the_papers_compressed_models_are_as_the_paper_says() -> None:
    found = {
        dataset: (one.value, one.bytes)
        for dataset in literature.RESULTS
        for one in literature.published(dataset)
        if one.model == "FastGRNN"
    }
    assert found == {
        "har2": (0.9559, 3072),
        "dsa19": (0.8373, 3328),
        "mnist": (0.9820, 6144),
        "kws12": (0.9210, 5632),
    }


def scene(rows: list[Row], dataset: str = "har2", by: str = "bytes") -> _scatter.Scene:
    return _scatter.Scene(dataset, by, "accuracy", compare.marked(rows, by), literature.published(dataset))


def test_the_caption_says_whose_data_the_points_are_from() -> None:
    shown = scene([row("a", 3000, 0.98, variant="HAPT windows: raw 50 Hz")])
    words = _scatter.caption(shown)
    assert "fastzoo: HAPT windows" in words
    assert "UCI HAR windows, 2 groups" in words
    assert "a byte for the value and one for the index" in words
    labels = [str(entry.get_label()) for entry in picture._legend(shown)]
    assert "fastzoo gru int8, HAPT windows" in labels
    assert "published: UCI HAR windows" in labels


def test_what_reads_several_samples_in_a_step_is_said_in_few_words() -> None:
    speech, bricks = "speech as log-mel maps: 40 bands", "speech as log-mel maps in steps of 2: 40 bands"
    both = scene([row("a", 3000, 0.98, variant=bricks), row("b", 4000, 0.97, variant=speech)])
    assert both.variant == "speech as log-mel maps, some in steps of 2"
    assert scene([row("a", 3000, 0.98, variant=bricks)]).variant == "speech as log-mel maps in steps of 2"
    other = scene([row("a", 3000, 0.98, variant=bricks), row("b", 4000, 0.97, variant="other speech")])
    assert other.variant == "other speech and speech as log-mel maps in steps of 2"


def test_each_entry_of_the_legend_names_its_own_data_and_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    long = "made-up speech as 8-bit log-mel maps of many bands"
    shown = scene(
        [
            row("a", 3000, 0.98, variant=long),
            dataclasses.replace(row("b", 4000, 0.97, variant=f"{long} of 2"), cell="fastrnn"),
            dataclasses.replace(row("c", 5000, 0.96, variant=long), cell="fastgrnn"),
        ]
    )
    labels = [str(entry.get_label()) for entry in picture._legend(shown)]
    assert {f"fastzoo gru int8, {long}", f"fastzoo fastrnn int8, {long} of 2"} <= set(labels)
    drawn: list[Figure] = []
    save = Figure.savefig

    def saving(self: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saving)
    _scatter.draw(shown)
    (figure,) = drawn
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


def test_many_names_are_written_without_the_data_set_and_the_caption_says_so() -> None:
    many = scene([row(f"gru-har2-{i}k-int8", 1000 * i, 0.9 + i / 1000) for i in range(1, 15)])
    assert "gru-3k-int8" in [text.words for text in picture._texts(many)]
    assert "gru-1k-int8 is gru-har2-1k-int8." in _scatter.caption(many)
    few = scene([row("gru-har2-1k-int8", 1000, 0.9)])
    assert "gru-har2-1k-int8" in [text.words for text in picture._texts(few)]


def both(name: str, bytes_: int, value: float, latency: float = 100.0) -> list[Row]:
    """A model in int8 and in fp32, which is four times as large."""
    small = row(f"{name}-int8", bytes_, value, latency)
    return [small, dataclasses.replace(small, name=f"{name}-fp32", precision="fp32", bytes=4 * bytes_)]


def test_among_many_points_int8_and_fp32_of_a_model_are_joined_and_named_once() -> None:
    many = scene([one for i in range(1, 9) for one in both(f"gru-har2-{i}k", 1000 * i, 0.9 + i / 1000)])
    assert [text.words for text in picture._texts(many) if text.words.startswith("gru")].count("gru-3k") == 1
    assert not [text.words for text in picture._texts(many) if "fp32" in text.words]
    assert "gru-1k is gru-har2-1k. A thin line joins int8 and fp32 of one model." in _scatter.caption(many)
    few = scene(both("gru-har2-1k", 1000, 0.9))
    assert {"gru-har2-1k-int8", "gru-har2-1k-fp32"} < {text.words for text in picture._texts(few)}
    assert "joins" not in _scatter.caption(few)


def test_what_lies_far_below_is_told_in_words() -> None:
    shown = scene([row("a", 3000, 0.99)])
    assert "RNN" not in [one.model for one in scene([row("a", 3000, 0.995)], "kws12").elsewhere]
    assert "RNN 73.2 %" in _scatter.caption(scene([row("a", 3000, 0.97)], "kws12"))
    assert "MI-ShaRNN 87.4 %" in _scatter.caption(scene([row("a", 3000, 0.97)], "dsa19"))  # no bytes were published
    assert shown.hidden == []


def test_beside_latencies_stand_only_published_latencies() -> None:
    shown = scene([row("a", 3000, 0.98)], by="latency")
    assert [(one.model, one.latency_us) for one in shown.elsewhere] == [("FastGRNN", 1800)]
    assert shown.levels == []
    assert "Raspberry Pi 3" in _scatter.caption(shown)


CROWDS = {
    "one precision": [row(f"gru-har2-{i}", 3000 + 40 * i, 0.95 + 0.001 * (i % 5)) for i in range(25)],
    "int8 and fp32": [
        one for i in range(12) for one in both(f"gru-har2-{i}", 2500 + 90 * i, 0.95 + 0.001 * (i % 5), 100 + 3 * i)
    ],
}


@pytest.mark.parametrize("by", ["bytes", "latency"])
@pytest.mark.parametrize("crowd", CROWDS)
def test_names_in_a_crowd_cover_neither_each_other_nor_points(crowd: str, by: str) -> None:
    from matplotlib.figure import Figure

    shown = scene(CROWDS[crowd], by=by)
    figure = Figure(figsize=(9, 6), dpi=picture.DPI)
    axes = figure.add_subplot()
    picture._axes(axes, shown)
    marks = picture._marks(axes, shown)
    labels = Labels(figure, axes, marks)
    labels.place(picture._texts(shown))
    boxes = [text.get_window_extent(labels.renderer) for text in axes.texts]
    assert len(boxes) > 0.6 * len(picture._texts(shown))
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes) if i < j and a.overlaps(b)]
    points = axes.transData.transform(marks.points)
    assert not [point for point in points for box in boxes if box.contains(*point)]


def test_a_line_meets_a_box_that_it_touches() -> None:
    from matplotlib.transforms import Bbox

    box = Bbox.from_extents(2, 2, 4, 3)
    for line in (((0, 0), (4, 3)), ((3, 0), (3, 9)), ((0, 2.5), (2, 2.5)), ((3, 2.5), (3.5, 2.6))):
        assert _meet(line, box)
    for line in (((0, 0), (1, 1)), ((1, 0), (1, 9)), ((0, 2), (2, 4)), ((5, 0), (4, 9))):
        assert not _meet(line, box)


@pytest.mark.parametrize("tick", [500, 500_000, 1_000_000])
def test_the_label_of_a_tick_at_the_edge_is_inside_the_picture(tick: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: Any, **settings: Any) -> None:
        drawn.append(self)
        save(self, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    largest = round(1.01 * tick / 10**0.28)  # the axis ends 0.14 of its span of two decades behind it
    _scatter.draw(scene([row("a", largest // 100, 0.9), row("b", largest, 0.95)], "toy"))
    (figure,) = drawn
    (axes,) = figure.axes
    last = max(loc for loc in axes.get_xticks() if loc <= axes.get_xlim()[1])
    assert last == tick
    label = next(one.label1 for one in axes.xaxis.get_major_ticks() if one.get_loc() == last)
    assert label.get_window_extent().x1 <= figure.bbox.x1, label.get_text()


def test_an_error_of_ours_where_nothing_can_be_drawn(zoo: Path, tmp_path: Path) -> None:
    folder = toy.make(tmp_path / "bare", "gru-bare")
    made = bundle.read(folder)
    precisions = {
        p: dataclasses.replace(
            precision,
            layouts={name: dataclasses.replace(file, metrics=None) for name, file in precision.layouts.items()},
        )
        for p, precision in made.precisions.items()
    }
    bare = dataclasses.replace(made, precisions=precisions, dataset=bundle.DatasetRecord("bare"))
    bundle.write(bare, folder)
    good("register", folder)
    assert "nothing to draw" in message_of("compare", "--data", "bare", "--out", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
