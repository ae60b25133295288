"""Small networks with weights of every kind, and ways to run their graphs that fastzoo has no part in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator

from fastzoo.export.layouts import FORMS, Builder, Form
from fastzoo.export.network import Network, from_torch
from fastzoo.nn import NONLINEARITIES, FastGRNN, SequenceClassifier

D, H, C, T, POOL = 3, 5, 4, 7, 2

Floats = npt.NDArray[np.float32]
Ranks = tuple[int | None, int | None]

# Each nonlinearity once as the gate and once as the update.
PAIRS = dict.fromkeys([*((name, "tanh") for name in NONLINEARITIES), *(("sigmoid", name) for name in NONLINEARITIES)])
RANKS: dict[str, Ranks] = {"full": (None, None), "W": (2, None), "U": (None, 3), "W,U": (2, 3)}
SCALARS: dict[str, dict[str, Any]] = {
    "nu>0": {}, "nu=0": {"nu": 0.0}, "unit": {"zeta": 1.0, "nu": 0.0}, "fixed": {"zeta": 0.7, "nu": 0.1}
}  # fmt: skip

FORM = {(form.precision, form.layout): form for form in FORMS}


def classifier(
    gate: str = "sigmoid",
    update: str = "tanh",
    ranks: Ranks = (2, 3),
    sizes: tuple[int, int, int] = (D, H, C),
    pool: int = POOL,
    seed: int = 0,
    **scalars: Any,
) -> SequenceClassifier:
    """Random weights large enough to reach every piece of the piecewise-linear functions; raw units far from zero."""
    torch.manual_seed(seed)
    channels, hidden, classes = sizes
    rnn = FastGRNN(
        channels,
        hidden,
        w_rank=ranks[0],
        u_rank=ranks[1],
        gate_nonlinearity=gate,
        update_nonlinearity=update,
        **scalars,
    )
    net = SequenceClassifier(rnn, classes, pool)
    with torch.no_grad():
        for name, parameter in net.rnn.cell.named_parameters():
            size = parameter.shape[0] if parameter.dim() == 2 else 4
            parameter.copy_(torch.randn(parameter.shape) * (0.5 if name[0] == "U" else 1) / size**0.5)
    net.set_normalisation(torch.from_numpy(windows(50, net)))
    return net


def windows(count: int, net: SequenceClassifier | None = None, steps: int = T, seed: int = 1) -> Floats:
    """Raw windows [count, T, D]: gravity, degrees and tesla, say."""
    channels = net.rnn.input_size if net else D
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


def session(model: onnx.ModelProto, entries: Mapping[str, str] | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def run(model: onnx.ModelProto, x: Floats, form: Form | None = None) -> Floats:
    """onnxruntime's answer, with the settings of the form."""
    (answer,) = session(model, form.session if form else None).run(None, {"x": x})
    result: Floats = answer
    return result


def evaluate(model: onnx.ModelProto, **inputs: Floats) -> Floats:
    """The answer of onnx's own reference implementation, in NumPy."""
    result: Any = ReferenceEvaluator(model).run(None, inputs)
    answer: Floats = result[0]
    return answer
