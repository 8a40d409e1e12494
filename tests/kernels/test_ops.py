"""The dispatch: which backend computes an operation, and that all agree."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.backend import MODULES, automatic_backend, unavailable
from ntalker_ns.kernels.ops import Ops, implementations
from ntalker_ns.kernels.reference import harmonics, warp
from ntalker_ns.kernels.types import Gate


def test_auto_takes_the_fastest_backend_of_a_device(monkeypatch: pytest.MonkeyPatch):
    assert automatic_backend("cpu") == "numba"
    assert automatic_backend("mps") == "reference"
    assert automatic_backend("cuda") == "triton"
    monkeypatch.setitem(sys.modules, "triton", None)
    assert automatic_backend("cuda") == "reference"


@pytest.mark.parametrize(("backend", "device"), [("triton", "cpu"), ("tcnn", "cpu"), ("numba", "cuda")])
def test_a_backend_that_does_not_run_there_is_refused(backend: Any, device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(NTalkerError, match=f'"{backend}" cannot be used here: it runs on .*, not on {device}'):
        Ops(device, backend)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    assert "tinycudann cannot be imported" in (unavailable("tcnn", "cuda") or "")
    with pytest.raises(NTalkerError, match="tinycudann"):
        Ops("cuda", "tcnn")


def test_operations_fall_back_in_the_documented_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tinycudann", object())
    found = implementations("tcnn", "cuda")
    assert found["run_mlp"] == ("tcnn", "triton", "reference")
    assert found["march"] == ("triton", "reference")
    assert found["points_along"] == ("reference",)
    assert found["fused_field"] == ()
    monkeypatch.setitem(sys.modules, "triton", None)
    assert implementations("tcnn", "cuda")["march"] == ("reference",)
    assert implementations("numba", "cpu")["spherical_harmonics"] == ("reference",)


def test_the_reference_is_plain_torch_everywhere():
    ops = Ops("cpu", "reference")
    assert all(backends in (("reference",), ()) for backends in ops.implementations.values())
    assert ops.fused_field is None
    for name in set(MODULES) - {"fused_field"}:
        assert getattr(ops, name).__module__.startswith("ntalker_ns.kernels.reference."), name


def test_a_backend_is_bound_where_it_has_a_kernel():
    ops = Ops("cpu", "numba")
    assert ops.march.__module__ == "ntalker_ns.kernels.numba.marching"
    assert ops.spherical_harmonics is harmonics.spherical_harmonics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float64_gates_are_the_references(dtype: torch.dtype):
    gate, positions = Gate(((0.1, 0.2, 0.3),), 0.2, 0.9), torch.rand(50, 3, dtype=dtype)
    found, expected = Ops("cpu").gate(positions, gate), warp.gate(positions, gate)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 0)


def test_libraries_are_imported_only_when_a_backend_is_bound():
    code = "import sys, ntalker_ns.field.talker_field; sys.exit('numba' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
