"""Compositing without gradients, in rounds: a picture queries the field only for what is not hidden.

Training needs all samples of a ray at once. Here the first few samples of all rays are queried, then the next few of
the rays that still let light through, and so on: samples behind the surface, a third of a head's and more, are never
computed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import IncrementalMarch
from ntalker_ns.training.transfers import would_synchronize

ROUND_SAMPLES = 8
"""Samples of a ray in a round; on a device only in the first one: there each round has four times as many as the one
before, since launching a round for the few remaining rays takes as long as one for all."""

INVISIBLE = 1.0 / 512.0
"""A ray that lets less light through than half a step of an 8-bit picture is finished."""

Query = Callable[[Int[Tensor, "samples"], Float[Tensor, "samples"]], tuple[Tensor, Tensor]]
"""From the ray of each sample and the distance of its middle to density (samples,) and values (samples, channels)."""


@torch.no_grad()
def composite_in_rounds(
    ops: Ops, query: Query, march: IncrementalMarch, step: float, channels: int
) -> tuple[Float[Tensor, "rays sums"], Float[Tensor, "rays 1"]]:
    """The sums and opacities of `Ops.composite`, up to `INVISIBLE`.

    Args:
        ops: computes it.
        query: the field; samples come ray after ray.
        march: the rays, from their beginning.
        step: length of each sample, world units.
        channels: how many values are summed.

    Returns:
        Sums along rays, with the distances of samples' middles in the last channel, and accumulated opacity.
    """
    left = march.left
    values = torch.zeros(len(left), channels + 1, device=left.device)
    light = torch.ones(len(left), device=left.device)
    going = torch.arange(len(left), device=left.device)
    count = ROUND_SAMPLES
    while len(going):
        with record_function("march"):
            starts, counts = march.next(going, count)
        ray = torch.repeat_interleave(going, counts, output_size=len(starts))
        middles = starts + 0.5 * step
        ops.add_samples(*query(ray, middles), middles, step, going, counts, light, values)
        going = going[(left[going] > 0) & (light[going] > INVISIBLE)]
        count *= 4 if would_synchronize(going) else 1
    return values, 1.0 - light[:, None]
