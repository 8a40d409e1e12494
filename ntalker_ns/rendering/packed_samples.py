"""Samples of a training step's rays, packed frame by frame; on a GPU without synchronisation."""

from torch.profiler import record_function

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import sums_per_frame
from ntalker_ns.kernels.types import FrameSamples, MarchInput
from ntalker_ns.training import transfers


@record_function("march")
def march_frames(ops: Ops, given: MarchInput, counts: list[int], capacity: int | None = None) -> FrameSamples:
    """Marches rays that lie frame after frame.

    Args:
        ops: computes it.
        given: the rays.
        counts: rays of each frame; equally many where a capacity is used.
        capacity: samples kept of each frame; used on devices, where an exact number needs a synchronisation. None: the
            exact number everywhere.
    """
    if capacity is not None and transfers.would_synchronize(given.near):
        return ops.march_to_capacity(given, len(counts), capacity)
    samples = ops.march(given)
    ends = samples.ray_counts.cumsum(dim=0)
    frame_counts = sums_per_frame(samples.ray_counts, counts)
    return FrameSamples(samples.starts, samples.rays, samples.ray_counts, ends, frame_counts, max_frame_samples=None)
