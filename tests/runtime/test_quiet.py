"""A process that uses fastzoo stays as it was: no threads, no files, no noise, no work that nobody asked for."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastzoo
from fastzoo.errors import BundleError
from fastzoo.events import Events, Exponential
from fastzoo.model import Model

from . import toy

BACKENDS = ("onnxruntime", "numpy")
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")

THREADS = "len(os.listdir('/proc/self/task'))"
SETUP = "import json, os, sys, time; import numpy as np; import fastzoo\nx = np.ones((8, 3))\n"

Floats = np.typing.NDArray[np.float32]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def run(home: Path) -> Run:
    """A program in a fresh interpreter, in an empty home, with an environment of its own.

    NumPy's own BLAS has a thread for each core from its import on, if one lets it.
    """

    def start(code: str, *arguments: object, before: tuple[str, ...] = (), **environment: str) -> Any:
        return subprocess.run(
            [*before, sys.executable, "-c", code, *map(str, arguments)],
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "OPENBLAS_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    return start


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@linux
def test_importing_changes_nothing_in_the_process(run: Run, home: Path) -> None:
    look = (
        f"{{'threads': {THREADS}, 'environment': dict(os.environ), 'folder': os.getcwd(), "
        "'files': os.listdir('/proc/self/fd'), "
        "'handlers': [str(h) for name in (None, 'fastzoo') for h in logging.getLogger(name).handlers], "
        "'level': logging.getLogger('fastzoo').level, 'root': logging.getLogger().level, "
        "'filters': [str(f) for f in warnings.filters], 'hooks': [str(sys.excepthook), str(sys.displayhook)], "
        "'signals': str([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)])}"
    )
    done = run(
        "import json, logging, os, signal, sys, warnings, numpy\n"
        f"before = {look}\nimport fastzoo, fastzoo.model, fastzoo.stream, fastzoo.registry\nafter = {look}\n"
        "print(json.dumps([before, after, 'onnxruntime' in sys.modules]))"
    )
    before, after, loaded = json.loads(done.stdout)
    assert after == before
    assert not loaded
    assert done.stderr == ""
    assert files(home) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_loading_predicting_and_streaming_write_nothing_anywhere(
    run: Run, home: Path, pristine: Path, backend: str
) -> None:
    done = run(
        SETUP + "before = dict(os.environ)\n"
        "model = fastzoo.load(sys.argv[1], backend=sys.argv[2])\n"
        "model.predict(x); model.predict(np.ones((300, 8, 3)))\n"
        "assert model.stream(hop=2).push(np.ones((50, 3)))\n"
        "assert dict(os.environ) == before",
        pristine,
        backend,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert files(home) == []


@linux
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_and_a_stream_live_in_one_thread(run: Run, pristine: Path, backend: str) -> None:
    done = run(
        SETUP + "model = fastzoo.load(sys.argv[1], backend=sys.argv[2])\n"
        "model.predict(x); model.predict(np.ones((300, 8, 3))); model.stream().push(np.ones((50, 3)))\n"
        f"print({THREADS})",
        pristine,
        backend,
    )
    assert done.stdout == "1\n"


def test_the_users_own_word_on_onnxruntimes_reports_is_left_alone(run: Run, pristine: Path) -> None:
    code = "import os, sys, fastzoo; fastzoo.load(sys.argv[1]); print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    assert run(code, pristine).stdout == "None\n"
    assert run(code, pristine, ORT_DISABLE_TELEMETRY="1").stdout == "1\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_open_stream_that_waits_costs_nothing(run: Run, backend: str) -> None:
    done = run(
        SETUP + "model = fastzoo.load('fastgrnn-har-int8', backend=sys.argv[1])\n"
        "model.predict(np.zeros((300, 128, 6))); stream = model.stream(); stream.push(np.zeros((400, 6)))\n"
        "time.sleep(0.1); before = os.times(); time.sleep(1); after = os.times()\n"
        "print(after.user - before.user + after.system - before.system)",
        backend,
    )
    assert float(done.stdout) < 0.025  # at most two ticks of the clock that counts it


@linux
@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_without_a_place_to_write_can_work(run: Run, home: Path, pristine: Path, backend: str) -> None:
    before: tuple[str, ...] = ()
    if os.getuid() == 0:  # may write everywhere: become nobody, who may read what root may
        before = (
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
            "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
        )  # fmt: skip
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
            pytest.skip("root cannot become nobody here")
    home.chmod(0o555)
    done = run(
        SETUP + "assert os.getuid() != 0\n"
        "for folder in ('.', os.environ['HOME'], os.environ['XDG_CACHE_HOME']):\n"
        "    assert not os.access(folder, os.W_OK)\n"
        "model = fastzoo.load(sys.argv[1], backend=sys.argv[2]); assert 'fastgrnn-har-int8' in fastzoo.list_models()\n"
        "model.stream(hop=2).push(np.ones((50, 3))); print(model.predict(x))",
        pristine,
        backend,
        before=before,
        XDG_CACHE_HOME=str(home),
    )
    assert done.stdout.strip() in toy.LABELS
    assert done.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_forked_children_give_the_parents_answers(run: Run, backend: str) -> None:
    done = run(
        SETUP + "x = np.random.default_rng(0).normal(size=(200, 128, 6)).astype(np.float32)\n"
        "model = fastzoo.load('fastgrnn-har-int8', backend=sys.argv[1])\n"
        "stream = model.stream(hop=16); stream.push(x[0]); kept = stream.state; rest = x[1]\n"
        "expected = model.logits(x).tobytes() + stream.push(rest)[-1].probabilities.tobytes(); stream.restore(kept)\n"
        "children = []\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        found = model.logits(x).tobytes() + stream.push(rest)[-1].probabilities.tobytes()\n"
        "        os._exit(0 if found == expected else 1)\n"
        "    children.append(child)\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])",
        backend,
    )
    assert done.stdout == "[0, 0]\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_that_predict_and_stream_on_one_model_get_the_same_bits(backend: str) -> None:
    model = fastzoo.load("fastgrnn-har-int8", backend=backend)
    x = np.random.default_rng(1).normal(size=(40, 128, 6)).astype(np.float32)

    def predicted(_: int) -> bytes:
        return model.logits(x).tobytes() + model.predict_proba(x[0]).tobytes()

    def streamed(_: int) -> bytes:
        stream = model.stream(hop=32)
        return b"".join(result.probabilities.tobytes() for window in x[:4] for result in stream.push(window))

    expected = {predicted: predicted(0), streamed: streamed(0)}
    with ThreadPoolExecutor(6) as pool:
        jobs = [(pool.submit(work, turn), work) for turn in range(8) for work in expected]
        assert all(job.result() == expected[work] for job, work in jobs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_pickles_to_a_reference_that_another_process_opens(
    run: Run, home: Path, pristine: Path, backend: str
) -> None:
    model = fastzoo.load(pristine, backend=backend)
    text = pickle.dumps(model)
    assert len(text) < 600
    (home / "model").write_bytes(text)
    x = toy.windows(3)
    np.save(home / "x.npy", x)
    done = run(
        "import pickle, numpy as np\nmodel = pickle.load(open('model', 'rb'))\n"
        "print(model.name, model.layout, model.backend, model.logits(np.load('x.npy')).tobytes().hex())"
    )
    expected = [model.name, model.layout, backend, model.logits(x).tobytes().hex()]
    assert done.stdout.split() == expected


def test_a_reference_to_a_bundle_that_has_changed_is_refused(folder: Path) -> None:
    text = pickle.dumps(Model(folder, "int8"))
    changed = json.loads((folder / "bundle.json").read_text())
    changed["labels"] = changed["labels"][::-1]
    (folder / "bundle.json").write_text(json.dumps(changed))
    with pytest.raises(BundleError, match=r"gru-toy holds another bundle than when gru-toy-int8 was pickled"):
        pickle.loads(text)


@pytest.mark.parametrize("layout", ["scan", "step"])
def test_a_stream_pickles_with_its_state(layout: str) -> None:
    x = np.random.default_rng(2).normal(size=(1000, 6)).astype(np.float32)
    model = fastzoo.load("fastgrnn-har-int8", layout)
    stream = model.stream(hop=10, smooth=Exponential(3), events=Events(on=0.3, off=0.2), latency_budget=9.0)
    stream.push(x[:555])
    again = pickle.loads(pickle.dumps(stream))
    assert again.statistics == stream.statistics
    found, expected = again.push(x[555:]), stream.push(x[555:])
    assert [result.to_dict() for result in found] == [result.to_dict() for result in expected]
    assert again.statistics.samples == 1000
    assert again.hop == 10


def test_what_it_has_to_say_goes_to_the_log_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "zoo_registry.json").write_text("no registry")
    monkeypatch.setenv("FASTZOO_REGISTRY", str(tmp_path / "other"))
    with caplog.at_level(logging.DEBUG):
        assert "fastgrnn-har-int8" in fastzoo.list_models()
    ours = [record for record in caplog.records if record.name.partition(".")[0] == "fastzoo"]
    assert [record.levelname for record in ours] == ["WARNING"]
    assert caplog.records == ours
    assert capfd.readouterr() == ("", "")


def test_every_logger_of_the_package_is_below_fastzoo() -> None:
    package = Path(fastzoo.__file__).parent
    lines = [
        line.strip()
        for path in package.rglob("*.py")
        if "cli" not in path.relative_to(package).parts  # a command may say where its log goes
        for line in path.read_text(encoding="utf-8").splitlines()
        if "getLogger(" in line or "basicConfig" in line or "addHandler" in line
    ]
    assert lines
    assert [line for line in lines if not re.search(r'getLogger\(("fastzoo(\.\w+)*"|__name__)\)$', line)] == []
