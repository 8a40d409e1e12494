"""Marching: box intersections by hand, and the fast march against the dense one."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference import marching as reference
from ntalker_ns.kernels.types import MarchInput

OPS = Ops("cpu")


@pytest.mark.parametrize("intersect_box", [OPS.intersect_box, reference.intersect_box])
def test_box_by_hand(intersect_box: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
    origins = torch.tensor([[0.0, -3.0, 0.0], [0.5, 0.0, 0.0], [0.0, -3.0, 2.0]])
    directions = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    near, far = intersect_box(origins, directions)
    torch.testing.assert_close(near[:2], torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(far[:2], torch.tensor([4.0, 0.5]))
    assert far[2] <= near[2]
    low, high = torch.tensor([-1.0, -0.5, -1.0]), torch.tensor([1.0, 0.25, 1.0])
    near, far = intersect_box(origins[:1], directions[:1], low, high)
    torch.testing.assert_close(torch.cat([near, far]), torch.tensor([2.5, 3.25]))


def test_boxes_are_intersected_as_by_the_reference() -> None:
    torch.manual_seed(0)
    origins, directions = 2.0 * torch.randn(500, 3), torch.nn.functional.normalize(torch.randn(500, 3), dim=-1)
    directions[::7, 1], directions[3::7, 0], directions[5::7, 2] = 0.0, -1e-12, 1e-12
    low, high = torch.tensor([-0.7, -1.0, -0.3]), torch.tensor([0.2, 0.5, 0.9])
    for bounds in ((), (low, high), (torch.zeros(3), torch.zeros(3))):
        for ours, theirs in zip(
            OPS.intersect_box(origins, directions, *bounds),
            reference.intersect_box(origins, directions, *bounds),
            strict=True,
        ):
            assert torch.equal(ours, theirs)
    assert [len(each) for each in OPS.intersect_box(origins[:0], directions[:0])] == [0, 0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([4, 9, 16]), st.integers(1, 40))
def test_fast_march_equals_dense_march(seed: int, grid: int, max_samples: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(17, 3, generator=generator) * 2.0
    directions = torch.nn.functional.normalize(torch.randn(17, 3, generator=generator), dim=-1)
    occupied = torch.rand(grid, grid, grid, generator=generator) < 0.4
    jitter = torch.rand(17, generator=generator)
    near, far = OPS.intersect_box(origins, directions)
    given = MarchInput(origins, directions, near, far, occupied, 0.05, jitter, max_samples)
    ours, dense = OPS.march(given), reference.march(given)
    # A middle on a cell's face may fall to either side in float32: one such sample is allowed for.
    assert (ours.ray_counts - dense.ray_counts).abs().sum() <= 1
    if ours.ray_counts.equal(dense.ray_counts):
        torch.testing.assert_close(ours.starts, dense.starts, atol=2e-6, rtol=0)


def test_every_kept_sample_is_occupied_and_in_order() -> None:
    generator = torch.Generator().manual_seed(3)
    occupied = torch.rand(8, 8, 8, generator=generator) < 0.5
    origins = torch.tensor([[0.1, -2.0, 0.2]]).expand(4, 3).contiguous()
    directions = torch.nn.functional.normalize(torch.tensor([[0.0, 1.0, x] for x in (0.0, 0.1, -0.2, 0.3)]), dim=-1)
    near, far = OPS.intersect_box(origins, directions)
    samples = OPS.march(MarchInput(origins, directions, near, far, occupied, 0.02, torch.zeros(4), 1000))
    ray = torch.repeat_interleave(samples.ray_counts)
    middles = samples.starts + 0.01
    cells = ((origins[ray] + middles[:, None] * directions[ray] + 1.0) * 4.0).long().clamp(0, 7)
    assert len(cells) > 20
    assert occupied[cells[:, 0], cells[:, 1], cells[:, 2]].all()
    same_ray = ray[1:] == ray[:-1]
    assert (samples.starts[1:][same_ray] > samples.starts[:-1][same_ray]).all()


def test_points_along_rays() -> None:
    origins, directions, rays = torch.randn(3, 3), torch.randn(3, 3), torch.tensor([0, 2, 2, 1])
    distances = torch.rand(4)
    expected = origins.double()[rays] + distances.double()[:, None] * directions.double()[rays]
    torch.testing.assert_close(OPS.points_along(origins, directions, rays, distances).double(), expected)
    assert OPS.points_along(origins, directions, rays[:0], distances[:0]).shape == (0, 3)
