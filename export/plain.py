"""Plain torch: one ``torch.nn.RNN``, ``GRU`` or ``LSTM`` and a linear head, in a module of any class.

What a forward does is Python, which cannot be read off the layers. So it is guessed, and the guess is checked: the
module answers a few windows of noise, and exactly one way to pool the states must explain its answers. The states come
from the arrays that are exported and the equations that graphs are written from (:mod:`fastzoo.export.cells`), here in
float64, so that the mapping of the weights is checked as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastzoo.errors import ExportError
from fastzoo.export.cells import EQUATIONS, STATES, Block
from fastzoo.export.network import Cell, Floats, Network

Doubles = npt.NDArray[np.float64]

RECURRENCES = (nn.RNN, nn.GRU, nn.LSTM)  # themselves: what a subclass does in its forward is its own affair
WITHOUT_EFFECT = (  # in eval mode
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity,
    nn.Flatten, nn.Unflatten,
)  # fmt: skip
TOLERANCE = 1e-4  # of the largest logit; float32 against float64 differs by a hundredth of it
REMEDY = (
    "let forward be `states, _ = rnn(x)` and `head(states[:, -1])` or `head(states.mean(dim=1))`, in both directions "
    "`head(torch.cat([h_n[-2], h_n[-1]], dim=1))`, or build and train a fastzoo.nn.SequenceClassifier"
)


def is_plain(module: object) -> bool:
    """Whether the layers are those of :func:`plain_network`; whether its forward is, only that function finds out."""
    if not isinstance(module, nn.Module):
        return False
    try:
        _layers(module)
    except ExportError:
        return False
    return True


def plain_network(module: nn.Module, steps: int) -> Network:
    """The arrays of a torch module for windows of ``steps`` steps.

    The module holds one ``torch.nn.RNN``, ``GRU`` or ``LSTM`` of any size and number of layers, one ``torch.nn.Linear``
    and nothing else that has parameters. It is called in eval mode as ``module(x [N, T, D]) -> logits [N, C]``; where
    its recurrence was built with ``batch_first=False``, x [T, N, D] is tried as well. Whatever the module takes, the
    network takes [N, T, D].

    The head reads the states that were reached last (``h_n`` of the last layer, both directions side by side) or the
    mean of all states. Buffers ``mean`` and ``std`` of D values on the module itself are the normalisation
    ``(x - mean) / std``, if that explains the answers; otherwise there is none.

    Args:
        module: stays as it is, in training mode, in half precision or on a GPU.
        steps: T.

    Raises:
        ExportError: a layer is not known, there is not exactly one recurrence and one head, a weight is not finite,
            forward fails, or what it computes is nothing a network can.
    """
    layers = _layers(module)
    net = _copied(module)
    rnn, head = net.get_submodule(layers.rnn), net.get_submodule(layers.head)
    assert isinstance(rnn, nn.RNNBase)
    assert isinstance(head, nn.Linear)
    _check(net, rnn, head)
    trials, failures = [], []
    for network in _guesses(net, rnn, head, steps):
        x = _probes(network)
        states = _states(network, x)
        for given in (x,) if rnn.batch_first else (x, x.transpose(1, 0, 2)):
            try:
                answer = _answer(net, given, (len(x), network.num_classes))
            except ExportError as error:
                failures.append(error)
            else:
                trials.append(_Trial(network, states, answer))
    if not trials:
        raise failures[0]
    for trial in trials:
        matching = [network for network in trial.poolings().values() if trial.error(network) <= TOLERANCE]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise ExportError(
                "whether the head reads the last state or the mean of all states cannot be told: the logits hardly "
                "depend on it for windows of noise; train the module first"
            )
    raise ExportError(_why(net, rnn, trials, layers.others))


class _Layers(NamedTuple):
    """Where the recurrence and the head are, and a description of layers without parameters that may do anything."""

    rnn: str
    head: str
    others: list[str]


def _layers(module: nn.Module) -> _Layers:
    """Find the layers by their types, and refuse what has parameters and is not known."""
    rnns, heads, unknown, others = {}, {}, [], []
    for path, layer in module.named_modules():
        description = f"{path!r} ({type(layer).__name__})" if path else f"the {type(layer).__name__} itself"
        leaf = path and next(layer.children(), None) is None
        if type(layer) in RECURRENCES:
            rnns[path] = description
        elif type(layer) is nn.Linear:
            heads[path] = description
        elif own := [name for name, _ in layer.named_parameters(recurse=False)]:
            of = f"(Parameter of {type(layer).__name__})"
            unknown += [description] if leaf else [f"{_join(path, name)!r} {of}" for name in own]
        elif leaf and type(layer) not in WITHOUT_EFFECT:
            others.append(description)
    if unknown:
        raise ExportError(
            f"no export is known for {', '.join(unknown)}: of layers with parameters a plain torch module may have one "
            "torch.nn.RNN, GRU or LSTM and one torch.nn.Linear; take the others out, or build a "
            "fastzoo.nn.SequenceClassifier"
        )
    for found, what in ((rnns, "torch.nn.RNN, GRU or LSTM"), (heads, "torch.nn.Linear as its head")):
        if len(found) != 1:
            has = f"has {len(found)}, {', '.join(found.values())}" if found else "has none"
            raise ExportError(
                f"a plain torch module must have exactly one {what}, and this {type(module).__name__} {has}; {REMEDY}"
            )
    return _Layers(next(iter(rnns)), next(iter(heads)), others)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _copied(module: nn.Module) -> nn.Module:
    """A copy to call: on the CPU, in float32, in eval mode."""
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except Exception as error:
        raise ExportError(f"the module cannot be copied to the CPU ({_line(error)})") from error


def _line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _check(net: nn.Module, rnn: nn.RNNBase, head: nn.Linear) -> None:
    """Refuse weights and sizes that no network can have."""
    bad = [name for name, value in [*net.named_parameters(), *net.named_buffers()] if not value.isfinite().all()]
    if bad:
        raise ExportError(f"the module has NaN or infinite weights in {', '.join(bad)}; train it again")
    if rnn.proj_size:
        raise ExportError(f"an LSTM with proj_size={rnn.proj_size} cannot be exported; build it with proj_size=0")
    size = rnn.hidden_size * (2 if rnn.bidirectional else 1)
    if head.in_features != size:
        raise ExportError(
            f"the head reads {head.in_features} values, and a state of the last layer has {size}: it must read one "
            f"state or the mean of all states; {REMEDY}"
        )
    if head.out_features < 2:
        raise ExportError(
            "the head has one logit, and a classifier has one for each class, at least 2: give it two rows, "
            "zeros for the negative class and its weights for the positive one"
        )


def _guesses(net: nn.Module, rnn: nn.RNNBase, head: nn.Linear, steps: int) -> Iterator[Network]:
    """The network with the normalisation that the module may have, and with none; it reads the last state."""
    mean, std = np.zeros(rnn.input_size, np.float32), np.ones(rnn.input_size, np.float32)
    bias = np.zeros(head.out_features, np.float32) if head.bias is None else _array(head.bias)
    directions = 2 if rnn.bidirectional else 1
    network = Network(mean, std, tuple(_cells(rnn)), _array(head.weight.T), bias, 1, steps, directions)
    own = dict(net.named_buffers(recurse=False))
    if all(name in own and own[name].numel() == rnn.input_size for name in ("mean", "std")):
        mean, std = (_array(own[name].reshape(-1)) for name in ("mean", "std"))
        if std.all() and _normalises(mean, std):
            yield replace(network, mean=mean, std=std)
    yield network


def _normalises(mean: Floats, std: Floats) -> bool:
    return bool(mean.any() or (std != 1).any())


def _array(tensor: Tensor) -> Floats:
    return np.array(tensor.detach().numpy(), np.float32, order="C")


def _cells(rnn: nn.RNNBase) -> Iterator[Cell]:
    """The cells in torch's order; torch keeps two biases, one beside x W and one beside h U."""
    for layer in range(rnn.num_layers):
        for suffix in (f"l{layer}", f"l{layer}_reverse")[: 2 if rnn.bidirectional else 1]:
            w, u = (_array(getattr(rnn, f"weight_{of}_{suffix}").T) for of in ("ih", "hh"))
            zero = torch.zeros(w.shape[1])
            beside_x, beside_h = (_array(getattr(rnn, f"bias_{of}_{suffix}", zero)) for of in ("ih", "hh"))
            if isinstance(rnn, nn.RNN):
                of_rnn = {"alpha": 1.0, "beta": 0.0}  # h' = c
                yield Cell("fastrnn", (w,), (u,), beside_x + beside_h, "sigmoid", rnn.nonlinearity, of_rnn)
            elif isinstance(rnn, nn.LSTM):
                yield Cell("lstm", (w,), (u,), beside_x + beside_h, "sigmoid", "tanh")
            else:
                gates, candidate = np.split(beside_h, [2 * rnn.hidden_size])
                bias = beside_x + np.concatenate([gates, np.zeros_like(candidate)])
                yield Cell("torch_gru", (w,), (u,), bias, "sigmoid", "tanh", recurrent_bias=candidate)


