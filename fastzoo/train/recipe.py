"""Recipes: a TOML file that defines a training run, so that a published model can be made again.

::

    seeds = 5

    [data]
    id = "har"

    [model]
    cell = "fastgrnn"
    hidden_size = 64
    w_rank = 6
    u_rank = 16
    nu = 0.0
    pool = 64

    [train]                   # fields of fastzoo.train.Settings
    epochs = 60

    [train.augmentation]      # fields of fastzoo.train.Augmentation; [[train.augmentation]] for several
    rotate = 0.25

    [train.distillation]      # fields of fastzoo.train.Distillation
    teachers = ["gru-har"]

    [bundle]                  # what the exported bundle says about itself
    name = "fastgrnn-har"
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from fastzoo._values import is_whole
from fastzoo.data import Cut, Dataset
from fastzoo.errors import DataError, TrainingError, require
from fastzoo.nn import CELLS, Recurrent, SequenceClassifier
from fastzoo.train.augment import Augmentation
from fastzoo.train.distillation import Distillation
from fastzoo.train.settings import Settings
from fastzoo.train.sparsity import Sparsity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# How a recipe says None.
_NONE = {"w_rank": "full", "u_rank": "full"} | dict.fromkeys(("alpha", "beta", "zeta", "nu"), "trained")


@dataclass(frozen=True)
class ModelConfig:
    """The network, but for the sizes that the data set fixes.

    Args:
        cell: a name of ``fastzoo.nn.CELLS``.
        pool: how many of the last states are averaged for the head.
        brick: samples that are read in one step.

    The other fields are arguments of the cell's module in ``fastzoo.nn``; one that this cell lacks keeps its default.
    A rank may be ``"full"``, a scalar ``"trained"``: None, which TOML does not have.
    """

    cell: str = "fastgrnn"
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    w_rank: int | Sequence[int | None] | None = None
    u_rank: int | Sequence[int | None] | None = None
    gate_nonlinearity: str = "sigmoid"
    update_nonlinearity: str = "tanh"
    alpha: float | None = None
    beta: float | None = None
    alpha_init: float | Sequence[float] = -3.0
    beta_init: float | Sequence[float] = 3.0
    zeta: float | None = None
    nu: float | None = 0.0
    gate_bias: float | Sequence[float] = 1.0
    pool: int = 1
    brick: int = 1

    def __post_init__(self) -> None:
        for name, word in _NONE.items():
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, [None if part == word else part for part in value])
            elif isinstance(value, str) and value == word:
                object.__setattr__(self, name, None)

    def build(self, dataset: Dataset, seed: int) -> SequenceClassifier:
        """A network with seeded fresh weights for the channels and classes of ``dataset``.

        Raises:
            TrainingError: a size or name is impossible.
        """
        torch.manual_seed(seed)
        try:
            if self.cell not in CELLS:
                raise ValueError(f"unknown cell {self.cell!r}; there are {', '.join(CELLS)}")
            if not is_whole(self.brick, 1):
                raise ValueError(f"brick must be a whole number of at least 1, not {self.brick!r}")
            rnn = CELLS[self.cell](dataset.x.shape[2] * self.brick, **self._arguments(CELLS[self.cell]))
            return SequenceClassifier(rnn, len(dataset.classes), self.pool, self.brick)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: more memory than there is
            raise TrainingError(f"cannot build this network for {dataset.id!r}: {error}") from error

    def _arguments(self, kind: type[Recurrent]) -> dict[str, Any]:
        """The fields that ``kind`` takes."""
        taken = {*signature(Recurrent).parameters, *signature(kind.cell_type).parameters}
        own = [f for f in fields(self) if f.name not in ("cell", "pool", "brick")]
        if foreign := [f.name for f in own if f.name not in taken and getattr(self, f.name) != f.default]:
            raise ValueError(f"a {self.cell} has no {', '.join(foreign)}")
        return {f.name: getattr(self, f.name) for f in own if f.name in taken}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run."""

    data: str  # an id, or the path of a prepared file, a table, a folder of recordings
    model: ModelConfig = field(default_factory=ModelConfig)
    settings: Settings = field(default_factory=Settings)
    seeds: int = 1
    folds: int = 0  # cross-validation over groups in so many parts, in the place of seeds; 0 = none
    bundle: Mapping[str, str] = field(default_factory=dict)
    cut: Cut = field(default_factory=Cut)  # how recordings are cut into windows

    @property
    def several(self) -> bool:
        """Whether there is more than one run."""
        return self.seeds > 1 or self.folds > 0


_PACKAGE = Path(__file__).parent.parent


def of_model(name: str) -> Path:
    """The recipe of a bundle that comes with fastzoo.

    Raises:
        TrainingError: there is none for it.
    """
    folders = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")  # in a wheel; in a checkout
    found = sorted(next((folder for folder in folders if folder.is_dir()), folders[0]).glob("*.toml"))
    for path in found:
        if path.stem == name:
            return path
    names = ", ".join(path.stem for path in found)
    raise TrainingError(f"no recipe of {name!r} comes with fastzoo: give its file. There are {names or 'none'}")


_PARTS = {"sparsity": Sparsity, "distillation": Distillation}  # tables of [train]
BUNDLE_FIELDS = ("name", "version", "summary", "weights_licence")


