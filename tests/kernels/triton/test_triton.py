"""The Triton kernels: on a CUDA device where there is one, otherwise in Triton's interpreter and through its compiler.

Triton reads TRITON_INTERPRET when it is imported, so the cases in `cases` run in processes of their own.
"""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gaussians import leaves, random_gaussians, view_of
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction, mangle_type

from ntalker_ns.kernels.grid_layout import grid_layout
from ntalker_ns.kernels.ragged import RayInputs, SparseInputs, compact
from ntalker_ns.kernels.triton import compositing as triton_compositing
from ntalker_ns.kernels.triton import harmonics as triton_harmonics
from ntalker_ns.kernels.triton import hash_grid as triton_hash_grid
from ntalker_ns.kernels.triton import marching as triton_marching
from ntalker_ns.kernels.triton import mlp as triton_mlp
from ntalker_ns.kernels.triton import occupancy as triton_occupancy
from ntalker_ns.kernels.triton import poses as triton_poses
from ntalker_ns.kernels.triton import sizes as triton_sizes
from ntalker_ns.kernels.triton import splats as triton_splats
from ntalker_ns.kernels.triton import surface as triton_surface
from ntalker_ns.kernels.triton import warp as triton_warp
from ntalker_ns.kernels.types import FaceState, Gate, Landmarks, MarchInput

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.py")), ids=lambda path: path.stem)
def test_kernels_give_the_numbers_of_their_references(path: Path):
    environment = dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "--noconftest", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Compiler:
    """Kernels that are launched are compiled for a GPU instead, which needs none."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.names: list[str] = []
        self.shared_memory: list[int] = []
        """Bytes."""

    def __call__(self, kernel: JITFunction, *args: Any, grid: object, warmup: bool, **options: Any) -> None:
        given = dict(zip(kernel.arg_names, args, strict=False)) | options
        constants = {each.name: given[each.name] for each in kernel.params if each.is_constexpr}
        signature = {name: "constexpr" if name in constants else mangle_type(given[name]) for name in kernel.arg_names}
        compiler_options = {name: value for name, value in options.items() if name not in signature}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        binary = compile(source, target=GPUTarget("cuda", self.capability, 32), options=compiler_options)
        assert len(binary.asm["cubin"]) > 0
        self.names.append(kernel.__name__)
        self.shared_memory.append(binary.metadata.shared)


@pytest.fixture(params=[80, 90], ids=lambda capability: f"sm_{capability}")
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    made = Compiler(request.param)
    monkeypatch.setattr(JITFunction, "run", lambda *args, **options: made(*args, **options))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return made


@pytest.fixture
def compiled(compiler: Compiler) -> list[str]:
    """Names of the kernels."""
    return compiler.names


@pytest.mark.parametrize(("dims", "kind"), [(2, torch.float32), (3, torch.float16)])
def test_hash_grids_compile(compiled: list[str], dims: int, kind: torch.dtype):
    layout = grid_layout(dims, 12, 2, 4, 64, 8)
    table = torch.zeros(layout.total_entries, 2, dtype=kind, requires_grad=True)
    triton_hash_grid.encode(torch.rand(5, dims, requires_grad=True), table, layout, 12).sum().backward()
    assert compiled == ["hash_grid_forward", "hash_grid_coordinate_gradient", "hash_grid_table_gradient"]


def test_marching_compiles(compiled: list[str]):
    rows, values = torch.zeros(5, 3), torch.zeros(5)
    triton_marching.march(MarchInput(rows, rows, values, values, torch.ones(8, 8, 8) > 0, 0.1, values, 4))
    triton_marching.intersect_box(rows, rows, torch.zeros(3), 1.0)
    assert compiled == ["march_count", "march_write", "intersect_boxes"]


def test_compositing_compiles(compiled: list[str]):
    density, values = torch.zeros(6, requires_grad=True), torch.zeros(6, 5, requires_grad=True)
    triton_compositing.composite(density, values, torch.ones(6), 0.1, torch.tensor([2, 4]))[0].sum().backward()
    assert compiled == ["composite_forward", "composite_backward"]


def test_surfaces_compile(compiled: list[str]):
    triton_surface.squared_distance(torch.zeros(5, 3), torch.zeros(4, 4))
    triton_occupancy.mark_visible(torch.zeros(5, 3), torch.zeros(5), torch.zeros(4, 4, 4))
    assert compiled == ["squared_distances", "raise_visibility"]


def test_gates_and_inverse_warp_compile(compiled: list[str]):
    balls = Gate(((0.0, 0.0, 0.0), (0.1, 0.0, 0.0)), 0.1, 0.2)
    triton_warp.gate(torch.rand(5, 3, requires_grad=True), balls).sum().backward()
    marks = Landmarks(torch.zeros(2, 7, 2), torch.zeros(2, 7, 2), 0.1)
    face = FaceState(balls, balls, marks, marks, torch.zeros(2, 5, 4), torch.zeros(2))
    triton_warp.inverse_warp(torch.rand(5, 3), torch.rand(5, 1), [2, 3], face)
    assert compiled == ["gate_samples", "inverse_warp_samples"]


def test_poses_compile(compiled: list[str]):
    corrections = torch.zeros(2, 6, requires_grad=True)
    triton_poses.correct_poses(torch.zeros(5, 3), corrections, [2, 3]).sum().backward()
    assert compiled == ["move_samples", "sum_motions", "correction_gradient"]


def test_harmonics_compile(compiled: list[str]):
    assert triton_harmonics.spherical_harmonics(4, torch.rand(5, 3)).shape == (5, 16)
    assert compiled == ["harmonics"]


def test_rasterisation_compiles(compiled: list[str]):
    gaussians, view = random_gaussians(5, dtype=torch.float32), view_of(20, 20, torch.float32)
    leaves(gaussians, view)
    triton_splats.rasterise(gaussians, view, torch.zeros(5)).colour.sum().backward()
    forward = ["project_gaussians", "list_bins", "composite_gaussians"]
    assert compiled == [*forward, "composite_gradients", "project_gradients"]


@pytest.mark.parametrize(
    ("widths", "kind"),
    [([49, 64, 64, 65], torch.float16), ([80, 64, 3], torch.bfloat16), ([24, 64, 64, 2], torch.float32)],
)
def test_networks_compile(compiled: list[str], widths: list[int], kind: torch.dtype):
    weights = [torch.zeros(b, a, requires_grad=True) for a, b in pairwise(widths)]
    biases = [torch.zeros(width) for width in widths[1:]]
    with torch.autocast("cpu", kind, enabled=kind != torch.float32):
        rows, gates = torch.zeros(2, widths[1]), torch.ones(9, 1)
        triton_mlp.run_layers(torch.zeros(9, widths[0]), rows, [4, 5], gates, weights, biases).sum().backward()
        shared = RayInputs(torch.zeros(3, 16), torch.zeros(9, dtype=torch.int64))
        own = torch.zeros(9, widths[0] - 16)
        triton_mlp.run_layers(own, rows, [4, 5], None, weights, biases, shared=shared).sum().backward()
    assert compiled == ["mlp_forward", "mlp_backward"] * 2


@pytest.mark.parametrize(
    ("compiler", "widths"),
    [(86, [128, 64, 64, 128]), (86, [128, 64, 128]), (80, [128, 128, 128, 128])],
    indirect=["compiler"],
    ids=["sm_86, three layers", "sm_86, two layers", "sm_80, wide"],
)
def test_networks_take_no_more_shared_memory_than_declared(compiler: Compiler, widths: list[int]):
    weights = [torch.zeros(b, a, requires_grad=True) for a, b in pairwise(widths)]
    biases = [torch.zeros(width) for width in widths[1:]]
    with torch.autocast("cpu", torch.float16):
        rows, gates = torch.zeros(2, widths[1]), torch.ones(9, 1)
        triton_mlp.run_layers(torch.zeros(9, widths[0]), rows, [4, 5], gates, weights, biases).sum().backward()
    assert len(compiler.shared_memory) == 2
    assert max(compiler.shared_memory) <= triton_sizes.SHARED_MEMORY[widths[1]]


@pytest.mark.parametrize(
    ("shared_memory", "widest"), [(65_536, 0), (101_376, 64), (166_912, 64), (232_448, 128)], ids=str
)
def test_gpus_with_less_shared_memory_take_narrower_networks(
    monkeypatch: pytest.MonkeyPatch, shared_memory: int, widest: int
):
    assert triton_sizes.widest(shared_memory) == widest
    here = torch.device("cpu")
    monkeypatch.setattr(triton_sizes, "widest_on", lambda device: triton_sizes.widest(shared_memory))
    for width in (32, 64, 128):
        layers = [torch.zeros(width, 20), torch.zeros(3, width)]
        assert triton_sizes.fits(layers, here) == (width <= widest)


def test_networks_with_sparse_inputs_compile(compiled: list[str]):
    widths = [65, 64, 64, 65]
    weights = [torch.zeros(b, a, requires_grad=True) for a, b in pairwise(widths)]
    biases = [torch.zeros(width) for width in widths[1:]]
    none = compact(torch.zeros(9, dtype=torch.bool), [4, 5])
    sparse = SparseInputs(torch.zeros(0, 32), none, torch.zeros(1, 32), torch.zeros(9, 1))
    with torch.autocast("cpu", torch.float16):
        rows, gates = torch.zeros(2, 64), torch.ones(9, 1)
        triton_mlp.run_layers(torch.zeros(9, 32), rows, [4, 5], gates, weights, biases, sparse).sum().backward()
    assert compiled == ["mlp_forward", "mlp_backward"]
