"""Ragged batches: samples of one frame lie side by side, `counts` says how many each frame has.

Inputs that all samples of a frame, of a ray or of most places share are stored once and not repeated for each sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.training import transfers


class _AddPerFrame(torch.autograd.Function):
    """Adds row f of `rows`, times each sample's gate, to the samples of frame f.

    `rows[frame_of_sample]` does the same, but its backward pass scatters the gradient of every sample by index, which
    on a CPU costs more than the matrix product beside it; here the backward pass is one sum per frame.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, rows: Tensor, gates: Tensor | None, counts: list[int]) -> Tensor:
        ctx.counts = counts
        ctx.save_for_backward(rows, gates)
        out = samples.clone()
        parts = [None] * len(counts) if gates is None else gates.split(counts)
        for part, row, gate in zip(out.split(counts), rows, parts, strict=True):
            if gate is None:
                part.add_(row)
            else:
                part.addmm_(gate, row[None])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (grad,) = grads
        rows, gates = ctx.saved_tensors
        parts = grad.split(ctx.counts)
        if gates is None:
            return grad, torch.stack([part.sum(dim=0) for part in parts]), None, None
        to_rows = [gate.T @ part for gate, part in zip(gates.split(ctx.counts), parts, strict=True)]
        to_gates = [part @ row[:, None] for part, row in zip(parts, rows, strict=True)]
        return grad, torch.cat(to_rows), torch.cat(to_gates), None


def add_per_frame(
    samples: Float[Tensor, "samples channels"],
    rows: Float[Tensor, "frames channels"],
    counts: list[int],
    gates: Float[Tensor, "samples 1"] | None = None,
) -> Float[Tensor, "samples channels"]:
    """Adds to each sample the row of its frame, times the sample's gate.

    Args:
        samples: grouped by frame, frame after frame.
        rows: one per frame.
        counts: samples of each frame; sum to `samples`.
        gates: factor on the row for each sample; 1 where None.
    """
    return _AddPerFrame.apply(samples, rows, gates, counts)  # type: ignore[no-any-return]


def ends_on(counts: Sequence[int], device: torch.device) -> Int[Tensor, "frames"]:
    """Index behind each frame's last sample, int32; copied to a device once for each different `counts`.

    Args:
        counts: samples of each frame.
        device: where kernels run.
    """
    if len(counts) == 1:
        # Pictures have one frame and ever new counts: not worth keeping.
        return torch.full((1,), counts[0], dtype=torch.int32, device=device)
    return _ends_on(tuple(counts), device)


# Unbounded, since recorded steps read these tensors where they lie.
@cache
def counts_on(counts: tuple[int, ...], device: torch.device) -> Int[Tensor, "frames"]:
    """Samples of each frame on a device, copied there once."""
    return transfers.to_device(torch.tensor(counts), device)


@cache
def _ends_on(counts: tuple[int, ...], device: torch.device) -> Tensor:
    return transfers.to_device(torch.tensor(counts, dtype=torch.int32).cumsum(dim=0, dtype=torch.int32), device)


def expand_per_frame(rows: Tensor, counts: list[int]) -> Tensor:
    """Repeats each frame's row for its samples; `add_per_frame` does without the copies.

    Args:
        rows: (frames, ...).
        counts: samples of each frame.
    """
    return torch.cat([row.expand(count, *row.shape) for row, count in zip(rows, counts, strict=True)])


def sums_per_frame(values: Int[Tensor, "samples"], counts: list[int]) -> list[int]:
    """The sum over each frame's samples, in one synchronisation.

    Args:
        values: grouped by frame.
        counts: samples of each frame.
    """
    ends = torch.tensor([0, *accumulate(counts)], device=values.device)
    sums = torch.nn.functional.pad(values.cumsum(dim=0), (1, 0))[ends]
    return sums.diff().tolist()


def count_per_frame(index: Int[Tensor, "subset"], counts: list[int]) -> list[int]:
    """How many samples of a subset each frame has.

    Args:
        index: of the subset, ascending; on the host.
        counts: samples of each frame.
    """
    places = np.searchsorted(index.numpy(), [0, *accumulate(counts)])
    return np.diff(places).tolist()


class Subset(NamedTuple):
    """A subset of samples or rays: compacted by index, or, where that would need a synchronisation, only masked."""

    mask: Bool[Tensor, "samples"]
    """Which samples are in the subset."""
    index: Int[Tensor, "subset"] | None
    """Their indices, ascending; None: all samples are computed and masked afterwards."""
    counts: list[int]
    """Computed samples of each frame."""

    def of(self, values: Tensor) -> Tensor:
        """The rows that are computed."""
        return values if self.index is None else values.index_select(0, self.index)

    def scatter(self, values: Tensor) -> Tensor:
        """Rows of all samples from the computed ones; zero outside the subset."""
        if self.index is None:
            return torch.where(self.mask.view(-1, *(1,) * (values.ndim - 1)), values, 0.0)
        return values.new_zeros(len(self.mask), *values.shape[1:]).index_copy(0, self.index, values)

    def total(self, values: Tensor) -> Float[Tensor, ""]:
        """The sum of computed values over the subset."""
        return (self.scatter(values) if self.index is None else values).sum()


def compact(mask: Bool[Tensor, "samples"], counts: list[int]) -> Subset:
    """The samples of a mask: compacted on the CPU, masked on a device, where compacting would need a synchronisation.

    Args:
        mask: grouped by frame.
        counts: samples of each frame.
    """
    if not transfers.would_synchronize(mask):
        index = mask.nonzero().squeeze(-1)
        return Subset(mask, index, count_per_frame(index, counts))
    return Subset(mask, None, counts)


class RayInputs(NamedTuple):
    """Input channels that all samples of a ray share; no gradient."""

    values: Float[Tensor, "rays channels"]
    rays: Int[Tensor, "samples"]
    """The ray of each sample."""

    def columns(self, dtype: torch.dtype) -> Float[Tensor, "samples channels"]:
        """The channels of each sample."""
        return self.values.to(dtype).index_select(0, self.rays)


@dataclass(frozen=True)
class SparseInputs:
    """Input channels of a network that are the same for most samples, followed by one that is mostly 0."""

    values: Float[Tensor, "special channels"]
    """Of the samples that are not like most."""
    special: Subset
    """Which samples those are."""
    common: Float[Tensor, "1 channels"]
    """Of all other samples."""
    last: Float[Tensor, "samples 1"]
    """No gradient."""

    def columns(self) -> Float[Tensor, "samples inputs"]:
        """All channels of each sample."""
        return torch.cat([self.without_last(), self.last], dim=-1)

    def without_last(self) -> Float[Tensor, "samples channels"]:
        """The channels of each sample but the last one."""
        if self.special.index is None:
            return torch.where(self.special.mask[:, None], self.values, self.common)
        return self.common.expand(len(self.last), -1).index_copy(0, self.special.index, self.values)