def read(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe file.

    Raises:
        TrainingError: the file is missing or not TOML, or holds unknown or impossible settings.
    """
    return parse(load(path), str(path))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The TOML document of a recipe file, whose tables are tables, for :func:`parse`; errors as in :func:`read`."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"the recipe {path} is not TOML: {error}") from error
    for key in ("data", "model", "train", "bundle"):
        _table(str(path), document, key)
    train = _table(str(path), document, "train")
    for key in _PARTS:
        _table(f"{path} [train]", train, key)
    _augmentation(f"{path} [train]", train)
    return document


def parse(document: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """A recipe from its TOML document; errors as in :func:`read`."""
    _only(name, document, ("data", "model", "train", "seeds", "folds", "bundle"))
    data, train = _table(name, document, "data"), dict(_table(name, document, "train"))
    _only(f"{name} [data]", data, ("id", *(f.name for f in fields(Cut))))
    bundle = _table(name, document, "bundle")
    _only(f"{name} [bundle]", bundle, BUNDLE_FIELDS)
    seeds = document.get("seeds", 1)
    if not is_whole(seeds, 1):
        raise TrainingError(f"{name}: seeds must be a whole number of at least 1, not {seeds!r}")
    folds = document.get("folds", 0)
    if not is_whole(folds, 0) or folds == 1 or (folds and seeds > 1):
        raise TrainingError(f"{name}: folds must be 2 or more, with one seed, or 0; not {folds!r} with {seeds} seed(s)")
    if wrong := [key for key, value in bundle.items() if not isinstance(value, str)]:
        raise TrainingError(f"{name} [bundle]: {', '.join(wrong)} must be text, in quotation marks")
    if not isinstance(data.get("id"), str):
        raise TrainingError(f'{name}: [data] needs an id, for example id = "har"')
    given = _augmentation(name, train)
    if isinstance(given, Mapping):
        train["augmentation"] = _record(f"{name} [train.augmentation]", Augmentation, given)
    else:
        parts = [
            _record(f"{name} [[train.augmentation]] no. {i}", Augmentation, part) for i, part in enumerate(given, 1)
        ]
        train["augmentation"] = tuple(parts)
    for key, record in _PARTS.items():
        train[key] = _record(f"{name} [train.{key}]", record, _table(name, train, key))
    if folds and train["distillation"]:
        raise TrainingError(
            f"{name}: folds hold subjects out that a teacher was trained on, so that their accuracy would flatter: "
            "leave out the folds, or [train.distillation]"
        )
    return Recipe(
        data=data["id"],
        cut=_record(f"{name} [data]", Cut, {key: value for key, value in data.items() if key != "id"}),
        model=_record(f"{name} [model]", ModelConfig, _table(name, document, "model")),
        settings=_record(f"{name} [train]", Settings, train),
        seeds=seeds,
        folds=folds,
        bundle=dict(bundle),
    )


def change(document: dict[str, Any], key: str, value: Any, name: str = "recipe") -> None:
    """Set one key of a document of :func:`load`, such as ``"train.epochs"``; tables are made as needed.

    Raises:
        TrainingError: the key leads through something that is no table.
    """
    *path, last = key.split(".")
    for part in path:
        inner = document.setdefault(part, {})
        if not isinstance(inner, dict):
            raise TrainingError(f"{name}: {part} is no table, so there is no {key}")
        document = inner
    document[last] = value


def value(text: str) -> Any:
    """What a word of the command line means in a recipe: a TOML value, or else text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def to_toml(recipe: Recipe) -> bytes:
    """The recipe as a file that :func:`read` takes, every field written out."""
    require("tomli_w", extra="train", purpose="writing a recipe")
    import tomli_w

    train = asdict(recipe.settings)
    tables = {name: train.pop(name) for name in ("augmentation", *_PARTS)}
    document = {
        "seeds": recipe.seeds,
        "folds": recipe.folds,
        "data": {"id": recipe.data} | recipe.cut.given(),
        "model": {name: _spelt(name, value) for name, value in asdict(recipe.model).items()},
        "train": train | tables,  # tables come last
        "bundle": dict(recipe.bundle),
    }
    return tomli_w.dumps(document).encode()


def _spelt(name: str, value: Any) -> Any:
    """A field of the model as TOML, which has no None."""
    if isinstance(value, list | tuple):
        return [_spelt(name, part) for part in value]
    return _NONE.get(name, value) if value is None else value


def _table(name: str, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, Mapping):
        raise TrainingError(f"{name}: {key} must be a table")
    return table


def _augmentation(name: str, train: Mapping[str, Any]) -> Mapping[str, Any] | list[Mapping[str, Any]]:
    """The table, or array of tables, of the augmentation."""
    given = train.get("augmentation", {})
    if isinstance(given, Mapping) or (isinstance(given, list) and all(isinstance(part, Mapping) for part in given)):
        return given
    raise TrainingError(f"{name}: augmentation must be a table or an array of tables")


def _only(name: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(table.keys() - set(known)):
        raise TrainingError(f"{name}: unknown {', '.join(unknown)}; known are {', '.join(known)}")


def _record(name: str, record: Any, values: Mapping[str, Any]) -> Any:
    """A settings record from a table, its values checked."""
    _only(name, values, tuple(f.name for f in fields(record)))
    try:
        return record(**values)
    except (TypeError, ValueError, DataError) as error:
        raise TrainingError(f"{name}: {error}") from error
