"""The whole field at many samples on the CPU: one kernel each way behind a torch autograd function.

Where `TalkerField` asks grids and networks one after the other, what they say moves through memory in between, and some
150 small operations of torch and their gradients surround the products.

Importing this module imports numba; import it where a field is first asked.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import get_num_threads
from torch import Tensor
from torch.profiler import record_function

from ntalker_ns.field.hash_grid import HashGrid
from ntalker_ns.field.mlp import FrameMLP
from ntalker_ns.field.ragged import PerRay
from ntalker_ns.kernels.face import Face
from ntalker_ns.kernels.face_state import Gate
from ntalker_ns.kernels.numba.common import KERNEL_LOCK
from ntalker_ns.kernels.numba.field_gradients import SampleGradients, ask_gradients, with_gradient
from ntalker_ns.kernels.numba.field_kernels import LANES, NARROW, PLANE, SPACE, Grid, Kept, Tiles, Views, ask
from ntalker_ns.kernels.numba.hash_grid import arguments
from ntalker_ns.kernels.numba.hash_grid_kernels import forward as encode_points
from ntalker_ns.kernels.numba.hash_grid_kernels import table_gradient
from ntalker_ns.kernels.numba.mlp import ParameterGradients, no_sums, pack, padded, parameter_gradients, transposed
from ntalker_ns.kernels.numba.mlp_kernels import TILE
from ntalker_ns.kernels.numba.warp import balls, face_arrays


class Answers(NamedTuple):
    """What is said of samples."""

    density: Float[Tensor, "samples 1"]
    rgb: Float[Tensor, "samples 3"]
    audio_motion: Float[Tensor, "samples 1"]


class PackedNetwork(NamedTuple):
    """A network as kernels take it."""

    parameters: list[Tensor]
    """Weights (out, in) of each layer and then their biases (out,)."""
    weights: list[np.ndarray]
    """(out, in) of each layer; the first has as many inputs as are given, padding among them."""
    biases: list[np.ndarray]
    inputs: int
    """Channels of the samples."""
    common: np.ndarray
    """(channels,) further values, which most samples share."""


class NumbaField:
    """A field at some frames."""

    def __init__(
        self,
        speech_gate: Gate,
        face: Face,
        lid_features: int,
        grids: tuple[HashGrid, HashGrid],
        active_levels: int,
        networks: tuple[FrameMLP, FrameMLP, FrameMLP],
        frames: tuple[Tensor, Tensor, Tensor | None],
        directions: int,
    ) -> None:
        """
        Args:
            speech_gate: where speech acts.
            face: of the frames.
            lid_features: spatial features that stay where eyes close.
            grids: of space and of the audio coordinate, float32.
            active_levels: levels of the grid of space in use.
            networks: of the audio coordinate, of density, of colour.
            frames: what each network is told of the frames, (frames, channels).
            directions: channels of a viewing direction.
        """
        space, audio = grids
        self.grids, self.directions, self._frames = grids, directions, len(frames[0])
        self.rows = torch.stack([self._row(*each) for each in zip(networks, frames, strict=True)])
        self.space, self.audio = _grid(space, active_levels), _grid(audio, audio.layout.num_levels)
        common = _in_the_middle(self.audio, audio.output_width)
        outs = padded(networks[1].out_dim)
        given = ((space.output_width, common[:0]), (space.output_width, common), (directions + outs, common[:0]))
        self.networks = [_packed(network, *each) for network, each in zip(networks, given, strict=True)]
        self.widths = ((0,) * self.rows.shape[-1], (0,) * outs)
        # Parallel loops take in no tuples of tuples.
        self.parts = (
            *(balls(speech_gate), *face_arrays(face), lid_features, self.space, self.audio, common),
            *(pack(each.weights, each.biases, each.inputs, each.common) for each in self.networks),
            *(self.rows.detach().numpy(), *self.widths),
        )

    def _row(self, network: FrameMLP, channels: Tensor | None) -> Float[Tensor, "frames hidden"]:
        """What frames add to a network's first layer."""
        if network.frame is None or channels is None:
            return torch.zeros(self._frames, network.width)
        return network.frame(channels)

    def __call__(self, positions: Float[Tensor, "samples 3"], views: PerRay | None, counts: Sequence[int]) -> Answers:
        """What the field says, as `TalkerField.forward` does, with gradients where they are asked for.

        Args:
            positions: world, float32, frame after frame.
            views: of viewing directions; None: nothing is known of them.
            counts: samples of each frame.
        """
        asked = Asked(self, _views(views, self.directions, len(positions)), counts)
        if not torch.is_grad_enabled():
            return asked.answers(positions.contiguous())
        parameters = [each for network in self.networks for each in network.parameters]
        tables = (grid.table for grid in self.grids)
        return Answers(*_Ask.apply(asked, positions.contiguous(), self.rows, *tables, *parameters))  # type: ignore[misc]

    def room_to_keep(self, samples: int) -> Kept:
        """Room for what kernels find of so many samples."""
        return Kept(
            points=np.empty((samples, 3), np.float32),
            space=np.empty(samples * self.grids[0].output_width, np.float32),
            speech=np.empty(samples, np.float32),
            closed=np.empty(samples, np.float32),
        )


