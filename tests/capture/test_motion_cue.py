"""What stays while a head moves: a collar like the hair, and frames in which nothing moves."""

import numpy as np

from ntalker_ns.capture.motion_cue import MotionCue
from ntalker_ns.capture.parsing import steadied
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, TORSO

SIZE = 192


def frames(moves: float) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """A textured head over a textured collar of the same colours, landmarks on it, and where it is."""
    rng = np.random.default_rng(0)
    pattern, cloth = (60 + 12 * rng.standard_normal((2 * SIZE, 2 * SIZE, 3)).repeat(1, axis=0) for _ in range(2))
    pattern, cloth = (np.clip(each.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3)), 0, 255) for each in (pattern, cloth))
    pattern, cloth = (each.repeat(2, axis=0).repeat(2, axis=1)[:SIZE, :SIZE] for each in (pattern, cloth))
    marks = np.random.default_rng(1).uniform(-25, 25, (478, 2)) + np.array([SIZE / 2, 80])
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    images, points, heads = [], [], []
    for index in range(16):
        shift = np.round(moves * np.array([np.sin(index), np.cos(1.7 * index)])).astype(int)
        head = np.hypot(x - SIZE / 2 - shift[0], y - 80 - shift[1]) < 40
        shown = np.where(head[..., None], np.roll(pattern, shift[::-1], axis=(0, 1)), cloth)
        images.append(shown.astype(np.uint8))
        points.append(marks + shift)
        heads.append(head)
    return images, points, heads


def test_cloth_stays_and_the_head_moves():
    images, points, heads = frames(12.0)
    cue = MotionCue(images, points)
    for image, landmarks, head in zip(images[::5], points[::5], heads[::5], strict=True):
        odds = cue(image, landmarks)
        assert odds.max() <= 0
        y, x = np.mgrid[:SIZE, :SIZE]
        away = np.hypot(x - SIZE / 2, y - 80) > 64
        assert (odds[away] < -6).mean() > 0.95
        assert (odds[head] < -2).mean() < 0.05


def test_a_head_that_does_not_move_says_nothing():
    images, points, _ = frames(0.0)
    assert (MotionCue(images, points)(images[3], points[3]) == 0).all()


def test_labels_do_not_flip_for_a_single_frame():
    series = [HEAD, HEAD, TORSO, HEAD, TORSO, TORSO, HEAD, LIPS, HEAD, BACKGROUND, HEAD]
    found = [int(each[0, 0]) for each in steadied(np.full((1, 1), value, np.uint8) for value in series)]
    assert found == [HEAD, HEAD, HEAD, HEAD, TORSO, TORSO, HEAD, LIPS, HEAD, BACKGROUND, HEAD]
    assert [each.tolist() for each in steadied([np.full((1, 1), HEAD, np.uint8)])] == [[[HEAD]]]
