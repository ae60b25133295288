"""``command.txt`` and the trainers' logs: what they tell of a model beside its arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fastzoo.errors import EdgeMLError
from fastzoo.nn.edgeml.forms import CURVES, FORMS, FRAMEWORKS
from fastzoo.nn.sequence import Recurrent

_OURS = "fastzoo"  # the first word of what :func:`command_line` writes


@dataclass(frozen=True)
class Command:
    """What ``command.txt`` says: the command line of EdgeML's example, or what :func:`command_line` writes."""

    flags: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = False

    @classmethod
    def read(cls, folder: Path) -> Command:
        """Of this folder; where there is none, it says nothing."""
        words = _text(folder / "command.txt").replace("=", " ").split()
        return cls(dict(pairwise(words)), words[:1] == [_OURS])

    def flag(self, *names: str) -> str | None:
        """The value of the flag that goes by these names."""
        return next((self.flags[name] for name in names if name in self.flags), None)

    def check_sizes(self, folder: Path, rnn: Recurrent) -> None:
        """Refuse a cell of other sizes: without its left factor, a low-rank cell looks like one of full rank."""
        wrong = []
        for short, long, size in (("-id", "--input-dim", rnn.input_size), ("-hd", "--hidden-dim", rnn.hidden_size)):
            said = self.flag(short, long)
            if said not in (None, str(size)):
                wrong.append(f"{short} {said} where the arrays have {size}")
        if wrong:
            told = ", ".join(wrong)
            raise EdgeMLError(
                f"{folder} is not the model that its command.txt trained: {told}. Is W.npy or U.npy missing?"
            )

    @property
    def framework(self) -> str | None:
        """The trainer's, if anything tells it."""
        if self.flag("-bf", "--batch_first"):
            return "pytorch"
        named = self.flag("--framework")
        return named if named in FRAMEWORKS else None


def command_line(rnn: Recurrent, framework: str) -> str:
    """What ``command.txt`` says: the flags of EdgeML's example, after a word that tells where the folder comes from."""
    try:
        config = rnn.config()
    except ValueError as error:
        raise EdgeMLError(f"EdgeML knows nonlinearities by name only: {error}") from error
    theirs: dict[str | None, str] = {ours: name for name, ours in CURVES.items()}
    update, gate = (config.get(f"{which}_nonlinearity") for which in ("update", "gate"))
    flags = {
        "-c": FORMS[rnn.cell_type.kind].title,
        "-id": config["input_size"],
        "-hd": config["hidden_size"],
        "-rW": config["w_rank"],
        "-rU": config["u_rank"],
        "-unl": theirs.get(update, update),
        "-gnl": theirs.get(gate, gate),
        "--framework": framework,
    }
    return " ".join([_OURS, *(f"{flag} {value}" for flag, value in flags.items() if value is not None)])


def logged_framework(run: Path) -> str | None:
    """By the trainers' logs ``<data>/<cell>Results[_pytorch].txt``, which name ``<data>/<cell>Results/<run>``."""
    run = run.resolve()
    frameworks = set()
    for log in run.parent.parent.glob("*Results*.txt"):
        folders = re.findall(r"Param Directory: (.+)", _text(log))
        if run.name in [re.split(r"[\\/]", folder.strip())[-1] for folder in folders]:
            frameworks.add("pytorch" if log.stem.endswith("_pytorch") else "tensorflow")
    return frameworks.pop() if len(frameworks) == 1 else None


def _text(path: Path) -> str:
    """What a file says; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
