"""Registries: names are found, filtered and suggested; registering is all or nothing, and hides nothing by accident."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import fastzoo
from fastzoo import _files, _registry_file, bundle, registry
from fastzoo.entry import entry_faults
from fastzoo.errors import BundleError, RegistryError, UnknownModelError

from . import toy

NAMES = ["gru-toy-fp32", "gru-toy-int8"]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with one model in it, in place of fastzoo's own."""
    package = tmp_path / "package"
    monkeypatch.setattr(_registry_file, "PACKAGE", package)
    made = toy.make(package / "models" / "gru-toy")
    (tmp_path / registry.FILE).write_bytes(registry.render(registry.index([made], package)))
    return package


def listing(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / registry.FILE).read_text())
    return read


def test_a_registered_bundle_loads_by_name_from_anywhere(folder: Path, registry_folder: Path) -> None:
    assert registry.register(folder) == NAMES
    folder.rename(folder.with_name("gone"))
    assert fastzoo.list_models("gru-toy-*") == NAMES
    model = fastzoo.load("gru-toy-fp32")
    assert (model.name, model.precision) == ("gru-toy-fp32", "fp32")
    assert model.path == registry_folder / "models" / "gru-toy" / "fp32-fused.onnx"


def test_only_recorded_files_are_copied(folder: Path, registry_folder: Path) -> None:
    (folder / "recording.npy").write_bytes(b"private")
    registry.register(folder)
    copied = {path.name for path in (registry_folder / "models" / "gru-toy").iterdir()}
    assert copied == {"bundle.json", *(record.file for record in bundle.read(folder).files)}


def test_info_repeats_the_bundle_for_one_precision(folder: Path) -> None:
    registry.register(folder)
    entry = fastzoo.info("gru-toy-int8")
    content = json.loads((folder / "bundle.json").read_text())
    for key in ("version", "summary", "cell", "pool", "input", "labels", "measured_on", "training", "licences"):
        assert entry[key] == content[key]
    assert entry["weights_bytes"] == 100
    assert (entry["parameters"], entry["nonzeros"], entry["macs_per_window"]) == (100, 90, 1000)
    assert entry["dataset"] == {"id": "toy", "variant": "made up"}
    assert entry["metrics"] == content["precisions"]["int8"]["layouts"]["fused"]["metrics"]
    assert entry["layouts"]["unrolled"]["latency"]["p50_us"] == 40
    assert "calibration" not in entry  # nobody calibrated: absent, not invented
    assert entry["bundle_sha256"] == _files.sha256((folder / "bundle.json").read_bytes())


def test_info_of_a_folder_is_that_of_its_preferred_precision(folder: Path) -> None:
    assert fastzoo.info(folder)["name"] == "gru-toy-int8"
    assert fastzoo.info(folder) == fastzoo.load(folder).info


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"pattern": "gru-h[0-9]*"}, ["gru-h8-int8", "gru-h16-fp32", "gru-h16-int8"]),
        ({"pattern": "*-h16-*"}, ["gru-h16-fp32", "gru-h16-int8"]),
        ({"pattern": "GRU*"}, []),
        ({"precision": "int8", "pattern": "gru-h[0-9]*"}, ["gru-h8-int8", "gru-h16-int8"]),
        ({"max_bytes": 399}, ["gru-h8-int8", "gru-h16-int8"]),
        ({"max_bytes": 400, "precision": "fp32"}, ["gru-h16-fp32"]),
        ({"dataset": "toy", "cell": "gru", "pattern": "*h8*"}, ["gru-h8-int8"]),
        ({"dataset": "nowhere"}, []),
        ({"cell": "ugrnn"}, []),
    ],
)
def test_models_are_filtered_and_in_natural_order(tmp_path: Path, filters: dict[str, Any], found: list[str]) -> None:
    registry.register(toy.make(tmp_path / "b", "gru-h16"))
    registry.register(toy.make(tmp_path / "a", "gru-h8", precisions=("int8",)))
    assert fastzoo.list_models(**filters) == found


