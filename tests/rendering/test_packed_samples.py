"""Samples packed frame by frame: exactly as many, or into rooms that may be too large or too small."""

import pytest
import torch

from ntalker_ns.kernels.lattice import Lattice
from ntalker_ns.rendering.marching import intersect_box, march
from ntalker_ns.rendering.packed_samples import FrameSamples, march_frames
from ntalker_ns.training import transfers
from ntalker_ns.training.step_budget import GRAIN, REMEMBERED, Room

FRAMES, RAYS, MOST = 3, 40, 25


@pytest.fixture
def lattice() -> Lattice:
    generator = torch.Generator().manual_seed(4)
    origins = 2.0 * torch.randn(FRAMES * RAYS, 3, generator=generator)
    directions = torch.nn.functional.normalize(0.5 * torch.randn(origins.shape, generator=generator) - origins, dim=1)
    near, far = intersect_box(origins, directions)
    occupied = torch.rand(16, 16, 16, generator=generator) < 0.4
    return Lattice(origins, directions, near, far, occupied, 0.05, torch.rand(len(near), generator=generator), MOST)


def of_rays(samples: FrameSamples) -> list[list[float]]:
    """Where the samples of each ray start."""
    ends, counts = samples.ray_ends.tolist(), samples.ray_counts.tolist()
    for ray, (end, count) in enumerate(zip(ends, counts, strict=True)):
        assert (samples.rays[end - count : end] == ray).all()
    return [samples.starts[end - count : end].tolist() for end, count in zip(ends, counts, strict=True)]


def test_frames_have_what_was_marched(lattice: Lattice) -> None:
    marched, samples = march(lattice), march_frames(lattice, [RAYS, 0, 2 * RAYS], 7)
    assert torch.equal(samples.starts, marched.starts) and torch.equal(samples.rays, marched.rays)
    first = int(marched.ray_counts[:RAYS].sum())
    assert samples.frame_counts == [first, 0, len(marched.starts) - first]
    assert [start for ray in of_rays(samples) for start in ray] == marched.starts.tolist()


@pytest.mark.parametrize("spare", [0, 7, 500])
def test_a_room_that_is_large_enough_holds_all(lattice: Lattice, monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    exact = march_frames(lattice, [RAYS] * FRAMES)
    fullest = max(exact.frame_counts)
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    samples = march_frames(lattice, [RAYS] * FRAMES, fullest + spare)
    assert samples.frame_counts == [fullest + spare] * FRAMES and len(samples.starts) == FRAMES * (fullest + spare)
    assert of_rays(samples) == of_rays(exact)
    assert samples.fullest is not None and int(samples.fullest) == fullest and exact.fullest is None
    # What is left over lies where boxes begin: finite, and not all in one place.
    owned = torch.zeros(len(samples.starts), dtype=torch.bool)
    for end, count in zip(samples.ray_ends.tolist(), samples.ray_counts.tolist(), strict=True):
        owned[end - count : end] = True
    left = samples.rays[~owned]
    assert torch.equal(samples.starts[~owned], lattice.near[left])
    assert spare < 500 or len(left.unique()) == len(lattice.near)


def test_a_room_that_is_too_small_drops_the_last_samples(lattice: Lattice, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = march_frames(lattice, [RAYS] * FRAMES)
    size = min(exact.frame_counts) // 2
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    samples = march_frames(lattice, [RAYS] * FRAMES, size)
    assert samples.fullest is not None and int(samples.fullest) == max(exact.frame_counts)
    for frame in range(FRAMES):
        rays = slice(frame * RAYS, (frame + 1) * RAYS)
        expected = [start for ray in of_rays(exact)[rays] for start in ray][:size]
        assert [start for ray in of_rays(samples)[rays] for start in ray] == expected
        assert samples.starts[frame * size : (frame + 1) * size].tolist() == expected


def test_rooms_follow_what_was_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    room, rays, most = Room(), 16 * GRAIN, 32
    assert room.of(rays, most) == most * rays  # nothing is known yet
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    for _ in range(2):
        room.note(rays, torch.tensor(10 * rays))
        assert room.of(rays, most) == most * rays
    room.note(rays, torch.tensor(8 * rays))
    assert room.of(rays, most) == 180 * GRAIN  # 16 x 10 and an eighth
    assert room.of(rays - 1, most) == (rays - 1) * most  # these are other rays
    assert room.of(rays, 3) == 3 * rays
    for _ in range(REMEMBERED + 2):
        room.note(rays, torch.tensor(8 * rays))
    assert room.of(rays, most) == 144 * GRAIN


def test_rooms_stay_while_they_are_about_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    room, rays, most = Room(), 16 * GRAIN, 32

    def after(samples_per_ray: float) -> int:
        """The room after many steps that needed as much."""
        for _ in range(REMEMBERED + 2):
            room.note(rays, torch.tensor(round(samples_per_ray * rays)))
        return room.of(rays, most)

    assert after(10.0) == 180 * GRAIN
    assert after(10.9) == after(9.1) == 180 * GRAIN
    assert after(11.0) == 198 * GRAIN  # more than 180 / 1.03
    assert after(10.0) == 198 * GRAIN
    assert after(9.8) == 177 * GRAIN  # less than 198 / 1.25
