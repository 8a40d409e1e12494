"""What happens at a cell's corners, against products of weights worked out in float64."""

from itertools import product

import numpy as np
import pytest
from numba import njit

from ntalker_ns.kernels.numba.hash_grid_cells import add_shares, add_slopes, interpolate


@njit
def _interpolate(table, corners, fractions, axes, lanes, output):
    for p in range(corners.shape[1]):
        interpolate(table, corners, fractions, p, axes, lanes, output, p * len(lanes))


@njit
def _add_shares(table, corners, fractions, axes, lanes, gradient):
    for p in range(corners.shape[1]):
        add_shares(table, corners, fractions, p, axes, lanes, gradient, p * len(lanes))


@njit
def _add_slopes(table, corners, fractions, axes, lanes, gradient, scale, slopes):
    for p in range(corners.shape[1]):
        row = p * len(axes) * len(lanes)
        add_slopes(table, corners, fractions, p, axes, lanes, gradient, p * len(lanes), scale, slopes, row)


def _weights(fractions: np.ndarray, along: int | None = None) -> np.ndarray:
    """(2^dims, points): each corner's weight, x fastest; `along` an axis, its derivative."""
    factors = [np.stack([1 - f, f]) for f in fractions.astype(np.float64)]
    if along is not None:
        factors[along] = np.stack([-np.ones_like(fractions[along]), np.ones_like(fractions[along])])
    corners = product((0, 1), repeat=len(fractions))
    return np.stack([np.prod([f[b] for f, b in zip(factors, bits[::-1], strict=True)], axis=0) for bits in corners])


@pytest.fixture(params=[(2, 1), (2, 3), (3, 2), (3, 4)], ids=lambda each: f"{each[0]}D, {each[1]} features")
def cells(request):
    """Cells of 50 points in a table of 40 entries, of float32 for an even number of features."""
    dims, features = request.param
    kind = np.float32 if features % 2 == 0 else np.float64
    draw = np.random.default_rng(dims)
    table = draw.normal(size=(40, features)).astype(kind)
    corners = draw.integers(0, 40, (1 << dims, 50)).astype(np.uint32)
    fractions = draw.uniform(size=(dims, 50)).astype(kind)
    return table, corners, fractions, draw.normal(size=(50, features)).astype(kind)


def _tolerance(values: np.ndarray) -> float:
    return 2e-6 if values.dtype == np.float32 else 1e-14


def _lengths(table: np.ndarray, fractions: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (0,) * len(fractions), (0,) * table.shape[1]


def test_features_are_the_weighted_sum_of_the_corners(cells):
    table, corners, fractions, output = cells
    _interpolate(table.reshape(-1), corners, fractions, *_lengths(table, fractions), output.reshape(-1))
    expected = np.einsum("cp,cpf->pf", _weights(fractions), table[corners])
    np.testing.assert_allclose(output, expected, atol=4 * _tolerance(table))


def test_each_corner_gets_its_weight_of_the_gradient(cells):
    table, corners, fractions, gradient = cells
    expected = table.astype(np.float64)
    np.add.at(expected, corners, _weights(fractions)[..., None] * gradient)
    _add_shares(table.reshape(-1), corners, fractions, *_lengths(table, fractions), gradient.reshape(-1))
    np.testing.assert_allclose(table, expected, atol=20 * _tolerance(table))


def test_slopes_are_the_derivatives_of_the_weighted_sum(cells):
    table, corners, fractions, gradient = cells
    scale = table.dtype.type(7)
    slopes = np.ones((50, len(fractions), table.shape[1]), table.dtype)
    flat = table.reshape(-1), corners, fractions, *_lengths(table, fractions), gradient.reshape(-1)
    _add_slopes(*flat, scale, slopes.reshape(-1))
    for axis in range(len(fractions)):
        steps = np.einsum("cp,cpf->pf", _weights(fractions, axis), table[corners])
        np.testing.assert_allclose(slopes[:, axis], 1 + 7 * gradient * steps, atol=100 * _tolerance(table))
