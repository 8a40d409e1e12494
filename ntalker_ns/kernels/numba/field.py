"""The whole field on the CPU: one kernel forward, one backward.

Operation by operation, intermediate values move through memory, and some 150 small torch operations and their gradients
surround the matrix products.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.kernels.numba.common import KERNEL_LOCK
from ntalker_ns.kernels.numba.field_gradients import SampleGradients, field_gradients, with_gradient
from ntalker_ns.kernels.numba.field_kernels import LANES, NARROW, PLANE, SPACE, Grid, Kept, Tiles, Views, run_field
from ntalker_ns.kernels.numba.hash_grid import arguments
from ntalker_ns.kernels.numba.hash_grid_kernels import forward as encode_points
from ntalker_ns.kernels.numba.hash_grid_kernels import table_gradient
from ntalker_ns.kernels.numba.mlp import ParameterGradients, no_sums, pack, padded, parameter_gradients, transposed
from ntalker_ns.kernels.numba.mlp_kernels import TILE
from ntalker_ns.kernels.numba.warp import balls, face_arrays
from ntalker_ns.kernels.ragged import RayInputs
from ntalker_ns.kernels.reference.mlp import frame_rows
from ntalker_ns.kernels.types import FieldOutputs, FieldParts, HashTable, MlpWeights


def fused_field(parts: FieldParts) -> "FusedField":
    """The field at some frames, for float32 samples; see `kernels.ops.FusedField`."""
    return FusedField(parts)


class PackedNetwork(NamedTuple):
    """A network as kernels take it."""

    parameters: list[Tensor]
    """Weights (out, in) of each layer, then biases (out,)."""
    weights: list[np.ndarray]
    """(out, in) of each layer; the first one is padded to all inputs."""
    biases: list[np.ndarray]
    inputs: int
    """Channels of the samples."""
    common: np.ndarray
    """(channels,) of further inputs, which most samples share."""


class FusedField:
    """See `kernels.ops.FusedField`."""

    def __init__(self, parts: FieldParts) -> None:
        """
        Args:
            parts: grids of two float32 features an entry.
        """
        space, audio = parts.space_grid, parts.audio_grid
        self.tables, self.direction_channels = (space, audio), parts.direction_channels
        self._frames = len(parts.frames[0])
        self.rows = torch.stack([self._rows(*each) for each in zip(parts.networks, parts.frames, strict=True)])
        self.space, self.audio = _grid(space), _grid(audio)
        common = _in_the_middle(self.audio, audio.layout.output_width)
        outs, width = padded(len(parts.networks[1].biases[-1])), space.layout.output_width
        inputs = ((width, common[:0]), (width, common), (parts.direction_channels + outs, common[:0]))
        self.networks = [_packed(network, *each) for network, each in zip(parts.networks, inputs, strict=True)]
        self.widths = ((0,) * self.rows.shape[-1], (0,) * outs)
        # Parallel loops accept no nested tuples.
        self.parts = (
            *(balls(parts.speech_gate), *face_arrays(parts.face), parts.lid_features, self.space, self.audio, common),
            *(pack(each.weights, each.biases, each.inputs, each.common) for each in self.networks),
            *(self.rows.detach().numpy(), *self.widths),
        )

    def _rows(self, network: MlpWeights, frames: Tensor | None) -> Float[Tensor, "frames hidden"]:
        """What frames add to a network's first layer."""
        rows = frame_rows(network, frames)
        return torch.zeros(self._frames, len(network.weights[0])) if rows is None else rows

    def __call__(
        self, positions: Float[Tensor, "samples 3"], views: RayInputs | None, counts: Sequence[int]
    ) -> FieldOutputs:
        """See `kernels.ops.FusedField`."""
        query = Query(self, _views(views, self.direction_channels, len(positions)), counts)
        if not torch.is_grad_enabled():
            return query.run(positions.contiguous())
        parameters = [each for network in self.networks for each in network.parameters]
        tables = (each.table for each in self.tables)
        return FieldOutputs(*_RunField.apply(query, positions.contiguous(), self.rows, *tables, *parameters))  # type: ignore[misc]

    def buffers(self, samples: int) -> Kept:
        """Buffers for intermediate values of so many samples."""
        return Kept(
            points=np.empty((samples, 3), np.float32),
            space=np.empty(samples * self.tables[0].layout.output_width, np.float32),
            speech=np.empty(samples, np.float32),
            closed=np.empty(samples, np.float32),
        )


