"""A published bundle made again: its files from the weights that it ships, or the weights from their recipe."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch

from fastzoo import _json, bundle
from fastzoo._files import sha256
from fastzoo.bundle import Bundle, LayoutFile
from fastzoo.data import Dataset
from fastzoo.errors import DataError, ExportError, TrainingError
from fastzoo.export import describe
from fastzoo.export.c import c_header
from fastzoo.export.contract import inscribe
from fastzoo.export.layouts import Builder, Form, Scheme
from fastzoo.export.network import Floats
from fastzoo.export.shrink import shrunk
from fastzoo.export.sound import sound_graph
from fastzoo.export.source import Source, calibration_windows, of_bundle, with_data
from fastzoo.nn import SequenceClassifier
from fastzoo.train import Recipe, Run, Settings, checkpoint, fit_recipe
from fastzoo.train.checkpoint import this_environment
from fastzoo.train.settings import chosen

# Student's t: so many standard deviations hold 95 % of what is drawn from as little as these degrees of freedom.
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)

IDENTICAL, WITHIN, DIFFERS, UNCHECKED = "bit-identical", "within the seed spread", "differs", "not checked"


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Args:
        file: its name.
        verdict: ``"bit-identical"``, ``"within the seed spread"``, ``"differs"`` or ``"not checked"``.
        published_sha256: of the shipped file.
        sha256: of the one made again.
        published_accuracy: on the test split, of the published file; of another seed, what was published for it.
        accuracy: of the one made again.
        interval: in which 95 % of further seeds are expected, by those that were published.
        reason: why it was not checked, or what differs.
    """

    file: str
    verdict: str
    published_sha256: str
    sha256: str | None = None
    published_accuracy: float | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class WeightsResult:
    """The weights that a recipe gave, beside the published ones.

    Args:
        seed: that was trained.
        published_seed: whose weights were published.
        identical: bit by bit; None where a seed was trained whose weights were not shipped.
        max_difference: of any weight; None as above, or where the shapes differ.
    """

    seed: int
    published_seed: int | None
    identical: bool | None
    max_difference: float | None


