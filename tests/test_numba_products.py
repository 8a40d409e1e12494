"""Matrix products in registers against numpy's, in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from ntalker_ns.field.numba_products import multiply_add


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