def test_an_unknown_name_suggests_near_ones(folder: Path) -> None:
    registry.register(folder)
    with pytest.raises(UnknownModelError, match=r"'gru-toi-int8'.*Did you mean gru-toy-int8 or.*`fastzoo list`"):
        fastzoo.load("gru-toi-int8")
    with pytest.raises(UnknownModelError, match="no model 'completely different' is registered"):
        fastzoo.load("completely different")


def test_a_path_a_slash_or_the_name_of_a_bundle_mean_the_folder(folder: Path, tmp_path: Path) -> None:
    for name in (folder, str(folder), "./gru-toy", "gru-toy", f"gru-toy{os.sep}"):
        assert fastzoo.load(name).path.samefile(folder / "int8-fused.onnx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownModelError):
        fastzoo.load("empty")
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        fastzoo.load(Path("empty"))


def test_precision_is_chosen_for_a_folder_and_said_by_a_name(folder: Path, tmp_path: Path) -> None:
    assert fastzoo.load(folder).precision == "int8"
    assert fastzoo.load(folder, precision="fp32").precision == "fp32"
    assert fastzoo.load(toy.make(tmp_path / "one", precisions=("fp32",))).precision == "fp32"
    with pytest.raises(BundleError, match="has no precision 'int4', only fp32, int8"):
        fastzoo.load(folder, precision="int4")
    registry.register(folder)
    assert fastzoo.load("gru-toy-int8", precision="int8").precision == "int8"
    with pytest.raises(UnknownModelError, match="gru-toy-int8 is a model in int8"):
        fastzoo.load("gru-toy-int8", precision="fp32")


def test_registering_twice_changes_nothing(folder: Path, registry_folder: Path) -> None:
    registry.register(folder)
    before = {path: path.stat().st_mtime_ns for path in registry_folder.rglob("*") if "lock" not in path.name}
    assert registry.register(folder) == NAMES
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_registering_again_repairs_a_damaged_copy(folder: Path, registry_folder: Path) -> None:
    registry.register(folder)
    damaged = registry_folder / "models" / "gru-toy" / "int8-fused.onnx"
    damaged.write_bytes(b"")
    with pytest.raises(RegistryError, match="already exists"):
        registry.register(folder)
    registry.register(folder, force=True)
    assert fastzoo.load("gru-toy-int8").logits(toy.windows(1)).shape == (1, toy.C)


def test_other_content_of_the_same_name_needs_force(folder: Path, tmp_path: Path, registry_folder: Path) -> None:
    registry.register(folder)
    other = toy.make(tmp_path / "other", seed=1, precisions=("fp32",))
    before = listing(registry_folder)
    with pytest.raises(RegistryError, match=r"already has another gru-toy-fp32\. .*--force"):
        registry.register(other)
    assert listing(registry_folder) == before
    assert registry.register(other, force=True) == ["gru-toy-fp32"]
    assert fastzoo.list_models("gru-toy-*") == [
        "gru-toy-fp32"
    ]  # the int8 file of the old bundle is gone, and so is its name
    assert fastzoo.load("gru-toy-fp32").info["training"]["seed"] == 1


def test_a_folder_that_nobody_registered_is_not_overwritten(folder: Path, registry_folder: Path) -> None:
    mine = registry_folder / "models" / "gru-toy"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(RegistryError, match="already exists"):
        registry.register(folder)
    assert (mine / "notes.txt").read_text() == "mine"


def test_a_damaged_bundle_is_not_registered(folder: Path, registry_folder: Path) -> None:
    (folder / "int8-fused.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"int8-fused\.onnx"):
        registry.register(folder)
    assert not registry_folder.exists()


def test_a_model_of_fastzoo_is_not_hidden_silently(shipped: Path, tmp_path: Path) -> None:
    assert fastzoo.load("gru-toy-int8").path.is_relative_to(shipped)
    other = toy.make(tmp_path / "other", seed=1)
    with pytest.raises(RegistryError, match=r"gru-toy-fp32, gru-toy-int8 comes with fastzoo.*--force"):
        registry.register(other)
    registry.register(other, force=True)
    assert fastzoo.load("gru-toy-int8").info["training"]["seed"] == 1


def test_registering_what_comes_with_fastzoo_changes_nothing(shipped: Path, registry_folder: Path) -> None:
    assert registry.register(shipped / "models" / "gru-toy") == NAMES
    assert not registry_folder.exists()


def test_a_model_that_a_newer_fastzoo_brings_wins_over_an_older_one_of_the_users(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(folder)
    package = tmp_path / "package"
    made = toy.make(package / "models" / "gru-toy", seed=1)
    (tmp_path / registry.FILE).write_bytes(registry.render(registry.index([made], package)))
    monkeypatch.setattr(_registry_file, "PACKAGE", package)
    assert fastzoo.load("gru-toy-int8").path.is_relative_to(package)


def test_the_first_of_several_registries_wins_and_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second" / "team.json"
    registry.register(folder, second)
    assert second.is_file()
    monkeypatch.setenv("FASTZOO_REGISTRY", os.pathsep.join([str(first), "", str(second)]))
    assert fastzoo.load("gru-toy-int8").path.is_relative_to(second.parent)
    registry.register(toy.make(tmp_path / "other", seed=1))
    assert fastzoo.load("gru-toy-int8").path.is_relative_to(first)


def test_without_a_variable_the_users_data_folder_is_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTZOO_REGISTRY")
    assert registry.default_file().name == registry.FILE
    assert "fastzoo" in registry.default_file().parts


def test_a_bundle_changed_after_registration_is_refused(folder: Path, registry_folder: Path) -> None:
    registry.register(folder)
    path = registry_folder / "models" / "gru-toy" / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"walk"', b'"swim"'))
    with pytest.raises(BundleError, match=r"is not the one that .* registered as gru-toy-int8.*--force"):
        fastzoo.load("gru-toy-int8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is damaged"),
        (b"\xff", "is damaged"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "is not a registry"),
        (b'{"schema": 1, "models": []}', "is not a registry"),
        (b'{"models": {}}', "has schema None"),
        (b'{"schema": 2, "models": {}}', "has schema 2.*update fastzoo"),
        (b'{"schema": 1, "models": {"a": 5}}', "a must be an object, not a whole number"),
        (b'{"schema": 1, "models": {"a": {}}}', "a.name is missing; a.bundle is missing"),
    ],
)
def test_a_damaged_registry_is_named(folder: Path, registry_folder: Path, text: bytes, message: str) -> None:
    registry_folder.mkdir()
    (registry_folder / registry.FILE).write_bytes(text)
    with pytest.raises(RegistryError, match=f"{registry.FILE} .*{message}"):
        registry.read(registry_folder / registry.FILE)
    with pytest.raises(RegistryError, match=message):
        registry.register(folder)


def test_a_damaged_registry_hides_no_other_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, damaged = tmp_path / "good", tmp_path / "damaged"
    registry.register(folder, good)
    damaged.mkdir()
    (damaged / registry.FILE).write_bytes(b"{")
    monkeypatch.setenv("FASTZOO_REGISTRY", os.pathsep.join([str(damaged), str(good)]))
    assert fastzoo.load("gru-toy-int8").path.is_relative_to(good)
    assert fastzoo.list_models("gru-toy-*") == NAMES
    assert {record.name for record in caplog.records} == {"fastzoo"}
    assert caplog.records[0].getMessage().startswith(f"a registry is passed over: {damaged / registry.FILE} is damaged")
    with pytest.raises(UnknownModelError, match=rf"Not all registries could be read: {damaged}.* is damaged"):
        fastzoo.load("other-int8")


def test_of_what_comes_with_fastzoo_only_the_model_that_is_loaded_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def noted(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
        checked.append(name)
        return entry_faults(name, entry)

    monkeypatch.setattr(_registry_file, "entry_faults", noted)
    fastzoo.load("fastgrnn-har-int8")
    assert set(checked) == {"fastgrnn-har-int8"}


def test_a_faulty_entry_of_what_comes_with_fastzoo_is_named(shipped: Path) -> None:
    path = shipped.parent / registry.FILE
    content = json.loads(path.read_bytes())
    content["models"]["gru-toy-int8"]["bundle"] = "../elsewhere"
    path.write_text(json.dumps(content))
    assert fastzoo.load("gru-toy-fp32").path.is_relative_to(shipped)
    with pytest.raises(RegistryError, match="must be a folder below the registry"):
        fastzoo.load("gru-toy-int8")
    with pytest.raises(RegistryError, match="must be a folder below the registry"):
        fastzoo.list_models()


def test_what_else_a_registry_says_is_kept_when_it_is_written_again(
    folder: Path, registry_folder: Path, tmp_path: Path
) -> None:
    registry.register(folder)
    path = registry_folder / registry.FILE
    boards = {"pi": {"machine": {"cpu": "BCM2712"}, "models": {"gru-toy-int8": {"layouts": {"fused": {"p50_us": 9}}}}}}
    path.write_text(json.dumps({**listing(registry_folder), "boards": boards, "of_tomorrow": [1, None]}))
    registry.register(toy.make(tmp_path / "other", "another"))
    assert registry.read(path).boards == boards
    assert listing(registry_folder)["of_tomorrow"] == [1, None]
    assert fastzoo.load("another-int8").name == "another-int8"


@pytest.mark.parametrize("boards", [[], {"pi": 5}, {"pi": {"machine": "\u001b[2J"}}])
def test_reports_of_boards_that_are_none_are_a_fault(registry_folder: Path, boards: object) -> None:
    registry_folder.mkdir()
    path = registry_folder / registry.FILE
    path.write_text(json.dumps({"schema": 1, "models": {}, "boards": boards}))
    with pytest.raises(RegistryError, match=r"is faulty: .*boards"):
        registry.read(path)


@pytest.mark.parametrize("path", ["/etc", "../elsewhere", "a/../../b", "", ".", "c:models", "models\\gru-toy"])
def test_a_registry_whose_paths_lead_out_of_its_folder_is_refused(
    folder: Path, registry_folder: Path, path: str
) -> None:
    registry.register(folder)
    content = listing(registry_folder)
    content["models"]["gru-toy-int8"]["bundle"] = path
    (registry_folder / registry.FILE).write_text(json.dumps(content))
    with pytest.raises(RegistryError, match="must be a folder below the registry"):
        registry.read(registry_folder / registry.FILE)
    with pytest.raises(UnknownModelError, match="must be a folder below the registry"):
        fastzoo.load("gru-toy-fp32")


def test_a_digest_that_could_name_another_folder_of_the_cache_is_refused(folder: Path, registry_folder: Path) -> None:
    registry.register(folder)
    content = listing(registry_folder)
    content["models"]["gru-toy-int8"]["bundle_sha256"] = "../../elsewhere"
    (registry_folder / registry.FILE).write_text(json.dumps(content))
    with pytest.raises(RegistryError, match="bundle_sha256 must be 64 hexadecimal digits"):
        registry.read(registry_folder / registry.FILE)


def test_a_failure_on_the_last_step_leaves_everything_as_it_was(
    folder: Path, tmp_path: Path, registry_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(folder)
    before = {path: path.read_bytes() for path in registry_folder.rglob("*") if path.is_file()}
    replace = Path.replace

    def fail_on_the_registry(self: Path, target: Path) -> Path:
        if target.name == registry.FILE:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_on_the_registry)
    for other in (toy.make(tmp_path / "same-name", seed=1), toy.make(tmp_path / "new-name", "another")):
        with pytest.raises(RegistryError, match=r"cannot write the registry .*No space left.*FASTZOO_REGISTRY"):
            registry.register(other, force=True)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in registry_folder.rglob("*") if path.is_file()} == before


def test_a_leftover_of_a_crash_is_taken_over(folder: Path, registry_folder: Path) -> None:
    registry.register(folder)
    (registry_folder / registry.FILE).unlink()  # the copy was in place, the registry not yet written
    assert registry.register(folder) == NAMES
    assert fastzoo.list_models("gru-toy-*") == NAMES


def test_a_registry_that_cannot_be_written_says_what_to_set(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RegistryError, match="FASTZOO_REGISTRY or --registry"):
        registry.register(folder, tmp_path / "file" / "below")


def test_processes_that_register_at_once_lose_nothing(tmp_path: Path, registry_folder: Path) -> None:
    folders = [toy.make(tmp_path / f"b{i}", f"model-{i}", precisions=("int8",)) for i in range(4)]
    code = "import sys; from fastzoo import registry; [registry.register(sys.argv[1]) for _ in range(5)]"
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder)]) for folder in folders]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    assert fastzoo.list_models("model-*") == [f"model-{i}-int8" for i in range(4)]
    assert sorted(path.name for path in (registry_folder / "models").iterdir()) == [f"model-{i}" for i in range(4)]


