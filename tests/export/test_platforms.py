"""The same files elsewhere: the comparison and the set-up on made-up things, then the platforms themselves (slow)."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastzoo import bundle, golden
from fastzoo.data import synthetic
from fastzoo.data.hapt import CLASSES

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "fastzoo" / "models" / "fastgrnn-har"
T, D, H, C, POOL = 9, 3, 4, 5, 3

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def platforms(load_tool: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        yield load_tool("platforms")


@pytest.fixture(scope="module")
def setting_up(platforms: ModuleType) -> ModuleType:
    import platform_setup  # type: ignore[import-not-found, unused-ignore]  # beside the tool

    module: ModuleType = platform_setup
    return module


# ---------------------------------------------------------------------------------------------------------------------
# A network in two layouts: h' = tanh(x W + h U + b), logits = the mean of the last states times V


class Toy(NamedTuple):
    step: Path
    fused: Path
    windows: Floats


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder, rng = tmp_path_factory.mktemp("toy"), np.random.default_rng(5)
    weights = {
        "W": rng.normal(size=(D, H)), "U": rng.normal(size=(H, H)), "V": rng.normal(size=(H, C)),
        "b": rng.normal(size=H),
    }  # fmt: skip
    step = [
        helper.make_node("MatMul", ["x", "W"], ["input"]),
        helper.make_node("MatMul", ["state", "U"], ["recurrent"]),
        helper.make_node("Sum", ["input", "recurrent", "b"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["state_next"]),
        helper.make_node("MatMul", ["state_next", "V"], ["logits"]),
    ]
    save(folder / "step.onnx", step, weights, {"x": ["N", D], "state": ["N", H]}, ["logits", "state_next"])
    gates = {
        "W": weights["W"].T[np.newaxis], "U": weights["U"].T[np.newaxis], "V": weights["V"],
        "b": np.concatenate([weights["b"], np.zeros(H)])[np.newaxis],
    }  # fmt: skip
    fused = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("RNN", ["xt", "W", "U", "b"], ["states"], hidden_size=H),  # [T, 1, N, H]
        helper.make_node("Slice", ["states", "first", "end", "axis"], ["last"]),
        helper.make_node("ReduceMean", ["last"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("MatMul", ["mean", "V"], ["logits"]),
    ]
    ranges = {"first": np.array([-POOL]), "end": np.array([2**31]), "axis": np.array([0])}
    save(folder / "fused.onnx", fused, {**gates, **ranges}, {"x": ["N", "T", D]}, ["logits"])
    return Toy(folder / "step.onnx", folder / "fused.onnx", rng.normal(size=(7, T, D)).astype(np.float32))


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, npt.NDArray[Any]],
    inputs: dict[str, list[Any]],
    outputs: list[str],
) -> None:
    initializers = [
        numpy_helper.from_array(value.astype(np.float32) if value.dtype == np.float64 else value, name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        initializers,
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)


def graphs_of(platforms: ModuleType, toy: Toy) -> list[Any]:
    """Both layouts, and the second on windows of another length, as `scan` allows."""
    return [
        platforms.Graph(toy.step, "step", POOL, {}, toy.windows),
        platforms.Graph(toy.fused, "fused", POOL, {}, toy.windows),
        platforms.Graph(toy.fused, "scan", POOL, {}, toy.windows[:, : T - 2]),
    ]


def test_a_step_over_time_answers_like_the_fused_graph(platforms: ModuleType, toy: Toy) -> None:
    report = platforms.run(platforms.PLATFORMS["native"], graphs_of(platforms, toy))
    step, fused, shorter = report.answers
    assert step.single.shape == (len(toy.windows), C)
    for answer in (step.single, step.batch, fused.single):
        np.testing.assert_allclose(answer, fused.batch, rtol=0, atol=1e-5)
    assert np.abs(shorter.batch - fused.batch).max() > 0.1


def test_a_graph_that_cannot_be_run_is_a_fault_of_its_own(platforms: ModuleType, toy: Toy, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(toy.fused.read_bytes()[:50])
    graphs = [platforms.Graph(damaged, "fused", POOL, {}, toy.windows), *graphs_of(platforms, toy)]
    damaged_answer, *others = platforms.run(platforms.PLATFORMS["native"], graphs).answers
    assert "damaged.onnx" in damaged_answer.fault
    assert [answer.fault for answer in others] == [None, None, None]


# ---------------------------------------------------------------------------------------------------------------------
# Comparing made-up logits


def logits(count: int) -> Floats:
    """Windows of which the first class wins by 1."""
    return np.tile(np.array([1, 0, -1], np.float32), (count, 1))


def moved(values: Floats, by: float, windows: int = 1) -> Floats:
    """The second class raised in the first windows."""
    result = values.copy()
    result[:windows, 1] += by
    return result


def test_the_worse_of_both_answers_counts(platforms: ModuleType) -> None:
    reference = logits(10)
    difference = platforms.compare(platforms.Answer(moved(reference, 0.25), moved(reference, 2, windows=3)), reference)
    assert difference == (2.0, 0.7, 10)
    assert difference.record() == {"max_logit_difference": 2.0, "same_class": 0.7, "windows": 10}


@pytest.mark.parametrize(
    ("answer", "fp32", "message"),
    [
        (logits(200), True, None),
        (moved(logits(200), 9e-5), True, None),
        (moved(logits(200), 2e-4), True, "logits differ by more than 0.0001"),
        (moved(logits(200), 0.5, windows=200), False, None),
        (moved(logits(200), 2.0, windows=1), False, None),
        (moved(logits(200), 2.0, windows=2), False, "less than 99.5 % of the windows have the same class"),
        (moved(logits(199), 2.0, windows=99), False, None),  # too few windows for a share
        (moved(logits(10), np.nan), False, "logits are not finite"),
        (moved(logits(10), np.inf), True, "logits are not finite"),
    ],
)
def test_limits(platforms: ModuleType, answer: Floats, fp32: bool, message: str | None) -> None:
    difference = platforms.compare(platforms.Answer(answer, answer), logits(len(answer)))
    assert platforms.broken(difference, fp32) == message


def test_large_logits_are_rounded_more_coarsely(platforms: ModuleType) -> None:
    difference = platforms.Difference(3e-4, 1.0, 200)
    assert platforms.broken(difference, True, largest_logit=5.0) == "logits differ by more than 0.0001"
    assert platforms.broken(difference, True, largest_logit=20.0) == "logits differ by more than 0.0002"
    assert platforms.broken(difference, True, largest_logit=40.0) is None


def test_a_near_tie_that_tips_breaks_the_limit_of_fp32_files(platforms: ModuleType) -> None:
    reference = np.array([[0.0, 1e-6, -1], [1, 0, -1]], np.float32)
    answer = np.array([[2e-6, 1e-6, -1], [1, 0, -1]], np.float32)
    assert "100 %" in platforms.broken(platforms.compare(platforms.Answer(answer, answer), reference), True)


def test_only_products_in_int8_get_the_wide_limit(platforms: ModuleType) -> None:
    precisions = bundle.read(SHIPPED).precisions
    assert {
        f"{precision}/{layout}": platforms.computes_in_fp32(precision, file)
        for precision, entry in precisions.items()
        for layout, file in entry.layouts.items()
        if layout in ("fused", "unrolled")
    } == {"fp32/fused": True, "fp32/unrolled": True, "int8/fused": True, "int8/unrolled": False}


def test_the_report_is_made_of_every_file_on_every_platform(platforms: ModuleType, toy: Toy) -> None:
    good, bad, none = logits(4), moved(logits(4), 2), np.empty((0, 0), np.float32)
    every = [np.arange(4)] * 2
    graph = platforms.Graph(toy.fused, "fused", POOL, {}, toy.windows[:4])
    files = [
        platforms.File("toy", "fp32/fused", "abc", True, graph, moved(good[:2], 1e-5), 2, 1),
        platforms.File("toy", "fp32/scan", "def", True, graph, None, 2, 1),
    ]
    about = {"host": "", "cpu": ""}
    reports = [
        platforms.Report("here", about, [platforms.Answer(good, good), platforms.Answer(good, good)], every),
        platforms.Report(
            "there", about, [platforms.Answer(good, bad), platforms.Answer(none, none, "no such operator")], every
        ),
    ]
    written = platforms.document(platforms.compared(files, reports), reports)["bundles"]["toy"]
    fused, scan = written["fp32/fused"], written["fp32/scan"]
    assert fused["platforms"]["here"]["windows"] == 2  # against the golden logits
    assert fused["platforms"]["here"]["max_logit_difference"] == pytest.approx(1e-5)
    assert fused["platforms"]["there"] == {"max_logit_difference": 2.0, "same_class": 0.75, "windows": 4}
    assert fused["faults"] == {"there": "logits differ by more than 0.0001"}
    assert scan["platforms"].keys() == {"here"}
    assert scan["faults"] == {"there": "no such operator"}


def test_some_windows_are_compared_with_the_same_windows(platforms: ModuleType, toy: Toy) -> None:
    graph = platforms.Graph(toy.fused, "fused", POOL, {}, toy.windows)
    file = platforms.File("toy", "fp32/fused", "abc", True, graph, None, 2, 1)
    which = np.array([0, 1, 4])
    native = platforms.run(platforms.PLATFORMS["native"], [graph])
    some = platforms.run(platforms.PLATFORMS["native"], [graph], [which])
    assert native.answers[0].batch.shape == (len(toy.windows), C)
    np.testing.assert_allclose(some.answers[0].single, native.answers[0].single[which], rtol=0, atol=1e-6)
    differences = [row.difference for row in platforms.compared([file], [native, some])]
    assert [difference.windows for difference in differences] == [len(toy.windows), 3]
    assert max(difference.logits for difference in differences) < 1e-5


# ---------------------------------------------------------------------------------------------------------------------
# What a slow platform can afford


def costly(platforms: ModuleType, toy: Toy, windows: int, work: int, fp32: bool = True) -> Any:
    """A file of 12 golden windows and others."""
    graph = platforms.Graph(toy.fused, "fused", POOL, {}, np.zeros((windows, T, D), np.float32))
    return platforms.File("toy", "fp32/fused", "abc", fp32, graph, None, 12, work)


def test_files_share_a_budget_evenly_and_keep_their_golden_windows(platforms: ModuleType, toy: Toy) -> None:
    files = [
        costly(platforms, toy, 312, 100),
        costly(platforms, toy, 312, 1000),
        costly(platforms, toy, 312, 10_000),
        costly(platforms, toy, 312, 1000, fp32=False),  # whose limit is a share of windows
        costly(platforms, toy, 50, 10),
    ]
    given = platforms.affordable(files, 5 * 20_000)
    assert [len(which) for which in given] == [200, 20, 12, platforms.ENOUGH, 50]
    for which in given:
        assert which[:12].tolist() == list(range(12))
        assert len(set(which.tolist())) == len(which)
    assert given[1][12:].tolist() == [12, 55, 97, 140, 183, 226, 268, 311]  # evenly spread
    assert all((again == which).all() for again, which in zip(platforms.affordable(files, 100_000), given, strict=True))


def test_the_time_of_a_budget_does_not_grow_with_the_files(platforms: ModuleType, toy: Toy) -> None:
    for count in (10, 40):
        files = [costly(platforms, toy, 312, 1000)] * count
        assert sum(map(len, platforms.affordable(files, 1_000_000))) == 1000


def test_the_work_of_a_window(platforms: ModuleType) -> None:
    content = bundle.read(SHIPPED)
    assert content.size.macs_per_window is not None
    assert platforms.work_of(content, "fused") == content.size.macs_per_window + 128 * platforms.STEP_WORK
    extra = platforms.work_of(content, "step") - platforms.work_of(content, "fused")
    assert extra == 128 * platforms.CALL_WORK
    bricks = bundle.read(SHIPPED.with_name("fastgrnn-mnist-rows"))  # of 28 samples
    assert bricks.size.macs_per_window is not None
    assert platforms.work_of(bricks, "scan") == bricks.size.macs_per_window + 28 * platforms.STEP_WORK


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_faults_of_all_bundles_are_told_at_once(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(SHIPPED, damaged)
    (damaged / "fp32-fused.onnx").write_bytes(b"")
    others = [SHIPPED.with_name("fastrnn-har-1k"), SHIPPED.with_name("fastrnn-mnist-rows")]
    monkeypatch.setattr(platforms, "LARGEST_DIFFERENCE", -1.0)
    out = tmp_path / "platforms.json"
    assert platforms.main(["check", str(damaged), *map(str, others), "--on", "native", "--out", str(out)]) == 1
    errors = capsys.readouterr().err
    assert "fp32-fused.onnx" in errors
    assert errors.count("native: done") == 1  # one start for all
    measured = json.loads(out.read_text())["bundles"]
    assert measured.keys() == {"fastrnn-har-1k", "fastrnn-mnist-rows"}
    faults = [fault for files in measured.values() for file in files.values() for fault in file["faults"].values()]
    assert all(fault.startswith("logits differ by more than -") for fault in faults)
    assert len(faults) == sum(map(len, measured.values()))


def test_what_was_measured_is_recorded_in_every_bundle(platforms: ModuleType, tmp_path: Path) -> None:
    folders = [
        Path(shutil.copytree(SHIPPED.with_name(name), tmp_path / name))
        for name in ("fastrnn-har-1k", "fastgrnn-mnist-rows")
    ]
    for folder in folders:
        document = json.loads((folder / bundle.FILE).read_text())
        for precision in document["precisions"].values():
            for file in precision["layouts"].values():
                file["verification"].pop("platforms", None)
        (folder / bundle.FILE).write_text(json.dumps(document))
    assert platforms.main(["check", *map(str, folders), "--on", "native", "--record"]) == 0
    for folder in folders:
        for precision in bundle.read(folder).precisions.values():
            for file in precision.layouts.values():
                ((name, measured),) = file.verification["platforms"].items()
                assert name.startswith("onnxruntime ")
                assert measured["same_class"] == 1.0


def test_the_shipped_bundle_passes_here(
    platforms: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = synthetic.motion(["walking", "laying"] * 3, seed=3)
    np.savez(tmp_path / "more.npz", x=x, split=np.array([0, 2, 2, 2, 2, 2]))
    out = tmp_path / "platforms.json"
    arguments = [str(SHIPPED), "--on", "native", "--windows", str(tmp_path / "more.npz"), "--limit", "3"]
    assert platforms.main(["check", *arguments, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    ((name, about),) = written["platforms"].items()
    assert name.startswith("onnxruntime ")
    assert about["platform"] == "native"
    content = bundle.read(SHIPPED)
    files = {
        f"{precision}/{layout}": file.sha256
        for precision, entry in content.precisions.items()
        for layout, file in entry.layouts.items()
    }
    measured = written["bundles"][content.name]
    assert {file: entry["sha256"] for file, entry in measured.items()} == files
    assert [entry["platforms"][name]["same_class"] for entry in measured.values()] == [1.0] * len(files)
    printed = capsys.readouterr()
    assert "fastgrnn-har int8/fused" in printed.out
    count = len(golden.read(content, SHIPPED)["x"]) + 3
    assert f"native: {len(files)} graph(s), {len(files) * count} windows" in printed.err


def test_a_broken_limit_is_the_exit_status(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platforms, "LARGEST_DIFFERENCE", -1.0)
    assert platforms.main(["check", str(SHIPPED), "--on", "native"]) == 1
    assert "logits differ by more than -1" in capsys.readouterr().out


def test_windows_are_spread_evenly_over_the_test_split(platforms: ModuleType, tmp_path: Path) -> None:
    x = np.arange(20, dtype=np.uint8).reshape(20, 1, 1)
    np.savez(tmp_path / "prepared.npz", x=x, split=np.repeat([0, 2], 10))
    windows = platforms.read_windows(tmp_path / "prepared.npz", (1, 1), limit=4)
    assert windows.dtype == np.float32
    assert windows.ravel().tolist() == [10, 13, 16, 19]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [({"x": np.zeros((2, 5, 6))}, r"holds windows \[2, 5, 6\], the bundle takes \[N, 128, 6\]"), ({"y": 0}, "no .npz")],
)
def test_windows_that_do_not_fit(
    platforms: ModuleType, setting_up: ModuleType, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(setting_up.PlatformError, match=message):
        platforms.files_of(SHIPPED, tmp_path / "w.npz")


# ---------------------------------------------------------------------------------------------------------------------
# Setting up


def test_a_program_is_heard_line_by_line_and_its_last_words_are_the_error(setting_up: ModuleType) -> None:
    heard: list[str] = []
    program = "print('one'); print('two', flush=True); raise SystemExit(len('three'))"
    with pytest.raises(setting_up.PlatformError, match=r"failed with status 5:\n  one\n  two"):
        setting_up.execute([sys.executable, "-c", program], heard.append)
    assert heard == ["one\n", "two\n"]
    with pytest.raises(setting_up.PlatformError, match="cannot start nowhere"):
        setting_up.execute(["nowhere"])


@pytest.fixture
def made_up(setting_up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A platform that counts how often it is built."""
    monkeypatch.setenv("FASTZOO_PLATFORMS", str(tmp_path / "cache"))

    class MadeUp(setting_up.Platform):  # type: ignore[name-defined, misc]
        name = "made-up"
        release = "1"
        builds = 0

        def recipe(self) -> dict[str, str]:
            return {"release": self.release}

        def build(self, folder: Path) -> None:
            self.builds += 1
            (folder / "half").touch()
            if self.release == "broken":
                raise setting_up.PlatformError("no such release")
            (folder / "whole").write_text(self.release)

        def command(self, folder: Path, job: Path) -> list[str]:
            return []

    return MadeUp()


