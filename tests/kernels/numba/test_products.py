"""Matrix products in registers against numpy's, in double precision."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from ntalker_ns.kernels.numba.products import multiply_add


@njit
def _product(a, row_stride, column_stride, rows, depth, b, width, c):
    multiply_add(a, row_stride, column_stride, rows, depth, b, width, c)


@pytest.mark.parametrize("width", [1, 16, 21, 64, 80])
@given(
    rows=st.integers(0, 21),
    depth=st.integers(0, 9),
    turned=st.booleans(),
    kind=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_adds_the_product(width: int, rows: int, depth: int, turned: bool, kind: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(rows, depth)), rng.normal(size=(depth, width)), rng.normal(size=(rows, width))
    a, b, c = (each.astype(kind) for each in (a, b, c))
    expected = c.astype(float) + a.astype(float) @ b.astype(float)
    # What lies behind the rows must stay as it is.
    room = np.concatenate([c.ravel(), np.full(70, 7.0, kind)])
    if turned:
        _product(np.append(a.T.ravel(), kind(0)), 1, rows, rows, depth, b.ravel(), (0,) * width, room)
    else:
        _product(np.append(a.ravel(), kind(0)), depth, 1, rows, depth, b.ravel(), (0,) * width, room)
    np.testing.assert_allclose(
        room[: c.size].reshape(c.shape), expected, rtol=0, atol=1e-5 if kind is np.float32 else 1e-13
    )
    np.testing.assert_array_equal(room[c.size :], 7.0)


LAYERS = """
import sys
from numba import njit

import numpy as np
from ntalker_ns.kernels.numba.products import linear_layer, rectified_layer

@njit(cache=True)
def linear(rows, depth, a, b, c, bias, factors, extra):
    for i in range(rows):  # Called from one place only, it would become a part of its caller.
        linear_layer(a[i * depth :], depth, 1, 1, depth, b, WIDTH, c[i * len(WIDTH) :], bias, factors, extra)
    linear_layer(a, depth, 1, rows, depth, b, WIDTH, c, bias, factors, extra)

@njit(cache=True)
def rectified(rows, depth, a, b, c, bias, factors, extra):
    for i in range(rows):
        rectified_layer(a[i * depth :], depth, 1, 1, depth, b, WIDTH, c[i * len(WIDTH) :], bias, factors, extra)
    rectified_layer(a, depth, 1, rows, depth, b, WIDTH, c, bias, factors, extra)

WIDTH = (0,) * 21
arrays = [np.ones(8), -np.ones(2 * 21), np.zeros(4 * 21), np.zeros(21), np.zeros(4), np.zeros(21)]
for name in sys.argv[1:]:
    globals()[name](4, 2, *arrays)
    print(name, *set(arrays[2]))
"""


def test_code_kept_by_several_processes_is_not_mixed_up(tmp_path: Path) -> None:
    """Each process counts the functions that it makes, and the count is in the names of what it compiles."""
    script = tmp_path / "layers.py"
    script.write_text(LAYERS)

    def run(*arguments: str) -> list[str]:
        done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    # Each counts its function as the same one.
    assert run("linear") == ["linear -2.0"]
    assert run("rectified") == ["rectified 0.0"]
    assert len(list(tmp_path.rglob("*.nbc"))) == 2
    assert run("linear", "rectified") == ["linear -2.0", "rectified 0.0"]
    assert run("rectified", "linear") == ["rectified 0.0", "linear -2.0"]
