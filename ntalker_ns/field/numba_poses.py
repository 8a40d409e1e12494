"""Moving the samples of frames on the CPU: one pass over them each way.

Importing this module imports numba; import it where samples are first moved.
"""

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads, prange
from torch import Tensor

from ntalker_ns.encodings.numba_common import KERNEL_LOCK, kernel, lean


def move(
    positions: Float[Tensor, "samples 3"],
    rotations: Float[Tensor, "frames 3 3"],
    shifts: Float[Tensor, "frames 3"],
    counts: list[int],
) -> Float[Tensor, "samples 3"]:
    """R x + t of the samples' frames; no gradient.

    Args:
        positions: grouped by frame.
        rotations: R of each frame.
        shifts: t of each frame.
        counts: samples of each frame.
    """
    moved = torch.empty_like(positions)
    frames = (rotations.detach().contiguous().numpy(), shifts.detach().contiguous().numpy())
    with KERNEL_LOCK:
        _move(positions.detach().contiguous().numpy(), *frames, *_spans(counts), moved.numpy())  # pyright: ignore[reportCallIssue]
    return moved


def move_gradients(
    positions: Float[Tensor, "samples 3"], gradient: Float[Tensor, "samples 3"], counts: list[int]
) -> tuple[Float[Tensor, "frames 3 3"], Float[Tensor, "frames 3"]]:
    """The gradients of R and t, from that of what `move` gave."""
    ends, threads = _spans(counts)
    sums = np.zeros((threads, len(counts), 3, 4), positions.detach().numpy().dtype)
    with KERNEL_LOCK:
        _add_gradients(positions.detach().contiguous().numpy(), gradient.contiguous().numpy(), ends, threads, sums)
    total = torch.from_numpy(sums.sum(axis=0))
    return total[:, :, :3], total[:, :, 3]


def _spans(counts: list[int]) -> tuple[np.ndarray, int]:
    """Where each frame's samples end, and how many threads share them."""
    return np.cumsum(counts, dtype=np.int64), get_num_threads()


@kernel
def _move(positions, rotations, shifts, ends, threads, moved):
    """Writes `moved`."""
    samples = positions.shape[0]
    for thread in prange(threads):
        _move_some(
            positions, rotations, shifts, ends, samples * thread // threads, samples * (thread + 1) // threads, moved
        )


@lean
def _move_some(positions, rotations, shifts, ends, begin, end, moved):
    """Moves the samples from one to another."""
    frame = 0
    for i in range(begin, end):
        while i >= ends[frame]:
            frame += 1
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        for axis in range(3):
            row = rotations[frame, axis]
            moved[i, axis] = row[0] * x + row[1] * y + row[2] * z + shifts[frame, axis]


@kernel
def _add_gradients(positions, gradient, ends, threads, sums):
    """Adds the gradients of R and, behind its columns, of t to `sums` (threads, frames, 3, 4)."""
    samples = positions.shape[0]
    for thread in prange(threads):
        _add_some(
            positions, gradient, ends, samples * thread // threads, samples * (thread + 1) // threads, sums[thread]
        )


@lean
def _add_some(positions, gradient, ends, begin, end, sums):
    """Adds those of the samples from one to another, frame by frame."""
    first = 0
    for frame in range(len(ends)):
        for axis in range(3):
            # In float64: thousands of numbers are added to each.
            to_x, to_y, to_z, to_shift = 0.0, 0.0, 0.0, 0.0
            for i in range(max(begin, first), min(end, ends[frame])):
                along = gradient[i, axis]
                to_x += along * positions[i, 0]
                to_y += along * positions[i, 1]
                to_z += along * positions[i, 2]
                to_shift += along
            row = sums[frame, axis]
            row[0], row[1], row[2], row[3] = to_x, to_y, to_z, to_shift
        first = ends[frame]