def test_a_larger_file_is_no_registry(registry_folder: Path) -> None:
    registry_folder.mkdir()
    path = registry_folder / registry.FILE
    path.write_bytes(b" " * (16 * 2**20 + 1))
    with pytest.raises(RegistryError, match="larger than 16 MiB: not a registry"):
        registry.read(path)


def test_a_served_folder_is_built_from_the_bundles_in_it(folder: Path, tmp_path: Path) -> None:
    top = tmp_path / "served"
    toy.make(top / "team" / "b", "gru-h16", precisions=("int8",))
    toy.make(top / "a", "gru-h8")
    toy.make(top / ".trash" / "c", "old")
    assert registry.build(top).new == ("gru-h8-fp32", "gru-h8-int8", "gru-h16-int8")
    read = registry.read(top / registry.FILE)
    assert {name: entry["bundle"] for name, entry in read.models.items()} == {
        "gru-h8-fp32": "a", "gru-h8-int8": "a", "gru-h16-int8": "team/b",
    }  # fmt: skip
    before = (top / registry.FILE).stat().st_mtime_ns
    assert registry.build(top).is_current
    assert (top / registry.FILE).stat().st_mtime_ns == before


def test_building_again_follows_the_bundles_and_keeps_the_reports_of_boards(tmp_path: Path) -> None:
    toy.make(tmp_path / "served" / "a", "gru-h8", precisions=("int8",))
    toy.make(tmp_path / "served" / "b", "gru-h16", precisions=("int8",))
    top = tmp_path / "served"
    registry.build(top)
    (top / registry.FILE).write_text(json.dumps({**listing(top), "boards": {"pi": {"machine": {}}}}))
    shutil.rmtree(top / "a")
    shutil.rmtree(top / "b")
    toy.make(top / "b", "gru-h16", seed=1, precisions=("int8",))
    toy.make(top / "c", "gru-h32", precisions=("int8",))
    for write in (False, True):
        built = registry.build(top, write=write)
        assert (built.new, built.changed, built.gone) == (("gru-h32-int8",), ("gru-h16-int8",), ("gru-h8-int8",))
    assert registry.build(top).is_current
    assert registry.read(top / registry.FILE).boards == {"pi": {"machine": {}}}