class Asked(NamedTuple):
    """What is asked of a field."""

    field: NumbaField
    views: Views
    counts: Sequence[int]
    """Samples of each frame."""

    def answers(self, positions: Float[Tensor, "samples 3"], kept: Kept | None = None) -> Answers:
        """The field's numbers; what the way back needs is written to `kept`."""
        threads, samples = get_num_threads(), len(positions)
        found = Answers(*(positions.new_empty(samples, channels) for channels in (1, 3, 1)))
        outputs = (found.density.view(-1).numpy(), found.rgb.numpy(), found.audio_motion.view(-1).numpy())
        room = self.field.room_to_keep(TILE * threads) if kept is None else kept
        asked = (positions.detach().numpy(), self.views, _tiles(self.counts), room, kept is not None)
        with record_function("ask_field"), KERNEL_LOCK:
            ask(*self.field.parts, *asked, threads, *outputs)  # pyright: ignore[reportCallIssue]
        return found


class _Ask(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, asked: Asked, positions: Tensor, rows: Tensor, space: Tensor, audio: Tensor, *parameters: Tensor
    ) -> Answers:
        ctx.asked, ctx.kept = asked, asked.field.room_to_keep(len(positions))
        found = asked.answers(positions, ctx.kept)
        ctx.mark_non_differentiable(found.audio_motion)
        # The kernels read arrays; torch keeps an eye on who writes into what they lie in.
        ctx.save_for_backward(positions, rows, space, audio, *parameters, found.density, found.rgb)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        positions, _, space, audio, *_, density, rgb = ctx.saved_tensors
        asked: Asked = ctx.asked
        answered = [each.detach().contiguous().numpy() for each in (density, rgb, *gradients[:2])]
        wanted, world = ctx.needs_input_grad[1], positions.detach().numpy()
        found = _found(asked, answered[2:], ctx.kept)
        to = _room(asked, found, world if wanted else world[:0])
        networks = _gradients(asked, found, world, ctx.kept, answered, to)
        # All samples began with the common values, and some got their difference from these.
        to.special[-1] = networks[1].common - _total(to.special[:-1])
        of_networks = (torch.from_numpy(array) for each in networks for array in (*each.weights, *each.biases))
        return (
            None,
            torch.from_numpy(to.positions) if wanted else None,
            torch.from_numpy(np.stack([each.rows for each in networks])),
            _table_gradient(space, to.points, to.space, asked.field.space, SPACE),
            _table_gradient(audio, to.places, to.special, asked.field.audio, PLANE),
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


def _found(asked: Asked, gradients: Sequence[np.ndarray], kept: Kept) -> Found:
    """Those whose answers have a gradient."""
    index, spoken = with_gradient(*gradients, kept.speech)  # pyright: ignore[reportCallIssue]
    ends = np.searchsorted(index, np.cumsum([0, *asked.counts]))
    return Found(index, _tiles(np.diff(ends).tolist()), spoken)


def _room(asked: Asked, found: Found, world: np.ndarray) -> SampleGradients:
    """Room for gradients, of positions for those that are given."""
    space, audio = asked.field.grids
    number = int(found.spoken[-1]) + 1
    places = np.empty((number, 2), np.float32)
    places[-1] = 0.5
    return SampleGradients(
        positions=np.zeros_like(world),
        points=np.empty((len(found.index), 3), np.float32),
        space=np.empty((len(found.index), space.output_width), np.float32),
        places=places,
        special=np.empty((number, audio.output_width), np.float32),
        before=found.spoken[found.tiles.first],
    )


def _total(rows: np.ndarray) -> np.ndarray:
    """The sum of rows, as a product: numpy's own takes ten times as long, torch's twice."""
    return (torch.ones(len(rows)) @ torch.from_numpy(rows)).numpy()


def _gradients(
    asked: Asked,
    found: Found,
    positions: np.ndarray,
    kept: Kept,
    answered: Sequence[np.ndarray],
    to: SampleGradients,
) -> list[ParameterGradients]:
    """Writes the gradients of samples, and says those of the networks."""
    field, threads = asked.field, get_num_threads()
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
        asked.views,
        found.index,
        found.tiles,
        kept,
        *answered,
        *back,
        (0,) * wide,
        (0,) * seen,
        threads,
    )
    with record_function("ask_field_gradients"), KERNEL_LOCK:
        ask_gradients(*field.parts, *given, to, *sums)  # pyright: ignore[reportCallIssue]
    return [
        _unpadded(parameter_gradients(of, each.weights, each.biases, each.inputs, each.common), each)
        for of, each in zip(sums, field.networks, strict=True)
    ]


