"""A recurrent cell, pooling over its last states, and a linear head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastzoo._values import is_whole
from fastzoo.nn.sequence import CELLS, Recurrent


class SequenceClassifier(nn.Module):
    """Raw sensor windows in, logits out.

    Args:
        rnn: the recurrent module (``batch_first=False``); of both directions, each contributes the states that it
            reached last.
        num_classes: C.
        pool: K, the mean of the last K states is classified; 1 = the last state alone.
        brick: samples that the rnn reads in one step, one after the other in its input: an rnn of ``input_size`` 28
            reads one channel in bricks of 28. It takes fewer steps, and long windows are learnt that sample by sample
            are not. A window must be a whole number of bricks.

    Normalisation is part of the network: ``mean`` and ``std`` (per channel, buffers [D]) are set from training data
    by :meth:`set_normalisation`, and exported with the rest.
    """

    rnn: Recurrent
    pool: int
    brick: int
    head: nn.Linear
    mean: Tensor
    std: Tensor

    def __init__(self, rnn: Recurrent, num_classes: int, pool: int = 1, brick: int = 1) -> None:
        super().__init__()
        if rnn.batch_first:
            raise ValueError("SequenceClassifier turns [N, T, D] around itself: build the rnn with batch_first=False")
        if not is_whole(num_classes, 2):
            raise ValueError(f"num_classes must be a whole number of at least 2, not {num_classes!r}")
        if not is_whole(pool, 1):
            raise ValueError(f"pool must be a whole number of at least 1, not {pool!r}")
        if not is_whole(brick, 1) or rnn.input_size % brick:
            raise ValueError(
                f"brick must be a whole number of samples that fill the {rnn.input_size} inputs of the rnn, "
                f"not {brick!r}"
            )
        self.rnn = rnn
        self.pool = pool
        self.brick = brick
        self.head = nn.Linear(rnn.output_size, num_classes)
        self.register_buffer("mean", torch.zeros(self.input_size))
        self.register_buffer("std", torch.ones(self.input_size))

    @property
    def input_size(self) -> int:
        """D, channels of a sample."""
        return self.rnn.input_size // self.brick

    def set_normalisation(self, x: Tensor, at_rest: float = 0.0) -> None:
        """Take mean and scale per channel from windows; a constant channel keeps scale 1.

        Args:
            x: [N, T, D] in raw units.
            at_rest: 0 scales by the standard deviation over all windows; 1 by the typical one inside a window, the
                geometric mean over the windows; between them geometrically. A sensor that lies still in some classes
                and shakes in others has a large deviation over all windows, against which the small movements that
                tell the quiet classes apart are lost.
        """
        self.mean.copy_(x.mean(dim=(0, 1)))
        overall = x.std(dim=(0, 1))
        rounding = 1e-6 * x.abs().amax(dim=(0, 1))  # what float32 makes of a constant far from zero
        scale = overall
        if at_rest:
            within = x.std(dim=1).clamp_min(1e-3 * overall).log().mean(dim=0).exp()
            scale = overall ** (1 - at_rest) * within**at_rest
        self.std.copy_(torch.where(overall > rounding, scale, torch.ones_like(scale)))

    def forward(self, x: Tensor) -> Tensor:
        """``x [N, T, D]`` in raw units -> logits [N, C]."""
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"expected windows [N, T, D] with D = {self.input_size}, got {list(x.shape)}")
        if fault := self.misfit(x.shape[1]):
            raise ValueError(fault)
        states, _ = self.rnn(self.read(x))  # [steps, N, H] or [steps, N, 2 H]
        pooled = states[-self.pool :].mean(dim=0)
        if self.rnn.bidirectional:  # the backward direction ends at step 0
            size = self.rnn.hidden_size
            pooled = torch.cat([pooled[:, :size], states[: self.pool, :, size:].mean(dim=0)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits

    def read(self, x: Tensor) -> Tensor:
        """What the rnn reads of windows ``x [N, T, D]`` in raw units: normalised bricks [T / brick, N, brick D]."""
        normalised = (x - self.mean) / self.std
        if self.brick > 1:
            normalised = normalised.reshape(len(x), x.shape[1] // self.brick, self.rnn.input_size)
        return normalised.transpose(0, 1)

    def misfit(self, samples: int) -> str | None:
        """Why windows of so many samples cannot be read; None where they can."""
        steps, rest = divmod(samples, self.brick)
        if rest:
            return f"windows of {samples} samples are no whole number of bricks of {self.brick}"
        if self.pool > steps:
            return f"pool = {self.pool} states, but the windows have {steps} steps"
        return None

    def config(self) -> dict[str, Any]:
        """What :meth:`from_config` needs to build this network again, without its weights; JSON-able."""
        config = {"cell": self.rnn.config(), "num_classes": self.head.out_features, "pool": self.pool}
        return config | ({"brick": self.brick} if self.brick > 1 else {})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SequenceClassifier:
        """A network with fresh weights from :meth:`config`.

        Raises:
            ValueError: the cell is unknown, or an argument is missing, unknown or out of range.
        """
        try:
            cell = dict(config["cell"])
            if (kind := cell.pop("type", None)) not in CELLS:
                raise ValueError(f"unknown cell {kind!r}; known are {', '.join(CELLS)}")
            return cls(CELLS[kind](**cell), config["num_classes"], config["pool"], config.get("brick", 1))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the description of a classifier: {error}") from error
