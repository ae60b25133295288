"""What runs the recurrences of FastRNN and FastGRNN: the same numbers by every way, in any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastzoo.nn import CELLS, NONLINEARITIES, Cell, FastGRNN, FastRNN, Recurrent, _numba, functional

from . import nets, oracle
from .nets import RANKS, D, H, N

COMPILED = ("fastrnn", "fastgrnn")
each_compiled = pytest.mark.parametrize("kind", COMPILED)
ranks = pytest.mark.parametrize("ranks", ["full", "W,U"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that have run."""
    seen: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        kernel = getattr(_numba, name)

        def run(*arguments: Any, **named: Any) -> Any:
            seen.append(name)
            return kernel(*arguments, **named)

        return run

    for kind in COMPILED:
        for way in ("forward", "backward"):
            monkeypatch.setattr(_numba, f"{kind}_{way}", watched(f"{kind}_{way}"))
    return seen


@pytest.fixture(params=["numba", "scipy"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As if a package of the backend's were not installed."""
    monkeypatch.setitem(sys.modules, request.param, None)
    functional._numba.cache_clear()
    yield request.param
    functional._numba.cache_clear()


def everything(rnn: Recurrent, x: Tensor, start: Any = None, lengths: Tensor | None = None) -> list[Tensor]:
    """States, last states and the gradients of ``x`` and all parameters."""
    x = x.detach().requires_grad_()
    states, last = rnn(x, start, lengths)
    weight = torch.linspace(-1, 2, states.numel(), dtype=states.dtype).view_as(states)
    grads = torch.autograd.grad((states * weight).sum(), [x, *rnn.parameters()])
    return [states.detach(), *(part.detach() for part in nets.parts(last)), *grads]


def same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


# ---------------------------------------------------------------------------------------------------------------------
# Who runs it


@each_compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_compiled_kernels_run_on_a_cpu(kind: str, dtype: torch.dtype, calls: list[str]) -> None:
    rnn = nets.make(kind, (2, 3), num_layers=2).to(dtype)
    rnn(nets.samples().to(dtype))[0].sum().backward()
    assert calls == [f"{kind}_forward"] * 2 + [f"{kind}_backward"] * 2
    with torch.no_grad():
        rnn(nets.samples().to(dtype), None, torch.tensor([1, 3]))
    assert calls[4:] == [f"{kind}_forward"] * 2


@each_compiled
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_runs_in_torch(kind: str, dtype: torch.dtype, calls: list[str]) -> None:
    nets.make(kind).to(dtype)(nets.samples().to(dtype))
    assert calls == []


@each_compiled
def test_functions_run_in_torch(kind: str, calls: list[str]) -> None:
    nets.make(kind, update_nonlinearity=torch.tanh)(nets.samples())
    if kind == "fastgrnn":
        nets.make(kind, gate_nonlinearity=torch.sigmoid)(nets.samples())
    assert calls == []


@each_compiled
def test_what_is_being_compiled_runs_in_torch(kind: str, calls: list[str]) -> None:
    rnn, x = nets.make(kind), nets.samples(2)
    torch.compiler.reset()
    torch.compile(rnn, fullgraph=True, backend="eager")(x)
    torch.export.export(rnn, (x,))
    assert calls == []
    rnn(x)
    assert calls == [f"{kind}_forward"]


@each_compiled
@ranks
def test_without_the_compiler_the_numbers_are_the_same(
    kind: str, ranks: str, without: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rnn, x, lengths = nets.make(kind, RANKS[ranks], bidirectional=True), nets.samples(9, 3), torch.tensor([9, 2, 5])
    found = everything(rnn, x, nets.start(rnn, 3), lengths)
    assert calls == [], f"{without} is missing"
    monkeypatch.undo()
    functional._numba.cache_clear()
    expected = everything(rnn, x, nets.start(rnn, 3), lengths)
    assert all(torch.allclose(one, other, rtol=1e-10, atol=1e-12) for one, other in zip(found, expected, strict=True))


def test_the_compiler_is_not_loaded_before_it_is_needed_and_not_needed_to_train() -> None:
    program = """
import sys
sys.modules["numba"] = None
import torch
from fastzoo.nn import GRU, FastGRNN
for module in (GRU, FastGRNN):
    rnn = module(3, 4)
    rnn(torch.zeros(5, 2, 3))[0].sum().backward()
    assert all(p.grad is not None for p in rnn.parameters())
assert not {"fastzoo.nn._numba", "llvmlite", "scipy", "triton"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# ---------------------------------------------------------------------------------------------------------------------
# Tiles and threads


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@each_compiled
@ranks
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_number_of_threads_changes_no_bit(
    kind: str, ranks: str, dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    rnn = nets.make(kind, RANKS[ranks], (D, 16)).to(dtype)
    x = nets.samples(20, 700).to(dtype)
    assert _numba._tiles((700, 16)) > 4, "threads need something to share"
    results = []
    for count in (1, 2, 3, 1):
        threads(count)
        results.append(everything(rnn, x))
    for result in results[1:]:
        assert same_bits(result, results[0])


@each_compiled
@ranks
def test_the_size_of_the_tiles_changes_no_number(kind: str, ranks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, x = nets.make(kind, RANKS[ranks]), nets.samples(9, 7)
    expected = everything(rnn, x)
    for elements in (1, H, 3 * H + 1, 7 * H, 10**9):
        monkeypatch.setattr(_numba, "_TILE_ELEMENTS", elements)
        for found, other in zip(everything(rnn, x), expected, strict=True):
            assert torch.allclose(found, other, rtol=1e-12, atol=1e-12), elements


@pytest.mark.parametrize("hidden", [1, 7, 2047, 2049])
def test_states_of_any_size_are_cut_into_tiles(hidden: int) -> None:
    rnn = nets.make("fastrnn", sizes=(1, hidden))
    x = nets.samples(2, 3, 1)
    expected, *_ = oracle.run(rnn, x.numpy())
    assert torch.allclose(rnn(x)[0], torch.from_numpy(expected), rtol=0, atol=1e-12)


@each_compiled
def test_a_row_does_not_depend_on_the_others(kind: str) -> None:
    rnn, x = nets.make(kind, (2, 3), (D, 32)), nets.samples(9, 150)
    states = rnn(x)[0]
    for row in (0, 77, 149):
        assert torch.allclose(rnn(x[:, row : row + 1])[0], states[:, row : row + 1], rtol=0, atol=1e-13)


@each_compiled
def test_python_threads_do_not_disturb_each_other(kind: str, threads: Callable[[int], None]) -> None:
    threads(2)
    rnn, x = nets.make(kind, sizes=(D, 16)), nets.samples(20, 700)
    expected, found = everything(rnn, x), list[list[Tensor]]()

    def work() -> None:
        found.extend(everything(rnn, x) for _ in range(5))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert all(same_bits(result, expected) for result in found)


@each_compiled
@ranks
def test_the_way_without_gradients_has_the_same_bits(kind: str, ranks: str) -> None:
    rnn, x = nets.make(kind, RANKS[ranks]).float(), nets.samples(50).float()
    states, last = rnn(x)
    with torch.no_grad():
        again = rnn(x)
    assert torch.equal(again[0], states)
    assert torch.equal(again[1], last)
    frozen = rnn.requires_grad_(False)(x)[0]
    assert torch.equal(frozen, states)


FORKED = """
import os, signal
import torch
from fastzoo.nn import FastGRNN, _numba

_numba._TILE_ELEMENTS = 16  # several tiles of so few rows that torch's own threads, which no fork survives, sleep on
torch.set_num_threads(2)
torch.manual_seed(0)
rnn, x = FastGRNN(3, 16), torch.randn(5, 8, 3)
assert _numba._tiles((8, 16)) == 8
with torch.no_grad():
    expected = rnn(x)[0]
child = os.fork()
if not child:
    signal.alarm(20)  # a child that waits for threads it does not have would wait forever
    states = rnn(x)[0]
    states.sum().backward()
    os._exit(0 if torch.equal(states, expected) and rnn.cell.U.grad.isfinite().all() else 1)
assert os.waitpid(child, 0)[1] == 0
with torch.no_grad():
    assert torch.equal(rnn(x)[0], expected)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_can_go_on() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


# ---------------------------------------------------------------------------------------------------------------------
# Numbers at the edge


def by_loop(rnn: Recurrent, x: Tensor) -> Tensor:
    """All states, step by step in torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rnn.cell_type, "unroll", Cell.unroll)
        states: Tensor = rnn(x)[0]
    return states.detach()


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 0.0, -0.0])
def test_nan_and_infinity_go_the_way_they_go_in_torch(name: str, dtype: torch.dtype, value: float) -> None:
    for module, arguments in ((FastRNN, {}), (FastGRNN, {"gate_nonlinearity": "sigmoid"}), (FastGRNN, {})):
        which = "gate_nonlinearity" if module is FastGRNN and not arguments else "update_nonlinearity"
        torch.manual_seed(0)
        rnn = module(1, 3, dtype=dtype, **{**arguments, which: name})  # type: ignore[arg-type]
        x = torch.ones(4, 3, 1, dtype=dtype)
        x[1, 1] = value
        found, expected = rnn(x)[0].detach(), by_loop(rnn, x)
        assert torch.equal(found.isfinite(), expected.isfinite()), (module, which)
        assert torch.allclose(found.nan_to_num(0, 0, 0), expected.nan_to_num(0, 0, 0), rtol=1e-5), (module, which)
        assert found[:, [0, 2]].isfinite().all(), "one row's misfortune is not the others'"


@each_compiled
def test_nan_in_a_weight_or_a_start_is_not_lost(kind: str) -> None:
    rnn, x = nets.make(kind), nets.samples()
    begin = nets.start(rnn)
    begin[0, 0] = torch.nan
    states, _ = rnn(x, begin)
    assert states[:, 0].isnan().all()
    assert states[:, 1].isfinite().all()
    with torch.no_grad():
        rnn.cell.U[0, 0] = torch.nan
    assert rnn(x, torch.ones(1, N, H).double())[0].isnan().any()


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_nonlinearity_is_exact_for_large_and_small_numbers(name: str, dtype: torch.dtype) -> None:
    exponents = torch.linspace(-30, 6, 400)
    values = torch.cat([-(2**exponents), torch.zeros(1), 2**exponents]).to(dtype)  # 1e-9 to 64
    rnn = FastRNN(1, 1, update_nonlinearity=name, alpha=1.0, beta=0.0, dtype=dtype)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.fill_(0)
        rnn.cell.W.fill_(1)
        found = rnn(values.view(1, -1, 1))[0].view(-1).double()
    expected = torch.from_numpy(oracle.FUNCTIONS[name](values.double().numpy()))
    assert ((found - expected).abs() <= 8 * torch.finfo(dtype).eps * expected.abs() + 1e-30).all()


@each_compiled
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_small_signals_are_as_exact_as_large_ones(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    rnn = nets.make(kind)
    with torch.no_grad():
        rnn.cell.bias_update.zero_()
    x = (nets.samples(128) * 1e-6).float()
    expected, *_ = oracle.run(rnn, x.double().numpy())
    error = (rnn.to(dtype)(x.to(dtype))[0].detach().double() - torch.from_numpy(expected)).abs().max()
    assert error <= tolerance * abs(expected).max()


def test_every_nonlinearity_has_a_kernel() -> None:
    assert _numba.CODES.keys() == NONLINEARITIES.keys()
    assert set(_numba.CODES.values()) == set(range(len(NONLINEARITIES)))
    assert set(COMPILED) < CELLS.keys()