def _probes(network: Network) -> Floats:
    """Windows of noise [N, T, D], quiet to loud, in units in which the weights of every feature matter alike.

    N is not T: an answer tells which of the two it counts.
    """
    count = 5 if network.steps != 5 else 6
    weight = np.sqrt(np.mean(np.float64(network.cells[0].w[0]) ** 2, axis=1))  # [D]
    unit = 1 / np.where(weight > 1e-6, weight, 1) / network.input_size**0.5
    noise = np.random.default_rng(0).normal(size=(count, network.steps, network.input_size))
    loudness = np.geomspace(0.3, 3, count)[:, np.newaxis, np.newaxis]
    x: Floats = (network.mean + network.std * unit * loudness * noise).astype(np.float32)
    return x


def _answer(net: nn.Module, x: Floats, shape: tuple[int, int]) -> Doubles:
    """The module's logits, which must have this shape."""
    try:
        with torch.no_grad():
            answer = net(torch.from_numpy(np.ascontiguousarray(x)))
    except Exception as error:
        raise ExportError(
            f"forward fails for x of shape {list(x.shape)} ({_line(error)}); it must take windows [N, T, D] alone"
        ) from error
    if not isinstance(answer, Tensor) or answer.shape != shape:
        got = list(answer.shape) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise ExportError(
            f"forward returns {got} for x of shape {list(x.shape)}; it must return logits [N, C], here {list(shape)}"
        )
    if not answer.isfinite().all():
        raise ExportError("forward returns NaN or infinite logits for windows of noise; train the module again")
    return answer.double().numpy()


