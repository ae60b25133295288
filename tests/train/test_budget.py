"""Budgets, against networks that are built and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastzoo import bench
from fastzoo.data import Dataset
from fastzoo.errors import ExportError, TrainingError
from fastzoo.model import Model
from fastzoo.nn import CELLS, Cell, FastGRNN, SequenceClassifier, model_size
from fastzoo.records import Latency
from fastzoo.train import ModelConfig, budget
from fastzoo.train.sparsity import Sparsity, support

SIZES = (6, 6, 128)
HAR = ModelConfig(hidden_size=64, w_rank=5, u_rank=16, pool=64)


def built(model: ModelConfig, sizes: budget.Sizes = SIZES) -> SequenceClassifier:
    """The network, without the help of a data set."""
    fields = vars(model)
    names = ("hidden_size", "num_layers", "bidirectional", "w_rank", "u_rank")
    rnn = CELLS[model.cell](sizes[0] * model.brick, **{name: fields[name] for name in names})
    return SequenceClassifier(rnn, sizes[1], model.pool, model.brick)


def weight(model: ModelConfig, sizes: budget.Sizes = SIZES) -> int:
    return model_size(built(model, sizes)).int8_bytes


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelConfig, budget.Sizes]:
    """All cells, stacks, directions and ranks, one for all layers or one for each."""
    channels, classes, hidden, layers = (draw(st.integers(*ends)) for ends in ((1, 12), (2, 9), (1, 24), (1, 3)))
    both, brick = draw(st.booleans()), draw(st.sampled_from([1, 1, 2, 4]))

    def rank(largest: int) -> Any:
        one = st.none() | st.integers(1, largest)
        return draw(one | st.lists(one, min_size=layers, max_size=layers))

    model = ModelConfig(
        cell=draw(st.sampled_from(list(CELLS))),
        hidden_size=hidden,
        num_layers=layers,
        bidirectional=both,
        w_rank=rank(min(channels * brick, hidden)),
        u_rank=rank(hidden),
        brick=brick,
    )
    return model, (channels, classes, 32)


@given(networks())
@settings(deadline=None, max_examples=50)
def test_bytes_are_those_of_the_network_once_it_is_built(network: tuple[ModelConfig, budget.Sizes]) -> None:
    model, sizes = network
    weighs = weight(model, sizes)
    assert budget.int8_bytes(model, sizes) == weighs
    budget.check_bytes(model, sizes, weighs)
    with pytest.raises(TrainingError, match=rf"weighs {weighs} bytes in int8 \(dense\), 1 more than the budget of"):
        budget.check_bytes(model, sizes, weighs - 1)


def changed(model: ModelConfig, **fields: Any) -> ModelConfig:
    return replace(model, **fields)


@given(networks(), st.floats(0.05, 1.1))
@settings(deadline=None, max_examples=50)
def test_every_alternative_fits_and_asks_for_no_more(network: tuple[ModelConfig, budget.Sizes], share: float) -> None:
    model, sizes = network
    most = max(1, int(share * weight(model, sizes)))
    found = budget.alternatives(model, sizes, most)
    assert found == budget.alternatives(model, sizes, most)
    assert len(found) <= 3
    for other in found:
        assert weight(other, sizes) <= most
        assert 1 <= other.hidden_size <= model.hidden_size
        assert replace(other, hidden_size=model.hidden_size, w_rank=model.w_rank, u_rank=model.u_rank) == model
        cells: list[Any] = list(built(other, sizes).rnn.cells)
        for cell, wanted in zip(cells, built(model, sizes).rnn.cells, strict=True):
            for name, matrix in (("w_rank", cell.w), ("u_rank", cell.u)):
                rank, limit = getattr(cell, name), getattr(wanted, name)
                rows, columns = len(matrix[0]), matrix[-1].shape[1]
                if rank is not None:
                    assert limit is None or rank <= limit
                    assert rank * (rows + columns) + 8 < rows * columns + 4, "factors must save something"
                elif limit is not None:
                    assert limit * (rows + columns) + 8 >= rows * columns + 4, "full only where it weighs no more"
    if not found:
        lowest = ModelConfig(
            cell=model.cell,
            hidden_size=1,
            num_layers=model.num_layers,
            bidirectional=model.bidirectional,
            w_rank=1,
            brick=model.brick,
        )
        assert min(weight(lowest, sizes), weight(replace(lowest, w_rank=None), sizes)) > most


@given(st.integers(500, 6000), st.sampled_from(list(CELLS)))
@settings(deadline=None, max_examples=50)
def test_no_rank_could_be_higher_and_no_state_larger(most: int, cell: str) -> None:
    model = ModelConfig(cell=cell, hidden_size=40, w_rank=5, u_rank=13)
    for other in budget.alternatives(model, SIZES, most):
        for name in ("w_rank", "u_rank"):
            rank, limit = getattr(other, name), getattr(model, name)
            if rank is not None and rank < limit:
                higher = min(weight(changed(other, **{name: more})) for more in (rank + 1, None))
                assert higher > most
        if (other.w_rank, other.u_rank) == (5, 13) and other.hidden_size < 40:
            assert weight(replace(other, hidden_size=other.hidden_size + 1)) > most


def refusal(model: ModelConfig, most: int, sizes: budget.Sizes = SIZES, **arguments: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        budget.check_bytes(model, sizes, most, **arguments)
    return str(caught.value)


def test_a_refusal_says_what_would_fit() -> None:
    assert refusal(HAR, 3072) == (
        "a fastgrnn of 64 units with 6 classes weighs 3338 bytes in int8 (dense), 266 more than the budget of 3072. "
        "These fit: --w-rank 4 --u-rank 14 (3012 bytes); --hidden-size 58 (3032 bytes); "
        "--hidden-size 61 --u-rank 15 (3063 bytes)"
    )


def test_full_matrices_are_factored_where_that_saves() -> None:
    assert refusal(ModelConfig(cell="fastrnn", hidden_size=64), 3072).endswith(
        "These fit: --w-rank 3 --u-rank 17 (3070 bytes); --hidden-size 47 (2997 bytes); "
        "--hidden-size 55 --w-rank 4 --u-rank 20 (3038 bytes)"
    )
    wide = budget.alternatives(ModelConfig(hidden_size=8), (2, 6, 128), 200)
    assert all(model.w_rank is None for model in wide), "two factors of a W with two rows are larger than W"


def test_a_rank_that_saves_nothing_is_given_up_first() -> None:
    assert refusal(replace(HAR, hidden_size=52, w_rank=6, u_rank=20), 3190).endswith(
        "These fit: --set model.w_rank=full (3160 bytes)"
    )


def test_what_keeps_little_comes_last() -> None:
    first, *_, last = budget.alternatives(ModelConfig(cell="lstm", hidden_size=64), SIZES, 3072)
    assert (first.hidden_size, first.w_rank, first.u_rank) == (22, None, None)
    assert last.hidden_size < 64 or last.u_rank == 4


def test_layers_have_their_own_ranks() -> None:
    model = ModelConfig(hidden_size=32, num_layers=2)
    first = """These fit: --set 'model.w_rank=["full", 11]' --u-rank 11 (3064 bytes); --hidden-size 27 """
    assert first in refusal(model, 3072)
    other = budget.alternatives(model, SIZES, 3072)[0]
    assert (other.hidden_size, other.w_rank, other.u_rank) == (32, [None, 11], 11)


def test_more_units_than_fit_at_any_rank() -> None:
    message = refusal(ModelConfig(hidden_size=10**6), 3072)
    assert "no rank fits so many units, at most 177 fit (with ranks of 1)" in message
    assert "--hidden-size 46 (3072 bytes)" in message
    lowest = ModelConfig(w_rank=1, u_rank=1)
    assert weight(replace(lowest, hidden_size=177)) <= 3072 < weight(replace(lowest, hidden_size=178))


def test_nothing_fits() -> None:
    model = ModelConfig(hidden_size=64, num_layers=2, bidirectional=True)
    assert budget.alternatives(model, SIZES, 100) == []
    one = weight(replace(model, hidden_size=1))
    end = f"the smallest fastgrnn, with one unit, weighs {one} bytes; take fewer layers or one direction"
    assert refusal(model, 100).endswith(f"more than the budget of 100; {end}")
    with pytest.raises(TrainingError, match=f"^nothing fits 100 bytes: {end}$"):
        budget.suggest(100, SIZES, model)


SPARSE = Sparsity(w=0.9, u=0.2)


@pytest.mark.parametrize("cell", CELLS)
def test_sparse_bytes_are_those_of_thresholded_weights(cell: str) -> None:
    model = ModelConfig(cell=cell, hidden_size=20, w_rank=4, u_rank=9, num_layers=2)
    net = built(model)
    saved = 0
    for module in net.modules():
        if isinstance(module, Cell):
            for factors, share in ((module.w, SPARSE.w), (module.u, SPARSE.u)):
                for factor in factors:
                    left = int(support(factor.detach(), share).sum())
                    saved += max(0, factor.numel() - 2 * left)
    assert saved > 0
    assert budget.int8_bytes(model, SIZES, SPARSE) == weight(model) - saved
    assert budget.int8_bytes(model, SIZES, Sparsity()) == weight(model)


def test_zeros_count_unless_sparse_is_asked_for() -> None:
    model = ModelConfig(hidden_size=100, u_rank=40)
    assert "bytes in int8 (dense: zeros are stored too), " in refusal(model, 3072, sparsity=SPARSE)
    kept = budget.int8_bytes(model, SIZES, SPARSE)
    assert kept < weight(model)
    budget.check_bytes(model, SIZES, kept, SPARSE, sparse=True)
    message = refusal(model, kept - 1, sparsity=SPARSE, sparse=True)
    assert f"{kept} bytes in int8 (sparse: 2 bytes for each number left, where less than half are), 1 more" in message
    for other in budget.alternatives(model, SIZES, kept - 1, SPARSE):
        assert budget.int8_bytes(other, SIZES, SPARSE) < kept


@given(
    most=st.integers(300, 20000), cell=st.sampled_from(list(CELLS)), channels=st.integers(1, 50),
    layers=st.integers(1, 2), both=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=50)
def test_a_suggestion_is_the_largest_by_its_rule(most: int, cell: str, channels: int, layers: int, both: bool) -> None:
    free = ModelConfig(cell=cell, num_layers=layers, bidirectional=both, pool=4)
    sizes = (channels, 6, 128)
    try:
        found = budget.suggest(most, sizes, free)
    except TrainingError:
        assert weight(replace(free, hidden_size=1), sizes) > most or channels > 1
        return
    assert found == budget.suggest(most, sizes, replace(free, hidden_size=3, w_rank=[7], u_rank=99))
    for model in found:
        assert weight(model, sizes) <= most
        assert replace(model, hidden_size=64, w_rank=None, u_rank=None) == free
    first = found[0]

    def by_the_rule(hidden: int) -> ModelConfig:
        """Each rank H / 3, or full where that weighs no more; tried one by one."""
        model = replace(free, hidden_size=hidden)
        rank = max(1, hidden // 3)
        chosen: dict[str, list[int | None]] = {"w_rank": [None] * layers, "u_rank": [None] * layers}
        for name, given_ranks in chosen.items():
            for layer in range(layers):
                factored = [*given_ranks[:layer], rank, *given_ranks[layer + 1 :]]
                try:
                    other = weight(changed(model, **{name: factored}), sizes)
                except ValueError:  # a rank beyond the matrix's own
                    continue
                if other < weight(changed(model, **{name: given_ranks}), sizes):
                    given_ranks[layer] = rank
        return changed(model, **chosen)

    assert weight(by_the_rule(first.hidden_size), sizes) == weight(first, sizes)
    assert first.hidden_size == budget.LARGEST or weight(by_the_rule(first.hidden_size + 1), sizes) > most


def test_a_budget_of_three_kilobytes() -> None:
    assert [(m.hidden_size, m.w_rank, m.u_rank) for m in budget.suggest(3072, SIZES)] == [
        (54, None, 18), (46, None, None), (71, None, 11)
    ]  # fmt: skip
    (first, *_) = budget.suggest(10**9, SIZES)
    assert (first.hidden_size, first.w_rank, first.u_rank) == (256, None, 85)


def test_a_data_set_knows_its_sizes(dataset: Dataset) -> None:
    assert budget.int8_bytes(HAR, dataset) == budget.int8_bytes(HAR, (6, 3, 24))
    assert budget.suggest(2000, dataset) == budget.suggest(2000, (6, 3, 24))
    model = budget.suggest(2000, dataset, ModelConfig(cell="gru"))[0]
    assert model_size(model.build(dataset, 0)).int8_bytes <= 2000


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "3 kB", None, float("nan")])
def test_a_budget_that_is_none_is_refused(most: Any) -> None:
    for refuse in (
        lambda: budget.check_bytes(HAR, SIZES, most),
        lambda: budget.alternatives(HAR, SIZES, most),
        lambda: budget.suggest(most, SIZES),
    ):
        with pytest.raises(TrainingError, match="the budget must be a whole number of bytes, at least 1, not "):
            refuse()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"cell": "lstmish"}, "unknown cell 'lstmish'"),
        ({"cell": ["gru"]}, "cannot build this network"),
        ({"hidden_size": 1.5}, "hidden_size must be"),
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"w_rank": 7}, r"w_rank must be None \(full\) or a whole number between 1 and 6, not 7"),
        ({"u_rank": 65}, "u_rank must be"),
        ({"u_rank": True}, "u_rank must be"),
        ({"num_layers": 2, "u_rank": [4]}, "u_rank must be one rank, or one for each of the 2 layers"),
    ],
)
def test_an_impossible_network_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        budget.check_bytes(ModelConfig(**model), SIZES, 3072)


@pytest.mark.parametrize("sizes", [(0, 6, 128), (6, 1, 128), (6, 6, 0), (6.0, 6, 128)])
def test_impossible_sizes_are_refused(sizes: Any) -> None:
    with pytest.raises(TrainingError, match="channels, classes and steps must be at least 1, 2 and 1, not"):
        budget.int8_bytes(HAR, sizes)


def test_random_numbers_of_the_caller_stay_as_they_are() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    budget.suggest(3072, SIZES)
    refusal(HAR, 3072)
    assert torch.equal(torch.rand(3), expected)


STEPS = 16
NOWHERE = 1e-3  # no machine is that fast
SMALL = {"hidden_size": 8, "w_rank": 4, "u_rank": 3}


def small(**arguments: Any) -> SequenceClassifier:
    return SequenceClassifier(FastGRNN(6, **{**SMALL, **arguments}), 3, 4)


def test_latency_is_measured_in_both_precisions() -> None:
    measured = budget.measure_latency(small(nu=0.0), STEPS, repeats=200)
    assert list(measured) == ["fp32-fused", "int8-fused"]
    assert all(0 < latency.p50_us <= latency.p95_us for latency in measured.values())
    assert list(budget.measure_latency(small(nu=0.5), STEPS, ["fp32"], repeats=2)) == [
        "fp32-fused", "fp32-scan", "fp32-unrolled"
    ]  # fmt: skip


def test_a_fast_network_passes() -> None:
    assert 0 < budget.check_latency(small(nu=0.0), STEPS, 1e6) <= 1e6


def test_a_slow_network_is_refused_with_what_was_measured() -> None:
    with pytest.raises(TrainingError) as caught:
        budget.check_latency(small(nu=0.0), STEPS, NOWHERE)
    text = str(caught.value)
    assert text.startswith("a window of 16 steps takes ")
    assert "fused, with one thread on " in text
    assert f"onnxruntime {bench.describe_machine().onnxruntime}); the budget is 0.001 us. Even 4 units take " in text


def fused_units(model: Model) -> int | None:
    """H where the file is one operator over as many states."""
    cell = model.bundle.cell
    return cell["hidden_size"] if model.layout == "fused" and cell["nu"] == 0 else None


def timed(monkeypatch: pytest.MonkeyPatch, by_units: Mapping[int, float], otherwise: float = 900.0) -> None:
    """Latencies as they are said to be, by hidden size, for the layout `fused`."""

    def measure_all(models: Any, *_: Any) -> list[Latency]:
        found = [by_units[size] if (size := fused_units(m)) else otherwise for m in models]
        return [Latency(p50_us=p50, p95_us=p50, load_ms=1.0) for p50 in found]

    monkeypatch.setattr(bench, "measure_all", measure_all)


LINEAR = MappingProxyType({units: 10.0 * units for units in range(65)})


def test_fewer_units_are_proposed_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, LINEAR)
    net = small(hidden_size=40, u_rank=20, nu=0.0)
    with pytest.raises(
        TrainingError, match=r"This is fast enough: --hidden-size 16 --set model.u_rank=full \(160 us\)$"
    ):
        budget.check_latency(net, STEPS, 170)
    with pytest.raises(TrainingError, match=r"This is fast enough: --hidden-size 36 \(360 us\)$"):
        budget.check_latency(net, STEPS, 399)
    with pytest.raises(TrainingError, match=r"Even 4 units take 40 us: take shorter windows$"):
        budget.check_latency(net, STEPS, 39)
    with pytest.raises(TrainingError, match=r"Take shorter windows$"):
        budget.check_latency(small(hidden_size=4, nu=0.0), STEPS, 39)


def test_a_change_is_proposed_that_fuses_the_recurrence(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, LINEAR)
    with pytest.raises(TrainingError, match=r"takes 900 us .* in the fastest file, .*: --nu 0 \(80 us\)$"):
        budget.check_latency(small(), STEPS, 100)
    with pytest.raises(TrainingError, match=r": --nu 0 --hidden-size 4 --set model.u_rank=full \(40 us\)$"):
        budget.check_latency(small(nu=0.5, u_rank=5), STEPS, 50)
    slow = small(nu=0.0, gate_nonlinearity="quant_tanh")
    with pytest.raises(TrainingError, match=r": --gate sigmoid \(80 us\)$"):
        budget.check_latency(slow, STEPS, 100)
    with pytest.raises(TrainingError, match=r"Even 4 units with --gate sigmoid take 40 us: take shorter windows$"):
        budget.check_latency(slow, STEPS, 30)


def test_a_disturbed_measurement_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([140.0, 130.0, 90.0])
    monkeypatch.setattr(bench, "measure_all", lambda models, *_: [Latency(next(times), 200.0, 1.0)])
    assert budget.check_latency(small(nu=0.0), STEPS, 100, ["int8"]) == 90.0


@pytest.mark.parametrize("max_us", [0, -5, float("nan"), float("inf"), True, "fast", None])
def test_a_time_that_is_none_is_refused(max_us: Any) -> None:
    with pytest.raises(TrainingError, match="the budget must be a positive number of microseconds, not "):
        budget.check_latency(small(), STEPS, max_us)


@pytest.mark.parametrize("cell", CELLS)
def test_what_cannot_be_exported_cannot_be_measured(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ExportError("a cell of another kind")

    monkeypatch.setattr("fastzoo.export.from_torch.from_torch", refuse)
    net = SequenceClassifier(CELLS[cell](6, 8), 3)
    with pytest.raises(
        TrainingError, match=r"^the latency of this network cannot be measured: a cell of another kind$"
    ):
        budget.check_latency(net, STEPS, 100)


def test_impossible_measurements_are_refused() -> None:
    function = small(nu=0.0, update_nonlinearity=torch.tanh)
    with pytest.raises(TrainingError, match=r"cannot be measured: .*Python function"):
        budget.check_latency(function, STEPS, 100)
    with pytest.raises(TrainingError, match=r"cannot be measured: windows of 2 steps are shorter"):
        budget.check_latency(small(), 2, 100)
    with pytest.raises(TrainingError, match=r"cannot be measured: unknown precision fp16"):
        budget.check_latency(small(), STEPS, 100, ["fp16"])
