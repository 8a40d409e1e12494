"""Compositing in rounds against all samples at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.compositing import composite
from ntalker_ns.kernels.reference.marching import MarchedRays
from ntalker_ns.kernels.types import MarchInput, RaySamples
from ntalker_ns.rendering import early_termination
from ntalker_ns.rendering.early_termination import INVISIBLE, ROUND_SAMPLES, composite_in_rounds

OPS = Ops("cpu")

STEP = 0.1


def _scene(counts: list[int], opaque: float) -> tuple[RaySamples, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(counts))
    starts = torch.cat([torch.arange(count) * STEP for count in counts])
    samples = RaySamples(starts.float(), torch.tensor(counts))
    density = torch.rand(len(starts), generator=generator) * opaque
    return samples, density, torch.rand(len(starts), 3, generator=generator)


def _asked(samples: RaySamples, density: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums, opacity and how often each sample was asked for."""
    first = torch.cumsum(samples.ray_counts, 0) - samples.ray_counts
    times = torch.zeros(len(density), dtype=torch.int64)

    def query(ray: Tensor, middles: Tensor) -> tuple[Tensor, Tensor]:
        place = first[ray] + ((middles - 0.5 * STEP) / STEP).round().long()
        times.index_add_(0, place, torch.ones_like(place))
        return density[place], values[place]

    return (*composite_in_rounds(OPS, query, MarchedRays(samples), STEP, 3), times)


@given(st.lists(st.integers(0, 3 * ROUND_SAMPLES + 1), max_size=12), st.sampled_from([0.1, 10.0, 200.0]))
@settings(max_examples=60, deadline=None)
def test_same_picture_as_all_samples_at_once(counts: list[int], opaque: float) -> None:
    samples, density, values = _scene(counts or [0], opaque)
    summed, opacity, times = _asked(samples, density, values)
    whole = composite(density, values, samples.starts + 0.5 * STEP, STEP, samples.ray_counts)
    expected = torch.cat([whole.values, whole.distance], dim=-1)
    # Distances in these rays are up to two and a half times as large as values.
    torch.testing.assert_close(summed, expected, rtol=0, atol=5 * INVISIBLE)
    torch.testing.assert_close(opacity, whole.accumulation, rtol=0, atol=2 * INVISIBLE)
    assert bool((times <= 1).all())
    if opaque == 0.1:
        # Nothing is hidden, so everything is asked for, and the sums differ by rounding alone.
        assert bool((times == 1).all())
        torch.testing.assert_close(summed, expected, rtol=0, atol=1e-5)


def test_rounds_grow_where_each_is_a_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, density, values = _scene([21 * ROUND_SAMPLES + 1, 3], 0.1)
    # So thin that no ray ends early.
    density[:] = 0.01
    expected = _asked(samples, density, values)
    asked: list[int] = []

    def query(ray: Tensor, middles: Tensor) -> tuple[Tensor, Tensor]:
        place = (ray == 1) * (21 * ROUND_SAMPLES + 1) + ((middles - 0.5 * STEP) / STEP).round().long()
        asked.append(len(ray))
        return density[place], values[place]

    monkeypatch.setattr(early_termination, "would_synchronize", lambda tensor: True)
    summed, opacity = composite_in_rounds(OPS, query, MarchedRays(samples), STEP, 3)
    assert asked == [ROUND_SAMPLES + 3, 4 * ROUND_SAMPLES, 16 * ROUND_SAMPLES, 1]
    torch.testing.assert_close(summed, expected[0])
    torch.testing.assert_close(opacity, expected[1])


def test_hidden_samples_are_not_queried() -> None:
    samples, density, values = _scene([4 * ROUND_SAMPLES, 3], 0.0)
    density[ROUND_SAMPLES - 1] = 1e4
    _, opacity, times = _asked(samples, density, values)
    assert times.tolist() == [1] * ROUND_SAMPLES + [0] * (3 * ROUND_SAMPLES) + [1] * 3
    torch.testing.assert_close(opacity, torch.tensor([[1.0], [0.0]]))


def test_no_rays() -> None:
    samples = RaySamples(torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    def query(ray: Tensor, middles: Tensor) -> tuple[Tensor, Tensor]:
        return middles, middles[:, None].expand(-1, 3)

    values, opacity = composite_in_rounds(OPS, query, MarchedRays(samples), STEP, 3)
    assert values.shape == (0, 4) and opacity.shape == (0, 1)


@pytest.mark.parametrize("max_samples", [3, ROUND_SAMPLES, 40])
def test_an_incremental_march_finds_the_samples_of_a_march(max_samples: int) -> None:
    generator = torch.Generator().manual_seed(max_samples)
    origins = 3.0 * torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=-1)
    targets = 1.2 * torch.rand(50, 3, generator=generator) - 0.6
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    occupied = torch.rand(16, 16, 16, generator=generator) < 0.4
    near, far = OPS.intersect_box(origins, directions)
    given = MarchInput(origins, directions, near, far, occupied, 0.05, torch.full((50,), 0.5), max_samples)
    whole = OPS.march(given)
    first = torch.cumsum(whole.ray_counts, 0) - whole.ray_counts
    some, others = torch.arange(0, 50, 2), torch.arange(1, 50, 2)
    for steps in (OPS.incremental_march(given), MarchedRays(whole)):
        found: list[list[float]] = [[] for _ in range(50)]
        # Rays may be asked for in any order, each as often as it likes.
        for rays in (some, others, others, some, *(torch.arange(50),) * 12):
            starts, counts = steps.next(rays, 4)
            for ray, part in zip(rays.tolist(), starts.split(counts.tolist()), strict=True):
                found[ray] += part.tolist()
        assert steps.left.tolist() == [0] * 50 or max_samples > 40
        for ray in range(50):
            expected = whole.starts[first[ray] : first[ray] + whole.ray_counts[ray]]
            assert found[ray] == expected.tolist()
