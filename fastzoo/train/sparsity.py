"""Sparse weights by iterative hard thresholding, in EdgeML's three phases.

Kusupati et al., NeurIPS 2018, section 3.2: first the network is trained dense; then, again and again, each matrix loses
its smallest entries and what is left is trained on; at last the support, which entries may differ from zero, is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fastzoo._values import is_number, is_whole
from fastzoo.nn import Cell

Phase = Literal["dense", "thresholding", "frozen"]


@dataclass(frozen=True)
class Sparsity:
    """How sparse the factors of W and U become, and when.

    Args:
        w: share of the entries that each factor of W keeps; 1 = dense.
        u: the same for U.
        begin: share of all steps after which thresholding begins.
        end: share of all steps after which the support is frozen.
        every: steps between two thresholds.
        schedule: ``"constant"``, EdgeML's, thresholds to the final share from the start; ``"cubic"`` comes down to it
            over the thresholding phase, fast at first (Zhu and Gupta, "To prune, or not to prune", 2017, equation 1).

    Raises:
        ValueError: settings have the wrong type or are out of range, all of them in one message.
    """

    w: float = 1.0
    u: float = 1.0
    begin: float = 1 / 3
    end: float = 2 / 3
    every: int = 15
    schedule: Literal["constant", "cubic"] = "constant"

    def __post_init__(self) -> None:
        faults = [
            f"{name} must be {wanted}, not {getattr(self, name)!r}"
            for name, good, wanted in (
                ("w", is_number(self.w, 0, 1) and self.w > 0, "the share that is kept, in (0, 1]"),
                ("u", is_number(self.u, 0, 1) and self.u > 0, "the share that is kept, in (0, 1]"),
                ("begin", is_number(self.begin, 0, 1), "a share of the steps, in [0, 1]"),
                (
                    "end",
                    is_number(self.end, 0, 1) and not (is_number(self.begin, 0, 1) and self.end < self.begin),
                    "a share of the steps, not before begin",
                ),
                ("every", is_whole(self.every, 1), "a whole number of at least 1"),
                ("schedule", self.schedule in ("constant", "cubic"), "'constant' or 'cubic'"),
            )
            if not good
        ]
        if faults:
            raise ValueError("; ".join(f"sparsity.{fault}" for fault in faults))

    def __bool__(self) -> bool:
        """Whether anything is to become sparse."""
        return min(self.w, self.u) < 1


class Thresholder:
    """Takes the factors of a network's cells from dense to sparse; biases, scalars and the head stay as they are.

    Args:
        net: the network.
        sparsity: how sparse, and when.
        steps: of the whole run.
    """

    def __init__(self, net: nn.Module, sparsity: Sparsity, steps: int) -> None:
        self.sparsity = sparsity
        # The last step at the latest: whatever the settings say, a run ends sparse.
        self.begin, self.end = (min(int(share * steps), steps - 1) for share in (sparsity.begin, sparsity.end))
        self.final = {name: (share, blocks) for name, share, blocks in _final_shares(net, sparsity)}
        self.supports: dict[str, Tensor] = {}  # which entries may differ from zero, by the factor's name
        self.share = 1.0  # how far the last threshold went, from 1 to 0: 0 is the final share

    def phase(self, step: int) -> Phase:
        """The phase of a step, counted from 0."""
        if step < self.begin or not self.final:
            return "dense"
        return "thresholding" if step < self.end else "frozen"

    @property
    def done(self) -> bool:
        """Whether the weights are as sparse as they shall be."""
        return not self.final or (bool(self.supports) and self.share == 0)

    def after_step(self, step: int, net: nn.Module, optimizer: Optimizer, average: nn.Module | None) -> None:
        """Threshold, or keep the support: to be called after each step of the optimiser.

        What was cut off stays zero in the weights, in their running average and in the optimiser's moments, which
        would otherwise push the entry back.

        Args:
            step: of the run, counted from 0.
            net: the network that the optimiser changed.
            optimizer: over its parameters.
            average: a copy of the network that holds the running average of its weights.
        """
        phase = self.phase(step)
        if phase == "dense":
            return
        parameters = {name: p for name, p in net.named_parameters() if name in self.final}
        if (phase == "thresholding" and step % self.sparsity.every == 0) or (phase == "frozen" and not self.done):
            self.share = self._share(step)
            self.supports = {name: self._support(name, p.detach()) for name, p in parameters.items()}
        averages = dict(average.named_parameters()) if average is not None else {}
        for name, mask in self.supports.items():
            moments = [value for value in optimizer.state[parameters[name]].values() if value.shape == mask.shape]
            for tensor in (parameters[name].detach(), *([averages[name].detach()] if averages else []), *moments):
                tensor.mul_(mask)

    def _support(self, name: str, weights: Tensor) -> Tensor:
        """What is left of a factor now; each gate's matrix is one of its own."""
        final, blocks = self.final[name]
        keep = 1 - (1 - final) * (1 - self.share)
        return torch.cat([support(part, keep) for part in weights.chunk(blocks, dim=1)], dim=1)

    def _share(self, step: int) -> float:
        """What is still to do after a threshold at ``step``, from 1 (dense) to 0 (final)."""
        if self.sparsity.schedule == "constant" or step + self.sparsity.every >= self.end:
            return 0.0
        return float((1 - (step - self.begin) / (self.end - self.begin)) ** 3)


def support(weights: Tensor, keep: float) -> Tensor:
    """Which entries of a matrix survive a hard threshold, as ones and zeros of its type.

    The share ``keep`` of the entries that are largest in magnitude, over the whole matrix, as EdgeML's
    ``hardThreshold`` counts it, by a percentile that rounds up. Equal entries share one fate; zeros never survive.
    """
    magnitudes = weights.abs()
    threshold = np.percentile(magnitudes.cpu().numpy(), (1 - keep) * 100, method="higher")
    return ((magnitudes >= float(threshold)) & (weights != 0)).to(weights.dtype)


def nonzeros(net: nn.Module, names: Iterable[str]) -> int:
    """Entries that differ from zero in the parameters of these names."""
    parameters = dict(net.named_parameters())
    return sum(int(torch.count_nonzero(parameters[name])) for name in names)


def _final_shares(net: nn.Module, sparsity: Sparsity) -> Iterator[tuple[str, float, int]]:
    """Name, share that is kept, and gates side by side, of each factor that becomes sparse."""
    for prefix, module in net.named_modules():
        if isinstance(module, Cell):
            for name, parameter in module.named_parameters(recurse=False):
                share = {"W": sparsity.w, "U": sparsity.u}.get(name[0], 1.0)
                if share < 1 and parameter.dim() == 2:
                    blocks = len(module.blocks) if name[1:] in ("", "2") else 1
                    yield f"{prefix}.{name}" if prefix else name, share, blocks
