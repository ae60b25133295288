"""Small networks with weights of every kind, and ways to run their graphs that fastzoo has no part in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from nn import oracle
from torch import Tensor, nn

from fastzoo.export.cells import EQUATIONS, STATES, Block
from fastzoo.export.from_torch import from_torch
from fastzoo.export.layouts import INTEGERS, LAYOUTS, PRODUCTS, WEIGHTS, Builder, Form, Scheme
from fastzoo.export.network import Cell, Factors, Network
from fastzoo.export.plain import plain_network
from fastzoo.export.weights import Int8
from fastzoo.nn import CELLS, NONLINEARITIES, SequenceClassifier

D, H, C, T, POOL = 3, 5, 4, 7, 2

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ranks = tuple[int | None, int | None]

# Each nonlinearity once as the gate and once as the update.
PAIRS = dict.fromkeys([*((name, "tanh") for name in NONLINEARITIES), *(("sigmoid", name) for name in NONLINEARITIES)])
RANKS: dict[str, Ranks] = {"full": (None, None), "W": (2, None), "U": (None, 3), "W,U": (2, 3)}
SCALARS: dict[str, dict[str, Any]] = {
    "nu>0": {}, "nu=0": {"nu": 0.0}, "unit": {"zeta": 1.0, "nu": 0.0}, "fixed": {"zeta": 0.7, "nu": 0.1}
}  # fmt: skip
STACKS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "both directions": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
}
# Every kind of cell, FastGRNN in both of its forms and FastRNN in both of its.
VARIANTS: dict[str, dict[str, Any]] = {
    "fastrnn": {"kind": "fastrnn", "alpha": 0.3, "beta": 0.8},
    "fastrnn, slow": {"kind": "fastrnn", "alpha": 0.05, "beta": 0.995},
    "fastgrnn": {"kind": "fastgrnn", "nu": 0.0},
    "fastgrnn, nu": {"kind": "fastgrnn", "zeta": 0.7, "nu": 0.1},
    "ugrnn": {"kind": "ugrnn"},
    "gru": {"kind": "gru"},
    "lstm": {"kind": "lstm"},
}
SCHEMES = {kind: Scheme(kind) for kind in (WEIGHTS, PRODUCTS, INTEGERS)}
LOOPS = ("scan", "unrolled", "step")  # the layouts that are composed from the step

# What is exported unless something else is asked for.
FORM = {("fp32", layout): Form("fp32", layout) for layout in LAYOUTS}
FORM |= {("int8", layout): Form("int8", layout, Scheme(WEIGHTS)) for layout in LAYOUTS}
FORM["int8", "unrolled"] = Form("int8", "unrolled", Scheme(PRODUCTS))


def pairs(kind: str) -> Iterator[tuple[str, str]]:
    """The nonlinearities of a cell: each once as its gate, if it has one, and once as its update."""
    yield from PAIRS if kind != "fastrnn" else (("sigmoid", update) for update in NONLINEARITIES)


def classifier(
    gate: str = "sigmoid",
    update: str = "tanh",
    ranks: Ranks = (2, 3),
    sizes: tuple[int, int, int] = (D, H, C),
    pool: int = POOL,
    seed: int = 0,
    kind: str = "fastgrnn",
    brick: int = 1,
    **arguments: Any,
) -> SequenceClassifier:
    """Random weights large enough to reach every piece of the piecewise-linear functions; raw units far from zero."""
    torch.manual_seed(seed)
    channels, hidden, classes = sizes
    arguments |= {"update_nonlinearity": update} | ({"gate_nonlinearity": gate} if kind != "fastrnn" else {})
    rnn = CELLS[kind](channels * brick, hidden, w_rank=ranks[0], u_rank=ranks[1], **arguments)
    net = SequenceClassifier(rnn, classes, pool, brick)
    w, u, bias = 1.0, 0.5, 0.5  # standard deviations
    if "relu" in (gate, update):
        w, u = 0.75, 0.25
    if gate in ("relu", "tanh", "quant_tanh") and kind != "lstm":  # a gate beyond [0, 1] lets states grow
        w, u, bias = 0.4, 0.05, 0.1
    with torch.no_grad():
        for path, parameter in net.rnn.named_parameters():
            name = path.rpartition(".")[2]
            if name[0] in "WU":
                whole = {"W": w, "U": u}[name[0]] if name in ("W", "U", "W1", "U1") else 1.0
                parameter.copy_(torch.randn(parameter.shape) * whole / parameter.shape[0] ** 0.5)
            elif not name.endswith("_logit"):
                parameter.copy_(torch.randn(parameter.shape) * bias)
    net.set_normalisation(torch.from_numpy(windows(50, net)))
    return net


def windows(count: int, net: SequenceClassifier | None = None, steps: int = T, seed: int = 1) -> Floats:
    """Raw windows [count, T, D]: gravity, degrees and tesla, say."""
    channels = net.input_size if net else D
    rng = np.random.default_rng(seed)
    offset, unit = np.resize([9.8, -40.0, 1e-5], channels), np.resize([2.0, 30.0, 3e-5], channels)
    return (offset + unit * rng.normal(size=(count, steps, channels))).astype(np.float32)


def logits(net: SequenceClassifier, x: Floats) -> Floats:
    """Torch's answer."""
    with torch.no_grad():
        answer: Floats = net(torch.from_numpy(x)).numpy()
    return answer


def builder(net: SequenceClassifier, steps: int = T, inline: bool = False) -> Builder:
    return Builder(from_torch(net, steps), windows(40, net, steps, seed=2), inline)


def network(net: SequenceClassifier, steps: int = T) -> Network:
    return from_torch(net, steps)


