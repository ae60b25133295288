from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastzoo import data
from fastzoo.audio import LogMel
from fastzoo.data import kws12
from fastzoo.data.archive import tar_members
from fastzoo.errors import DataError

from . import archives
from .conftest import Server

Files = dict[str, bytes]


def read(path: Path, members: Files) -> data.Dataset:
    path.write_bytes(archives.tarred(members))
    return kws12.read_tar(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    return read(tmp_path_factory.mktemp("kws12") / "a.tar.gz", archives.kws12_members())


def test_every_clip_of_the_ten_words_is_a_map_of_its_sound(made: data.Dataset) -> None:
    assert made.x.shape[1:] == (98, 40)
    assert made.x.dtype == np.uint8
    members = archives.kws12_members()
    for label, word in enumerate(kws12.WORDS):
        rows = np.flatnonzero(made.y == label)
        assert len(rows) == 3
        for row, speaker in zip(rows, sorted(archives.SPEAKERS), strict=True):
            content = members[f"./{word}/{speaker}_nohash_0.wav"]
            sound = np.frombuffer(content[44:], "<i2")
            assert np.array_equal(made.x[row], LogMel.kws12(16000, "bytes")(sound, 16000))
    assert made.classes == (*kws12.WORDS, "unknown", "background")
    assert (made.channels[0], made.channels[39], made.rate) == ("mel_0 [0..255]", "mel_39 [0..255]", 100.0)
    assert made.frontend == LogMel.kws12(16000, "bytes")


def test_a_short_clip_lies_in_the_middle_between_zeros(made: data.Dataset) -> None:
    short = made.x[np.flatnonzero(made.y == kws12.WORDS.index("go"))[0]]
    busy = np.flatnonzero(short.any(axis=1))
    assert (busy[0], busy[-1]) == (25, 72)  # 48 of 98 frames


def test_the_split_is_that_of_the_lists_and_the_group_is_the_speaker(made: data.Dataset) -> None:
    words = made.y < 11
    speakers = {int(hashlib.sha1(name.encode()).hexdigest()[:15], 16): part for name, part in archives.SPEAKERS.items()}
    codes = {"train": 0, "validation": 1, "testing": 2}
    assert [codes[speakers[group]] for group in made.group[words].tolist()] == made.split[words].tolist()


def test_a_fifth_of_the_other_words_is_unknown_whatever_their_order(tmp_path: Path, made: data.Dataset) -> None:
    names = [f"{word}/{speaker}_nohash_0" for word in kws12.OTHERS for speaker in archives.SPEAKERS]
    chosen = [name for name in names if int(hashlib.sha1(name.encode()).hexdigest(), 16) % 5 == 0]
    assert 5 < len(chosen) < 30
    assert (made.y == 10).sum() == len(chosen)
    members = archives.kws12_members()
    assert read(tmp_path / "a.tar.gz", dict(reversed(members.items()))).sha256 == made.sha256


def test_background_is_a_thousand_patches_of_which_a_tenth_each_is_for_validation_and_test(made: data.Dataset) -> None:
    background = made.y == 11
    assert made.split[background].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2] * 100
    assert len(set(made.group[background].tolist())) == 1000
    noise = np.frombuffer(archives.kws12_members()["./_background_noise_/pink_noise.wav"][44:], "<i2")
    room = 3 * 16000 - 16000 + 1
    begin = int(500.5 * 2 * room / 1000) - room
    expected = LogMel.kws12(16000, "bytes")(noise[begin : begin + 16000], 16000)
    assert np.array_equal(made.x[background][500], expected)


def without(*names: str) -> Callable[[Files], Files]:
    return lambda files: {name: content for name, content in files.items() if not name.startswith(names)}


