"""Triton marching against testing every step."""

import pytest
import torch

from ntalker_ns.kernels.reference import marching as reference
from ntalker_ns.kernels.triton import marching as triton_marching
from ntalker_ns.kernels.types import MarchInput

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _scene(seed: int, rays: int, grid: int, open_share: float):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(rays, 3, generator=generator) * 2.0
    targets = torch.rand(rays, 3, generator=generator) * 2.2 - 1.1
    # Some rays run along an axis.
    targets[: rays // 4, :2] = origins[: rays // 4, :2]
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    occupied = torch.rand(grid, grid, grid, generator=generator) < open_share
    jitter = torch.rand(rays, generator=generator)
    return tuple(each.to(DEVICE) for each in (origins, directions, occupied, jitter))


@pytest.mark.parametrize(
    ("grid", "open_share", "max_samples"),
    [(1, 1.0, 1000), (5, 0.5, 5), (16, 0.05, 1000), (16, 0.05, 1), (16, 0.0, 5), (32, 1.0, 70), (32, 1.0, 0)],
)
def test_keeps_the_same_samples_to_the_last_bit(grid, open_share, max_samples):
    origins, directions, occupied, jitter = _scene(grid, 18, grid, open_share)
    near, far = reference.intersect_box(origins, directions)
    given = MarchInput(origins, directions, near, far, occupied, 0.03, jitter, max_samples)
    samples = triton_marching.march(given)
    dense = reference.march(given)
    assert torch.equal(samples.ray_counts, dense.ray_counts)
    assert torch.equal(samples.starts, dense.starts)
    assert (max_samples == 0 or open_share == 0.0) == (len(samples.starts) == 0)


@pytest.mark.parametrize("box", [(-1.0, 1.0), ((-0.7, -0.2, 0.1), (0.5, 0.9, 0.6)), ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))])
def test_boxes_are_intersected_to_the_last_bit(box):
    origins, directions, _, _ = _scene(3, triton_marching.RAYS_AT_ONCE + 40, 4, 0.5)
    # From inside, away from the box, along an axis and to either side of it.
    origins[:20] *= 0.1
    directions[20:40] *= -1.0
    directions[40:44, 0] = torch.tensor([0.0, -0.0, 1e-10, -1e-10])
    low, high = (bound if isinstance(bound, float) else torch.tensor(bound, device=DEVICE) for bound in box)
    found = triton_marching.intersect_box(origins, directions, low, high)
    expected = reference.intersect_box(origins, directions, low, high)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert 0 < int((found[1] > found[0]).sum()) < len(origins) or box[0] == box[1]
    none = triton_marching.intersect_box(origins[:0], directions[:0], low, high)
    assert none[0].shape == none[1].shape == (0,)


def test_rays_that_end_before_they_begin_and_no_rays():
    rows, zeros = torch.zeros(3, 3, device=DEVICE), torch.zeros(3, device=DEVICE)
    directions = rows + torch.tensor([0.0, 0.0, 1.0], device=DEVICE)
    occupied = torch.ones(8, 8, 8, dtype=torch.bool, device=DEVICE)
    for count in (3, 0):
        rays = (rows[:count], directions[:count], zeros[:count], zeros[:count] - 1)
        samples = triton_marching.march(MarchInput(*rays, occupied, 0.1, zeros[:count], 16))
        assert samples.starts.shape == (0,)
        assert samples.ray_counts.tolist() == [0] * count


def test_known_samples():
    occupied = torch.zeros(4, 4, 4, dtype=torch.bool, device=DEVICE)
    occupied[2, 2, 1] = True
    origin, direction = torch.tensor([[-2, 0.25, -0.25]], device=DEVICE), torch.tensor([[1.0, 0, 0]], device=DEVICE)
    one = torch.ones(1, device=DEVICE)
    samples = triton_marching.march(MarchInput(origin, direction, one, 3 * one, occupied, 0.125, 0 * one, 16))
    assert samples.starts.tolist() == [2.0, 2.125, 2.25, 2.375]
    assert samples.ray_counts.tolist() == [4]


@pytest.mark.parametrize("capacity", [3, 40, 400])
def test_samples_are_packed_to_a_capacity(capacity):
    origins, directions, occupied, jitter = _scene(7, 18, 16, 0.4)
    near, far = reference.intersect_box(origins, directions)
    given = MarchInput(origins, directions, near, far, occupied, 0.05, jitter, 30)
    found = triton_marching.march_to_capacity(given, 3, capacity)
    expected = reference.march_to_capacity(given, 3, capacity)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=0, atol=0)
    assert int(found.ray_counts.sum()) > 0