@dataclass(frozen=True)
class Reproduction:
    """What was found; ``source`` is ``"weights"`` or ``"recipe"``, ``notes`` what may explain a difference."""

    name: str
    source: str
    files: tuple[FileResult, ...]
    weights: WeightsResult | None = None
    notes: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Nothing that was checked differs, and something was."""
        verdicts = {result.verdict for result in self.files}
        return DIFFERS not in verdicts and verdicts != {UNCHECKED}


def from_weights(
    folder: str | os.PathLike[str],
    dataset: Dataset | str | None = None,
    on_file: Callable[[str], None] = lambda name: None,
) -> Reproduction:
    """Export and quantize the shipped fp32 weights again, and compare every file with the shipped one, bit by bit.

    Args:
        folder: of the bundle, with all its files.
        dataset: the data set, or its id, whose windows gave the ranges of 8-bit activations; default the recorded one.
            Files without such ranges need none.
        on_file: called with the name of each file before it is made.

    Raises:
        BundleError: the bundle is faulty.
        ExportError: its network cannot be built again, or the data set does not fit.
    """
    place = Path(folder)
    content, source = bundle.read(place), of_bundle(place)
    windows, missing = _calibration(source, content, place, dataset)
    files = []
    for made in _remade(content, source, place, windows, missing, on_file):
        verdict, reason = UNCHECKED, made.missing
        if made.sha256 is not None:
            verdict = IDENTICAL if made.sha256 == made.record.sha256 else DIFFERS
        files.append(FileResult(made.record.file, verdict, made.record.sha256, made.sha256, reason=reason))
    notes = _environment_notes((content.environment or {}).get("export", {}), describe.environment(source)["export"])
    return Reproduction(content.name, "weights", tuple(files), notes=notes)


def from_recipe(
    folder: str | os.PathLike[str],
    recipe: Recipe,
    dataset: Dataset,
    out: str | os.PathLike[str],
    seed: int | None = None,
    *,
    threads: int | None = None,
    resumed: bool = False,
    progress: bool = True,
    on_file: Callable[[str], None] = lambda name: None,
) -> Reproduction:
    """Train a published model again, and compare weights, files and test accuracy with the published ones.

    Args:
        folder: of the bundle, with all its files.
        recipe: of which the bundle was made.
        dataset: the recipe's data.
        out: the folder of the run.
        seed: default the published one.
        threads: default as many as the published run had; other numbers give other last bits.
        resumed: go on with what an earlier call left in ``out``.
        progress: show a progress bar.
        on_file: called with the name of each file before it is made.

    Raises:
        BundleError: the bundle is faulty.
        ExportError: its network cannot be built again, or the data set does not fit.
        TrainingError: training failed, or was interrupted.
    """
    place = Path(folder)
    content, shipped = bundle.read(place), of_bundle(place)
    published = shipped.seed if content.seeds is None else int(content.seeds.get("chosen", shipped.seed))
    own = seed if seed is not None else recipe.settings.seed if published is None else published
    wanted = replace(recipe, seeds=1, folds=0, settings=replace(recipe.settings, seed=own))
    recorded = (content.environment or {}).get("training", {})
    with _threads(threads or int(recorded.get("threads", 1))):
        net = _train(wanted, dataset, Path(out), resumed, progress)
        notes = _environment_notes(recorded, this_environment())
    weights = _weights(shipped.siblings.get(own, shipped.net if own == published else None), net, own, published)
    source = with_data(replace(shipped, net=net), place, dataset)
    windows, missing = _calibration(source, content, place, dataset)
    files = tuple(
        _judged(made, source, content, own, published, weights)
        for made in _remade(content, source, place, windows, missing, on_file)
    )
    notes += _recipe_notes(content, wanted, dataset)
    return Reproduction(content.name, "recipe", files, weights, notes)


@dataclass(frozen=True)
class _Made:
    """A file made again; without ``sha256`` it could not be, for the reason ``missing``."""

    record: bundle.FileRecord
    sha256: str | None = None
    missing: str | None = None
    builder: Builder | None = None
    form: Form | None = None
    model: onnx.ModelProto | None = None


def _remade(
    content: Bundle,
    source: Source,
    folder: Path,
    windows: Floats,
    missing: str | None,
    on_file: Callable[[str], None],
) -> Iterator[_Made]:
    """Every file of the bundle that follows from the weights, made again."""
    network = shrunk(source.network(source.net))
    builders = {inline: Builder(network, windows, inline) for inline in (False, True)}
    for precision, files in content.precisions.items():
        for layout, record in files.layouts.items():
            on_file(record.file)
            form = Form(precision, layout, Scheme.read(record.quantization))
            if missing is not None and _is_calibrated(record):
                yield _Made(record, missing=missing)
                continue
            shipped = onnx.load_from_string(bundle.read_file(folder, record))
            builder = builders[layout == "unrolled" and not shipped.functions]
            model = builder.build(form)
            inscribe(model, source.contract, builder.network, layout, precision, form.quantization)
            yield _Made(record, sha256(model.SerializeToString(deterministic=True)), None, builder, form, model)
    contract = source.contract
    if content.sound is not None and contract.frontend is not None:
        graph = sound_graph(contract.frontend)
        yield _Made(content.sound, sha256(graph.SerializeToString(deterministic=True)))
    for precision, header in content.headers.items():
        scheme = _weights_scheme(content, precision)
        name = content.model_name(precision)
        text = c_header(
            network, name, contract.labels, contract.channels, contract.rate, scheme.weights if scheme else None
        )
        yield _Made(header, sha256(text.encode()))


def _weights_scheme(content: Bundle, precision: str) -> Scheme | None:
    """How the files of a precision store their weights."""
    layouts = content.precisions[precision].layouts.values()
    return next((Scheme.read(file.quantization) for file in layouts), None)


def _is_calibrated(record: LayoutFile) -> bool:
    """Whether ranges found on recordings are in the file."""
    return "QuantizeLinear" in record.operators


def _calibration(
    source: Source, content: Bundle, folder: Path, dataset: Dataset | str | None
) -> tuple[Floats, str | None]:
    """The windows that the published ranges were found on; where they are not at hand, any, and the reason."""
    files = [file for precision in content.precisions.values() for file in precision.layouts.values()]
    recorded = (content.calibration or {}).get("sha256")
    stand_in = torch.zeros(1, source.steps, len(source.contract.channels)).numpy()
    if not any(map(_is_calibrated, files)):
        return stand_in, None
    try:
        found = source if source.dataset is not None else with_data(source, folder, dataset)
        if found.dataset is None:
            id = content.dataset.id if content.dataset else None
            return stand_in, f"needs the data set {id!r}, for the ranges of its activations" if id else "needs its data"
        windows = calibration_windows(found, None)
    except (DataError, ExportError) as error:
        if dataset is not None:
            raise
        return stand_in, str(error)
    if sha256(windows.tobytes()) != recorded:
        return stand_in, "its ranges were found on other windows than these"
    return windows, None


def _train(recipe: Recipe, dataset: Dataset, out: Path, resumed: bool, progress: bool) -> SequenceClassifier:
    """The network that the recipe gives."""
    runs: list[Run] = []
    fit_recipe(recipe, dataset, out, progress, report=lambda number, run: runs.append(run), resumed=resumed)
    if any(run.interrupted for run in runs):
        raise TrainingError(f"the training in {out} was interrupted; go on with it (--resume)")
    return checkpoint.load(out).net


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights(shipped: torch.nn.Module | None, net: torch.nn.Module, seed: int, published: int | None) -> WeightsResult:
    """The weights side by side, if those of the seed that was trained were shipped."""
    if shipped is None:
        return WeightsResult(seed, published, None, None)
    ours, theirs = net.state_dict(), shipped.state_dict()
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        return WeightsResult(seed, published, False, None)
    differences = [float((ours[name] - theirs[name]).abs().max()) for name in ours]
    identical = all(torch.equal(ours[name], theirs[name]) for name in ours)
    return WeightsResult(seed, published, identical, max(differences))


def _judged(
    made: _Made, source: Source, content: Bundle, seed: int, published: int | None, weights: WeightsResult
) -> FileResult:
    """One file of a network that was trained again."""
    record = made.record
    result = FileResult(record.file, UNCHECKED, record.sha256, made.sha256, reason=made.missing)
    if made.sha256 == record.sha256:
        result = replace(result, verdict=IDENTICAL)
    if not isinstance(record, LayoutFile) or made.form is None or made.model is None or made.builder is None:
        return result if result.verdict == IDENTICAL else replace(result, reason=made.missing or "has no accuracy")
    found = describe.accuracy(source, made.builder.network, made.form, made.model)
    if found is None or record.metrics is None:
        return result if result.verdict == IDENTICAL else replace(result, reason="has no accuracy")
    known = _accuracies(content, made.form)
    expected = record.metrics.accuracy if seed == published else known.get(seed)
    result = replace(result, accuracy=found.accuracy, published_accuracy=expected, interval=spread([*known.values()]))
    if result.verdict == IDENTICAL:
        return result
    if result.interval is None:
        return replace(result, verdict=DIFFERS, reason="no spread over seeds was published to compare with")
    low, high = result.interval
    inside = low <= found.accuracy <= high
    return replace(result, verdict=WITHIN if inside else DIFFERS)


def _accuracies(content: Bundle, form: Form) -> dict[int, float]:
    """The published test accuracy of each seed, in this form or else another one of the same precision."""
    seeds = content.seeds or {}
    kinds = [kind for kind in seeds if kind.startswith(f"{form.precision}/")]
    kind = f"{form.precision}/{form.layout}"
    record = seeds.get(kind if kind in kinds else kinds[0]) if kinds else None
    return dict(zip(seeds["seeds"], record["accuracy"], strict=True)) if record else {}


def spread(values: Sequence[float]) -> tuple[float, float] | None:
    """Where another seed is expected, with 95 %: the prediction interval of Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    t = T95[min(len(values) - 2, len(T95) - 1)]
    mean = statistics.mean(values)
    width = t * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    return max(mean - width, 0.0), min(mean + width, 1.0)


def _environment_notes(published: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    """Versions that are not those of the published bundle."""
    return tuple(
        f"{name}: {published[name]} when it was published, {here.get(name, 'none')} here"
        for name in published
        if str(published[name]) != str(here.get(name))
    )


def _recipe_notes(content: Bundle, recipe: Recipe, dataset: Dataset) -> tuple[str, ...]:
    """Where the recipe, or the data, is not what the bundle says it was made of."""
    notes = []
    recorded = (content.training or {}).get("settings")
    if recorded and (changed := changed_settings(recorded, recipe.settings)):
        notes.append(f"the recipe has another {', '.join(changed)} than the bundle records")
    if content.dataset is not None and content.dataset.sha256 not in (None, dataset.sha256):
        notes.append("the data are not those of the published run: their digests differ")
    return tuple(notes)


def changed_settings(recorded: Mapping[str, Any], given: Settings) -> list[str]:
    """The settings, but for the seed, that a bundle records otherwise; such as came later had their default then."""
    now, default = (_json.plain(asdict(settings)) for settings in (given, Settings()))
    then, now = chosen(dict(recorded), default), chosen(now, default)
    return sorted(key for key in then.keys() | now.keys() if key != "seed" and then.get(key) != now.get(key))