def test_building_reports_every_fault_and_writes_nothing(tmp_path: Path) -> None:
    top = tmp_path / "served"
    for name in ("a", "b"):
        (toy.make(top / name, name) / "int8-fused.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"a.int8-fused\.onnx.*; .*b.int8-fused\.onnx"):
        registry.build(top)
    assert not (top / registry.FILE).exists()
    for empty in (tmp_path / "nowhere", tmp_path / "nothing"):
        with pytest.raises(RegistryError, match=r"is no folder|no bundle lies below"):
            registry.build(empty)
        empty.with_name("nothing").mkdir(exist_ok=True)
    with pytest.raises(BundleError, match="move the bundle into a folder below"):
        registry.build(top / "a")


def test_two_bundles_with_the_same_name_are_no_registry(tmp_path: Path) -> None:
    folders = [toy.make(tmp_path / "a"), toy.make(tmp_path / "b")]
    with pytest.raises(RegistryError, match="both hold a model 'gru-toy-fp32'"):
        registry.index(folders, tmp_path)


def test_fastzoo_itself_has_a_registry_whose_bundles_are_whole() -> None:
    faults = []
    shipped = registry.builtin()
    for name, entry in shipped.models.items():
        try:
            bundle.check(bundle.read(shipped.root / entry["bundle"]), shipped.root / entry["bundle"])
        except BundleError as error:
            faults.append(f"{name}: {error}")
    assert faults == []
