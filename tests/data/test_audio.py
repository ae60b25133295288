"""Folders of WAV files: classes, speakers, splits, rates; and a model that hears what it was trained on."""

from __future__ import annotations

import hashlib
import json
import re
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from typer.testing import CliRunner

import fastzoo
from fastzoo import _json, data
from fastzoo._order import natural
from fastzoo.audio import LogMel
from fastzoo.cli import app
from fastzoo.data import Cut, Dataset
from fastzoo.data.audio import is_folder, load_folder
from fastzoo.errors import DataError, ExportError, FastzooError
from fastzoo.export import export
from fastzoo.nn import FastGRNN, SequenceClassifier
from fastzoo.train import Settings, checkpoint, evaluate, fit

RATE = 4000
SMALL: dict[str, Any] = {"bands": 8, "clip_s": 0.2}
CLASSES = ("beep 2", "beep 10", "hiss")

Floats = npt.NDArray[np.float64]


def sound(label: str, seed: int, seconds: float = 0.2, rate: int = RATE) -> Floats:
    """A tone of its class, or noise, of some loudness, in a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    tone = {"beep 2": 400, "beep 10": 900}.get(label)
    clean = np.zeros(len(t)) if tone is None else np.sin(2 * np.pi * tone * rng.uniform(0.8, 1.25) * t)
    quiet = 0.02 if tone else 0.3
    mixed: Floats = 10 ** rng.uniform(-1.5, -0.3) * (0.8 * clean + quiet * rng.normal(size=len(t)))
    return mixed


def save(path: Path, samples: Floats, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.repeat(samples, channels) * 32767).astype("<i2").tobytes())
    return path


def make(root: Path, name: Callable[[str, int], str], takes: int = 6) -> Path:
    """Takes of every class; ``name(label, take)`` is the path of one."""
    for label in CLASSES:
        for take in range(takes):
            save(root / name(label, take), sound(label, 100 * CLASSES.index(label) + take))
    return root


def load(path: Path, cut: Cut | None = None, frontend: Any = SMALL) -> Dataset:
    return load_folder(path, cut, frontend, progress=False)


def split_of(made: Dataset) -> dict[int, int]:
    """The split of each group."""
    return dict(zip(made.group.tolist(), made.split.tolist(), strict=True))


def test_one_window_per_file_and_one_class_per_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "sounds", lambda label, take: f"{label}/{take}.wav")
    made = load(root)
    of = LogMel(RATE, **SMALL)
    assert (made.id, made.classes, made.rate, made.frontend) == ("sounds", CLASSES, 100.0, of)
    assert made.channels == tuple(f"mel_{band} [0.439 dB]" for band in range(8))
    assert made.x.dtype == np.uint8
    assert made.x.shape == (18, of.steps, 8)
    assert made.y.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert len(set(made.group.tolist())) == 18  # nothing says who spoke
    assert not made.split.any()
    assert "split not told: all is for training" in made.notes
    for row, (label, take) in enumerate([("beep 2", 0), ("beep 2", 1)]):
        heard = np.rint(sound(label, take) * 32767).astype(np.int16)
        np.testing.assert_array_equal(made.x[row], of(heard, RATE))
    assert load(root, frontend={**SMALL, "scale": "levels"}).x.dtype == np.float32
    assert load(root, frontend=of).sha256 == made.sha256


def test_speech_commands_names_tell_speakers_and_splits(tmp_path: Path) -> None:
    speakers = [hashlib.sha1(bytes([i])).hexdigest()[:8] for i in range(40)]
    root = make(tmp_path / "words", lambda label, take: f"{label}/{speakers[take]}_nohash_{take % 3}.wav", takes=40)
    made = load(root)
    assert len(set(made.group.tolist())) == 40
    for which, low, high in ((1, 0, 10), (2, 10, 20), (0, 20, 101)):
        expected = {
            code
            for code, speaker in enumerate(sorted(speakers, key=natural))
            if low <= int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1) < high
        }
        assert {group for group, split in split_of(made).items() if split == which} == expected
        assert expected


def test_lists_tell_the_split(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/s{take}_nohash_0.wav")
    (root / "validation_list.txt").write_text("".join(f"{label}/s1_nohash_0.wav\n" for label in CLASSES))
    (root / "testing_list.txt").write_text("".join(f".\\{label}\\s2_nohash_0.wav\r\n" for label in CLASSES) + "\n\n")
    made = load(root)
    assert split_of(made) == {0: 0, 1: 1, 2: 2, 3: 0, 4: 0, 5: 0}
    (root / "testing_list.txt").write_text("hiss/s3_nohash_0.wav\n")
    with pytest.raises(DataError, match=r"the speaker 's3' is in two splits: .*s3_nohash_0.wav is for train, hiss/s3"):
        load(root)
    (root / "validation_list.txt").write_text("nothing.wav\n")
    (root / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"name none of its WAV files: lines like beep 2/s0_nohash_0.wav are expected"):
        load(root)
    (root / "validation_list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not text in UTF-8"):
        load(root)


def test_folders_tell_the_split(tmp_path: Path) -> None:
    parts = ("train", "train", "train", "train", "val", "Test")
    root = make(tmp_path / "words", lambda label, take: f"{parts[take]}/{label}/{take}.wav")
    made = load(root)
    assert made.classes == CLASSES
    assert [len(part) for part in (made.train, made.validation, made.test)] == [12, 3, 3]
    assert is_folder(root)


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    for label in ("train", "test"):
        save(tmp_path / "vehicles" / label / "1.wav", sound("hiss", 0))
    assert load(tmp_path / "vehicles").classes == ("test", "train")


def test_folders_inside_a_class_are_speakers(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/speaker {take % 2}/{take}.wav")
    made = load(root)
    assert made.group.tolist() == [0, 0, 0, 1, 1, 1] * 3


def test_what_is_no_class_is_left_out_and_said(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1)
    save(root / "_background_noise_" / "long.wav", sound("hiss", 0, seconds=9))
    save(root / ".trash" / "old.wav", sound("hiss", 0))
    save(root / "hiss" / "._0.wav", sound("hiss", 0)).write_bytes(b"no sound, but what a Mac leaves behind")
    (root / "hiss" / "more.flac").write_bytes(b"")
    (root / "README").write_text("")
    made = load(root)
    assert len(made.x) == 3
    assert "left out, since the name begins with _: _background_noise_" in made.notes
    assert "1 sound file(s) that are not WAV were left out: convert them" in made.notes


def test_short_long_silent_and_stereo_clips(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    save(root / "a" / "1.wav", sound("hiss", 1, seconds=0.1))
    save(root / "a" / "2.wav", sound("hiss", 2, seconds=0.5))
    save(root / "b" / "3.wav", np.zeros(800))
    save(root / "b" / "4.wav", sound("hiss", 4), channels=2)
    made = load(root)
    of = LogMel(RATE, **SMALL)
    assert not made.x[0, of.count(400) :].any()
    np.testing.assert_array_equal(made.x[1], of(np.rint(sound("hiss", 2, 0.5) * 32767).astype(np.int16), RATE))
    np.testing.assert_array_equal(made.x[3], of(np.rint(sound("hiss", 4) * 32767).astype(np.int16), RATE))
    for note in (
        "1 clip(s) shorter than 0.2 s lie at the start of the window, the rest is silence",
        "1 clip(s) longer than 0.2 s were cut off there",
        "1 clip(s) are digital silence: b/3.wav",
    ):
        assert note in made.notes
    centred = load(root, frontend={**SMALL, "place": "centre"})
    assert not centred.x[0, 0].any()
    assert any("in the middle" in note for note in centred.notes)


def test_other_rates_are_named_and_resampled_on_demand(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=2)
    for label in CLASSES:
        save(root / label / "fast.wav", sound(label, 7, rate=11025), rate=11025)
    save(root / "hiss" / "slow.wav", sound("hiss", 8, rate=2000), rate=2000)
    with pytest.raises(DataError) as caught:
        load(root)
    for part in (
        "have different rates: 4000 samples/s in 6 file(s), such as beep 2/0.wav; ",
        "11025 samples/s in 3 file(s), such as beep 2/fast.wav; 2000 samples/s in 1 file(s), such as hiss/slow.wav",
        "Bring all to one rate with --resample 4000 (resample=4000)",
    ):
        assert part in str(caught.value)
    made = load(root, Cut(resample=RATE))
    assert made.frontend == LogMel(RATE, **SMALL)
    assert "3 clip(s) were resampled from 11025 samples/s" in made.notes
    assert "1 clip(s) were resampled from 2000 samples/s; above 1000 Hz they are silent" in made.notes
    tones = replace(LogMel(RATE, **SMALL), scale="db")
    t = np.arange(round(0.2 * 11025)) / 11025
    save(root / "beep 2" / "fast.wav", 0.5 * np.sin(2 * np.pi * 400 * t), rate=11025)
    heard = load(root, Cut(resample=RATE), tones).x[2]
    expected = tones(0.5 * np.sin(2 * np.pi * 400 * np.arange(800) / RATE), RATE)
    np.testing.assert_allclose(heard.max(axis=1)[2:-2], expected.max(axis=1)[2:-2], atol=0.1)


@pytest.mark.parametrize(
    ("cut", "frontend", "message"),
    [
        (Cut(rate=8000), SMALL, "are to have 8000 samples/s, and have 4000 samples/s in 3 file.* --resample 8000"),
        (None, LogMel(8000), "are to have 8000 samples/s"),
        (Cut(rate=8000), {"rate": 4000}, "name different rates, choose one: rate 8000, the front end's rate 4000"),
        (Cut(resample=4000.5), SMALL, "a whole number of samples per second, not 4000.5"),
        (Cut(hop=4), SMALL, "a folder of WAV files, takes no --hop, only --window, --rate, --resample"),
        (Cut(window=800), LogMel(4000), "leave out --window, or give clip_s"),
        (None, {"band": 8}, "a front end has no band"),
        (None, "mfcc", "a front end is 'kws12', or fields as in 'bands=32, clip_s=1.5', not 'mfcc'"),
        (None, "bands=many", "not 'bands=many'; fields are window_ms, hop_ms, fft, bands"),
        (None, "kws12", "exists for 16000 and 8000 samples/s, not for 4000"),
        (None, {"bands": 900}, "bands must be"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, cut: Cut | None, frontend: Any, message: str) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1)
    with pytest.raises(DataError, match=message):
        load(root, cut, frontend)


def test_the_front_end_may_be_given_in_several_ways(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1)
    assert load(root, frontend="bands=8, clip_s = 0.2,place=start").sha256 == load(root).sha256
    assert load(root, Cut(window=800), {"bands": 8}).sha256 == load(root).sha256
    assert load(root, Cut(rate=4000)).sha256 == load(root).sha256
    assert load(root, frontend=None).frontend == LogMel(4000)
    of = load(root, Cut(resample=8000), "kws12").frontend
    assert of == LogMel.kws12(8000, "bytes")


def test_all_faulty_files_are_named(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=2)
    (root / "hiss" / "0.wav").write_bytes((root / "hiss" / "0.wav").read_bytes()[:-100])
    (root / "hiss" / "1.wav").write_bytes(b"")
    save(root / "beep 2" / "none.wav", np.zeros(0))
    with pytest.raises(DataError) as caught:
        load(root)
    for part in (
        "3 of 7 WAV file(s)",
        "0.wav is truncated",
        "1.wav is not a WAV file: it is empty",
        "none.wav holds no",
    ):
        assert part in str(caught.value)
    root = make(tmp_path / "others", lambda label, take: f"{label}/{take}.wav", takes=2)
    save(root / "hiss" / "1.wav", np.zeros(10))
    with pytest.raises(DataError, match=r"1 of 6 .*1.wav: the sound has 10 sample\(s\), too few for a frame of 100"):
        load(root)


def test_folders_without_wav_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "class").mkdir(parents=True)
    assert not is_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="has no folders with WAV files, one folder per class"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match=r"cannot read .*missing"):
        load(tmp_path / "missing")


def test_a_prepared_file_keeps_the_front_end(tmp_path: Path) -> None:
    made = load(make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1))
    again = data.read(made.save(tmp_path))
    assert again.frontend == made.frontend
    assert again.sha256 == made.sha256 != replace(made, frontend=None).sha256
    assert again.with_test(0.4).frontend == made.frontend
    with pytest.raises(DataError, match=r"frontend: it gives 8 channels, the windows have 4"):
        replace(made, x=made.x[:, :, :4], channels=made.channels[:4])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array("{"), "frontend cannot be read"),
        (np.array("[]"), "it is no object"),
        (np.array(3.0), r"it is float64 \(\), not text"),
        (np.array('{"rate": 4000, "bandz": 3}'), "a front end has no bandz"),
        (np.array('{"rate": 4000, "bands": -1}'), "bands must be"),
    ],
)
def test_a_damaged_front_end_in_a_prepared_file_is_named(tmp_path: Path, value: Any, message: str) -> None:
    path = load(make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1)).save(tmp_path)
    with np.load(path) as archive:
        arrays = {**archive, "frontend": value}
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        data.read(path)


def test_a_data_set_without_sound_has_the_digest_it_always_had() -> None:
    made = data.load("digits")
    digest = hashlib.sha256()
    for array in (made.x, made.y, made.group, made.split):
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    digest.update("\n".join((*made.classes, *made.channels, repr(made.rate))).encode())
    assert made.sha256 == digest.hexdigest()


def test_a_bar_shows_the_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=1)
    made = load_folder(root, frontend=SMALL)
    assert made.sha256 == load(root).sha256
    assert capsys.readouterr().out == ""


def test_data_load_and_prepare_take_the_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "words", lambda label, take: f"{label}/{take}.wav", takes=4)
    assert data.load(root, window=800, test_fraction=0.25).frontend == LogMel(RATE, clip_s=0.2)
    arguments = ["data", "prepare", str(root), "--out", str(tmp_path / "made.npz"), "--window", "800"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "front end: log-mel, 40 bands" in result.output
    assert data.read(tmp_path / "made.npz").frontend == LogMel(RATE, clip_s=0.2)


# From sound to a model that hears


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Path]:
    """A folder of sounds, its data set with two held-out speakers of eight, and a checkpoint trained on it."""
    torch.set_num_threads(1)
    root = make(tmp_path_factory.mktemp("sounds") / "sounds", lambda label, take: f"{label}/{take % 8}/{take}.wav", 48)
    made = load(root).with_test(0.25)
    torch.manual_seed(0)
    net = SequenceClassifier(FastGRNN(8, 8, w_rank=4, u_rank=4, nu=0.0), 3, pool=4)
    folder = root.parent / "run"
    fit(net, made, Settings(epochs=12, batch_size=16, learning_rate=0.03), out=folder, progress=False)
    return root, made, folder


@pytest.fixture(scope="module")
def exported(trained: tuple[Path, Dataset, Path]) -> Path:
    _, made, folder = trained
    export(folder, folder.parent / "hears", dataset=made)
    return folder.parent / "hears"


def test_the_front_end_goes_all_the_way(trained: tuple[Path, Dataset, Path], exported: Path) -> None:
    root, made, folder = trained
    assert made.frontend is not None
    parameters = _json.plain(made.frontend)
    assert _json.plain(checkpoint.load(folder).data["frontend"]) == parameters
    assert json.loads((exported / "bundle.json").read_text())["frontend"] == parameters
    for path in exported.glob("*.onnx"):
        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert json.loads(properties["fastzoo.frontend"]) == parameters

    model = fastzoo.load(exported)
    files = sorted(root.rglob("*.wav"), key=lambda file: natural(file.as_posix()))
    held_out = np.flatnonzero(made.split == 2)
    assert len(held_out) >= 30
    right = 0
    for row in held_out:
        with wave.open(str(files[row])) as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
        x = model.features(heard, RATE)
        np.testing.assert_array_equal(x, made.x[row])
        right += model.predict(x) == made.classes[made.y[row]] == files[row].parent.parent.name
    guesses = np.asarray(model.predict(made.test.x))
    assert right / len(held_out) == np.mean(guesses == np.array(made.classes)[made.test.y]) > 0.9
    assert evaluate(checkpoint.load(folder).net, made.test, made.classes, "test").accuracy > 0.9

    result = CliRunner().invoke(app, ["predict", str(exported), str(files[held_out[0]])])
    assert result.stdout.strip() == guesses[0]


def test_export_refuses_another_front_end(trained: tuple[Path, Dataset, Path], tmp_path: Path) -> None:
    root, made, folder = trained
    assert made.frontend is not None
    other = load(root, frontend={**SMALL, "low_hz": 100.0}).with_test(0.25)
    with pytest.raises(
        ExportError, match=r"made by another front end \(.*from 100 to 2000 Hz.* trained with .*from 20 "
    ):
        export(folder, tmp_path / "out", dataset=other)
    with pytest.raises(ExportError, match="does not fit the network: it gives 9 channels, the windows have 8"):
        export(folder, tmp_path / "out", dataset=made, frontend=LogMel(RATE, bands=9, clip_s=0.2))
    assert not (tmp_path / "out").exists()


def test_export_takes_the_front_end_of_features_made_elsewhere(
    trained: tuple[Path, Dataset, Path], tmp_path: Path
) -> None:
    _, made, folder = trained
    net, bare = checkpoint.load(folder).net, replace(made, frontend=None)
    bundle = export(net, tmp_path / "hears", dataset=bare, frontend=made.frontend, layouts=["fused"])
    assert bundle.frontend == made.frontend
    assert fastzoo.load(tmp_path / "hears").frontend == made.frontend
    assert export(folder, tmp_path / "too", dataset=bare, layouts=["fused"]).frontend == bundle.frontend


def test_eval_refuses_windows_of_another_front_end(
    trained: tuple[Path, Dataset, Path], exported: Path, tmp_path: Path
) -> None:
    root, made, _ = trained
    path = made.save(tmp_path)
    result = CliRunner().invoke(app, ["eval", str(exported), "--data", str(path)])
    assert result.exit_code == 0, result.output
    other = load(root, frontend={**SMALL, "low_hz": 100.0}).with_test(0.25).save(tmp_path)
    error = CliRunner().invoke(app, ["eval", str(exported), "--data", str(other)]).exception
    assert isinstance(error, FastzooError)
    assert re.search("another front end .*from 100 to 2000 Hz.*, where the model has .*from 20 to", str(error))