class _Trial(NamedTuple):
    """A guess of the normalisation, the states [T, N, H] it leads to by direction, and the module's logits [N, C]."""

    network: Network
    states: Sequence[Doubles]
    answer: Doubles

    def poolings(self) -> dict[str, Network]:
        """What the head may read, and the network whose head does."""
        pools = {self.network.steps: "mean of all states", 1: "last state"}
        return {name: replace(self.network, pool=pool) for pool, name in sorted(pools.items())}

    def error(self, network: Network) -> float:
        """How far a network with these states is from the module, in units of the largest logit."""
        pool = network.pool
        forwards, *backwards = self.states  # which ends at step 0
        reached = [forwards[-pool:].mean(axis=0), *(states[:pool].mean(axis=0) for states in backwards)]
        return self._error(reached)

    def reads_one_step(self) -> bool:
        """Whether the module reads all directions at the last step, where the backward one has only begun."""
        return len(self.states) > 1 and self._error([states[-1] for states in self.states]) <= TOLERANCE

    def _error(self, reached: Sequence[Doubles]) -> float:
        logits = np.concatenate(reached, axis=1) @ self.network.head_weight + self.network.head_bias
        return float(np.abs(logits - self.answer).max() / max(np.abs(self.answer).max(), np.finfo(np.float32).tiny))


def _why(net: nn.Module, rnn: nn.RNNBase, trials: Sequence[_Trial], others: Sequence[str]) -> str:
    """What may be wrong where nothing explains the answers."""
    if any(trial.reads_one_step() for trial in trials):
        return (
            "the head reads both directions at the last step, `states[:, -1]`, where the backward one has seen one "
            "step of the window: that cannot be exported. Let it read the states that both reached last, `head(torch."
            "cat([h_n[-2], h_n[-1]], dim=1))` of `_, h_n = rnn(x)` (an LSTM: `_, (h_n, _)`), and train again"
        )
    if not rnn.batch_first and _mixes_windows(net, trials):
        return (
            "the answer to a window changes with the other windows of its batch: the recurrence was built with "
            "batch_first=False and takes [N, T, D] for [T, N, D]. Build it with batch_first=True and train again"
        )
    tried = []
    for trial in trials:
        x = "(x - mean) / std" if _normalises(trial.network.mean, trial.network.std) else "x"
        for name, network in trial.poolings().items():
            tried.append(f"the {name} for {x} (logits are {trial.error(network):.1%} off)")
    suspects = f", as {', '.join(others)} may" if others else ""
    return (
        f"what forward computes is nothing that can be exported. As what the head reads were tried {', '.join(tried)}, "
        "and not the mean of the last K states. Nothing else may change x, except (x - mean) / std by buffers of these "
        f"names [D] on the module, nor the states or the logits (no softmax){suspects}. To export it, {REMEDY}"
    )


