"""Names that go warn first, where they are called, and still do their work."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastzoo

from . import toy


def test_the_old_name_warns_with_the_callers_line_and_still_works(pristine: Path) -> None:
    model = fastzoo.load(pristine)
    x = toy.windows(2)
    with pytest.warns(DeprecationWarning, match=r"Model.start_session is deprecated: use open\(\).session") as caught:
        session = model.start_session()
    (warning,) = caught
    assert warning.filename == __file__
    assert "session = model.start_session()" in Path(__file__).read_text().splitlines()[warning.lineno - 1]
    assert session is not model.session
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], model.logits(x))


def test_it_keeps_its_signature_and_says_so_to_tools() -> None:
    old = fastzoo.model.Model.start_session
    assert (old.__name__, list(inspect.signature(old).parameters)) == ("start_session", ["self"])
    assert old.__deprecated__ == "use open().session"  # type: ignore[attr-defined]


def test_the_callers_program_is_told_once_a_line_by_default(pristine: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import fastzoo\nmodel = fastzoo.load({str(pristine)!r})\nfor _ in range(3):\n    model.start_session()\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("DeprecationWarning: Model.start_session") == 1
    assert f"{program}:4: " in done.stderr
