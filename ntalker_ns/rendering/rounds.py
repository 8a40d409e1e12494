"""Compositing without gradients, in rounds: a picture asks the field only for what is not hidden.

Training has to ask for all samples of a ray at once. Here the first few samples of all rays are asked for, then the
next few of the rays that light still comes through, and so on: what lies behind the surface, a third of the samples of
a head and more, is never computed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.rendering.compositing import composite
from ntalker_ns.rendering.marching import RaySamples

SAMPLES_A_ROUND = 8
"""Samples that a ray is asked for at a time."""

INVISIBLE = 1.0 / 512.0
"""A ray that lets less light through than half a step of an 8-bit picture is finished."""

Ask = Callable[[Int[Tensor, "samples"], Float[Tensor, "samples"]], tuple[Tensor, Tensor]]
"""From the ray of each sample and the distance of its middle to density (samples,) and values (samples, channels)."""


@torch.no_grad()
def composite_in_rounds(
    ask: Ask, samples: RaySamples, step: float, channels: int
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays 1"]]:
    """The sums and opacities of `composite`, up to `INVISIBLE`.

    Args:
        ask: the field; samples come ray after ray.
        samples: of all rays.
        step: length of each sample, world units.
        channels: how many values are summed.

    Returns:
        Sums along rays and accumulated opacity.
    """
    counts, starts = samples.ray_counts, samples.starts
    place = torch.cumsum(counts, dim=0) - counts
    left = counts.clone()
    values = starts.new_zeros(len(counts), channels)
    light = starts.new_ones(len(counts), 1)
    going = left.nonzero().squeeze(-1)
    while len(going):
        taken = left[going].clamp(max=SAMPLES_A_ROUND)
        sample = _runs(place[going], taken)
        density, found = ask(torch.repeat_interleave(going, taken), starts[sample] + 0.5 * step)
        part = composite(density, torch.full_like(density, step), found, taken)
        before = light[going]
        values.index_add_(0, going, before * part.values)
        light[going] = before * (1.0 - part.accumulation)
        place.index_add_(0, going, taken)
        left.index_add_(0, going, -taken)
        going = going[(left[going] > 0) & (light[going, 0] > INVISIBLE)]
    return values, 1.0 - light


def _runs(firsts: Int[Tensor, "runs"], lengths: Int[Tensor, "runs"]) -> Int[Tensor, "total"]:
    """Whole numbers from each of `firsts` on, as many as its length, run after run."""
    ends = torch.cumsum(lengths, dim=0)
    total = torch.arange(int(ends[-1]), device=firsts.device)
    return total + torch.repeat_interleave(firsts - ends + lengths, lengths)
