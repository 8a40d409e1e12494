"""The occupancy grid: what it closes, what it must never close, and the hull of a known ball."""

import numpy as np
import pytest
import torch

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.rendering.occupancy import OccupancyGrid, dilated_cells, visual_hull, widen_mask

OPS = Ops("cpu")


def ball(positions: torch.Tensor) -> torch.Tensor:
    return 100.0 * (positions.norm(dim=-1, keepdim=True) < 0.5)


def see_everything(grid: OccupancyGrid) -> None:
    centers = grid.centers().view(-1, 3)
    grid.mark_visible(centers, torch.ones(len(centers)))


def test_updates_find_the_ball_and_close_the_rest() -> None:
    torch.manual_seed(0)
    grid = OccupancyGrid(OPS, 16)
    for _ in range(20):
        see_everything(grid)
        grid.update(ball, cells=4096, threshold=1.0)
    distance = grid.centers().norm(dim=-1)
    assert grid.occupied[distance < 0.4].all()
    assert not grid.occupied[distance > 0.5 + 3 * 2 / 16].any()


def test_a_cell_remembers_the_most_that_was_seen_of_it() -> None:
    torch.manual_seed(1)
    grid = OccupancyGrid(OPS, 4)
    before = grid.visible.copy_(torch.rand(4, 4, 4)).clone()
    # Some on the rim and beyond it, many in one cell.
    positions = torch.cat([2.4 * torch.rand(200, 3) - 1.2, torch.tensor([[1.0, -1.0, 0.0]])])
    weights = torch.rand(201)
    grid.mark_visible(positions, weights)
    cells = (2.0 * (positions + 1.0)).floor().clamp(0, 3).long()
    for cell in ((x, y, z) for x in range(4) for y in range(4) for z in range(4)):
        there = weights[(cells == torch.tensor(cell)).all(dim=1)]
        assert grid.visible[cell] == max([float(before[cell]), *there.tolist()])


def test_what_moved_away_stays_open_for_a_while_and_then_closes() -> None:
    torch.manual_seed(0)
    grid = OccupancyGrid(OPS, 8, decay=0.5)
    for _ in range(10):
        see_everything(grid)
        grid.update(ball, cells=2048, threshold=1.0)
    open_before = int(grid.occupied.sum())
    grid.update(lambda p: torch.zeros(len(p), 1), cells=2048, threshold=1.0)
    assert int(grid.occupied.sum()) > open_before // 2
    for _ in range(30):
        grid.update(lambda p: torch.zeros(len(p), 1), cells=2048, threshold=1.0)
    assert int(grid.occupied.sum()) == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_neighbours_of_open_cells_are_those_that_pooling_finds(share: float) -> None:
    torch.manual_seed(0)
    cells = torch.rand(9, 9, 9) < share
    cells[0, 0, 8] = share > 0
    before = cells.clone()
    pooled = torch.nn.functional.max_pool3d(cells[None, None].float(), kernel_size=3, stride=1, padding=1)
    assert dilated_cells(cells).equal(pooled[0, 0] > 0.5)
    assert cells.equal(before)


FRONT = torch.tensor([[0.0, -0.45, 0.0]])


def ball_seen_in_front() -> OccupancyGrid:
    """The grid of a ball of which rays see one cell."""
    torch.manual_seed(0)
    grid = OccupancyGrid(OPS, 16)
    for _ in range(60):
        grid.mark_visible(FRONT, torch.ones(1))
        grid.update(ball, cells=4096, threshold=1.0)
    return grid


def test_what_no_ray_sees_closes_however_full_it_is() -> None:
    grid = ball_seen_in_front()
    assert grid.occupied.any()
    assert (grid.centers()[grid.occupied] - FRONT).abs().max() < 2.5 * 2 / 16