FAULTS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "no list": (without("./testing_list.txt"), r"holds no testing_list\.txt"),
    "no noise": (without("./_background_noise_"), "holds no background noise"),
    "no clips": (without(*(f"./{word}/" for word in (*kws12.WORDS, *kws12.OTHERS))), "no clips of the known words"),
    "another rate": (
        lambda files: files | {"./up/0a1b2c3d_nohash_0.wav": archives.wav(archives.tone(1), 8000)},
        r"up/0a1b2c3d_nohash_0\.wav in .* has 8000 samples/s, expected 16000",
    ),
    "no sound": (lambda files: files | {"./up/0a1b2c3d_nohash_0.wav": b"MP3"}, "is not a WAV file"),
    "a sound of no length": (
        lambda files: files | {"./up/0a1b2c3d_nohash_0.wav": archives.wav(np.zeros(10))},
        "too few for a frame",
    ),
    "a clip twice": (
        lambda files: files | {"up/0a1b2c3d_nohash_0.wav": archives.wav(archives.tone(1))},
        "holds a clip twice",
    ),
    "a bomb": (lambda files: files | {"./up/0a1b2c3d_nohash_9.wav": bytes(17 << 20)}, "more than 16777216 bytes"),
    "a speaker in two splits": (
        lambda files: files | {"./testing_list.txt": files["./testing_list.txt"] + b"\nup/0a1b2c3d_nohash_0.wav"},
        "stand in more than one split",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.tar.gz", change(archives.kws12_members()))


def members_of(path: Path) -> Iterator[tuple[str, bytes]]:
    return tar_members(
        path, "the source", "Try again", limit=1 << 20, total=4 << 20, wanted=lambda name: name.endswith(".txt")
    )


def test_a_tar_is_read_like_the_standard_library_does(tmp_path: Path) -> None:
    files = {
        "a.txt": b"",
        "./b.txt": b"b" * 511,
        "c/d.txt": b"d" * 512,
        "e.bin": b"e" * 5000,
        "f" * 99 + "/g.txt": b"g",
    }
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as archive:
            folder = tarfile.TarInfo("c")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            link = tarfile.TarInfo("link.txt")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        expected = [(name.removeprefix("./"), content) for name, content in files.items() if name.endswith(".txt")]
        if form != tarfile.USTAR_FORMAT:
            del expected[-1]  # its name is in an extension
        assert list(members_of(tmp_path / "a.tar.gz")) == expected


def test_a_tar_bomb_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(archives.tarred({f"{number}.bin": bytes(1 << 20) for number in range(5)}))
    with pytest.raises(DataError, match=r"the source unpacks to more than 4194304 bytes\. Try again"):
        list(members_of(path))
    path.write_bytes(gzip.compress(gzip.decompress(archives.tarred({"a.txt": b"a"})) + bytes(8 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):  # behind its end
        list(members_of(path))


@pytest.mark.parametrize("change", [b"-0000000001\0", b"77777777777\0", b"abcdefghijk\0"])
def test_a_size_that_lies_is_refused(change: bytes, tmp_path: Path) -> None:
    content = bytearray(gzip.decompress(archives.tarred({"a.txt": b"a"})))
    content[124:136] = change
    total = sum(content[:148]) + 8 * 32 + sum(content[156:512])
    content[148:156] = f"{total:06o}\0 ".encode()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"the source (is not a \.tar\.gz, or is truncated|unpacks to more)"):
        list(members_of(tmp_path / "a.tar.gz"))


def test_the_archive_is_not_unpacked_to_disk(tmp_path: Path, server: Server, data_folder: Path) -> None:
    members = archives.kws12_members() | {
        "../../evil.wav": b"x",
        "/tmp/fastzoo-evil.wav": b"x",
        "../up/x_nohash_0.wav": b"",
    }
    server.body = archives.tarred(members)
    data.fetch("kws12", server.url, verify=False, progress=False)
    assert not list(tmp_path.rglob("*.wav"))
    assert not Path("/tmp/fastzoo-evil.wav").exists()
    assert len(data.load("kws12").y) > 1000
