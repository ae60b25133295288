"""What EdgeML's files are called for each cell, and what they leave to the caller to say."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from fastzoo.errors import EdgeMLError

FRAMEWORKS = ("tensorflow", "pytorch")
NORMALISATIONS = ("exact", "averaged", "none")
CURVES = {"quantTanh": "quant_tanh", "quantSigm": "quant_sigmoid", "quantSigm4": "quant_sigmoid4"}  # ours by EdgeML's
CERTAIN = 100.0  # RNNPool writes a zeta of 1 and a nu of 0 as the logits 100 and -100


@dataclass(frozen=True)
class Form:
    """The names of a cell's files, without ``.npy``."""

    title: str
    biases: tuple[str, ...]  # in the order of our blocks
    scalars: tuple[str, ...] = ()  # a cell that has some shares one W and one U between its gates
    in_tensorflow: tuple[int, ...] = ()  # which of W1, W2, .. belong to our blocks there, where it is not that order

    def gates(self, letter: str, framework: str | None = None) -> list[str]:
        """The matrices of W or U that belong to our blocks, in a cell with one for each."""
        ordered = framework == "tensorflow" and self.in_tensorflow
        return [f"{letter}{number}" for number in ordered or range(1, len(self.biases) + 1)]

    def matrices(self, letter: str, names: Container[str]) -> list[str]:
        """Those of W or U, a left factor first, in a model that has ``names``."""
        if not self.scalars:
            return [letter] * (letter in names) + self.gates(letter)
        factors = [f"{letter}1", f"{letter}2"]
        return factors if any(name in names for name in factors) else [letter]

    def is_low_rank(self, letter: str, names: Container[str]) -> bool:
        """Whether the first of :meth:`matrices` is a left factor."""
        return len(self.matrices(letter, names)) > (1 if self.scalars else len(self.biases))


FORMS = {
    "fastrnn": Form("FastRNN", ("B",), ("alpha", "beta")),
    "fastgrnn": Form("FastGRNN", ("Bg", "Bh"), ("zeta", "nu")),
    "ugrnn": Form("UGRNN", ("Bg", "Bh")),
    "gru": Form("GRU", ("Br", "Bg", "Bh")),
    "lstm": Form("LSTM", ("Bi", "Bf", "Bc", "Bo"), in_tensorflow=(2, 1, 3, 4)),
}
HEAD = ("FC", "FCbias")
NAMES = sorted(
    {
        *HEAD,
        *(f"{letter}{number}" for letter in "WU" for number in ("", 1, 2, 3, 4)),
        *(name for form in FORMS.values() for name in (*form.biases, *form.scalars)),
    }
)
PARAMETERS = {  # the biases' names in EdgeML's modules, and in our FastRNNCell and FastGRNNCell
    "B": "bias_update", "Bg": "bias_gate", "Bh": "bias_update", "Br": "bias_r",
    "Bf": "bias_f", "Bi": "bias_i", "Bc": "bias_c", "Bo": "bias_o",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What the caller says where the files do not; see :func:`~fastzoo.nn.edgeml.from_edgeml`."""

    gate_nonlinearity: str | None = None
    update_nonlinearity: str | None = None
    framework: str | None = None
    transposed: bool | None = None
    normalisation: str = "exact"

    def __post_init__(self) -> None:
        check_choice("framework", self.framework, (None, *FRAMEWORKS))
        check_choice("normalisation", self.normalisation, NORMALISATIONS)


def check_choice(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    """Refuse an argument that is none of those allowed."""
    if value not in allowed:
        raise EdgeMLError(f"{name} must be {' or '.join(repr(a) for a in allowed if a)}, not {value!r}")
