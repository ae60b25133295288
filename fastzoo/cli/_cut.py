"""The options by which commands cut recordings into windows: one set for describe, prepare and train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastzoo.cli._options import Option, Options

if TYPE_CHECKING:
    from fastzoo.data import Cut

_PANEL = "Cutting recordings"

# Fields of fastzoo.data.Cut.
_TABLE = {
    "window": Option(int, "Samples per window.", _PANEL),
    "hop": Option(int, "Samples from one window to the next. (default: WINDOW, no overlap)", _PANEL),
    "rate": Option(float, "Samples per second, where no time column tells, or to check it.", _PANEL),
    "resample": Option(float, "Bring all recordings to so many samples per second.", _PANEL),
    "time": Option(str, 'Column of times; "" for none. (default: time, t or timestamp)', _PANEL),
    "label": Option(str, "Column of classes. (default: label, activity or class)", _PANEL),
    "group": Option(str, "Column of subjects or records. (default: group, subject, user, ...)", _PANEL),
    "split": Option(str, "Column of train, validation, test. (default: split)", _PANEL),
    "recording": Option(str, "Column that tells recordings in one file apart. (default: recording, session)", _PANEL),
    "channels": Option(str, "Columns of samples, joined by commas, * for any letters. (default: all others)", _PANEL),
    "time_unit": Option(str, "s, ms, us or ns, for times that are numbers.", _PANEL),
    "missing": Option(str, "error (the default) or skip: end a segment at a row that lacks a sample.", _PANEL),
    "frontend": Option(str, 'Of WAV files: kws12, or fields such as "bands=32, clip_s=1.5".', _PANEL),
    "input_dim": Option(int, "Channels in EdgeML's train.npy and test.npy.", _PANEL),
    "test_fraction": Option(float, "Hold out groups with this share of the windows for testing.", _PANEL),
}


def made(given: dict[str, Any]) -> Cut:
    """The options that were given as a :class:`fastzoo.data.Cut`."""
    from fastzoo.data import Cut

    if "channels" in given:
        given = given | {"channels": tuple(name.strip() for name in given["channels"].split(",") if name.strip())}
    return Cut(**given)


OPTIONS = Options(_TABLE, made)
