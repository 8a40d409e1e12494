"""Samples packed frame by frame: exactly as many, or into a capacity that may be too large or too small."""

import pytest
import torch

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import FrameSamples, MarchInput
from ntalker_ns.rendering.packed_samples import march_frames
from ntalker_ns.training import transfers

FRAMES, RAYS, MOST = 3, 40, 25
OPS = Ops("cpu")


@pytest.fixture
def given() -> MarchInput:
    generator = torch.Generator().manual_seed(4)
    origins = 2.0 * torch.randn(FRAMES * RAYS, 3, generator=generator)
    directions = torch.nn.functional.normalize(0.5 * torch.randn(origins.shape, generator=generator) - origins, dim=1)
    near, far = OPS.intersect_box(origins, directions)
    occupied = torch.rand(16, 16, 16, generator=generator) < 0.4
    return MarchInput(origins, directions, near, far, occupied, 0.05, torch.rand(len(near), generator=generator), MOST)


def of_rays(samples: FrameSamples) -> list[list[float]]:
    """Where the samples of each ray start."""
    ends, counts = samples.ray_ends.tolist(), samples.ray_counts.tolist()
    for ray, (end, count) in enumerate(zip(ends, counts, strict=True)):
        assert (samples.rays[end - count : end] == ray).all()
    return [samples.starts[end - count : end].tolist() for end, count in zip(ends, counts, strict=True)]


def test_frames_have_what_was_marched(given: MarchInput) -> None:
    marched, samples = OPS.march(given), march_frames(OPS, given, [RAYS, 0, 2 * RAYS], 7)
    assert torch.equal(samples.starts, marched.starts) and torch.equal(samples.rays, marched.rays)
    first = int(marched.ray_counts[:RAYS].sum())
    assert samples.frame_counts == [first, 0, len(marched.starts) - first]
    assert [start for ray in of_rays(samples) for start in ray] == marched.starts.tolist()


@pytest.mark.parametrize("spare", [0, 7, 500])
def test_a_large_capacity_holds_all_samples(given: MarchInput, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    exact = march_frames(OPS, given, [RAYS] * FRAMES)
    greatest = max(exact.frame_counts)
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    samples = march_frames(OPS, given, [RAYS] * FRAMES, greatest + spare)
    assert samples.frame_counts == [greatest + spare] * FRAMES and len(samples.starts) == FRAMES * (greatest + spare)
    assert of_rays(samples) == of_rays(exact)
    assert (
        samples.max_frame_samples is not None
        and int(samples.max_frame_samples) == greatest
        and exact.max_frame_samples is None
    )
    # Unused slots lie where rays enter the box: finite, and not all in one place.
    owned = torch.zeros(len(samples.starts), dtype=torch.bool)
    for end, count in zip(samples.ray_ends.tolist(), samples.ray_counts.tolist(), strict=True):
        owned[end - count : end] = True
    left = samples.rays[~owned]
    assert torch.equal(samples.starts[~owned], given.near[left])
    assert spare < 500 or len(left.unique()) == len(given.near)


def test_a_small_capacity_drops_the_last_samples(given: MarchInput, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = march_frames(OPS, given, [RAYS] * FRAMES)
    size = min(exact.frame_counts) // 2
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    samples = march_frames(OPS, given, [RAYS] * FRAMES, size)
    assert samples.max_frame_samples is not None and int(samples.max_frame_samples) == max(exact.frame_counts)
    for frame in range(FRAMES):
        rays = slice(frame * RAYS, (frame + 1) * RAYS)
        expected = [start for ray in of_rays(exact)[rays] for start in ray][:size]
        assert [start for ray in of_rays(samples)[rays] for start in ray] == expected
        assert samples.starts[frame * size : (frame + 1) * size].tolist() == expected
