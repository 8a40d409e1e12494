"""numba's march against testing every step."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.numba.marching import march
from ntalker_ns.kernels.types import MarchInput


def _march(*rays):
    """Where samples start, and how many each ray has."""
    given: Any = [torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in rays]
    samples = march(MarchInput(*given))
    return samples.starts.numpy(), samples.ray_counts.numpy()


def _march_every_step(origins, directions, nears, fars, occupied, step, jitter, max_samples):
    """Every k of every ray, in float32 and in the reference's order of operations."""
    grid, step = occupied.shape[0], np.float32(step)
    starts, counts = [], []
    for origin, direction, near, far, shift in zip(origins, directions, nears, fars, jitter, strict=True):
        k = np.arange(int(max(far - near, 0) / step) + 2).astype(np.float32)
        ray_starts = near + (k + shift) * step
        middles = ray_starts + np.float32(0.5) * step
        points = origin + middles[:, None] * direction
        cells = np.floor((points + np.float32(1)) * np.float32(0.5 * grid)).astype(np.int64)
        inside = (middles < far) & (cells >= 0).all(1) & (cells < grid).all(1)
        x, y, z = np.clip(cells, 0, grid - 1).T
        kept = ray_starts[inside & occupied[x, y, z]][:max_samples]
        starts.append(kept)
        counts.append(len(kept))
    return np.concatenate([*starts, np.empty(0, np.float32)]), np.array(counts, np.int64)


def _rays(rng, count, distance):
    """Rays from about `distance` towards the box, a few of them along an axis."""
    origins = rng.normal(size=(count, 3))
    origins *= distance / np.linalg.norm(origins, axis=1, keepdims=True)
    targets = rng.uniform(-1.1, 1.1, size=(count, 3))
    targets[: count // 4, :2] = origins[: count // 4, :2]
    directions = targets - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[0, 1] = 1e-40
    return origins.astype(np.float32), directions.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    grid=st.sampled_from([1, 5, 8, 17, 32, 64]),
    open_share=st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]),
    distance=st.sampled_from([0.3, 1.0, 3.5, 12.0]),
    step=st.sampled_from([0.004, 0.03, 0.4]),
    max_samples=st.sampled_from([0, 1, 5, 10_000]),
    jittered=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_keeps_the_same_samples_to_the_last_bit(grid, open_share, distance, step, max_samples, jittered, seed):
    rng = np.random.default_rng(seed)
    origins, directions = _rays(rng, 40, distance)
    nears = rng.uniform(0, 0.5, 40).astype(np.float32)
    fars = (nears + rng.uniform(-0.5, distance + 2, 40)).astype(np.float32)
    occupied = rng.random((grid, grid, grid)) < open_share
    jitter = (rng.random(40) * jittered).astype(np.float32)
    rays = (origins, directions, nears, fars, occupied, step, jitter, max_samples)
    starts, counts = _march(*rays)
    expected_starts, expected_counts = _march_every_step(*rays)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(starts, expected_starts)


def test_known_samples():
    occupied = np.zeros((4, 4, 4), bool)
    occupied[2, 2, 1] = True
    one = np.ones(1, np.float32)
    origin, direction = np.array([[-2, 0.25, -0.25]], np.float32), np.array([[1, 0, 0]], np.float32)
    starts, counts = _march(origin, direction, one, 3 * one, occupied, 0.125, 0 * one, 16)
    np.testing.assert_array_equal(starts, [2.0, 2.125, 2.25, 2.375])
    np.testing.assert_array_equal(counts, [4])


@pytest.mark.parametrize("count", [0, 3])
def test_no_rays_and_rays_that_meet_nothing(count):
    rows, zeros = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
    directions = rows + np.array([0, 0, 1], np.float32)
    starts, counts = _march(rows, directions, zeros, zeros, np.ones((8, 8, 8), bool), 0.1, zeros, 16)
    assert len(starts) == 0
    np.testing.assert_array_equal(counts, np.zeros(count))
