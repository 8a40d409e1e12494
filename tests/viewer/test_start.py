"""The viewer's first view is the clip camera's."""

import math
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from support.sequences import make_sequence
from support.tiny_clip import camera_to_world
from viser import ClientHandle

from ntalker_ns.viewer.start import VIEWER_SCALE, StartInFront, vertical_fov


def test_scale_is_nerfstudios():
    assert VIEWER_SCALE == VISER_NERFSTUDIO_SCALE_RATIO


def test_field_of_view_of_a_known_triangle():
    assert vertical_fov(2.0, 1.0) == pytest.approx(math.pi / 2)


class Browser(ClientHandle):
    """A browser that has a camera, and nothing else."""

    def __init__(self, camera: Any) -> None:
        self.camera = camera

    def atomic(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


def test_a_new_browser_starts_at_the_given_camera():
    pose = camera_to_world(0.3, -0.1)
    start = StartInFront(pose, 0.4)
    camera = SimpleNamespace()
    start.place(Browser(camera))
    np.testing.assert_allclose(camera.position, 10 * pose[:, 3])
    forward = camera.look_at - camera.position
    np.testing.assert_allclose(forward / np.linalg.norm(forward), -pose[:, 2], atol=1e-6)
    np.testing.assert_allclose(camera.look_at, 0.0, atol=1e-5)  # this camera looks at the head's centre
    assert camera.up_direction == (0.0, 0.0, 1.0)
    assert camera.fov == 0.4


def test_the_first_view_is_the_clip_s_at_the_pose_nearest_to_the_mean():
    clip = make_sequence(5, [True] * 5)
    poses = np.stack([camera_to_world(yaw, 0.0) for yaw in (0.5, -0.4, 0.02, 0.3, -0.5)])
    clip = clip.with_track(camera_to_worlds=poses)
    start = StartInFront.of_clip(clip)
    np.testing.assert_allclose(start.position, 10 * poses[2, :, 3], rtol=1e-6)
    assert start.fov_y == vertical_fov(clip.camera.height, clip.camera.fl_y)
