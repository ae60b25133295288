"""Arrays from files: ``.npy`` and ``q*.npy`` of a folder, and state dicts. Nothing that a file says is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastzoo.errors import EdgeMLError
from fastzoo.nn.edgeml.forms import HEAD, NAMES, PARAMETERS

Array = npt.NDArray[np.float64]

_WANTED = {"f": "floating-point numbers", "iu": "integers", "iuf": "numbers"}  # by the kinds of their dtypes
_LEAVES = {PARAMETERS.get(name, name): name for name in NAMES if name not in HEAD}  # names by the keys of a cell


@dataclass(frozen=True)
class Parts:
    """Arrays by the names of the trainers' files."""

    where: Path
    arrays: Mapping[str, Array]
    label: Callable[[str], str]  # what an array of this name is called in ``where``

    def labels(self, names: Sequence[str]) -> str:
        """Names as they are called in ``where``, for messages."""
        return ", ".join(map(self.label, names))


def float_parts(folder: Path) -> Parts:
    """The numbers of a trainer's folder; none where it is no such folder."""
    return Parts(folder, {name: npy(path, "f") for name, path in _found(folder)}, "{}.npy".format)


def quantized_parts(folder: Path) -> Parts:
    """The numbers that the integers stand for; scalars, which are stored after their sigmoid, as logits."""
    arrays = {}
    for name, path in _found(folder, "q"):
        which = "param" if name[0] in "WUB" else "classifier" if name in HEAD else "scalar"
        arrays[name] = npy(path, "iu") / _scale(folder / f"{which}ScaleFactor.npy")
        if which == "scalar":
            arrays[name] = _logit(path, arrays[name])
    return Parts(folder, arrays, "q{}.npy".format)


def _found(folder: Path, prefix: str = "") -> list[tuple[str, Path]]:
    """Names with their files, of those that are there."""
    files = [(name, folder / f"{prefix}{name}.npy") for name in NAMES]
    return [(name, path) for name, path in files if path.exists()]


def _scale(path: Path) -> float:
    if not path.exists():
        raise EdgeMLError(f"{path} is missing; without it the q*.npy files are numbers of unknown size")
    scale = npy(path, "iuf")
    if scale.size != 1 or not scale.item() > 0:
        raise EdgeMLError(f"{path} must hold one number above 0, not {scale.tolist()}")
    return float(scale.item())


def _logit(path: Path, sigmoid: Array) -> Array:
    if not ((sigmoid >= 0) & (sigmoid <= 1)).all():
        raise EdgeMLError(f"{path} must hold a sigmoid's value times scalarScaleFactor, but that is {sigmoid.tolist()}")
    with np.errstate(divide="ignore"):  # 0 and 1 are the sigmoids of -infinity and infinity
        return np.log(sigmoid) - np.log1p(-sigmoid)


def npy(path: Path, kinds: str) -> Array:
    """The array of one file, checked to be of one of these dtype ``kinds`` and finite in float32."""
    try:
        with path.open("rb") as file:  # opened here, since np.load leaves a damaged file open
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # the parser of NumPy's headers raises many kinds on damaged files
        raise EdgeMLError(f"{path} cannot be read as an array without Python objects: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        held = getattr(array, "dtype", "an archive")
        raise EdgeMLError(f"{path} holds {held}, where EdgeML writes {_WANTED[kinds]}")
    return _finite(array, str(path))


def _finite(array: npt.NDArray[Any], label: str) -> Array:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity
        bad = ~np.isfinite(array.astype(np.float32))
    if bad.any():
        raise EdgeMLError(
            f"{label} holds NaN or infinity, {bad.sum()} of {bad.size} numbers: the training diverged, or the file is "
            "damaged; there is nothing to import"
        )
    return array.astype(np.float64)


def elsewhere(folder: Path) -> str:
    """Where the user may have meant to point."""
    patterns = [depth + name for name in ("FC.npy", "qFC.npy", "*.pt", "*.pth") for depth in ("", "*/", "*/*/")]
    near = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    models = dict.fromkeys(path.parent if path.suffix == ".npy" else path for path in near)
    return f". Did you mean {' or '.join(map(str, list(models)[:3]))}?" if models else ""


def state_dict(path: Path) -> dict[str, Array]:
    """Arrays by key; the file is parsed without running code from it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch each raise their own on damaged and hostile files
        raise EdgeMLError(
            f"{path} cannot be read as a state dict without running code from it. Save one where the model comes "
            f"from: torch.save(model.state_dict(), 'model.pt'). ({(str(error) or repr(error)).split('. ')[0]})"
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):  # as training loops save it beside other things
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise EdgeMLError(f"{path} is not a state dict, which holds nothing but tensors by name")
    for key, value in state.items():
        if value.layout is not torch.strided or not value.is_floating_point():
            kind = value.dtype if value.layout is torch.strided else value.layout
            raise EdgeMLError(f"{path} holds {kind} in {key}, where EdgeML has plain floating-point numbers")
    return {key: _finite(value.detach().double().numpy(), f"{path}, {key}") for key, value in state.items()}


def cells_and_head(path: Path, state: Mapping[str, Array]) -> tuple[list[Parts], Parts | None]:
    """The layers in order, and the linear layer on top, if any."""
    groups: dict[str, dict[str, Array]] = {}
    for key, array in state.items():
        module, _, leaf = key.rpartition(".")
        # unrollRNN holds the cell once more; rnn_list_ stands in for FastGRNNCUDA in ONNX files and is not trained
        if not {"unrollRNN", "rnn_list_"} & set(module.split(".")):
            groups.setdefault(module, {})[leaf] = array
    if any("_reverse." in key for key in state):
        raise EdgeMLError(
            f"{path} reads sequences in both directions, as RNNPool does; only one direction can be imported"
        )
    if set(groups.get("", {})) == {"W", "B"}:
        raise EdgeMLError(f"{path} is an SRNN2, which works on bricks of a sequence; only plain layers can be imported")
    heads = {module: group for module, group in groups.items() if set(group) == {"weight", "bias"}}
    cells = {module: group for module, group in groups.items() if set(group) <= _LEAVES.keys()}
    if others := [_key(module, leaf) for module in groups if module not in heads | cells for leaf in groups[module]]:
        raise EdgeMLError(f"{path} holds what is neither a cell of EdgeML's nor a linear layer: {_few(others)}")
    if not cells:
        raise EdgeMLError(f"{path} holds no cell of EdgeML's, but {_few(list(state)) or 'nothing'}")
    if len(heads) > 1:
        raise EdgeMLError(f"{path} holds {len(heads)} linear layers, {_few(list(heads))}; one on top can be imported")
    head = [_head_parts(path, module, group) for module, group in heads.items()]
    return [_cell_parts(path, module, group) for module, group in cells.items()], head[0] if head else None


def _head_parts(path: Path, module: str, group: Mapping[str, Array]) -> Parts:
    arrays = {"FC": group["weight"].T, "FCbias": group["bias"]}
    labels = {"FC": _key(module, "weight") + ".T", "FCbias": _key(module, "bias")}
    return Parts(path, arrays, labels.__getitem__)


def _cell_parts(path: Path, module: str, group: Mapping[str, Array]) -> Parts:
    """A cell's arrays by the names that the trainers would give their files."""
    names = {**_LEAVES, "bias_update": "Bh" if "bias_gate" in group else "B"}
    arrays = {names[leaf]: array for leaf, array in group.items()}
    return Parts(path, arrays, lambda name: _key(module, PARAMETERS.get(name, name)))


def _key(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if module else leaf


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