def test_a_platform_is_built_once_and_again_when_its_recipe_changes(setting_up: ModuleType, made_up: Any) -> None:
    folder = setting_up.prepare(made_up)
    assert setting_up.prepare(made_up) == folder
    assert made_up.builds == 1
    made_up.release = "2"
    assert (setting_up.prepare(made_up) / "whole").read_text() == "2"
    assert made_up.builds == 2


def test_a_build_that_fails_or_was_killed_leaves_nothing(setting_up: ModuleType, made_up: Any, tmp_path: Path) -> None:
    made_up.release = "broken"
    with pytest.raises(setting_up.PlatformError, match="no such release"):
        setting_up.prepare(made_up)
    (tmp_path / "cache" / ".made-up.99-abc.part").mkdir()  # of a process that was killed
    (tmp_path / "cache" / "made-up").mkdir()  # without a stamp
    made_up.release = "1"
    setting_up.prepare(made_up)
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == {"made-up", ".made-up.lock"}


@pytest.mark.parametrize(
    ("name", "package"),
    [("oldest", "python3.11-venv"), ("aarch64", "apt-get install apt"), ("web", "apt-get install nodejs")],
)
def test_a_missing_tool_is_named_with_its_package(
    setting_up: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(setting_up.sys, "executable", "none")
    target = type(setting_up.PLATFORMS[name])()
    with pytest.raises(setting_up.PlatformError, match=package):
        setting_up.prepare(target)


def test_a_cache_that_cannot_be_written(
    setting_up: ModuleType, made_up: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTZOO_PLATFORMS", str(tmp_path / "file"))
    with pytest.raises(setting_up.PlatformError, match="FASTZOO_PLATFORMS"):
        setting_up.prepare(made_up)


def test_the_oldest_release_is_the_one_that_fastzoo_asks_for(setting_up: ModuleType) -> None:
    (wanted,) = [text for text in importlib.metadata.requires("fastzoo") or [] if text.startswith("onnxruntime")]
    assert wanted.partition(";")[0].strip() == f"onnxruntime>={setting_up.OLDEST}"


# ---------------------------------------------------------------------------------------------------------------------
# The platforms themselves, in the user's cache: minutes where they are not set up yet, seconds where they are


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oldest", "aarch64", "web"])
class TestElsewhere:
    @pytest.fixture
    def target(self, setting_up: ModuleType, name: str) -> Any:
        target = setting_up.PLATFORMS[name]
        try:
            target.require()
        except setting_up.PlatformError as error:
            pytest.skip(str(error))
        return target

    def test_the_shipped_bundle_answers_the_same(
        self, platforms: ModuleType, target: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.savez(tmp_path / "windows.npz", x=synthetic.motion(CLASSES * 35, seed=11))  # 210
        out = tmp_path / "platforms.json"
        arguments = [str(SHIPPED), "--on", target.name, "--windows", str(tmp_path / "windows.npz"), "--out", str(out)]
        status = platforms.main(["check", *arguments, "--budget", "150"])
        printed = capsys.readouterr()
        assert status == 0, printed.out + printed.err
        written = json.loads(out.read_text())
        assert [about["platform"] for about in written["platforms"].values()] == ["native", target.name]

    def test_steps_and_windows_of_any_length(self, platforms: ModuleType, target: Any, toy: Toy) -> None:
        graphs = graphs_of(platforms, toy)
        native, elsewhere = (platforms.run(one, graphs) for one in (platforms.PLATFORMS["native"], target))
        assert elsewhere.name != native.name
        for expected, answer in zip(native.answers, elsewhere.answers, strict=True):
            assert platforms.broken(platforms.compare(answer, expected.batch), fp32=True) is None

    def test_a_graph_it_refuses_is_a_fault(self, platforms: ModuleType, target: Any, toy: Toy, tmp_path: Path) -> None:
        (tmp_path / "damaged.onnx").write_bytes(toy.fused.read_bytes()[:50])
        damaged = platforms.Graph(tmp_path / "damaged.onnx", "fused", POOL, {}, toy.windows)
        first, *others = platforms.run(target, [damaged, *graphs_of(platforms, toy)]).answers
        assert first.fault
        assert [answer.fault for answer in others] == [None, None, None]