class Query(NamedTuple):
    """Samples of a field, but for their positions."""

    field: FusedField
    views: Views
    counts: Sequence[int]
    """Samples of each frame."""

    def run(self, positions: Float[Tensor, "samples 3"], kept: Kept | None = None) -> FieldOutputs:
        """The field's values; what the backward pass needs is written to `kept`."""
        threads, samples = get_num_threads(), len(positions)
        found = FieldOutputs(*(positions.new_empty(samples, channels) for channels in (1, 3, 1)))
        outputs = (found.density.view(-1).numpy(), found.rgb.numpy(), found.audio_motion.view(-1).numpy())
        buffers = self.field.buffers(TILE * threads) if kept is None else kept
        given = (positions.detach().numpy(), self.views, _tiles(self.counts), buffers, kept is not None)
        with record_function("field"), KERNEL_LOCK:
            run_field(*self.field.parts, *given, threads, *outputs)  # pyright: ignore[reportCallIssue]
        return found


class _RunField(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Query, positions: Tensor, rows: Tensor, space: Tensor, audio: Tensor, *parameters: Tensor
    ) -> FieldOutputs:
        ctx.query, ctx.kept = query, query.field.buffers(len(positions))
        found = query.run(positions, ctx.kept)
        ctx.mark_non_differentiable(found.audio_motion)
        # The kernels read arrays; saving their tensors lets torch detect writes in between.
        ctx.save_for_backward(positions, rows, space, audio, *parameters, found.density, found.rgb)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, _, space, audio, *_, density, rgb = ctx.saved_tensors
        query: Query = ctx.query
        outputs = [each.detach().contiguous().numpy() for each in (density, rgb, *gradients[:2])]
        wanted, world = ctx.needs_input_grad[1], positions.detach().numpy()
        found = _found(query, outputs[2:], ctx.kept)
        to = _gradient_buffers(query, found, world if wanted else world[:0])
        networks = _gradients(query, found, world, ctx.kept, outputs, to)
        # All samples began with the common values, and some got their difference from these.
        to.special[-1] = networks[1].common - _total(to.special[:-1])
        of_networks = (torch.from_numpy(array) for each in networks for array in (*each.weights, *each.biases))
        return (
            None,
            torch.from_numpy(to.positions) if wanted else None,
            torch.from_numpy(np.stack([each.rows for each in networks])),
            _table_gradient(space, to.points, to.space, query.field.space, SPACE),
            _table_gradient(audio, to.places, to.special, query.field.audio, PLANE),
            *of_networks,
        )


class Found(NamedTuple):
    """Samples that have a gradient."""

    index: np.ndarray
    """Which they are, ascending."""
    tiles: Tiles
    """Of these."""
    spoken: np.ndarray
    """(found + 1,) how many of those before each, and of all at the end, speech acts on."""


def _found(query: Query, gradients: Sequence[np.ndarray], kept: Kept) -> Found:
    """The samples whose outputs have a gradient."""
    index, spoken = with_gradient(*gradients, kept.speech)  # pyright: ignore[reportCallIssue]
    ends = np.searchsorted(index, np.cumsum([0, *query.counts]))
    return Found(index, _tiles(np.diff(ends).tolist()), spoken)


def _gradient_buffers(query: Query, found: Found, world: np.ndarray) -> SampleGradients:
    """Buffers for the gradients of samples, and of the given positions."""
    space, audio = query.field.tables
    number = int(found.spoken[-1]) + 1
    places = np.empty((number, 2), np.float32)
    places[-1] = 0.5
    return SampleGradients(
        positions=np.zeros_like(world),
        points=np.empty((len(found.index), 3), np.float32),
        space=np.empty((len(found.index), space.layout.output_width), np.float32),
        places=places,
        special=np.empty((number, audio.layout.output_width), np.float32),
        before=found.spoken[found.tiles.first],
    )


def _total(rows: np.ndarray) -> np.ndarray:
    """The sum of rows, as a product: numpy's sum takes ten times as long, torch's twice."""
    return (torch.ones(len(rows)) @ torch.from_numpy(rows)).numpy()


