"""Compositing without gradients, in rounds: a picture asks the field only for what is not hidden.

Training has to ask for all samples of a ray at once. Here the first few samples of all rays are asked for, then the
next few of the rays that light still comes through, and so on: what lies behind the surface, a third of the samples of
a head and more, is never computed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.rendering.compositing import add_samples
from ntalker_ns.rendering.marching import Walk
from ntalker_ns.training.transfers import would_synchronize

SAMPLES_A_ROUND = 8
"""Samples that a ray is asked for at a time; on a device at first: there each round asks for four times as many as the
one before, since a round for the few rays that are left takes as long to begin as one for all."""

INVISIBLE = 1.0 / 512.0
"""A ray that lets less light through than half a step of an 8-bit picture is finished."""

Ask = Callable[[Int[Tensor, "samples"], Float[Tensor, "samples"]], tuple[Tensor, Tensor]]
"""From the ray of each sample and the distance of its middle to density (samples,) and values (samples, channels)."""


@torch.no_grad()
def composite_in_rounds(
    ask: Ask, walk: Walk, step: float, channels: int
) -> tuple[Float[Tensor, "rays sums"], Float[Tensor, "rays 1"]]:
    """The sums and opacities of `composite`, up to `INVISIBLE`.

    Args:
        ask: the field; samples come ray after ray.
        walk: the rays, from their beginning.
        step: length of each sample, world units.
        channels: how many values are summed.

    Returns:
        Sums along rays, of the distances of samples' middles behind the values, and accumulated opacity.
    """
    left = walk.left
    values = torch.zeros(len(left), channels + 1, device=left.device)
    light = torch.ones(len(left), device=left.device)
    going = torch.arange(len(left), device=left.device)
    most = SAMPLES_A_ROUND
    while len(going):
        starts, counts = walk.on(going, most)
        ray = torch.repeat_interleave(going, counts, output_size=len(starts))
        middles = starts + 0.5 * step
        add_samples(*ask(ray, middles), middles, step, going, counts, light, values)
        going = going[(left[going] > 0) & (light[going] > INVISIBLE)]
        most *= 4 if would_synchronize(going) else 1
    return values, 1.0 - light[:, None]
