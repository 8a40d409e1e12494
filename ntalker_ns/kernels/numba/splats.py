"""Rasterisation of Gaussians on the CPU: projection, sorting into strips, compositing tile by tile."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.numba import splats_projection, splats_raster
from ntalker_ns.kernels.numba.splats_projection import CHUNK, PACKED, STRIP, SUMS, TILE
from ntalker_ns.kernels.numba.workers import in_threads
from ntalker_ns.kernels.types import Gaussians, Raster, SplatView


def accepts_rasterise(gaussians: Gaussians, *_: Any, **__: Any) -> bool:
    """float32."""
    return gaussians.means.dtype == torch.float32


def rasterise(gaussians: Gaussians, view: SplatView, screen_gradient: Float[Tensor, "n"] | None = None) -> Raster:
    """See `kernels.reference.splats.rasterise`; without gradients nothing is kept for them."""
    given = [
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.opacity_logits,
        gaussians.colours,
        view.world_to_camera.float(),
    ]
    lens = tuple(np.float32(each) for each in (view.fx, view.fy, view.cx, view.cy, view.width, view.height))
    if torch.is_grad_enabled() and any(each.requires_grad for each in given):
        return Raster(*_Rasterise.apply(*given, lens, screen_gradient))  # type: ignore[misc]
    arrays = [each.detach().contiguous().numpy() for each in given]
    return Raster(*(torch.from_numpy(each) for each in _Frame(arrays, lens).picture))


class _Frame:
    """A picture and what its gradients need."""

    def __init__(self, arrays: list[np.ndarray], lens: tuple[np.float32, ...]) -> None:
        """
        Args:
            arrays: of the Gaussians, and the camera.
            lens: focal lengths, centre, width and height, px.
        """
        count, width, height = len(arrays[0]), int(lens[4]), int(lens[5])
        self.packed, boxes = np.empty((count, PACKED), np.float32), np.empty((count, 4), np.int32)
        in_threads(splats_projection.project, *arrays, lens, self.packed, boxes)
        order = splats_projection.sort_by_depth(self.packed, boxes)
        across, down = -(-width // STRIP), -(-height // TILE)
        *self.lists, self.slots, self.firsts = splats_projection.sort_into_strips(boxes, order, across, across * down)
        # The longest first, so that all threads end at once.
        self.pieces = np.argsort(-np.diff(self.lists[0]), kind="stable")
        self.picture = tuple(
            np.empty(shape, np.float32) for shape in ((height, width, 3), (height, width), (height, width))
        )
        in_threads(splats_raster.composite, self.packed, *self.lists, self.pieces, *self.picture)

    def sums(self, upstream: list[np.ndarray]) -> np.ndarray:
        """Gradients in the picture, (slots, `SUMS`).

        Args:
            upstream: gradients of colour, opacity and depth.
        """
        found = np.empty((len(self.slots), SUMS), np.float32)
        shared = (self.packed, *self.lists, self.slots, self.pieces)
        in_threads(splats_raster.composite_gradients, *shared, *self.picture, *upstream, found)
        return found


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        *tensors, ctx.lens, ctx.screen_gradient = given
        tensors = [each.contiguous() for each in tensors]
        ctx.save_for_backward(*tensors)
        ctx.frame = _Frame([each.numpy() for each in tensors], ctx.lens)
        return tuple(torch.from_numpy(each) for each in ctx.frame.picture)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums = ctx.frame.sums([each.contiguous().numpy() for each in upstream])
        *arrays, colours, camera = (each.numpy() for each in ctx.saved_tensors)
        found = [np.empty_like(each) for each in (*arrays, colours)]
        of_camera = np.zeros((-(-len(colours) // CHUNK), 3, 4))
        norms = np.empty(0, np.float32) if ctx.screen_gradient is None else ctx.screen_gradient.numpy()
        in_threads(
            splats_projection.project_gradients,
            *(*arrays, camera, ctx.lens, ctx.frame.firsts, sums, *found, of_camera, norms),
        )
        tensors = (torch.from_numpy(each) for each in (*found, of_camera.sum(0).astype(np.float32)))
        return *tensors, None, None