def _gradients(
    query: Query,
    found: Found,
    positions: np.ndarray,
    kept: Kept,
    outputs: Sequence[np.ndarray],
    to: SampleGradients,
) -> list[ParameterGradients]:
    """Writes the gradients of samples and returns those of the networks."""
    field, threads = query.field, get_num_threads()
    narrow, outs = len(NARROW), len(field.widths[1])
    wide, seen = (padded(max(each.inputs, len(each.common))) for each in field.networks[1:])
    widths = ((wide, narrow), (wide, outs), (seen, narrow))
    frames = field.rows.shape[1]
    sums = [no_sums(each.weights, frames, out, threads) for each, (_, out) in zip(field.networks, widths, strict=True)]
    back = [
        transposed(each.weights, each.inputs, len(each.common), *width)
        for each, width in zip(field.networks, widths, strict=True)
    ]
    given = (
        positions,
        query.views,
        found.index,
        found.tiles,
        kept,
        *outputs,
        *back,
        (0,) * wide,
        (0,) * seen,
        threads,
    )
    with record_function("field_gradients"), KERNEL_LOCK:
        field_gradients(*field.parts, *given, to, *sums)  # pyright: ignore[reportCallIssue]
    return [
        _unpadded(parameter_gradients(of, each.weights, each.biases, each.inputs, each.common), each)
        for of, each in zip(sums, field.networks, strict=True)
    ]


def _unpadded(found: ParameterGradients, network: PackedNetwork) -> ParameterGradients:
    """Without the padding behind a network's inputs."""
    first, *others = found.weights
    return found._replace(weights=[first[:, : network.parameters[0].shape[1]], *others])


def _table_gradient(
    table: Tensor, points: np.ndarray, gradient: np.ndarray, grid: Grid, axes: tuple[int, ...]
) -> Tensor:
    """The gradient of a grid's table from that of its features at points in [0, 1]."""
    output = torch.empty_like(table)
    shared = (grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active, axes, LANES, get_num_threads())
    with record_function("table_gradient"), KERNEL_LOCK:
        table_gradient(points, gradient.reshape(-1), *shared, output.view(-1).numpy())  # pyright: ignore[reportCallIssue]
    return output


def _grid(grid: HashTable) -> Grid:
    table, shared = arguments(*grid)
    if shared.lanes != LANES or table.dtype != np.float32:
        raise ValueError("The kernel takes grids of two float32 features an entry.")
    return Grid(table, shared.scales, shared.offsets, shared.sizes, shared.dense, grid.active_levels)


def _in_the_middle(grid: Grid, channels: int) -> np.ndarray:
    """A plane's features in its middle, (channels,)."""
    found = np.empty(channels, np.float32)
    with KERNEL_LOCK:
        encode_points(np.full((1, 2), 0.5, np.float32), *grid, PLANE, LANES, found)  # pyright: ignore[reportCallIssue]
    return found


def _packed(network: MlpWeights, inputs: int, common: np.ndarray) -> PackedNetwork:
    """A network whose first layer has weights of 0 for padding behind its inputs."""
    weights, biases = ([each.detach().numpy() for each in part] for part in network[:2])
    padding = inputs + len(common) - weights[0].shape[1]
    # With common values, one more input follows: the last channel of `SparseInputs`.
    if padding > 0:
        weights[0] = np.pad(weights[0], ((0, 0), (0, padding)))
    return PackedNetwork([*network.weights, *network.biases], weights, biases, inputs, common)


def _tiles(counts: Sequence[int]) -> Tiles:
    """Tiles of samples grouped by frame."""
    samples = np.asarray(counts, np.int64)
    tiles = -(-samples // TILE)
    frame = np.repeat(np.arange(len(samples)), tiles)
    within = TILE * (np.arange(len(frame)) - np.repeat(np.cumsum(tiles) - tiles, tiles))
    first = np.repeat(np.cumsum(samples) - samples, tiles) + within
    return Tiles(first, np.minimum(samples[frame] - within, TILE), frame)


def _views(views: RayInputs | None, channels: int, samples: int) -> Views:
    """Encoded viewing directions; zeros where there are none."""
    if views is None:
        return Views(np.zeros((1, channels), np.float32), np.zeros(samples, np.int64))
    return Views(views.values.numpy(), views.rays.numpy())
