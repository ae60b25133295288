"""``fastzoo stream``: every source and format gives the answers that the windows themselves have."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from runtime import toy

import fastzoo
from fastzoo import bundle
from fastzoo.audio import LogMel
from fastzoo.data import synthetic

from .shell import good, message_of, run

MODEL = "fastgrnn-har-int8"
HOP = 16
Doubles = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def motion() -> Doubles:
    """Walking, then laying: [1024, 6]."""
    rows = np.concatenate(list(synthetic.motion(["walking"] * 4 + ["laying"] * 4)))
    return rows.round(5).astype(np.float64)


@pytest.fixture(scope="module")
def answers(motion: Doubles) -> list[dict[str, Any]]:
    """What the model says of each window."""
    return [result.to_dict() for result in fastzoo.load(MODEL).stream(HOP).push(motion)]


def csv(rows: Doubles, header: str = "", delimiter: str = ",") -> str:
    lines = [delimiter.join("" if np.isnan(value) else repr(float(value)) for value in row) for row in rows]
    return "\n".join(([header] if header else []) + lines) + "\n"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def streamed(path: Path, *options: str) -> list[dict[str, Any]]:
    return lines(good("stream", MODEL, path, "--json", "--hop", str(HOP), *options))


def process(*options: str, stdin: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastzoo", "stream", MODEL, "--json", "--hop", str(HOP), *options],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running(*options: str, stdin: Any = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    begun = process(*options, stdin=stdin)
    try:
        yield begun
    finally:
        begun.kill()
        begun.communicate()


def read_lines(of: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert of.stdout is not None
    return [json.loads(of.stdout.readline()) for _ in range(count)]


def test_the_readmes_pipe(motion: Doubles, answers: list[dict[str, Any]]) -> None:
    with running("--rate", "50") as of:
        output, errors = of.communicate(csv(motion), timeout=60)
        assert (of.returncode, errors) == (0, "")
    assert lines(output) == answers
    assert len(answers) == (1024 - 128) // HOP + 1


def test_answers_come_while_the_pipe_is_open(motion: Doubles, answers: list[dict[str, Any]]) -> None:
    with running() as of:
        assert of.stdin is not None
        of.stdin.write(csv(motion[:128]))
        of.stdin.flush()
        assert read_lines(of, 1) == answers[:1]
        of.stdin.write(csv(motion[128:160]))
        of.stdin.flush()
        assert read_lines(of, 2) == answers[1:3]


CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("imu.csv", lambda rows: csv(rows), ()),
        ("imu.csv", lambda rows: csv(rows, ",".join(CHANNELS)), ()),
        ("imu.csv", lambda rows: csv(rows, "acc_x [g];acc_y [g];acc_z [g];gyro_x;gyro_y;gyro_z", ";"), ()),
        ("imu.tsv", lambda rows: csv(rows, delimiter="\t"), ()),
        ("imu.log", lambda rows: "# a comment\n" + csv(rows, delimiter=" "), ()),
        ("imu.csv", lambda rows: csv(rows, delimiter=";").replace(".", ","), ()),
        ("imu.csv", lambda rows: csv(rows).replace("\n", "\r\n"), ()),
        ("imu.csv", lambda rows: "\ufeff" + csv(rows)[:-1], ()),
        ("imu.jsonl", lambda rows: "".join(json.dumps(row.tolist()) + "\n" for row in rows), ()),
        ("imu", lambda rows: "".join(json.dumps(row.tolist()) + "\n" for row in rows), ()),
        ("imu.jsonl", lambda rows: "".join(f"{json.dumps(some.tolist())}\n" for some in np.split(rows, 32)), ()),
        (
            "imu.ndjson",
            lambda rows: "".join(
                json.dumps({"who": "me", **dict(zip(reversed(CHANNELS), map(float, row[::-1]), strict=True))}) + "\n"
                for row in rows
            ),
            (),
        ),
        ("imu.csv", lambda rows: csv(rows[:, ::-1], ",".join(CHANNELS[::-1])), ()),
        ("imu.csv", lambda rows: csv(rows[:, ::-1]), ("--columns", ",".join(CHANNELS[::-1]))),
        (
            "imu.csv",
            lambda rows: csv(rows, "ax,ay,az,gx,gy,gz"),
            [f"--map={a}={b}" for a, b in zip(("ax", "ay", "az", "gx", "gy", "gz"), CHANNELS, strict=True)],
        ),
    ],
)  # fmt: skip
def test_formats_and_columns(
    tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]], name: str, make: Any, options: Sequence[str]
) -> None:
    path = tmp_path / name
    path.write_text(make(motion), encoding="utf-8")
    assert streamed(path, *options) == answers


def test_raw_numbers(tmp_path: Path, motion: Doubles) -> None:
    single = fastzoo.load(MODEL).stream(HOP).push(motion.astype(np.float32))
    path = tmp_path / "imu.f32"
    path.write_bytes(motion.astype("<f4").tobytes() + b"\0\0")
    assert streamed(path) == [result.to_dict() for result in single]


def test_counts_of_a_chip_and_units_by_name(tmp_path: Path, motion: Doubles) -> None:
    counts = np.concatenate([motion[:, :3] / 0.061e-3, np.degrees(motion[:, 3:]) * 1000 / 70], axis=1).round()
    path = tmp_path / "imu.s16"
    path.write_bytes(counts.astype("<i2").tobytes())
    found = streamed(path, "--unit", "acc=0.061 mg", "--unit", "gyro=70 mdps")
    units = counts * [*[0.061e-3] * 3, *[np.radians(0.07)] * 3]
    expected = fastzoo.load(MODEL).stream(HOP).push(units)
    assert [one["label"] for one in found] == [result.label for result in expected]
    for one, result in zip(found, expected, strict=True):
        np.testing.assert_allclose(list(one["probabilities"].values()), result.probabilities, atol=1e-4)


def test_units_in_a_header_are_converted(tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]]) -> None:
    scaled = motion * [*[9.80665] * 3, *[180 / np.pi] * 3]
    header = "acc_x (m/s2),acc_y (m/s^2),acc_z [m/s2],gyro_x [dps],gyro_y [deg/s],gyro_z [°/s]"
    path = tmp_path / "imu.csv"
    path.write_text(csv(scaled, header), encoding="utf-8")
    found = streamed(path)
    for one, other in zip(found, answers, strict=True):
        assert one["label"] == other["label"]
        np.testing.assert_allclose(
            list(one["probabilities"].values()), list(other["probabilities"].values()), atol=1e-4
        )


def test_a_column_of_text_is_passed_over(tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]]) -> None:
    rows = [f"{line},walking" for line in csv(motion).splitlines()]
    path = tmp_path / "imu.csv"
    path.write_text("\n".join([",".join(CHANNELS) + ",what", *rows]))
    assert streamed(path) == answers


def test_another_rate_is_resampled_and_times_stay_true(tmp_path: Path) -> None:
    seconds, rate = 20, 104
    clock = np.arange(seconds * rate) / rate
    slow = np.stack([np.sin(2 * np.pi * f * clock) for f in (0.5, 1, 1.5, 2, 2.5, 3)], axis=1)
    at_50 = np.arange(seconds * 50) / 50
    wanted = np.stack([np.sin(2 * np.pi * f * at_50) for f in (0.5, 1, 1.5, 2, 2.5, 3)], axis=1)
    path = tmp_path / "imu.csv"
    path.write_text(csv(slow))
    found = streamed(path, "--rate", "104")
    expected = fastzoo.load(MODEL).stream(HOP).push(wanted)
    assert len(expected) - 2 <= len(found) <= len(expected), "the filter's delay costs the last answers"
    for one, result in list(zip(found, expected, strict=False))[1:]:
        assert one["time"] == pytest.approx(result.time, abs=1e-6)
        np.testing.assert_allclose(list(one["probabilities"].values()), result.probabilities, atol=0.02)


@pytest.mark.parametrize("policy", ["hold", "drop", "reset"])
def test_missing_values_are_reported_and_handled(tmp_path: Path, motion: Doubles, policy: str) -> None:
    damaged = motion.copy()
    damaged[200:203, 1] = np.nan
    path = tmp_path / "imu.csv"
    path.write_text(csv(damaged))
    found = streamed(path, "--gaps", policy)
    (gap,) = [one["gap"] for one in found if "gap" in one]
    assert (gap["time"], gap["samples"], gap["cause"]) == (4.0, 3, "missing values")
    results = [one for one in found if "gap" not in one]
    stream = fastzoo.load(MODEL).stream(HOP)
    if policy == "hold":
        mended = damaged.copy()
        mended[200:203, 1] = damaged[199, 1]
        expected = [result.to_dict() for result in stream.push(mended)]
        assert gap["handled"] == "held"
        assert results == expected
    elif policy == "drop":
        expected = [result.to_dict() for result in stream.push(np.delete(damaged, range(200, 203), axis=0))]
        assert gap["handled"] == "dropped"
        assert [one["probabilities"] for one in results] == [one["probabilities"] for one in expected]
        assert results[-1]["time"] == pytest.approx(expected[-1]["time"] + 3 / 50)
    else:
        assert gap["handled"] == "reset"
        first = [result.to_dict() for result in stream.push(damaged[:200])]
        second = [result.to_dict() for result in fastzoo.load(MODEL).stream(HOP).push(damaged[203:])]
        assert [one["probabilities"] for one in results] == [one["probabilities"] for one in first + second]
        assert results[len(first)]["time"] == pytest.approx((203 + 128) / 50)


def test_missing_time_stamps_are_a_gap(tmp_path: Path, motion: Doubles) -> None:
    stamps = 1000 * (7 + np.arange(len(motion)) / 50)
    rows = np.delete(np.column_stack([stamps, motion]), range(300, 400), axis=0)
    path = tmp_path / "imu.csv"
    path.write_text(csv(rows, "t," + ",".join(CHANNELS)))
    found = streamed(path, "--time", "t", "--time-unit", "ms")
    (gap,) = [one["gap"] for one in found if "gap" in one]
    assert (gap["time"], gap["samples"], gap["cause"], gap["handled"]) == (6.0, 100, "time stamps", "reset")
    after = [one for one in found if "gap" not in one and one["time"] > 6]
    assert after[0]["time"] == pytest.approx(8 + 128 / 50)
    message = message_of("stream", MODEL, path, "--time", "t", "--time-unit", "s")
    assert "set --rate or --time-unit" in message


def test_a_file_that_grows_is_followed(tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]]) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(csv(motion[:128]))
    with running(str(path), "--follow") as of:
        assert read_lines(of, 1) == answers[:1]
        with path.open("a") as file:
            file.write(csv(motion[128:150])[:-9])  # in the middle of a line
            file.flush()
            assert read_lines(of, 1) == answers[1:2]
            file.write(csv(motion[128:150])[-9:] + csv(motion[150:176]))
        assert read_lines(of, 2) == answers[2:4]
        path.rename(tmp_path / "imu.csv.1")  # as logrotate does
        path.write_text(csv(motion[176:192]))
        assert read_lines(of, 1) == answers[4:5]
        of.send_signal(signal.SIGTERM)
        assert of.wait(timeout=20) == 0


def test_a_stopped_stream_goes_on_where_it_was(tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]]) -> None:
    path, state = tmp_path / "imu.csv", tmp_path / "stream.npz"
    path.write_text(csv(motion[:500], ",".join(CHANNELS)))
    first = streamed(path, "--state", str(state))
    with path.open("a") as file:
        file.write(csv(motion[500:]))
    result = run("stream", MODEL, path, "--json", "--hop", str(HOP), "--state", state)
    assert "going on at 10.00 s" in result.output
    assert first + lines(result.output) == answers
    assert "delete" in message_of("stream", MODEL, path, "--hop", "8", "--state", state)
    state.write_bytes(b"no archive")
    assert "is not the state of a stream" in message_of("stream", MODEL, path, "--state", state)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_stopped_keeps_its_state(
    tmp_path: Path, motion: Doubles, answers: list[dict[str, Any]], stop: signal.Signals
) -> None:
    state = tmp_path / "stream.npz"
    with running("--state", str(state)) as of:
        assert of.stdin is not None
        of.stdin.write(csv(motion[:300]))
        of.stdin.flush()
        before = (300 - 128) // HOP + 1
        assert read_lines(of, before) == answers[:before]
        of.send_signal(stop)
        assert of.wait(timeout=20) == 0
    with running("--state", str(state)) as of:
        output, errors = of.communicate(csv(motion[300:]), timeout=60)
    assert "going on at 6.00 s" in errors
    assert lines(output) == answers[before:]


def test_a_serial_port(motion: Doubles, answers: list[dict[str, Any]]) -> None:
    pytest.importorskip("serial")
    ours, theirs = pty.openpty()
    try:
        with running("--serial", os.ttyname(theirs)) as of:
            stop = threading.Event()

            def sensor() -> None:
                time.sleep(0.5)
                os.write(ours, b"0.1,0.2\n")  # the end of a line that began before the port was opened
                for row in motion[:160]:
                    if stop.is_set():
                        return
                    os.write(ours, csv(row[np.newaxis]).encode())
                    time.sleep(0.001)

            thread = threading.Thread(target=sensor)
            begun = wait_for_the_port(of, theirs)
            thread.start()
            try:
                assert read_lines(of, 3) == answers[:3], begun
            finally:
                stop.set()
                thread.join()
    finally:
        os.close(ours)
        os.close(theirs)


def wait_for_the_port(of: subprocess.Popen[str], port: int) -> bool:
    """Until pyserial has set the line to raw: what is written earlier would be lost."""
    import termios

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and of.poll() is None:
        if not termios.tcgetattr(port)[3] & termios.ICANON:
            return True
        time.sleep(0.02)
    return False


def test_a_port_of_the_network_that_breaks_off(motion: Doubles, answers: list[dict[str, Any]]) -> None:
    pytest.importorskip("serial")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with running("--serial", f"socket://127.0.0.1:{port}") as of:
            with server.accept()[0] as connection:
                time.sleep(0.5)  # pyserial empties the buffer once it is connected
                connection.sendall(b"\n" + csv(motion[:128]).encode())
                assert read_lines(of, 1) == answers[:1]
            _, errors = of.communicate(timeout=20)
            assert of.returncode == 1
            assert "error: cannot read socket://" in errors


def test_text_for_people(tmp_path: Path, motion: Doubles) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(csv(motion))
    output = good("stream", MODEL, path, "--smooth", "majority:5", "--events", "0.8,0.5,0.5", "--labels", "laying")
    assert "      2.56  walking  " in output
    assert "[laying starts]" in output
    assert "walking starts" not in output


def test_the_view_follows_the_stream(tmp_path: Path, motion: Doubles) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(csv(motion))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fastzoo", "stream", MODEL, str(path), "--watch", "--events", "0.8"]
    of = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "90", "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    assert of.wait(timeout=30) == 0
    text = shown.decode()
    assert f"{MODEL} on {path}"[:40] in text
    assert "\u2588" * 20 in text
    assert "walking starts" in text
    assert "64 windows" not in text
    assert "57 windows" in text


def test_sound_from_a_file_and_from_a_pipe(tmp_path: Path) -> None:
    folder = toy.make(tmp_path / "words")
    heard = LogMel(rate=2000, hop_ms=20, bands=toy.D, clip_s=0.165)
    bundle.write(replace(bundle.read(folder), frontend=heard), folder)
    model = fastzoo.load(folder)
    assert model.frontend is not None
    sound = (np.random.default_rng(0).normal(size=2 * model.frontend.rate) * 3000).astype("<i2")
    with wave.open(str(tmp_path / "words.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(model.frontend.rate)
        file.writeframes(sound.tobytes())
    (tmp_path / "words.s16").write_bytes(sound.tobytes())
    expected = [result.to_dict() for result in model.stream(4).push(sound)]
    for name in ("words.wav", "words.s16"):
        assert lines(good("stream", folder, tmp_path / name, "--json", "--hop", "4")) == expected


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("1,2,3\n" * 200, (), "has 3 columns, the model has 6"),
        ("a,b,c,d,e,f\n1,2,3,4,5,6\n", (), "has no column for 'acc_x"),
        ("one two\nthree four\n" * 20, (), "is no table of numbers"),
        ("1,2,3,4,5,6\n", ("--rate", "0"), "--rate must be samples per second"),
        ("1,2,3,4,5,6\n", ("--rate", "1e6"), "round --rate"),
        ("1,2,3,4,5,6\n", ("--gaps", "mend"), "gaps can be handled by hold, drop, reset"),
        ("1,2,3,4,5,6\n", ("--unit", "acc=furlong"), "no unit 'furlong'"),
        ("1,2,3,4,5,6\n", ("--unit", "acc=rad/s"), "cannot be made g"),
        ("1,2,3,4,5,6\n", ("--map", "ax=acc_w"), "the model has no channel 'acc_w'"),
        ("1,2,3,4,5,6\n", ("--map", "ax"), "should be like --map ax=acc_x"),
        ("1,2,3,4,5,6\n", ("--smooth", "median:5"), "no smoothing 'median:5'"),
        ("1,2,3,4,5,6\n", ("--events", "0.5,0.8"), "off <= on"),
        ("1,2,3,4,5,6\n", ("--events", "0.8", "--labels", "flying"), "no class 'flying'"),
        ("1,2,3,4,5,6\n", ("--labels", "walking"), "give --events too"),
        ("1,2,3,4,5,6\n", ("--format", "xml"), "no format 'xml'"),
        ("1,2,3,4,5,6\n", ("--serial", "/dev/ttyUSB0"), "give a file or --serial"),
        ("1,2,3,4,5,6\n", ("--time", "9"), "from 1 to 6"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, text: str, options: Sequence[str], message: str) -> None:
    path = tmp_path / "imu.csv"
    path.write_text(text)
    assert message in message_of("stream", MODEL, path, *options)


def test_bytes_that_tell_nothing_need_a_format(tmp_path: Path) -> None:
    path = tmp_path / "imu.bin"
    path.write_bytes(bytes(range(256)) * 10)
    assert "say what it is: --format f32" in message_of("stream", MODEL, path)


def test_missing_ports_files_and_terminals_are_named(tmp_path: Path) -> None:
    assert "there is no file" in message_of("stream", MODEL, tmp_path / "nowhere.csv")
    result = run("stream", MODEL, "--serial", "/dev/ttyNOWHERE")
    assert "cannot read /dev/ttyNOWHERE" in str(result.exception)
    assert not result.output, "what was not opened is not said to be empty"
    path = tmp_path / "imu.csv"
    path.write_text("1,2,3,4,5,6\n")
    assert "--watch draws on a terminal" in message_of("stream", MODEL, path, "--watch")
    assert run("stream", MODEL, path, "--watch", "--json").exit_code == 2


def test_a_signal_shorter_than_a_window_is_said(tmp_path: Path) -> None:
    path = tmp_path / "imu.csv"
    path.write_text("1,2,3,4,5,6\n" * 100)
    assert "was shorter than one window of 2.56 s" in good("stream", MODEL, path)
    path.write_text("")
    assert "no samples came from" in good("stream", MODEL, path)


def test_damaged_lines_are_counted(tmp_path: Path, motion: Doubles) -> None:
    text = csv(motion).splitlines()
    text[300] = "0.1,0.2"
    text[500] = "\x00\x7f?"
    path = tmp_path / "imu.csv"
    path.write_text("\n".join(text))
    output = good("stream", MODEL, path, "--json")
    assert "2 lines of" in output
    assert [one["gap"]["samples"] for one in lines(output) if "gap" in one] == [1, 1]
