"""Paint carried from one frame to others: a ball whose points are known, seen from several sides."""

from dataclasses import replace

import numpy as np
import pytest

from ntalker_ns.editing.carrying import Carrier, PaintedView
from ntalker_ns.editing.views import INSIDE, LIPS, FrameView

SIZE, RADIUS = 96, 0.7
EYE_DISTANCE = 0.5


def texture(points: np.ndarray) -> np.ndarray:
    """Colours of the ball before the edit."""
    return 0.45 + 0.1 * np.sin(5.0 * points + [0.0, 1.0, 2.0])


def paint(points: np.ndarray) -> np.ndarray:
    """What the edit adds on the ball: stripes."""
    return 0.25 * np.sin(9.0 * points[..., :1]) * np.array([1.0, -0.5, 0.3])


def view(turn: float, shift: int = 0) -> FrameView:
    """The ball turned about the vertical axis by some degrees, orthographic, before a wall that is dark on its left.

    Args:
        turn: degrees.
        shift: of the wall's edge, px.
    """
    across, up = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE * 2 - 1, 1 - (np.arange(SIZE) + 0.5) / SIZE * 2)
    inside = RADIUS**2 - across**2 - up**2
    depth = -np.sqrt(np.maximum(inside, 0.0))
    angle = np.radians(turn)
    points = np.stack(
        [across * np.cos(angle) - depth * np.sin(angle), across * np.sin(angle) + depth * np.cos(angle), up], axis=-1
    ).astype(np.float32)
    head = (inside > 0)[..., None].astype(np.float32)
    wall = np.where(np.arange(SIZE)[None, :, None] < SIZE // 8 + shift, 0.2, 0.7) * np.ones((SIZE, 1, 3))
    picture = head * texture(points) + (1 - head) * wall
    mouth = np.zeros((SIZE, SIZE, 1), np.uint8)
    mouth[66:78, 36:60], mouth[70:74, 40:56] = LIPS, INSIDE
    return FrameView(picture.astype(np.float32), points, head, np.zeros_like(head), mouth)


def painted(seen: FrameView) -> PaintedView:
    """The front view with stripes, its wall twice as dark, the mouth inside a little darker."""
    edited = seen.picture + seen.head * paint(seen.canonical)
    edited = np.where(seen.head > 0, edited, 0.5 * seen.picture)
    edited = np.where(seen.mouth == INSIDE, 0.8 * seen.picture, edited)
    return PaintedView(seen, edited.astype(np.float32))


@pytest.fixture(scope="module")
def carrier() -> Carrier:
    return Carrier([painted(view(0.0))], EYE_DISTANCE)


def test_paint_stays_on_the_points_it_was_painted_on(carrier: Carrier):
    turned = view(25.0)
    carried = carrier.carry(turned)
    # Points well inside of what the front view shows, beside the mouth of both views.
    seen = (turned.head[..., 0] > 0) & (turned.canonical[..., 1] < -0.3 * RADIUS) & (turned.canonical[..., 2] > 0.0)
    seen &= np.abs(turned.canonical[..., 0]) < 0.5
    expected = turned.picture + paint(turned.canonical)
    error = np.abs(carried - expected)[seen]
    assert seen.sum() > 800
    assert error.mean() < 0.01
    unpainted = np.abs(turned.picture - expected)[seen].mean()
    assert error.mean() < 0.1 * unpainted


def test_the_painted_frame_itself_becomes_the_picture(carrier: Carrier):
    front = view(0.0)
    inner = (front.head[..., 0] > 0) & (front.mouth[..., 0] == 0) & (front.canonical[..., 1] < -0.3 * RADIUS)
    np.testing.assert_allclose(carrier.carry(front)[inner], painted(front).edited[inner], atol=0.01)


def test_what_no_picture_shows_changes_smoothly():
    """A change that is a function of colour alone reaches the ball's back, where nothing was painted."""
    front, back = view(0.0), view(180.0)

    def darker(seen: FrameView) -> np.ndarray:
        return (0.5 * seen.picture + 0.1).astype(np.float32)

    carried = Carrier([PaintedView(front, darker(front))], EYE_DISTANCE).carry(back)
    shown = back.head[..., 0] > 0
    np.testing.assert_allclose(carried[shown], darker(back)[shown], atol=0.04)
    assert np.abs(carried - darker(back))[shown].mean() < 0.008


def test_paint_on_lips_does_not_reach_the_mouth_inside():
    front = view(0.0)
    red = np.where(front.mouth == LIPS, [0.9, 0.1, 0.2], front.picture).astype(np.float32)
    carried = Carrier([PaintedView(front, red)], EYE_DISTANCE).carry(view(5.0))
    mouth = view(5.0).mouth[..., 0]
    np.testing.assert_allclose(carried[mouth == INSIDE], view(5.0).picture[mouth == INSIDE], atol=0.02)
    assert np.abs(carried[mouth == LIPS] - [0.9, 0.1, 0.2]).mean() < 0.12


def test_surroundings_that_moved_take_the_change_of_their_colour(carrier: Carrier):
    moved = view(0.0, shift=6)
    around = moved.head[..., 0] == 0
    around[:, SIZE // 8 + 4 : SIZE // 8 + 9] = False  # The edge itself may blur.
    np.testing.assert_allclose(carrier.carry(moved)[around], 0.5 * moved.picture[around], atol=0.03)


def test_two_pictures_show_more_than_one():
    side = view(70.0)
    expected = side.picture + paint(side.canonical)
    # What only the second picture shows.
    hidden = (side.head[..., 0] > 0) & (side.canonical[..., 1] > 0.2) & (side.mouth[..., 0] == 0)
    inner = hidden & (np.linalg.norm(np.indices((SIZE, SIZE)).T - SIZE / 2, axis=-1) < 0.8 * RADIUS * SIZE / 2)
    one = Carrier([painted(view(0.0))], EYE_DISTANCE).carry(side)
    both = Carrier([painted(view(0.0)), painted(view(60.0))], EYE_DISTANCE).carry(side)
    assert inner.sum() > 50
    error_of_one, error_of_both = (np.abs(each - expected)[inner].mean() for each in (one, both))
    assert error_of_both < 0.3 * error_of_one


def with_room(seen: FrameView, turn: float) -> FrameView:
    """A view of an edit that may change the outline: beside the ball lies the plane through its middle."""
    across, up = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE * 2 - 1, 1 - (np.arange(SIZE) + 0.5) / SIZE * 2)
    beside = np.stack([across / np.cos(np.radians(turn)), np.zeros_like(across), up], axis=-1).astype(np.float32)
    wall = view(turn).picture[:1] * np.ones((SIZE, 1, 1), np.float32)
    return replace(seen, beside=beside, behind=wall)


def hat_of(seen: FrameView) -> np.ndarray:
    """Pixels whose points on the plane lie in a rectangle above the ball."""
    assert seen.beside is not None
    x, _, z = np.moveaxis(seen.beside, -1, 0)
    return (np.abs(x) < 0.4) & (z > 0.5) & (z < 0.9)


def test_a_hat_painted_beside_the_head_turns_with_it():
    front, turned = with_room(view(0.0), 0.0), with_room(view(20.0), 20.0)
    hat, expected = hat_of(front), hat_of(turned)
    edited = np.where(hat[..., None], [0.1, 0.5, 0.2], front.picture).astype(np.float32)
    one = PaintedView(front, edited)
    new = hat & (front.head[..., 0] == 0)
    assert (one.grown & new).sum() > 0.9 * new.sum() and (one.grown & ~new).sum() < 0.2 * new.sum()
    carried = Carrier([one], EYE_DISTANCE).carry(turned)
    green = np.linalg.norm(carried - [0.1, 0.5, 0.2], axis=-1) < 0.15
    beside = turned.head[..., 0] == 0
    assert (green & expected & beside).sum() > 0.85 * (expected & beside).sum()
    # The wall is not painted.
    assert (green & ~expected & beside).sum() < 0.25 * (expected & beside).sum()


def test_where_outlines_are_kept_nothing_grows():
    front = view(0.0)
    assert not PaintedView(front, np.zeros_like(front.picture)).grown.any()
