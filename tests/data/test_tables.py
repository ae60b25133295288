"""Recordings in long form: what is cut from them, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fastzoo import data
from fastzoo.data import Cut, Dataset
from fastzoo.data.timeline import TimesError, measure, rounded, unit_of
from fastzoo.data.windows import copy_windows, interpolated, resampled, starts, stretches
from fastzoo.errors import DataError, MissingExtraError

Columns = dict[str, Sequence[Any]]

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(rows: int = 60, rate: float = 50, seed: int = 0) -> Columns:
    """Two people who rest and then walk, `rows` samples in all; values are unique."""
    half, quarter = rows // 2, rows // 4
    label = (["rest"] * quarter + ["walk"] * (half - quarter)) * 2
    return {
        "time": [round(i / rate, 9) for i in range(half)] * 2,
        "acc_x [g]": (np.random.default_rng(seed).permutation(rows) / 100).tolist(),
        "acc_y [g]": list(range(rows)),
        "label": label,
        "group": ["anna"] * half + ["ben"] * half,
    }


def write(path: Path, columns: Mapping[str, Sequence[Any]], delimiter: str = ",") -> Path:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def load(path: Path, columns: Columns, **options: Any) -> Dataset:
    return data.load(write(path / "all.csv", columns), **{"window": 5, **options})


def refusal(path: Path, columns: Columns, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, columns, **options)
    return str(caught.value)


def changed(column: str, row: int, value: Any) -> Columns:
    columns = table()
    columns[column] = [*columns[column][:row], value, *columns[column][row + 1 :]]
    return columns


def test_a_table_becomes_windows_of_one_label_and_one_group(tmp_path: Path) -> None:
    columns = table()
    made = load(tmp_path, columns, hop=3)
    assert made.x.shape == (16, 5, 2)  # 15 rows a stretch: windows at 0, 3, 6, 9; and the last at 9 ends at 14
    assert made.x.dtype == np.float32
    assert made.channels == ("acc_x [g]", "acc_y [g]")
    assert made.classes == ("rest", "walk")
    assert made.rate == 50
    assert made.y.tolist() == ([0] * 4 + [1] * 4) * 2
    assert made.group.tolist() == [0] * 8 + [1] * 8
    assert made.id == "all"
    assert made.x[:, 0, 1].tolist() == [row + hop for row in (0, 15, 30, 45) for hop in (0, 3, 6, 9)]
    assert "groups are numbered: 0 = anna, 1 = ben" in made.notes
    assert "read time from 'time', label from 'label', group from 'group'" in made.notes


def test_windows_follow_one_another_where_no_hop_is_given(tmp_path: Path) -> None:
    assert load(tmp_path, table()).x[:3, 0, 1].tolist() == [0, 5, 10]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".CSV"])
def test_every_format_gives_the_same_windows(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"walk.2024{suffix}"
    if suffix == ".parquet":
        pl.DataFrame(table()).write_parquet(path)
    else:
        write(path, table(), delimiter="\t" if suffix.startswith(".tsv") else ",")
    made = data.load(path, window=5)
    assert made.sha256 == load(tmp_path, table()).sha256
    assert made.id == "walk.2024"


def test_a_decimal_comma_is_read_as_the_number_it_is(tmp_path: Path) -> None:
    columns: Columns = {name: [str(cell).replace(".", ",") for cell in column] for name, column in table().items()}
    columns["acc_x [g]"] = ["NA", *columns["acc_x [g]"][1:]]
    columns["label"] = [None, *columns["label"][1:]]
    path = write(tmp_path / "german.csv", columns, delimiter=";")
    without_first = table()
    without_first["label"] = columns["label"]
    assert data.load(path, window=5).sha256 == load(tmp_path, without_first).sha256


def test_wide_integers_small_integers_and_truth_values_are_samples(tmp_path: Path) -> None:
    columns = table()
    frame = pl.DataFrame(columns).with_columns(
        pl.Series("large", [2**62] * 60, pl.Int64),
        pl.Series("huge", [2**63] * 60, pl.UInt64),
        pl.Series("tiny", [-1] * 60, pl.Int8),
        pl.Series("on", [True] * 60),
    )
    frame.write_parquet(tmp_path / "wide.parquet")
    made = data.load(tmp_path / "wide.parquet", window=5)
    assert made.x[0, 0, 2:].tolist() == [2.0**62, 2.0**63, -1, 1]


def test_labels_may_be_numbers_and_groups_keep_theirs(tmp_path: Path) -> None:
    columns = table()
    columns["label"] = [{"rest": 10, "walk": 9}[name] for name in columns["label"]]
    columns["group"] = [{"anna": 7, "ben": -3}[name] for name in columns["group"]]
    made = load(tmp_path, columns)
    assert made.classes == ("9", "10")
    assert set(made.group.tolist()) == {7, -3}
    assert not any("numbered" in note for note in made.notes)
    columns["label"] = [float(label) for label in columns["label"]]
    assert load(tmp_path, columns).sha256 == made.sha256


def test_names_sort_as_people_count(tmp_path: Path) -> None:
    columns = table()
    columns["label"] = [{"rest": "walk 10", "walk": " walk 9 "}[name] for name in columns["label"]]
    assert load(tmp_path, columns).classes == ("walk 9", "walk 10")


def test_a_folder_holds_one_recording_per_file(tmp_path: Path) -> None:
    folder = tmp_path / "gestures"
    folder.mkdir()
    for number in (10, 9):
        columns = table(seed=number)
        del columns["group"]
        columns["time"] = [i / 50 for i in range(60)]
        columns = dict(reversed(columns.items()))
        write(folder / f"take {number}.csv", columns)
    (folder / ".hidden.csv").write_text("no table")
    (folder / "notes.txt").write_text("no table")
    made = data.load(folder, window=5, channels=("acc_x", "acc_y"))
    assert made.id == "gestures"
    assert made.group.tolist() == [0] * 12 + [1] * 12
    assert made.x[0, 0, 0] == np.float32(table(seed=9)["acc_x [g]"][0])
    assert "no group column: each of 2 recording(s) is a group of its own" in made.notes
    assert "groups are numbered: 0 = take 9.csv, 1 = take 10.csv" in made.notes


def test_recordings_in_one_file_may_restart_the_clock(tmp_path: Path) -> None:
    columns = table()
    del columns["group"]
    assert "data row 31 has a time 0.58 s before that of the row above it" in refusal(tmp_path, columns)
    columns["session"] = [1] * 30 + [2] * 30
    made = load(tmp_path, columns)
    assert made.group.tolist() == [0] * 6 + [1] * 6
    assert "groups are numbered: 0 = all.csv, 1, 1 = all.csv, 2" in made.notes


def test_the_split_is_read_from_its_column(tmp_path: Path) -> None:
    for words in (("train", "test"), ("Train", "TEST"), (0, 2)):
        columns = table() | {"split": [words[0]] * 30 + [words[1]] * 30}
        assert load(tmp_path, columns).split.tolist() == [0] * 6 + [2] * 6
    columns = table() | {"split": ["validation"] * 30 + ["train"] * 30}
    assert load(tmp_path, columns).split.tolist() == [1] * 6 + [0] * 6
    assert load(tmp_path, columns, split="").split.tolist() == [0] * 12


def test_groups_are_held_out_for_testing(tmp_path: Path) -> None:
    made = load(tmp_path, table(), test_fraction=0.5)
    assert len(set(made.split[made.group == 0])) == len(set(made.split[made.group == 1])) == 1
    assert sorted(made.split) == [0] * 6 + [2] * 6


def test_channels_are_chosen_by_patterns_in_their_order(tmp_path: Path) -> None:
    columns = table() | {"note": ["?"] * 60}
    assert load(tmp_path, columns, channels=["acc_y [g]", "acc_*"]).channels == ("acc_y [g]", "acc_x [g]")
    assert load(tmp_path, columns, channels=["acc_x"]).channels == ("acc_x [g]",)
    assert "no column for the channel 'gyro_*'" in refusal(tmp_path, columns, channels=["gyro_*"])
    assert "no column for the channel 'label'" in refusal(tmp_path, columns, channels=["label"])


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    names = {"time": "Zeit", "label": "Klasse", "group": "Person"}
    columns = {names.get(name, name): column for name, column in table().items()}
    made = load(tmp_path, columns, time="Zeit", label="klasse", group="Person")
    assert made.sha256 == load(tmp_path, table()).sha256
    message = refusal(tmp_path, columns)
    assert "no column 'label' or 'activity' or 'class'" in message
    assert "its columns are Zeit, acc_x [g], acc_y [g], Klasse, Person" in message
    assert "no column 'Klase'; did you mean 'Klasse'?" in refusal(tmp_path, columns, label="Klase")


def test_what_is_no_signal_is_no_channel_unless_asked_for(tmp_path: Path) -> None:
    columns = {"": range(60), **table(), "t [ms]": range(60), "class": [7] * 60}
    options = {"time": "time", "label": "label"}
    assert load(tmp_path, columns, **options).channels == ("acc_x [g]", "acc_y [g]")
    assert load(tmp_path, columns, **options, channels=("t",)).channels == ("t [ms]",)
    assert load(tmp_path, table(), time="", rate=50).channels == ("acc_x [g]", "acc_y [g]")


# --- time


def times(rate: float, unit: float, start: float = 0) -> list[int]:
    return [round((start + i / rate) / unit) for i in range(30)] * 2


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("time", [i / 50 for i in range(30)] * 2, {}),
        ("t", [3.7 + i / 50 for i in range(30)] * 2, {}),
        ("time [ms]", times(50, 1e-3), {}),
        ("t_ns", times(50, 1e-9), {}),
        ("Time (us)", times(50, 1e-6), {}),
        ("time", times(50, 1e-3), {"time_unit": "ms"}),
        ("time", times(50, 1e-3), {"rate": 50}),
        ("timestamp", times(50, 1e-3, 1.7e9), {}),
        ("timestamp", times(50, 1e-9, 1.7e9), {}),
        ("timestamp", [1.7e9 + i / 50 for i in range(30)] * 2, {}),
    ],
)
def test_the_unit_of_time_is_seen_where_it_is_unambiguous(
    name: str, values: Sequence[float], options: dict[str, Any], tmp_path: Path
) -> None:
    columns = table()
    del columns["time"]
    made = load(tmp_path, columns | {name: values}, **options)
    assert made.rate == 50
    assert made.x.shape == (12, 5, 2)


def test_an_ambiguous_unit_of_time_is_asked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path, table() | {"time": times(50, 1e-3)})
    assert "column 'time' (0, 20, ...) seconds, milliseconds or nanoseconds? Say so with --time-unit" in message


@pytest.mark.parametrize("kind", ["T", " ", "Z", "zone", "datetime", "aware", "duration", "clock"])
def test_dates_and_clock_times_are_times(kind: str, tmp_path: Path) -> None:
    start = datetime(2024, 5, 17, 9, 30, 1)
    moments = [start + timedelta(seconds=i / 50) for i in range(30)] * 2
    columns = table()
    if kind in ("T", " "):
        made = load(tmp_path, columns | {"time": [moment.isoformat(kind) for moment in moments]})
    elif kind in ("Z", "zone"):
        zone = timezone.utc if kind == "Z" else timezone(timedelta(hours=2))
        texts = [moment.replace(tzinfo=zone).isoformat().replace("+00:00", "Z") for moment in moments]
        made = load(tmp_path, columns | {"time": texts})
    else:
        kinds: Columns = {
            "datetime": moments,
            "aware": [moment.replace(tzinfo=timezone.utc) for moment in moments],
            "duration": [moment - start for moment in moments],
            "clock": [moment.time() for moment in moments],
        }
        pl.DataFrame(columns | {"time": kinds[kind]}).write_parquet(tmp_path / "all.parquet")
        made = data.load(tmp_path / "all.parquet", window=5)
    assert made.rate == 50
    assert made.sha256 == load(tmp_path, columns).sha256


def test_without_times_the_rate_is_asked_for(tmp_path: Path) -> None:
    columns = table()
    del columns["time"]
    assert "no time column: name it with --time, or say with --rate" in refusal(tmp_path, columns)
    made = load(tmp_path, columns, rate=25)
    assert made.rate == 25
    assert "no time column: samples are taken to be evenly spaced, 25 a second" in made.notes
    assert load(tmp_path, table(), time="", rate=25).sha256 == made.sha256


def test_a_gap_ends_a_segment(tmp_path: Path) -> None:
    columns = table()
    columns["time"] = [t + 0.02 * (i >= 7) for i, t in enumerate(columns["time"][:30])] + list(columns["time"][30:])
    made = load(tmp_path, columns, hop=1)
    begins = made.x[:, 0, 1].astype(int).tolist()
    assert begins[:6] == [0, 1, 2, 7, 8, 9]
    assert "1 gap(s) in time end a segment" in made.notes


def test_jitter_is_accepted_and_the_rate_is_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wobbly = [i / 30 + rng.uniform(-1e-3, 1e-3) for i in range(300)] * 2
    assert load(tmp_path, table(600) | {"time": wobbly}).rate == 30
    coarse = [round(i / 30, 3) for i in range(300)] * 2  # 33 or 34 milliseconds
    assert load(tmp_path, table(600) | {"time": coarse}).rate == 30


def test_wild_jitter_is_refused_and_may_be_interpolated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    moments = np.arange(300) / 50 + rng.uniform(-9e-3, 9e-3, 300)
    columns = table(600) | {"time": [*moments, *moments], "acc_y [g]": [*moments, *moments]}
    message = refusal(tmp_path, columns)
    assert "sampled irregularly (all.csv, anna)" in message
    assert "--resample" in message
    made = load(tmp_path, columns, resample=50, window=50)
    steps = np.diff(made.x[:, 5:-5, 1], axis=1)  # the channel is the time itself
    assert np.median(steps) == pytest.approx(0.02, abs=1e-3)
    assert np.abs(steps - 0.02).max() < 5e-3


def test_a_rate_that_changes_is_named_with_its_row(tmp_path: Path) -> None:
    half = [*np.arange(200) / 50, *(4 + np.arange(100) / 25)]
    columns = table(600) | {"time": half * 2}
    message = refusal(tmp_path, columns)
    row = re.search(
        r"data row (\d+) is where the rate changes: most samples come 50 times a second, here .* 25", message
    )
    assert row
    assert 200 <= int(row[1]) <= 206
    assert "--resample" in message
    assert load(tmp_path, columns, resample=25).rate == 25


def test_recordings_of_different_rates_are_named(tmp_path: Path) -> None:
    columns = table()
    columns["time"] = [i / 50 for i in range(30)] + [i / 25 for i in range(30)]
    message = refusal(tmp_path, columns)
    assert message.startswith("recordings have different rates: ")
    assert "all.csv, anna has 50" in message
    assert "all.csv, ben has 25" in message or "all.csv, ben has 25" in message
    assert message.endswith("Bring all to one rate with --resample 25")
    made = load(tmp_path, columns, resample=25)
    assert made.rate == 25
    assert "resampled to 25 samples/s" in made.notes
    assert np.bincount(made.group).tolist() == [2, 6]  # 8 samples of two labels; 15 samples of two labels
    assert "--rate says 60 samples/s" in refusal(tmp_path, table(), rate=60)


@pytest.mark.parametrize(("row", "value", "what"), [(4, 0.06, "the same time as"), (4, 0.03, "a time 0.03 s before")])
def test_times_that_stand_still_or_run_backwards_are_named(row: int, value: float, what: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("time", row, value))
    assert f"all.csv: data row {row + 1} has {what}" in message
    assert "(all.csv, anna)" in message
    assert "--recording" in message


def test_rows_of_several_people_mixed_are_refused(tmp_path: Path) -> None:
    columns = table()
    order = [row for pair in zip(range(30), range(30, 60), strict=True) for row in pair]
    mixed: Columns = {name: [values[row] for row in order] for name, values in columns.items()}
    assert "group, split or recording changes in 59 of 60 rows: sort the table" in refusal(tmp_path, mixed)


# --- faults of content


def test_rows_without_a_label_are_skipped(tmp_path: Path) -> None:
    columns = table()
    columns["label"] = [None if 3 <= row < 8 else label for row, label in enumerate(columns["label"])]
    columns["acc_y [g]"] = [None if row == 5 else row for row in range(60)]  # nobody misses it there
    made = load(tmp_path, columns, hop=1)
    assert made.x[:, 0, 1].astype(int).tolist()[:3] == [8, 9, 10]
    assert "5 of 60 rows have no label and are skipped" in made.notes
    assert "1 segment(s) are shorter than a window and are skipped" in made.notes


@pytest.mark.parametrize("cell", [None, "NaN", "na", "null", "inf", "1e300"])
def test_a_missing_sample_is_named_or_skipped(cell: Any, tmp_path: Path) -> None:
    columns = changed("acc_x [g]", 6, cell)
    message = refusal(tmp_path, columns)
    what = "an infinite or too large number" if cell in ("inf", "1e300") else "no number"
    assert f"all.csv has {what} in data row 7, channel 'acc_x [g]': fill it in, or pass --missing skip" in message
    made = load(tmp_path, columns, missing="skip", hop=1)
    assert np.isfinite(made.x).all()
    assert made.x[:, 0, 1].astype(int).tolist()[:4] == [0, 1, 7, 8]
    assert "1 row(s) lack a sample and end a segment" in made.notes


def test_faults_of_all_files_come_together(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    write(folder / "a.csv", changed("acc_x [g]", 6, None))
    write(folder / "b.csv", changed("acc_y [g]", 7, None))
    with pytest.raises(DataError, match=r"a\.csv has no number in data row 7.*; .*b\.csv has no number in data row 8"):
        data.load(folder, window=5)
    write(folder / "a.csv", changed("acc_x [g]", 6, "much"))
    write(folder / "b.csv", {name: column for name, column in table().items() if name != "acc_y [g]"})
    with pytest.raises(DataError, match=r"a\.csv holds 'much'.*; .*b\.csv lacks the column\(s\) 'acc_y \[g\]'"):
        data.load(folder, window=5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (changed("acc_x [g]", 2, "much"), "holds 'much', not a number, in data row 3, column 'acc_x [g]'"),
        (
            changed("label", 2, "rest") | {"label": [0.5] * 60},
            "holds 0.5 in data row 1, column 'label': names or whole",
        ),
        (
            table() | {"label": ["rest"] * 60},
            "windows of one class only, 'rest' (column 'label'): a classifier needs two",
        ),
        (table() | {"label": [""] * 60}, "no window of 5 samples fits"),
        (changed("group", 2, None), "has no group in data row 3, though the row has a label"),
        (table() | {"split": ["train"] * 59 + [""]}, "has no split in data row 60"),
        (table() | {"split": ["dev"] * 60}, "has the split 'dev'; expected are train, validation, test, or 0, 1 and 2"),
        (table() | {"split": ["train"] * 15 + ["test"] * 45}, "group 'anna' stands in train and test: nearly equal"),
        (changed("time", 3, None), "has no time in data row 4, column 'time'"),
        (changed("time", 3, "noon"), "no time"),
        (table() | {"activity": [1] * 60}, "has the columns label, activity: say with --label which one"),
        ({name: column for name, column in table().items() if "acc" not in name}, "has no column of samples"),
        ({name: column[:0] for name, column in table().items()}, "has no rows"),
    ],
)
def test_a_faulty_table_is_refused(columns: Columns, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, columns)


def test_a_class_lost_to_short_segments_is_said(tmp_path: Path) -> None:
    columns = table()
    columns["label"] = ["jump" if row % 30 < 3 else label for row, label in enumerate(columns["label"])]
    made = load(tmp_path, columns)
    assert made.classes == ("rest", "walk")
    assert "left out, since no segment is as long as a window: jump" in made.notes
    assert "the longest stretch of 'all' with one label and without a gap has 15" in refusal(
        tmp_path, columns, window=16
    )


def test_a_column_of_numbers_is_not_taken_for_classes(tmp_path: Path) -> None:
    rows = 2400
    columns = {"time": [i / 50 for i in range(rows)], "x": range(rows), "label": [i // 2 for i in range(rows)]}
    assert "has 1200 different values, such as '0': name" in refusal(tmp_path, columns, window=2)


def test_two_roles_cannot_share_a_column(tmp_path: Path) -> None:
    assert "'label' cannot be two things at once" in refusal(tmp_path, table(), group="label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("\n\n", "cannot be read as CSV"),
        ("1.5,2,3\n1,2,3\n", "has no header: its first line must name the columns"),
        ("time,x,x,label\n", "has the column 'x' twice"),
        ("time,x,label\n0,1,a\n0.02,1,a,7,7\n", "cannot be read as CSV"),
        ("time,x,label\n", "has no rows"),
    ],
)
def test_text_that_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=r"bad\.csv") as caught:
        data.load(tmp_path / "bad.csv", window=5)
    assert message in str(caught.value)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*missing\.csv"):
        data.load(tmp_path / "missing.csv", window=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no recordings\. They come as a table in long form"):
        data.load(tmp_path / "empty", window=5)
    with pytest.raises(DataError, match=r"how long is a window\? .*--window SAMPLES"):
        data.load(write(tmp_path / "all.csv", table()))
    (tmp_path / "latin.csv").write_bytes("time,beschleunigung [m/s²],label\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv is not text in UTF-8"):
        data.load(tmp_path / "latin.csv", window=5)
    (tmp_path / "list.parquet").touch()
    pl.DataFrame({"time": [0.0], "x": [[1, 2]], "label": ["a"]}).write_parquet(tmp_path / "list.parquet")
    with pytest.raises(DataError, match=r"the column 'x' holds List\(Int64\), not numbers"):
        data.load(tmp_path / "list.parquet", window=5)


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    assert "takes no --input-dim, only --window, --hop" in refusal(tmp_path, table(), input_dim=3)
    saved = load(tmp_path, table()).save(tmp_path)
    with pytest.raises(
        DataError, match=r"all\.npz, which is cut already, takes no --window, --hop, only --test-fraction"
    ):
        data.load(saved, window=5, hop=2)
    with pytest.raises(DataError, match="data set 'digits', which is cut already, takes no --rate"):
        data.load("digits", rate=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0, "hop": True}, "window must be a whole number of at least 1, not 0; hop must be a whole number"),
        ({"rate": -1}, "rate must be a positive number, not -1"),
        ({"resample": math.nan}, "resample must be a positive number, not nan"),
        ({"test_fraction": 1}, "test_fraction must be less than 1, not 1"),
        ({"time_unit": "minutes"}, "time_unit must be s, ms, us or ns, not 'minutes'"),
        ({"missing": "drop"}, "missing must be error or skip"),
        ({"channels": "acc_*"}, "channels must be a list of names or patterns"),
        ({"label": 3}, "label must be a column's name, not 3"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match="cannot cut windows: ") as caught:
        Cut(**options)
    assert message in str(caught.value)


def test_given_options_are_those_not_at_their_default() -> None:
    assert Cut(window=5, channels=["a"]).given() == {"window": 5, "channels": ("a",)}
    assert replace(Cut(window=5), hop=2) == Cut(window=5, hop=2)
    assert hash(Cut(channels=["a"])) == hash(Cut(channels=("a",)))


# --- properties


@given(draw=st.data())
@settings(max_examples=150, deadline=None)
def test_every_window_is_a_slice_of_one_stretch(draw: st.DataObject) -> None:
    rows = draw.draw(st.integers(1, 60))
    window, hop = draw.draw(st.integers(1, 8)), draw.draw(st.integers(1, 10))
    keys = [np.array(draw.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))) // 2 for _ in range(2)]
    samples = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    first, last = stretches(*keys)
    begin, stretch = starts(first, last, window, hop)
    out = np.empty((len(begin), window, 2), np.float32)
    copy_windows(samples, begin, out)

    expected = []  # the same, one row after the other
    start = 0
    for row in range(1, rows + 1):
        if row == rows or any(key[row] != key[row - 1] for key in keys):
            expected += list(range(start, row - window + 1, hop))
            start = row
    assert begin.tolist() == expected
    assert np.array_equal(out, np.array([samples[b : b + window] for b in expected]).reshape(out.shape))
    assert all(len(np.unique(key[b : b + window])) == 1 for key in keys for b in expected)
    assert (first[stretch] <= begin).all()
    assert (begin + window <= last[stretch]).all()


@given(
    window=st.integers(2, 6),
    hop=st.integers(1, 7),
    runs=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(1, 30)), min_size=2, max_size=8),
    blocks=st.lists(st.integers(12, 40), min_size=1, max_size=4),
    lacking=st.sets(st.integers(0, 100), max_size=3),
)
@QUICK
def test_every_window_of_a_table_is_a_slice_of_it(
    window: int, hop: int, runs: list[tuple[str | None, int]], blocks: list[int], lacking: set[int], tmp_path: Path
) -> None:
    """`runs` are stretches of one label, `blocks` stretches without a gap."""
    rows = sum(blocks)
    label = ([name for name, times in runs for _ in range(times)] * rows)[:rows]
    block = np.repeat(np.arange(len(blocks)), blocks)
    key = [(label[row], block[row], row in lacking) for row in range(rows)]
    expected, start = [], 0
    for row in range(1, rows + 1):
        if row == rows or key[row] != key[row - 1]:
            good = label[start] is not None and start not in lacking
            expected += list(range(start, row - window + 1, hop)) if good else []
            start = row
    columns: Columns = {
        "time": ((np.arange(rows) + 2 * block) / 50).tolist(),
        "x": [None if row in lacking else row for row in range(rows)],
        "label": label,
    }
    if len({label[begin] for begin in expected}) < 2:
        with pytest.raises(DataError, match=r"no window|one class"):
            load(tmp_path, columns, window=window, hop=hop, missing="skip")
        return
    made = load(tmp_path, columns, window=window, hop=hop, missing="skip")
    assert made.x[:, 0, 0].astype(int).tolist() == expected
    assert np.array_equal(made.x[:, :, 0], np.add.outer(expected, np.arange(window)))
    assert [made.classes[y] for y in made.y] == [label[begin] for begin in expected]


@given(
    rate=st.floats(1, 2000),
    rows=st.integers(20, 300),
    jitter=st.floats(0, 0.2),
    gaps=st.lists(st.integers(1, 299), max_size=4),
    start=st.floats(-1e6, 1e6),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_rate_and_gaps_are_found(
    rate: float, rows: int, jitter: float, gaps: list[int], start: float, seed: int
) -> None:
    where = sorted({gap for gap in gaps if 12 <= gap < rows - 12})
    assume(all(b - a > 12 for a, b in itertools.pairwise(where)))
    wobble = np.random.default_rng(seed).uniform(-jitter / 2, jitter / 2, rows)
    times = (np.arange(rows) + wobble + 3 * np.searchsorted(where, np.arange(rows), side="right")) / rate
    timing = measure(times + start * 1e-3)
    assert (np.flatnonzero(timing.gaps) + 1).tolist() == where
    assert timing.rate == pytest.approx(rate, rel=0.03)
    assert timing.regular


@given(before=st.floats(10, 1000), factor=st.floats(0.2, 5), place=st.integers(70, 230))
@settings(max_examples=100, deadline=None)
def test_a_change_of_rate_is_found_near_its_row(before: float, factor: float, place: int) -> None:
    assume(abs(factor - 1) > 0.25)  # half of it from the rate of the whole: more than what counts as jitter
    steps = np.where(np.arange(300) < place, 1 / before, 1 / (before * factor))
    with pytest.raises(TimesError, match="is where the rate changes") as caught:
        measure(np.concatenate([[0], np.cumsum(steps)]))
    assert caught.value.row == 0 or place <= caught.value.row <= place + 64


@pytest.mark.parametrize(("rate", "meant"), [(49.97, 50), (50.3, 50.3), (0.2, 0.2), (1.004, 1), (25.641025, 25.64)])
def test_rates_are_rounded_to_what_was_meant(rate: float, meant: float) -> None:
    assert rounded(rate) == meant


def test_a_unit_needs_a_reason() -> None:
    assert unit_of("time", np.array([0, 20, 40]), None) is None
    assert unit_of("time", np.array([0, 20, 40]), 50) == "ms"
    assert unit_of("time", np.array([0, 20, 40]), 7) is None
    assert unit_of("time", np.array([0.0, 0.02]), 7) == "s"
    assert unit_of("time", np.array([0, 20, 40]) + 1_700_000_000_000, None) == "ms"
    assert unit_of("time", np.array([0, 20, 40]) + 1_700_000_000, None) is None  # 20 days of uptime, no date
    assert unit_of("times", np.array([0.0, 0.02]), None) == "s"
    assert unit_of("timestamp_us", np.array([0.0, 0.02]), None) == "us"
    assert unit_of("t [µs]", np.array([0, 20]), None) == "us"
    assert unit_of("t", np.array([7]), None) == "s"


# --- resampling


def wave(rate: float, seconds: float = 4, hertz: float = 1.5) -> npt.NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([10 + np.sin(2 * np.pi * hertz * time), 3 * time], axis=1).astype(np.float32)


@pytest.mark.parametrize(("rate", "target"), [(100, 50), (50, 100), (44100, 16000), (30, 50), (50, 50)])
def test_resampling_keeps_a_slow_wave_and_an_offset(rate: float, target: float) -> None:
    made = resampled(wave(rate), rate, target)
    assert made.dtype == np.float32
    assert len(made) == math.ceil(len(wave(rate)) * target / rate)
    expected = wave(target)[: len(made)]
    edge = len(made) // 10
    assert np.abs(made - expected)[edge:-edge].max() < 0.02
    assert np.abs(made - expected).max() < 0.5  # an offset of 10 makes no edge of 10


def test_rates_too_far_apart_are_refused() -> None:
    with pytest.raises(DataError, match="cannot resample from 1 to 5000 samples/s"):
        resampled(wave(10), 1, 5000)


def test_interpolation_follows_the_line() -> None:
    times = np.array([0, 0.5, 0.7, 2.0])
    assert interpolated(np.array([[0], [1], [1.4], [4]], np.float32), times, 4).ravel() == pytest.approx(
        np.arange(9) / 2
    )


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "all.csv", table())
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(
        MissingExtraError, match=r'reading CSV and Parquet needs polars.*pip install "fastzoo\[train\]"'
    ):
        data.load(tmp_path / "all.csv", window=5)


# --- damage


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet"])
@given(content=st.binary(max_size=300))
@QUICK
def test_random_bytes_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        data.load(path, window=2)


@given(text=st.text(alphabet='time,labx0123.5"\n;\t -', max_size=120))
@QUICK
def test_random_text_is_a_table_or_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.csv"
    path.write_text(f"t,x,label\n{text}", newline="")
    with contextlib.suppress(DataError):
        data.load(path, window=2)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@given(draw=st.data())
@QUICK
def test_a_file_with_flipped_bytes_is_read_or_refused(suffix: str, draw: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    if suffix == ".parquet":
        pl.DataFrame(table()).write_parquet(path)
    else:
        write(path, table())
    content = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(content[: draw.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(DataError):
        data.load(path, window=5)
