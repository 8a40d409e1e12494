"""Where a made-up head can be: a disc in front of a camera, of which the shell knows the depth or nobody does."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ntalker_ns.data.head_removal import HEAD, LIPS, TORSO
from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.rendering.occupancy import OccupancyGrid
from ntalker_ns.rendering.visual_hull import carve, open_outline

SIZE, FOCAL, DISTANCE, RADIUS, CELLS = 64, 120.0, 4.0, 12.0, 32
KEYPOINTS = {
    "nose": np.array([0.0, -0.4, 0.0], np.float32),
    "left_eye": np.array([0.2, -0.3, 0.2], np.float32),
    "right_eye": np.array([-0.2, -0.3, 0.2], np.float32),
}


class Frames:
    """Three frames of a camera on the y axis that looks along it: a disc of head and lips over torso."""

    def __init__(self) -> None:
        pose = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, -DISTANCE], [0.0, 1.0, 0.0, 0.0]])
        names = {"fx": FOCAL, "fy": FOCAL, "cx": SIZE / 2, "cy": SIZE / 2}
        lenses = {name: torch.full((3, 1), value) for name, value in names.items()}
        self.cameras = SimpleNamespace(camera_to_worlds=pose.expand(3, 3, 4), **lenses)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
        distance = np.hypot(x, y)
        labels = np.where(distance < RADIUS, np.where(distance < 3, LIPS, HEAD), TORSO)
        return {"labels": torch.from_numpy(labels.astype(np.uint8))}


@pytest.fixture
def places() -> dict[str, Any]:
    """Cells' depth, and how far from the disc's middle they are seen, in px."""
    x, y, z = OccupancyGrid(Ops("cpu"), CELLS).centers().unbind(dim=-1)
    return {"y": y, "seen": FOCAL * torch.hypot(x, z) / (y + DISTANCE)}


def carved(shell: FaceShell | None, occlusion_depth: float = 0.2) -> OccupancyGrid:
    grid = OccupancyGrid(Ops("cpu"), CELLS)
    carve(grid, Frames(), shell, KEYPOINTS, occlusion_depth)
    assert bool(grid.carved)
    return grid


def test_without_a_tracked_face_cells_are_bounded_by_masks_and_nose(places: dict[str, Any]) -> None:
    grid = carved(None)
    before = places["y"] < -0.4 - 0.5 * 0.4
    assert not grid.hull[before].any()
    # The outline is widened by what masks may be wrong by, and a pixel.
    assert grid.hull[~before & (places["seen"] < RADIUS)].all()
    assert not grid.hull[places["seen"] > RADIUS + 0.03 * SIZE + 2].any()
    assert torch.equal(grid.inner, grid.hull) and torch.equal(grid.occupied, grid.hull)


def test_a_tracked_face_bounds_depth(places: dict[str, Any]) -> None:
    flat = np.zeros((CELLS, CELLS))
    grid = carved(FaceShell(flat - 0.25, flat, flat + 0.25, unit=0.4))
    half, y, seen = 1.0 / CELLS, places["y"], places["seen"]
    assert not grid.hull[y.abs() > 0.25 + half].any()
    assert grid.hull[(y.abs() < 0.25) & (seen < RADIUS)].all()
    deeper = grid.inner & ~grid.hull
    assert ((y[deeper] > 0.25) & (y[deeper] < 0.45 + half)).all()
    # What nobody sees keeps within the outline.
    assert seen[deeper].max() < RADIUS and deeper[(seen < RADIUS - 3) & (y > 0.3) & (y < 0.44)].all()
    assert torch.equal(carved(FaceShell(flat - 0.25, flat, flat + 0.25, unit=0.4), 0.0).inner, grid.hull)


def test_cells_of_a_larger_outline_are_opened_again(places: dict[str, Any]):
    occupancy = carved(None)
    before = occupancy.hull.clone()
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    head = (np.hypot(x, y) < RADIUS) | ((np.abs(x) < 6) & (y < 0) & (y > -24))
    camera = Frames().cameras.camera_to_worlds[0].numpy()
    view = OutlineView(0, np.zeros((SIZE, SIZE, 3), np.float32), head, head, camera, (FOCAL, FOCAL, SIZE / 2, SIZE / 2))
    open_outline(occupancy, [view] * 3, None, KEYPOINTS)
    fresh = occupancy.hull & ~before
    z = occupancy.centers()[..., 2]
    assert fresh.any() and (occupancy.hull & before).sum() == before.sum()
    # All of it lies above the disc, and none in front of the nose.
    assert float(z[fresh].min()) > 0 and float(places["seen"][fresh].min()) > RADIUS - 3
    assert float(places["y"][fresh].min()) > -0.65
    for opened in (occupancy.inner, occupancy.occupied, occupancy.solid, occupancy.visible > occupancy.min_weight):
        assert bool(opened[fresh].all())
