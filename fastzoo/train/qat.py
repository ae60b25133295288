"""Quantization-aware training: the network computes in training as its int8 file will.

What is rounded is what the exporter rounds, by the same rules (``fastzoo.export``; tests hold the two together):

- Every matrix, which is every factor of W and U and the head, becomes int8: symmetric, one scale for the tensor, ties
  to even. Where the exporter lets U and the head absorb zeta first, so does this.
- What the recurrent products read, h and h U1, becomes uint8: asymmetric, with the range that the calibration windows
  give in fp32, one for all steps. The state itself stays fp32, and so do x and all that depends on x alone.

Gradients pass straight through the rounding; where a value is clipped there is none.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from fastzoo.errors import TrainingError
from fastzoo.nn import FastGRNNCell, SequenceClassifier

CALIBRATION_WINDOWS = 512  # min-max ranges hardly move beyond this many


def calibration_rows(windows: int) -> slice:
    """Which of so many training windows ranges are found on, here and in the exporter: at most 512, evenly spread."""
    return slice(None, None, -(-windows // CALIBRATION_WINDOWS) or 1)


class FakeQuantizer:
    """One network's answers as its int8 file would give them, in a form that gradients pass.

    Args:
        net: a classifier; all cells for weights alone, for activations what ``unrolled`` can be made of.
        calibration: raw windows [n, T, D] on which ranges are found, those that the exporter takes.
        activations: round what the recurrent products read as well (the file ``int8-unrolled``), at the price of
            autograd's loop over the steps; False = weights alone (``int8-fused``), which the compiled kernels run;
            None = wherever the exporter would, in a FastGRNN of one layer and one direction.

    Nothing outlives an epoch that begins with :meth:`refresh`: there is no state to keep for a resumed run.

    Raises:
        ValueError: activations are to be rounded in a network whose activations no exporter rounds.
    """

    def __init__(self, net: SequenceClassifier, calibration: Tensor, activations: bool | None = None) -> None:
        exported = _fastgrnn(net) is not None
        if activations and not exported:
            raise ValueError(
                "activations are rounded in a FastGRNN of one layer and one direction only, "
                f"not in {len(net.rnn.cells)} cells of a {type(net.rnn).__name__}: round its weights alone"
            )
        self.net, self.calibration = net, calibration
        self.activations = exported if activations is None else activations
        self._levels: tuple[Levels, ...] | None = None

    @classmethod
    def of_training(
        cls, net: SequenceClassifier, x: npt.NDArray[Any] | Tensor, qat: bool | Literal["weights"] = True
    ) -> FakeQuantizer:
        """As :attr:`fastzoo.train.Settings.qat` says, with those of the training windows ``x [N, T, D]`` that the
        exporter calibrates on."""
        calibration = torch.as_tensor(x[calibration_rows(len(x))]).float()
        return cls(net, calibration, activations=False if qat == "weights" else None)

    def refresh(self) -> None:
        """Let the next call find the activations' ranges anew; the weights' scales are always those of the weights."""
        self._levels = None

    def __call__(self, x: Tensor) -> Tensor:
        """``x [N, T, D]`` in raw units -> logits [N, C].

        Raises:
            TrainingError: the state is not finite on the calibration windows.
        """
        if self.activations and self._levels is None:
            self._levels = ranges(self.net, self.calibration)
        tensors = dict(self.net.named_parameters()) | unit_zeta(self.net)
        tensors = {name: round_weight(value) if value.dim() == 2 else value for name, value in tensors.items()}
        with _rounding(self.net, self._levels):
            logits: Tensor = functional_call(self.net, tensors, (x,))
        return logits

    def rounded(self, net: SequenceClassifier | None = None) -> SequenceClassifier:
        """A copy that answers as the int8 file of a network will, with that network's own ranges; for evaluation.

        Args:
            net: of the same architecture, such as the running average of the weights; default the one in training.

        Raises:
            TrainingError: the state is not finite on the calibration windows.
        """
        net = net or self.net
        twin = _with_unit_zeta(net)
        with torch.no_grad():
            for parameter in twin.parameters():
                if parameter.dim() == 2:
                    parameter.copy_(round_weight(parameter))
        if self.activations:
            twin.rnn.cell.rounding = ranges(net, self.calibration)
        return twin


@dataclass(frozen=True)
class Levels:
    """The 256 values that an activation can take: ``scale`` times 0 - ``zero`` .. 255 - ``zero``."""

    scale: float  # a float32
    zero: int

    @classmethod
    def of(cls, x: Tensor) -> Levels:
        """From the smallest to the largest value of ``x``, and 0, as ``quantize_static`` computes it (min-max).

        Raises:
            TrainingError: a value is not finite.
        """
        low, high = (float(end) for end in x.aminmax())
        if not math.isfinite(high - low):
            raise TrainingError(
                "the state became NaN or infinite on the calibration windows, so that 8 bits have no range for it; try "
                "a smaller learning rate, or a bounded update nonlinearity"
            )
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255
        if scale < torch.finfo(torch.float32).tiny:
            return cls(1.0, 0)
        return cls(float(torch.tensor(scale, dtype=torch.float32)), round(-low / scale))

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` at the nearest level."""
        rounded: Tensor = _RoundedActivation.apply(x, self)  # type: ignore[no-untyped-call]
        return rounded