def session(
    model: onnx.ModelProto, entries: Mapping[str, str] | None = None, optimised: bool = True
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run(
    model: onnx.ModelProto, x: Floats, form: Form | None = None, pool: int = POOL, optimised: bool = True
) -> Floats:
    """onnxruntime's answer to windows, with the settings of the form; the layout ``step`` is called for each sample."""
    opened = session(model, form.session if form else None, optimised)
    wanted = {value.name: value.shape for value in opened.get_inputs()}
    if "state" not in wanted:
        (answer,) = opened.run(None, {"x": x})
        result: Floats = answer
        return result
    state = np.zeros((len(x), wanted["state"][1]), np.float32)
    last = []
    for t in range(x.shape[1]):
        answer, state = opened.run(["logits", "state_next"], {"x": np.ascontiguousarray(x[:, t]), "state": state})
        last.append(answer)
    pooled: Floats = np.mean(last[-pool:], axis=0)
    return pooled


def error(found: npt.NDArray[np.floating], expected: npt.NDArray[np.floating]) -> float:
    """The largest difference, of the largest expected number."""
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


exact = oracle.logits  # the equations in NumPy float64: net, x -> logits


class Plain(nn.Module):
    """One of torch's own recurrences and a head."""

    def __init__(self, rnn: nn.RNNBase, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.rnn = rnn
        self.head = nn.Linear(rnn.hidden_size * (2 if rnn.bidirectional else 1), C)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        states, last = self.rnn(x)
        h_n = last[0] if isinstance(last, tuple) else last
        logits: Tensor = self.head(torch.cat([h_n[-2], h_n[-1]], dim=1) if self.rnn.bidirectional else states[:, -1])
        return logits

    def network(self, steps: int = T) -> Network:
        return plain_network(self, steps)

    def exact(self, x: Floats) -> Doubles:
        """Torch's answer in float64."""
        with torch.no_grad():
            answer: Doubles = self.double()(torch.from_numpy(x).double()).numpy()
        self.float()
        return answer


class InDoubles:
    """Equations of :mod:`fastzoo.export.cells` in NumPy float64, one step after the other."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.x = cell, np.zeros((0, 0))
        self.w, self.u = (np.split(product(m), m[-1].shape[1] // cell.hidden_size, axis=1) for m in (cell.w, cell.u))

    def states(self, x: Doubles) -> Doubles:
        """``x [T, N, D]`` -> all h [T, N, H]."""
        state = tuple(np.zeros((x.shape[1], self.cell.hidden_size)) for _ in STATES.get(self.cell.kind, "h"))
        each = []
        for self.x in x:
            state = EQUATIONS[self.cell.kind](self, self.cell, state)
            each.append(state[0])
        return np.stack(each)

    def activate(self, h: Doubles, blocks: Sequence[Block]) -> list[Doubles]:
        products = {block.columns: self.product(h, block.columns) for block in blocks}
        return [self.apply(b.nonlinearity, self.projected(b) + products[b.columns]) for b in blocks]

    def blend(self, z: Doubles, c: Doubles, h: Doubles) -> Doubles:
        return (1 - z) * c + z * h

    def complement(self, z: Doubles) -> Doubles:
        return 1 - z

    def add(self, a: Doubles, b: Doubles) -> Doubles:
        return a + b

    def multiply(self, a: Doubles, b: Doubles) -> Doubles:
        return a * b

    def affine(self, a: Doubles, factor: float, shift: float = 0.0) -> Doubles:
        return factor * a + shift

    def projected(self, block: Block) -> Doubles:
        result: Doubles = self.x @ self.w[block.columns] + self.cell.biases[block.bias]
        return result

    def product(self, h: Doubles, columns: int, bias: Floats | None = None) -> Doubles:
        result: Doubles = h @ self.u[columns] + (0 if bias is None else bias)
        return result

    def apply(self, nonlinearity: str, a: Doubles) -> Doubles:
        return oracle.FUNCTIONS[nonlinearity](a)


def product(factors: Factors) -> Doubles:
    """A matrix from its factors."""
    result: Doubles = reduce(np.matmul, [factor.astype(np.float64) for factor in factors])
    return result


def evaluate(of: Network, x: Floats, cells: Sequence[InDoubles] | None = None) -> Doubles:
    """What a network of arrays answers in float64: windows [n, T, D] -> logits [n, C]."""
    each = iter(cells or [InDoubles(cell) for cell in of.cells])
    sequence: Any = ((x.astype(np.float64) - of.mean) / of.std).transpose(1, 0, 2)
    for layer in of.layers:
        ways = [next(each).states(sequence[:: -1 if way else 1]) for way in range(len(layer))]
        sequence = np.concatenate([states[:: -1 if way else 1] for way, states in enumerate(ways)], axis=2)
    pooled = np.concatenate([states[-of.pool :].mean(axis=0) for states in ways], axis=1)
    answer: Doubles = (pooled @ of.head_weight + of.head_bias).astype(np.float64)
    return answer


def rounded(of: Network, int8: Int8) -> Network:
    """The network whose matrices are what int8 makes of them."""

    def of_matrix(matrix: Floats) -> Floats:
        integers, scale = int8.quantized(matrix)
        return (integers * scale).astype(np.float32)

    cells = [replace(c, w=tuple(map(of_matrix, c.w)), u=tuple(map(of_matrix, c.u))) for c in of.cells]
    return replace(of, cells=tuple(cells), head_weight=of_matrix(of.head_weight))


def evaluate_states(net: SequenceClassifier, x: Floats) -> Doubles:
    """The pooled states of a network in float64: windows [n, T, D] -> [n, H]."""
    of = network(net, x.shape[1])
    identity = np.eye(len(of.head_weight), dtype=np.float32)
    return evaluate(replace(of, head_weight=identity, head_bias=np.zeros(len(identity), np.float32)), x)
