"""The Triton kernels: run by Triton's interpreter on the CPU (or on a GPU, if there is one), and compiled for GPUs.

The interpreter must be chosen before Triton is imported, so its tests run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastzoo.nn import NONLINEARITIES, _triton, functional

from .nets import PAIRS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
ROOT = Path(__file__).parents[2]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


class Problem(NamedTuple):
    """What a backward pass gives the gradients of, in that order, and the gradient of the states."""

    projected: Tensor  # [T, N, H]
    h0: Tensor  # [N, H]
    biases: tuple[Tensor, ...]  # [H] each; none for FastRNN
    scalars: tuple[Tensor, Tensor]  # alpha, beta; or zeta, nu
    u: tuple[Tensor, ...]
    grad_states: Tensor  # [T, N, H]

    @property
    def inputs(self) -> list[Tensor]:
        return [self.projected, self.h0, *self.biases, *self.scalars, *self.u]


Names = tuple[str, ...]  # of the nonlinearities: update; or gate, update
NAMES: list[Names] = [*((name,) for name in NONLINEARITIES), *PAIRS]
CELLS: list[Names] = [("tanh",), ("sigmoid", "tanh")]
each_cell = pytest.mark.parametrize("names", CELLS, ids=["fastrnn", "fastgrnn"])


def make(
    names: Names,
    sizes: tuple[int, int, int] = (4, 11, 20),
    rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    scalars: tuple[float, float] = (0.7, 0.05),
    scale: float = 1.0,
    device: str = DEVICE,
) -> Problem:
    """Random tensors: states of order ``scale``, which at 1 reach every piece of the piecewise-linear functions."""
    (steps, batch, hidden), (a, b) = sizes, scalars
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, std: float) -> Tensor:
        return (std * torch.randn(shape, generator=generator)).to(device, dtype)

    shapes = [(hidden, hidden)] if rank is None else [(hidden, rank), (rank, hidden)]
    return Problem(
        projected=normal(steps, batch, hidden, std=scale),
        h0=normal(batch, hidden, std=scale),
        biases=tuple(normal(hidden, std=0.5 * scale) for _ in names[1:] and names),
        scalars=(torch.tensor(a, device=device, dtype=dtype), torch.tensor(b, device=device, dtype=dtype)),
        u=tuple(normal(*shape, std=0.7 / shape[0] ** 0.5) for shape in shapes),
        grad_states=normal(steps, batch, hidden, std=1.0),
    )


KERNELS: Any = _triton


def forward(problem: Problem, names: Names, save: bool = True) -> tuple[Tensor, tuple[Tensor, ...]]:
    """h_0 .. h_T, and what is saved for the backward pass."""
    run = KERNELS.fastgrnn_forward if problem.biases else KERNELS.fastrnn_forward
    h, saved = run(problem.projected, problem.h0, problem.u, *problem.biases, *problem.scalars, *names, save)
    return h, saved


def by_kernels(problem: Problem, names: Names) -> list[Tensor]:
    """h_1 .. h_T and all gradients."""
    h, saved = forward(problem, names)
    run = KERNELS.fastgrnn_backward if problem.biases else KERNELS.fastrnn_backward
    return [h[1:], *run(problem.grad_states, h, saved, problem.u, *problem.scalars, *names)]


def by_autograd(problem: Problem, names: Names, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The same from the equations, on the CPU."""
    leaves = [tensor.detach().to("cpu", dtype, copy=True).requires_grad_() for tensor in problem.inputs]
    projected, h, *rest = leaves
    biases, rest = rest[: len(problem.biases)], rest[len(problem.biases) :]
    a, b, *u = rest
    gate, update = NONLINEARITIES[names[0]], NONLINEARITIES[names[-1]]
    states = []
    for x in projected:
        contribution = h
        for factor in u:
            contribution = contribution @ factor
        pre = x + contribution
        if biases:
            z, c = gate(pre + biases[0]), update(pre + biases[1])
            h = (a * (1 - z) + b) * c + z * h
        else:
            h = b * h + a * update(pre)
        states.append(h)
    stacked = torch.stack(states)
    return [stacked.detach(), *torch.autograd.grad(stacked, leaves, problem.grad_states.to("cpu", dtype))]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    """Each tensor, relative to its largest element."""
    assert len(found) == len(expected)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, i
        error = (one.cpu().double() - other).abs().max() / other.abs().max()
        assert error <= tolerance, (i, error)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of NaN and infinity