def ranges(net: SequenceClassifier, calibration: Tensor) -> tuple[Levels, ...]:
    """The levels of what each factor of U reads, from running a one-cell network in fp32 over raw windows [n, T, D].

    Raises:
        TrainingError: the state is not finite.
    """
    twin = _with_unit_zeta(net)
    cell = twin.rnn.cell
    found = []
    with torch.no_grad():
        states, _ = twin.rnn(twin.read(calibration.to(twin.mean)))
        read = torch.cat([torch.zeros_like(states[:1]), states[:-1]])  # h before each step, [T, n, H]
        for factor in cell.u:
            found.append(Levels.of(read))
            read = read @ factor
    return tuple(found)


def round_weight(weight: Tensor) -> Tensor:
    """A matrix at its nearest int8 values; zeros stay zeros."""
    rounded: Tensor = _RoundedWeight.apply(weight)  # type: ignore[no-untyped-call]
    return rounded


def unit_zeta(net: SequenceClassifier) -> dict[str, Tensor]:
    """The tensors, by name, in which the exporter's form of a network differs from it: zeta is 1 where nu is 0.

    With h = zeta g, U and the head, which read h, absorb the factor (``fastzoo.export.network.Network.unit_scale``).
    Differentiable, in zeta too.
    """
    cell = _fastgrnn(net)
    if cell is None or cell.nu != 0:
        return {}
    trained = hasattr(cell, "zeta_logit")
    one = torch.full_like(cell.zeta, torch.inf if trained else 1.0)  # of a trained zeta, what its sigmoid makes 1
    return {
        "rnn.cells.0.zeta_logit" if trained else "rnn.cells.0.fixed_zeta": one,
        "rnn.cells.0.U" if cell.u_rank is None else "rnn.cells.0.U1": cell.u[0] * cell.zeta,
        "head.weight": net.head.weight * cell.zeta,
    }


def _with_unit_zeta(net: SequenceClassifier) -> SequenceClassifier:
    """A copy with the tensors of :func:`unit_zeta`."""
    twin = copy.deepcopy(net)
    tensors = dict(twin.named_parameters()) | dict(twin.named_buffers())
    with torch.no_grad():
        for name, value in unit_zeta(net).items():
            tensors[name].copy_(value)
    return twin


def _fastgrnn(net: SequenceClassifier) -> FastGRNNCell | None:
    """The only cell of a network, where it is one whose recurrent products the exporter can round."""
    cell = net.rnn.cells[0]
    return cell if len(net.rnn.cells) == 1 and isinstance(cell, FastGRNNCell) else None


@contextmanager
def _rounding(net: SequenceClassifier, levels: tuple[Levels, ...] | None) -> Iterator[None]:
    """Let the recurrent products round what they read."""
    if levels is None:
        yield
        return
    cell = net.rnn.cell
    cell.rounding = levels
    try:
        yield
    finally:
        cell.rounding = None


class _RoundedWeight(torch.autograd.Function):
    """As ``fastzoo.export.weights.quantize`` rounds; no weight is beyond the largest level, so no gradient is lost."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        scale = weight.abs().amax() / 127
        scale = torch.where(scale == 0, 1.0, scale)
        return (weight / scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _RoundedActivation(torch.autograd.Function):
    """As QuantizeLinear and DequantizeLinear round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Levels) -> Tensor:
        ctx.save_for_backward(x)
        ctx.levels = levels
        return (x / levels.scale).round_().clamp_(-levels.zero, 255 - levels.zero).mul_(levels.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Half a level beyond the last one is rounding, not clipping; the ends of the range may lie exactly there.
        low, high = (ctx.levels.scale * end for end in (-ctx.levels.zero - 0.501, 255.501 - ctx.levels.zero))
        return torch.ops.aten.hardtanh_backward(gradient, x, low, high), None  # 0 outside