def _unpadded(found: ParameterGradients, network: PackedNetwork) -> ParameterGradients:
    """Without the weights of padding behind a network's inputs."""
    first, *others = found.weights
    return found._replace(weights=[first[:, : network.parameters[0].shape[1]], *others])


def _table_gradient(
    table: Tensor, points: np.ndarray, gradient: np.ndarray, grid: Grid, axes: tuple[int, ...]
) -> Tensor:
    """The gradient of a grid's table, from that of what the grid says at points in [0, 1]."""
    output = torch.empty_like(table)
    shared = (grid.scales, grid.offsets, grid.sizes, grid.dense, grid.active, axes, LANES, get_num_threads())
    with record_function("table_gradient"), KERNEL_LOCK:
        table_gradient(points, gradient.reshape(-1), *shared, output.view(-1).numpy())  # pyright: ignore[reportCallIssue]
    return output


def _grid(grid: HashGrid, active_levels: int) -> Grid:
    table, shared = arguments(grid.table, grid.layout, active_levels)
    if shared.lanes != LANES or table.dtype != np.float32:
        raise ValueError("The kernel takes grids of two float32 features an entry.")
    return Grid(table, shared.scales, shared.offsets, shared.sizes, shared.dense, active_levels)


def _in_the_middle(grid: Grid, channels: int) -> np.ndarray:
    """What a plane's grid says in its middle, (channels,)."""
    found = np.empty(channels, np.float32)
    with KERNEL_LOCK:
        encode_points(np.full((1, 2), 0.5, np.float32), *grid, PLANE, LANES, found)  # pyright: ignore[reportCallIssue]
    return found


def _packed(network: FrameMLP, inputs: int, common: np.ndarray) -> PackedNetwork:
    """A network; the first layer has weights of 0 for padding behind its inputs."""
    parameters = network.parameters_by_kind()
    weights, biases = ([each.detach().numpy() for each in part] for part in parameters)
    padding = inputs + len(common) - weights[0].shape[1]
    # Behind them comes the last channel of samples with common values.
    if padding > 0:
        weights[0] = np.pad(weights[0], ((0, 0), (0, padding)))
    return PackedNetwork([*parameters[0], *parameters[1]], weights, biases, inputs, common)


def _tiles(counts: Sequence[int]) -> Tiles:
    """Tiles of samples that lie frame after frame, so many of each."""
    samples = np.asarray(counts, np.int64)
    tiles = -(-samples // TILE)
    frame = np.repeat(np.arange(len(samples)), tiles)
    within = TILE * (np.arange(len(frame)) - np.repeat(np.cumsum(tiles) - tiles, tiles))
    first = np.repeat(np.cumsum(samples) - samples, tiles) + within
    return Tiles(first, np.minimum(samples[frame] - within, TILE), frame)


def _views(views: PerRay | None, directions: int, samples: int) -> Views:
    """What is known of viewing directions; zeros, where nothing is."""
    if views is None:
        return Views(np.zeros((1, directions), np.float32), np.zeros(samples, np.int64))
    return Views(views.values.numpy(), views.rays.numpy())
