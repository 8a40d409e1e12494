"""The occupancy grid: which cells may hold matter, so that rays skip the others."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.training.transfers import CachedNonzero
from ntalker_ns.training.versioned import Snapshot

VISIBLE_DECAY = 0.99
"""Decay of a cell's visibility at each update: slow, since a closed cell is never seen again, and a jaw that drops in
one frame of twenty seldom visits a cell."""

MASK_ERROR = 0.03
"""Allowed error of tracking and parsing, as a fraction of the picture's width."""

OCCLUSION_MARGIN = 0.01
"""How far within its outline a head may be deeper than its shell, as a fraction of the picture's width."""

DensityFunction = Callable[[Float[Tensor, "samples 3"]], Float[Tensor, "samples 1"]]


class OccupancyGrid(nn.Module):
    """A running maximum of density over the box [-1, 1]^3, and the cells that are open to samples.

    A talking head moves: a lip cell is empty in one frame and full in the next. Each update therefore evaluates the
    density at a random training time, and a decayed maximum remembers recent frames.

    Most of a head is hidden behind its surface, where samples are wasted. So an open cell must also have been visible:
    a sample in it had some compositing weight on a recent training ray.

    Pruning is conservative: a cell is closed where a step through it would be nearly transparent or was nearly
    invisible from everywhere, and neighbours of open cells stay open, so that surfaces can move. Aggressive pruning is
    faster and loses quality late in training, when it cuts into the surface.

    Novel views look past the edges of what training rays saw: for pictures, full cells behind open ones are open too
    (`solid`), as deep as the occlusion prior was learned.
    """

    occupied: Bool[Tensor, "grid grid grid"]
    solid: Bool[Tensor, "grid grid grid"]
    hull: Bool[Tensor, "grid grid grid"]
    inner: Bool[Tensor, "grid grid grid"]
    density: Float[Tensor, "grid grid grid"]
    visible: Float[Tensor, "grid grid grid"]
    carved: Bool[Tensor, ""]

    def __init__(self, ops: Ops, resolution: int, decay: float = 0.95, min_weight: float = 1e-3) -> None:
        """
        Args:
            ops: marks visible cells.
            resolution: cells along an edge.
            decay: factor on remembered density, at each update.
            min_weight: compositing weight below which a sample is invisible.
        """
        super().__init__()
        self.ops, self.resolution, self.decay, self.min_weight = ops, resolution, decay, min_weight
        shape = (resolution, resolution, resolution)
        self.register_buffer("occupied", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("solid", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("hull", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("inner", torch.ones(shape, dtype=torch.bool))
        self.register_buffer("density", torch.zeros(shape))
        # All cells count as visible for the first 40 updates or so.
        self.register_buffer("visible", torch.full(shape, 1.5 * min_weight))
        self.register_buffer("carved", torch.tensor(False))
        self._candidates = CachedNonzero()
        self._box: tuple[Snapshot, tuple[Tensor, Tensor]] | None = None

    def centers(self) -> Float[Tensor, "grid grid grid 3"]:
        """World positions of the cells' centres."""
        axis = (torch.arange(self.resolution, device=self.density.device) + 0.5) * (2.0 / self.resolution) - 1.0
        return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)

    def box(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        """Least and greatest coordinates of the solid cells; both 0 where there are none."""
        state = Snapshot([self.solid])
        if self._box is None or self._box[0] != state:
            self._box = (state, self._find_box())
        return self._box[1]

    def _find_box(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
        width = 2.0 / self.resolution
        low, high = torch.zeros(3, device=self.solid.device), torch.zeros(3, device=self.solid.device)
        flat = (
            self.solid.any(dim=2).any(dim=1),
            self.solid.any(dim=2).any(dim=0),
            self.solid.any(dim=0).any(dim=0),
        )
        for axis, any_open in enumerate(flat):
            cells = any_open.nonzero().squeeze(-1)
            if len(cells):
                low[axis], high[axis] = cells[0] * width - 1.0, (cells[-1] + 1) * width - 1.0
        return low, high

    def carve(self, hull: Bool[Tensor, "grid grid grid"], inner: Bool[Tensor, "grid grid grid"]) -> None:
        """Closes cells permanently.

        Args:
            hull: cells that stay for training (see `visual_hull`).
            inner: cells that stay for pictures, which may reach deeper; contains `hull`.
        """
        self.hull.copy_(hull)
        self.inner.copy_(inner)
        self.occupied.copy_(hull)
        self.solid.copy_(hull)
        self.carved.fill_(True)

    @torch.no_grad()
    def reopen(self, cells: Bool[Tensor, "grid grid grid"]) -> None:
        """Opens cells that were closed permanently, for matter that is still to be learned.

        Args:
            cells: to open; those that were never closed stay as they are.
        """
        fresh = cells & ~self.hull
        for opened in (self.hull, self.inner, self.occupied, self.solid):
            opened.logical_or_(fresh)
        self.visible[fresh] = 1.5 * self.min_weight

    @torch.no_grad()
    def mark_visible(self, positions: Float[Tensor, "samples 3"], weights: Float[Tensor, "samples"]) -> None:
        """Notes how much samples of training rays contributed to their pixels.

        Args:
            positions: world, in [-1, 1].
            weights: compositing weights.
        """
        self.ops.mark_visible(positions, weights, self.visible)

    @torch.no_grad()
    def update(self, density_function: DensityFunction, cells: int, threshold: float, depth: float = 0.0) -> None:
        """Evaluates density at random points of random cells, and opens and closes cells accordingly.

        Args:
            density_function: density per world unit at positions, for one training time.
            cells: how many cells are evaluated.
            threshold: density above which a cell is open.
            depth: how far behind visible surfaces the head was learned, world units.
        """
        candidates = self._candidates.of(self.inner)
        drawn = candidates[torch.randint(len(candidates), (cells,), device=candidates.device)]
        centers = self.centers().view(-1, 3)[drawn]
        positions = centers + (torch.rand_like(centers) - 0.5) * (2.0 / self.resolution)
        fresh = density_function(positions.clamp(-1.0, 1.0)).squeeze(-1).to(self.density.dtype)
        remembered = self.density.view(-1)
        remembered[drawn] = torch.maximum(remembered[drawn] * self.decay, fresh)
        self.visible.mul_(VISIBLE_DECAY)
        full = self.density > threshold
        self.occupied.copy_(dilated_cells(full & (self.visible > self.min_weight)) & self.hull)
        solid = self.occupied
        for _ in range(max(1, round(depth * self.resolution / 2.0))):
            solid = solid | (dilated_cells(solid) & full & self.inner)
        self.solid.copy_(solid)


def dilated_cells(cells: Bool[Tensor, "grid grid grid"]) -> Bool[Tensor, "grid grid grid"]:
    """Opens the six neighbours' layers (a 3 x 3 x 3 box) of every open cell."""
    for axis in range(3):
        grown, others = cells.clone(), cells.shape[axis] - 1
        grown.narrow(axis, 0, others).logical_or_(cells.narrow(axis, 1, others))
        grown.narrow(axis, 1, others).logical_or_(cells.narrow(axis, 0, others))
        cells = grown
    return cells


def visual_hull(
    centers: Float[Tensor, "cells 3"],
    camera_to_worlds: Float[Tensor, "frames 3 4"],
    intrinsics: tuple[float, float, float, float],
    masks: Bool[np.ndarray, "frames height width"],
    fraction: float = 0.95,
) -> Bool[Tensor, "cells"]:
    """Cells that project into the head mask in nearly all frames that see them.

    Args:
        centers: world positions.
        camera_to_worlds: OpenGL poses.
        intrinsics: fl_x, fl_y, cx, cy in pixels of the masks.
        masks: where the head is.
        fraction: of the frames that see a cell, how many must show the head there.
    """
    fl_x, fl_y, cx, cy = intrinsics
    height, width = masks.shape[1:]
    hits = torch.zeros(len(centers), device=centers.device)
    seen = torch.zeros_like(hits)
    for pose, mask in zip(camera_to_worlds, masks, strict=True):
        local = (centers - pose[:, 3]) @ pose[:, :3]
        depth = (-local[:, 2]).clamp(min=1e-6)
        x = (local[:, 0] / depth * fl_x + cx).floor().long()
        y = (-local[:, 1] / depth * fl_y + cy).floor().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        grid = torch.from_numpy(np.ascontiguousarray(mask)).to(centers.device)
        hits += inside & grid[y.clamp(0, height - 1), x.clamp(0, width - 1)]
        seen += inside
    return (hits >= fraction * seen) & (seen > 0)


def widen_mask(mask: Bool[np.ndarray, "height width"], fraction: float) -> Bool[np.ndarray, "height width"]:
    """Widens a mask by a fraction of the picture's width, or narrows it where that is negative."""
    import cv2

    radius = max(round(mask.shape[1] * abs(fraction)), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    change = cv2.dilate if fraction > 0 else cv2.erode
    return change(mask.astype(np.uint8), kernel) > 0