def _mixes_windows(net: nn.Module, trials: Sequence[_Trial]) -> bool:
    """Whether the last window alone has another answer."""
    for trial in trials:
        try:
            alone = _answer(net, _probes(trial.network)[-1:], (1, trial.network.num_classes))
        except ExportError:
            continue
        if np.abs(alone - trial.answer[-1:]).max() > TOLERANCE * np.abs(trial.answer).max():
            return True
    return False


def _states(network: Network, x: Floats) -> list[Doubles]:
    """The last layer's states [T, N, H] in the order of time, by direction, for windows [N, T, D]."""
    below = ((np.float64(x) - network.mean) / network.std).transpose(1, 0, 2)  # [T, N, D]
    for layer in network.layers:
        orders = (slice(None), slice(None, None, -1))[: len(layer)]  # the second cell of a layer reads backwards
        states = [_unrolled(cell, below[order])[order] for cell, order in zip(layer, orders, strict=True)]
        below = np.concatenate(states, axis=2)
    return states


def _unrolled(cell: Cell, x: Doubles) -> Doubles:
    """The states [T, N, H] of a cell for x [T, N, D]."""
    equation = EQUATIONS[cell.kind]
    state: tuple[Any, ...] = (np.zeros((x.shape[1], cell.hidden_size)),) * len(STATES.get(cell.kind, ("h",)))
    states = np.empty((len(x), *state[0].shape))
    for t, projected in enumerate(x @ cell.w[0]):
        state = equation(_Doubles(cell, projected), cell, state)
        states[t] = state[0]
    return states


CURVES: dict[str, Callable[[Doubles], Doubles]] = {
    "tanh": np.tanh,
    "sigmoid": lambda a: (1 + np.tanh(a / 2)) / 2,
    "relu": lambda a: np.maximum(a, 0),
}


class _Doubles:
    """The arithmetic of :mod:`fastzoo.export.cells` in which values are arrays [N, H] of float64.

    Args:
        cell: the weights, in full rank.
        x: ``x W`` of the step at hand, [N, G H].
    """

    def __init__(self, cell: Cell, x: Doubles) -> None:
        self.cell, self.x = cell, x

    def _columns(self, matrix: Any, block: int) -> Any:
        size = self.cell.hidden_size
        return matrix[:, block * size : (block + 1) * size]

    def activate(self, h: Doubles, blocks: Sequence[Block]) -> list[Doubles]:
        """Block by block."""
        return [self.apply(b.nonlinearity, self.projected(b) + self.product(h, b.columns)) for b in blocks]

    def projected(self, block: Block) -> Doubles:
        """``x W + b`` of one block."""
        projected: Doubles = self._columns(self.x, block.columns) + self.cell.biases[block.bias]
        return projected

    def product(self, h: Doubles, columns: int, bias: Floats | None = None) -> Doubles:
        """``h U`` of one block, plus a bias."""
        product: Doubles = h @ self._columns(self.cell.u[0], columns)
        return product if bias is None else product + bias

    def apply(self, nonlinearity: str, a: Doubles) -> Doubles:
        """A nonlinearity that torch's recurrences have."""
        return CURVES[nonlinearity](a)

    def blend(self, z: Doubles, c: Doubles, h: Doubles) -> Doubles:
        """``(1 - z) c + z h``"""
        return (1 - z) * c + z * h

    def complement(self, z: Doubles) -> Doubles:
        """``1 - z``"""
        return 1 - z

    def add(self, a: Doubles, b: Doubles) -> Doubles:
        """``a + b``"""
        return a + b

    def multiply(self, a: Doubles, b: Doubles) -> Doubles:
        """``a b``"""
        return a * b

    def affine(self, a: Doubles, factor: float, shift: float = 0.0) -> Doubles:
        """``factor a + shift``"""
        return factor * a + shift