def test_pictures_see_what_is_full_right_behind() -> None:
    grid = ball_seen_in_front()
    more = grid.centers()[grid.solid & ~grid.occupied]
    assert (grid.occupied & ~grid.solid).sum() == 0
    assert len(more) > 10 and (more.norm(dim=-1) < 0.5 + 2 / 16).all()
    assert ((more - FRONT).abs().amax(dim=-1) < 3.5 * 2 / 16).all()


def test_pictures_see_as_deep_as_was_learned() -> None:
    """Behind the front of a ball, cells open to the depth that is given, and no deeper."""
    cell = 2 / 16
    grid = ball_seen_in_front()
    grid.update(ball, cells=4096, threshold=1.0, depth=4 * cell)
    more = grid.centers()[grid.solid & ~grid.occupied]
    farthest = (more - FRONT).abs().amax(dim=-1).max()
    assert 4.5 * cell < farthest < 5.5 * cell
    assert (more.norm(dim=-1) < 0.5 + cell).all()


def test_cells_outside_the_hull_never_open() -> None:
    torch.manual_seed(0)
    grid = OccupancyGrid(OPS, 8)
    hull, inner = grid.centers()[..., 0] > 0, grid.centers()[..., 0] > -0.5
    grid.carve(hull, inner)
    for _ in range(10):
        grid.update(lambda p: torch.full((len(p), 1), 50.0), cells=512, threshold=1.0, depth=2.0)
    assert grid.occupied.equal(hull) and grid.solid.equal(inner)


def look_from(direction: tuple[float, float], distance: float = 5.0) -> torch.Tensor:
    """An OpenGL camera in the horizontal plane that looks at the origin, z up."""
    back = torch.tensor([direction[0], direction[1], 0.0])
    up = torch.tensor([0.0, 0.0, 1.0])
    return torch.stack([torch.linalg.cross(up, back), up, back, distance * back], dim=-1)


def test_hull_of_a_ball_seen_from_two_sides() -> None:
    size, focal = 64, 128.0
    rows, columns = np.mgrid[:size, :size] + 0.5
    disc = np.hypot(rows - size / 2, columns - size / 2) < 0.5 / 5.0 * focal
    grid = OccupancyGrid(OPS, 32)
    centers = grid.centers().view(-1, 3)
    poses = torch.stack([look_from((0.0, -1.0)), look_from((1.0, 0.0))])
    hull = visual_hull(centers, poses, (focal, focal, size / 2, size / 2), np.stack([disc, disc]))
    distance = centers.norm(dim=-1)
    assert hull[distance < 0.4].all()
    # Two views leave what two cylinders share: no point of it is further out than sqrt(2) radii, plus perspective.
    assert not hull[distance > 0.5 * np.sqrt(2) * 1.25].any()


def test_widened_mask_grows_by_its_share_of_the_width() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[50, 50] = True
    wide = widen_mask(mask, fraction=0.03)
    assert wide[50].sum() == 7 and wide[:, 50].sum() == 7
    assert widen_mask(wide, fraction=-0.03).tolist() == mask.tolist()


def test_the_box_moves_with_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = OccupancyGrid(OPS, 8)
    places: list[str] = []
    box = (torch.zeros(3), torch.zeros(3))
    monkeypatch.setattr(grid, "_find_box", lambda: places.append(grid.solid.device.type) or box)
    for device in ("cpu", "cpu", "meta"):
        grid.to(device).box()
    assert places == ["cpu", "meta"]


def test_the_box_of_what_is_open() -> None:
    grid = OccupancyGrid(OPS, 8)
    assert [edge.tolist() for edge in grid.box()] == [[-1.0] * 3, [1.0] * 3]
    grid.solid.zero_()
    assert [edge.tolist() for edge in grid.box()] == [[0.0] * 3, [0.0] * 3]
    grid.solid[2, 5, 7] = grid.solid[3, 1, 7] = True
    assert [edge.tolist() for edge in grid.box()] == [[-0.5, -0.75, 0.75], [0.0, 0.5, 1.0]]
