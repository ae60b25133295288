"""Bytes: what fits, and what to do where something does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fastzoo._values import is_whole
from fastzoo.data import Dataset
from fastzoo.errors import TrainingError
from fastzoo.train.budget.scales import Scales, Sizes, largest
from fastzoo.train.recipe import ModelConfig
from fastzoo.train.sparsity import Sparsity

LARGEST = 256  # units that `suggest` proposes at most: beyond, a network is no longer a matter of kilobytes
SUGGESTIONS = 3
LITTLE = 0.25  # a suggestion that keeps less of H or of a rank than this comes last


def int8_bytes(model: ModelConfig, data: Dataset | Sizes, sparsity: Sparsity | None = None) -> int:
    """What the network will weigh in int8: ``fastzoo.nn.model_size(...).int8_bytes``, without building it.

    Args:
        model: the network.
        data: what fixes channels and classes.
        sparsity: count what is left, in the paper's way: a matrix that loses more than half of its entries takes 2
            bytes, value and index, for each that is kept. None = dense, zeros in full, as fastzoo's files store them.

    Raises:
        TrainingError: the network cannot be built.
    """
    return Scales(model, data, sparsity).requested()


def check_bytes(
    model: ModelConfig,
    data: Dataset | Sizes,
    max_bytes: int,
    sparsity: Sparsity | None = None,
    *,
    sparse: bool = False,
) -> None:
    """Refuse a network whose int8 weights exceed a budget, and say what would fit.

    Counted are matrices and head with one byte a number and a float32 scale each, and biases in float32; not the
    normalisation and not the graph around the weights.

    Args:
        model: the network.
        data: what fixes channels and classes.
        max_bytes: the budget.
        sparsity: that of the run, if any.
        sparse: count what sparsity leaves (see :func:`int8_bytes`); otherwise zeros count in full.

    Raises:
        TrainingError: the network is too large or cannot be built, or the budget makes no sense.
    """
    counted = sparsity if sparse else None
    scales = Scales(model, data, counted)
    _check_budget(max_bytes)
    weight = scales.requested()
    if weight <= max_bytes:
        return
    how = "dense"
    if counted:
        how = "sparse: 2 bytes for each number left, where less than half are"
    elif sparsity:
        how = "dense: zeros are stored too"
    message = (
        f"a {model.cell} of {model.hidden_size} units with {scales.classes} classes weighs {weight} bytes in int8 "
        f"({how}), {weight - max_bytes} more than the budget of {max_bytes}"
    )
    found = alternatives(model, data, max_bytes, counted)
    if not found:
        raise TrainingError(f"{message}; {scales.smallest()}")
    widest = scales.widest(model.hidden_size, max_bytes)
    if widest < model.hidden_size:
        message += f"; no rank fits so many units, at most {widest} fit (with ranks of 1)"
    listed = (f"{options(config, model)} ({Scales(config, data, counted).requested()} bytes)" for config in found)
    raise TrainingError(f"{message}. These fit: {'; '.join(listed)}")


def alternatives(
    model: ModelConfig, data: Dataset | Sizes, max_bytes: int, sparsity: Sparsity | None = None
) -> list[ModelConfig]:
    """Networks like ``model`` that fit the budget, at most three, those first that keep most of what was asked for.

    1. H is kept and all ranks are lowered alike, until none could be higher.
    2. The ranks are kept and H is lowered as far as needed.
    3. H half-way between (geometrically), ranks lowered as in 1.

    One that keeps less than a quarter of H or of a rank comes after those that do not. A full matrix becomes low-rank
    only where the factors weigh less than the matrix, and a rank at which they weigh more becomes ``None``: the full
    matrix is lighter, and can do all that they can. Arguments as in :func:`int8_bytes`.

    Raises:
        TrainingError: the network cannot be built, or the budget makes no sense.
    """
    _check_budget(max_bytes)
    scales = Scales(model, data, sparsity)
    hidden, wanted = model.hidden_size, scales.wanted
    widest = scales.widest(hidden, max_bytes)
    if not widest:
        return []
    narrow = largest(hidden, lambda h: scales.weigh(h, scales.kept(h, wanted)) <= max_bytes)
    found: list[tuple[bool, ModelConfig]] = []
    for h in (hidden, narrow, round(math.sqrt(max(narrow, 1) * widest))):
        if 1 <= h <= widest:
            ranks, share = scales.lowered(h, wanted, max_bytes)
            found.append((min(share, h / hidden) < LITTLE, scales.config(h, ranks)))
    different: list[ModelConfig] = []
    for _, config in sorted(found, key=lambda pair: pair[0]):
        if config not in different and scales.confirmed(config, max_bytes):
            different.append(config)
    return different[:SUGGESTIONS]


def suggest(
    max_bytes: int, data: Dataset | Sizes, model: ModelConfig | None = None, sparsity: Sparsity | None = None
) -> list[ModelConfig]:
    """Networks for a budget where nobody named H or ranks; the first is the one to take.

    1. No rank above H / 3, and the largest H, up to 256, that fits. A state of H units moves in far fewer
       directions: the published FastGRNNs have U ranks of H / 4 to H / 2, the HAR model of this zoo 20 of 52. At H / 3
       a factored U takes two thirds of the bytes of a full one, which go into more units. W is treated alike; with the
       few channels of a sensor its factors would weigh more than itself, and it stays full.
    2. Full matrices and the largest H that fits: fewer units, each connected with all others.
    3. No rank above H / 6 and the largest H that fits: many units for long memory.

    Args:
        max_bytes: the budget.
        data: what fixes channels and classes.
        model: gives everything but H and ranks; default ``ModelConfig()``.
        sparsity: as in :func:`int8_bytes`.

    Raises:
        TrainingError: nothing fits, the network cannot be built, or the budget makes no sense.
    """
    _check_budget(max_bytes)
    free = replace(model or ModelConfig(), hidden_size=1, w_rank=None, u_rank=None)
    scales = Scales(free, data, sparsity)
    found: list[ModelConfig] = []
    for part in (3, None, 6):

        def fits(hidden: int, part: int | None = part) -> bool:
            return scales.weigh(hidden, scales.limited(hidden, part)) <= max_bytes

        if hidden := largest(LARGEST, fits):
            config = scales.config(hidden, scales.limited(hidden, part))
            if config not in found and scales.confirmed(config, max_bytes):
                found.append(config)
    if not found:
        raise TrainingError(f"nothing fits {max_bytes} bytes: {scales.smallest()}")
    return found


def options(config: ModelConfig, asked: ModelConfig) -> str:
    """What to change of ``asked`` to get ``config``, as options of ``fastzoo train``."""
    text = [] if config.hidden_size == asked.hidden_size else [f"--hidden-size {config.hidden_size}"]
    for name in ("w_rank", "u_rank"):
        new, old = (option(name, getattr(model, name)) for model in (config, asked))
        if new != old:
            text.append(new)
    return " ".join(text)


def option(name: str, rank: int | Sequence[int | None] | None) -> str:
    """A rank as an option; ``full`` and one for each layer are values of a recipe."""
    if isinstance(rank, int):
        return f"--{name.replace('_', '-')} {rank}"
    if rank is None:
        return f"--set model.{name}=full"
    words = ", ".join('"full"' if part is None else str(part) for part in rank)
    return f"--set 'model.{name}=[{words}]'"


def _check_budget(max_bytes: int) -> None:
    if not is_whole(max_bytes, 1):
        raise TrainingError(f"the budget must be a whole number of bytes, at least 1, not {max_bytes!r}")
