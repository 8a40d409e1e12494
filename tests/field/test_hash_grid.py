"""The hash grid module."""

import subprocess
import sys

import pytest
import torch

from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.hash_grid import INITIAL_RANGE, HashGrid, encoder
from ntalker_ns.kernels.backend import automatic_backend, unavailable
from ntalker_ns.kernels.reference import hash_grid as reference_hash_grid


@pytest.mark.parametrize("dims", [2, 3])
def test_width_range_and_backends(dims):
    grid = HashGrid(dims, num_levels=4, max_resolution=64, log2_hashmap_size=10)
    points = torch.rand(7, dims)
    encoded = grid(points)
    assert encoded.shape == (7, grid.output_width) == (7, 8)
    assert 0 < float(encoded.detach().abs().max()) <= INITIAL_RANGE
    slow = HashGrid(dims, num_levels=4, max_resolution=64, log2_hashmap_size=10, backend="torch")
    slow.load_state_dict(grid.state_dict())
    torch.testing.assert_close(slow(points), encoded)


def test_levels_beyond_the_active_ones_are_zero():
    grid = HashGrid(2, num_levels=4, max_resolution=64, log2_hashmap_size=10)
    points = torch.rand(7, 2)
    encoded, coarse = grid(points), grid(points, active_levels=3)
    assert (coarse[:, :6] == encoded[:, :6]).all() and (coarse[:, 6:] == 0).all()
    coarse.sum().backward()
    assert grid.table.grad is not None
    assert (grid.table.grad[grid.layout.offsets[3] :] == 0).all()


def test_only_the_table_is_stored():
    assert list(HashGrid(2, num_levels=2).state_dict()) == ["table"]


def test_automatic_choice_by_device(monkeypatch: pytest.MonkeyPatch):
    assert encoder("auto", torch.device("cpu")) is encoder("numba", torch.device("cpu"))
    assert encoder("torch", torch.device("cpu")) is encoder("auto", torch.device("mps")) is reference_hash_grid.encode
    assert automatic_backend("cuda") == "triton"
    monkeypatch.setitem(sys.modules, "triton", None)
    assert automatic_backend("cuda") == "torch"


@pytest.mark.parametrize(("backend", "device"), [("triton", "cpu"), ("tcnn", "cpu"), ("numba", "cuda")])
def test_a_backend_that_does_not_run_there_is_refused(backend, device, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(NTalkerError, match=f'"{backend}" cannot be used here: it runs on .*, not on {device}'):
        encoder(backend, torch.device(device))


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    assert "tinycudann cannot be imported" in (unavailable("tcnn", "cuda") or "")
    with pytest.raises(NTalkerError, match="tinycudann"):
        encoder("tcnn", torch.device("cuda"))


@pytest.mark.parametrize(("shape", "levels"), [((5, 2), None), ((3,), None), ((5, 3), 17), ((5, 3), 0)])
def test_wrong_arguments_are_refused(shape, levels):
    # Annotations refuse a wrong number of dimensions before the grid does.
    with pytest.raises((ValueError, TypeError)):
        HashGrid(3, log2_hashmap_size=4)(torch.rand(shape), levels)


def test_no_library_is_imported_before_it_is_used():
    code = "import sys, ntalker_ns.field.hash_grid; sys.exit('numba' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
