"""Modules and samples for the tests of ``fastzoo.nn``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastzoo.nn import CELLS, NONLINEARITIES, Recurrent

from . import oracle

D, H, N, T = 3, 4, 2, 5

Ranks = tuple[int | None, int | None]
RANKS: dict[str, Ranks] = {"full": (None, None), "W": (2, None), "U": (None, 3), "W,U": (2, 3)}
STACKS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "both directions": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
}
# Each nonlinearity once as the gate and once as the update.
PAIRS = [*dict.fromkeys([*((n, "tanh") for n in NONLINEARITIES), *(("sigmoid", n) for n in NONLINEARITIES)])]
SCALARS = {"alpha_logit": -1.0, "beta_logit": 0.5, "zeta_logit": 1.0, "nu_logit": -3.0}


def pairs(kind: str) -> Iterator[dict[str, Any]]:
    """The nonlinearities of a cell, as arguments: each once as its gate, if it has one, and once as its update."""
    if kind == "fastrnn":
        yield from ({"update_nonlinearity": name} for name in NONLINEARITIES)
    else:
        yield from ({"gate_nonlinearity": gate, "update_nonlinearity": update} for gate, update in PAIRS)


def make(
    kind: str, ranks: Ranks = (None, None), sizes: tuple[int, int] = (D, H), seed: int = 1, **arguments: Any
) -> Recurrent:
    """A module in float64 with weights that float32 holds exactly.

    States stay of order one, and what goes into the nonlinearities reaches every piece of the piecewise-linear ones.
    """
    torch.manual_seed(seed)
    rnn = CELLS[kind](*sizes, w_rank=ranks[0], u_rank=ranks[1], **arguments)
    w, u, bias = 1.5, 0.5, 0.5  # standard deviations, of the matrices for inputs of variance 1
    if "relu" in (arguments.get("gate_nonlinearity"), arguments.get("update_nonlinearity")):
        w, u = 0.75, 0.25
    if arguments.get("gate_nonlinearity") in ("relu", "tanh", "quant_tanh") and kind != "lstm":
        # A gate beyond [0, 1] lets states grow, large states open it further, and soon every rounding error counts.
        w, u, bias = 0.4, 0.05, 0.1
    with torch.no_grad():
        for path, parameter in rnn.named_parameters():
            name = path.rpartition(".")[2]
            if name.endswith("_logit"):
                parameter.fill_(SCALARS[name])
            elif name[0] in "WU":
                whole = w if name[0] == "W" else u
                parameter.normal_(std=(whole if name in ("W", "U", "W1", "U1") else 1) / parameter.shape[0] ** 0.5)
            else:
                parameter.normal_(std=bias)
    return rnn.double()


def samples(steps: int = T, batch: int = N, size: int = D, seed: int = 1) -> Tensor:
    """Samples [T, N, D] in float64, that float32 holds exactly."""
    return torch.randn(steps, batch, size, generator=torch.Generator().manual_seed(seed)).double()


def start(rnn: Recurrent, batch: int = N, seed: int = 2) -> Any:
    """A state in float64: [cells, N, H], for the LSTM two of them."""
    parts = samples(rnn.cell_type.state_parts * len(rnn.cells), batch, rnn.hidden_size, seed).split(len(rnn.cells))
    return state(tuple(part.clone() for part in parts))


def parts(state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state."""
    return (state,) if isinstance(state, Tensor) else tuple(state)


def state(parts: tuple[Tensor, ...]) -> Any:
    """What :func:`parts` was made from."""
    return parts[0] if len(parts) == 1 else parts


def arrays(state: Any) -> tuple[oracle.Floats, ...]:
    """A state for the oracle."""
    return tuple(part.detach().double().numpy() for part in parts(state))