class TestKernels:
    """With the interpreter or a GPU; without, not collected."""

    __test__ = _triton.is_available()

    @pytest.mark.parametrize("names", NAMES, ids="-".join)
    def test_nonlinearities(self, names: Names) -> None:
        problem = make(names)
        assert_close(by_kernels(problem, names), by_autograd(problem, names))

    @each_cell
    @pytest.mark.parametrize(
        ("sizes", "rank"),
        [((1, 1, 1), None), ((1, 1, 1), 1), ((3, 9, 1), None), ((1, 8, 16), 16), ((2, 16, 33), 32), ((4, 1, 100), 17)],
    )
    def test_sizes(self, names: Names, sizes: tuple[int, int, int], rank: int | None) -> None:
        problem = make(names, sizes, rank)
        assert_close(by_kernels(problem, names), by_autograd(problem, names), 3e-5)  # of a single number

    @each_cell
    @pytest.mark.parametrize(("hidden", "rank"), [(40, None), (40, 9), (40, 35)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    def test_u_too_large_for_the_chip(
        self, names: Names, hidden: int, rank: int | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_triton, "_shared_memory", lambda device: 0)
        problem = make(names, (3, 9, hidden), rank, dtype)
        tolerance = 1e-5 if dtype == torch.float32 else 3e-2
        assert_close(by_kernels(problem, names), by_autograd(problem, names), tolerance)

    @pytest.mark.parametrize("scalars", [(0.7, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
    @each_cell
    def test_scalars(self, names: Names, scalars: tuple[float, float]) -> None:
        problem = make(names, scalars=scalars)
        found, expected = by_kernels(problem, names), by_autograd(problem, names)
        kept = [i for i, tensor in enumerate(expected) if tensor.any()]
        assert all(not tensor.any() for i, tensor in enumerate(found) if i not in kept)
        assert_close([found[i] for i in kept], [expected[i] for i in kept])

    @each_cell
    @pytest.mark.parametrize("rank", [None, 8], ids=["full", "low"])
    def test_a_long_sequence(self, names: Names, rank: int | None) -> None:
        problem = make(names, (128, 3, 20), rank)
        assert_close(by_kernels(problem, names), by_autograd(problem, names))

    @each_cell
    def test_small_numbers_are_as_exact_as_large_ones(self, names: Names) -> None:
        problem = make(names, scale=1e-6)
        assert_close(by_kernels(problem, names)[:1], by_autograd(problem, names)[:1])

    @each_cell
    @pytest.mark.parametrize("rank", [None, 8], ids=["full", "low"])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
    def test_16_bits(self, names: Names, rank: int | None, dtype: torch.dtype) -> None:
        problem = make(names, (20, 9, 40), rank, dtype)
        found = by_kernels(problem, names)
        assert found[0].dtype == found[1].dtype == found[2].dtype == dtype
        # The interpreter rounds to bfloat16 by cutting off.
        assert_close(found, by_autograd(problem, names), 4e-3 if dtype == torch.float16 else 4e-2)

    @each_cell
    def test_the_state_is_kept_in_32_bits(self, names: Names) -> None:
        """A state near 1 that grows by less than bfloat16 resolves, each step."""
        problem = make(names, (32, 1, 16), dtype=torch.bfloat16, scalars=(0.001, 1.0))
        ones = [torch.ones_like(tensor) for tensor in problem[:2]]
        problem = problem._replace(projected=ones[0], h0=ones[1], u=(torch.zeros_like(problem.u[0]),))
        if problem.biases:  # z = 1 keeps the state, nu adds to it
            problem = problem._replace(
                biases=(torch.full_like(problem.biases[0], 30.0), torch.zeros_like(problem.biases[1])),
                scalars=(problem.scalars[1], problem.scalars[0]),
            )
        assert_close(by_kernels(problem, names)[:1], by_autograd(problem, names)[:1], 1e-2)

    @pytest.mark.parametrize("names", NAMES, ids="-".join)
    def test_nan_spreads_as_in_torch(self, names: Names) -> None:
        problem = make(names, (4, 3, 20))
        problem.projected[1, 1, 5] = float("nan")
        found, expected = by_kernels(problem, names)[0], by_autograd(problem, names)[0]
        assert found.isnan().sum() > 20
        assert torch.equal(found.cpu().isnan(), expected.isnan())

    @each_cell
    def test_nan_spreads_backwards_as_in_torch(self, names: Names) -> None:
        problem = make(names, (4, 3, 20))
        problem.grad_states[2, 1, 5] = float("nan")
        found, expected = by_kernels(problem, names), by_autograd(problem, names)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.cpu().isnan(), other.isnan())

    @pytest.mark.parametrize("name", ["relu", "quant_tanh", "quant_sigmoid", "quant_sigmoid4"])
    def test_the_slope_at_a_kink_is_zero(self, name: str) -> None:
        kinks = {"relu": [0.0], "quant_sigmoid4": [-2.0, 2.0]}.get(name, [-1.0, 1.0])
        problem = make((name,), (1, 1, len(kinks)))
        problem = problem._replace(projected=torch.tensor([[kinks]], device=DEVICE), h0=torch.zeros_like(problem.h0))
        dpre = by_kernels(problem, (name,))[1]
        assert not dpre.any()

    @each_cell
    def test_any_strides(self, names: Names) -> None:
        problem = make(names, rank=3)
        strided = problem._replace(
            projected=problem.projected.transpose(0, 1).contiguous().transpose(0, 1),  # a batch_first input
            h0=torch.stack([problem.h0, problem.h0], 2)[..., 1],
            u=tuple(factor.t().contiguous().t() for factor in problem.u),
            biases=tuple(torch.stack([bias, bias], 1)[:, 1] for bias in problem.biases),
            grad_states=problem.grad_states.transpose(0, 2).contiguous().transpose(0, 2),
        )
        assert not any(tensor.is_contiguous() for tensor in strided.inputs if tensor.dim())
        assert_close(by_kernels(strided, names), by_autograd(problem, names))

    @each_cell
    def test_an_expanded_gradient(self, names: Names) -> None:
        problem = make(names)
        problem = problem._replace(grad_states=torch.ones((), device=DEVICE).expand(4, 11, 20))
        assert_close(by_kernels(problem, names), by_autograd(problem, names))
        problem = problem._replace(grad_states=problem.h0[0].expand(4, 11, 20))
        assert_close(by_kernels(problem, names), by_autograd(problem, names))

    @each_cell
    def test_inputs_are_not_changed_and_runs_give_the_same_bits(self, names: Names) -> None:
        problem = make(names)
        copies = [tensor.clone() for tensor in (*problem.inputs, problem.grad_states)]
        first, second = by_kernels(problem, names), by_kernels(problem, names)
        assert all(map(torch.equal, copies, (*problem.inputs, problem.grad_states)))
        assert all(map(torch.equal, first, second))

    @each_cell
    def test_nothing_is_saved_where_no_backward_pass_will_follow(self, names: Names) -> None:
        problem = make(names)
        states, saved = forward(problem, names, save=False)
        assert saved == ()
        assert torch.equal(states, forward(problem, names)[0])

    @each_cell
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    def test_differentiated_by_torch(self, names: Names, dtype: torch.dtype) -> None:
        problem = make(names, rank=3, dtype=dtype)
        for tensor in problem.inputs:
            tensor.requires_grad_()
        run: Any = functional.fastgrnn if problem.biases else functional.fastrnn
        states = run(_triton, problem.projected, problem.h0, problem.u, *problem.biases, *problem.scalars, *names)
        grads = torch.autograd.grad(states, problem.inputs, problem.grad_states)
        assert all(grad.dtype == dtype for grad in grads)
        tolerance = 1e-5 if dtype == torch.float32 else 3e-2
        assert_close([states.detach(), *grads], by_autograd(problem, names), tolerance)

    def test_what_is_supported(self) -> None:
        def supported(*shape: int, dtype: torch.dtype = torch.float32, device: str = DEVICE) -> bool:
            projected = torch.empty(shape, dtype=dtype, device=device)
            return _triton.supports(projected, [projected.new_empty(shape[2], shape[2])])

        assert supported(3, 2, 256)
        assert supported(1, 1, 1, dtype=torch.float16)
        assert supported(1, 1, 1, dtype=torch.bfloat16)
        assert not supported(3, 2, 257)
        assert not supported(3, 2, 4, dtype=torch.float64)
        assert not supported(0, 2, 4)
        assert not supported(3, 0, 4)
        assert not supported(3, 2, 4, device="meta")
        assert not _triton.supports(torch.empty(3, 2, 4, device=DEVICE), [torch.empty(4, 4, device="meta")])


@pytest.mark.slow
@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_kernels_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"{__file__}::TestKernels"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Compiled for GPUs, without one


class Recorder:
    """Stands for a kernel and keeps what it is launched with."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def __getitem__(self, grid: tuple[int]) -> Any:
        return self.arguments.update


def compiled(kernel: Any, arguments: dict[str, Any], capability: int) -> Any:
    """The kernel as Triton would compile it for a launch with these arguments."""
    backends, compiler = import_module("triton.backends.compiler"), import_module("triton.compiler")
    types = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if isinstance(value, Tensor):
            signature[parameter.name] = types[value.dtype]
            attributes[i,] = [["tt.divisibility", 16]]
        elif parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = "i32"
    source = compiler.ASTSource(kernel, signature, constants, attributes)
    options = {name: arguments[name] for name in ("num_warps", "enable_fp_fusion")}
    return compiler.compile(source, target=backends.GPUTarget("cuda", capability, 32), options=options)


SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes, of an A100 and an H100
FEW = [(64, 16, torch.float32), (256, None, torch.float32), (100, None, torch.bfloat16), (20, 3, torch.float16)]
MANY = [
    (hidden, rank, dtype)
    for hidden in (1, 20, 64, 128, 256)
    for rank in (None, 1, 32, 64)
    for dtype in (torch.float32, torch.bfloat16)
    if rank is None or rank <= hidden
]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", SHARED_MEMORY)
@pytest.mark.parametrize(
    ("names", "hidden", "rank", "dtype"),
    [
        *(pytest.param(CELLS[1], *sizes) for sizes in FEW),
        *(pytest.param(names, *sizes, marks=pytest.mark.slow) for names in CELLS for sizes in MANY),
    ],
)
def test_kernels_compile(
    names: Names,
    hidden: int,
    rank: int | None,
    dtype: torch.dtype,
    capability: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert _triton._load_triton()
    kernels = {name: getattr(_triton, name) for name in ("_forward", "_backward")}
    recorders = {name: Recorder() for name in kernels}
    for name, recorder in recorders.items():
        monkeypatch.setattr(_triton, name, recorder)
    monkeypatch.setattr(_triton, "_shared_memory", lambda device: SHARED_MEMORY[capability])
    by_kernels(make(names, (2, 8, hidden), rank, dtype, device="cpu"), names)
    for name, kernel in kernels.items():
        binary = compiled(kernel, recorders[name].arguments, capability)
        assert binary.metadata.shared <= SHARED_MEMORY[capability]
        assert binary.asm["cubin"]


# ---------------------------------------------------------------------------------------------------------------------
# Without Triton


def python(program: str, **environment: str) -> None:
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, check=True)


def test_importing_fastzoo_does_not_import_triton() -> None:
    python("""
import sys
import torch
before = "triton" in sys.modules
import fastzoo.nn
from fastzoo.nn import _triton
assert before or "triton" not in sys.modules
""")


def test_without_triton_nothing_is_available() -> None:
    python(
        """
import sys
sys.modules["triton"] = None
import torch
from fastzoo.nn import _triton
assert not _triton.is_available()
x = torch.zeros(3, 2, 4)
assert not _triton.supports(x, [torch.zeros(4, 4)])
""",
        TRITON_INTERPRET="1",
    )


def test_a_broken_triton_is_not_available(tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise RuntimeError('broken')")
    python(
        "from fastzoo.nn import _triton; assert not _triton.is_available()",
        TRITON_INTERPRET="1",
        PYTHONPATH=str(tmp_path),
    )
