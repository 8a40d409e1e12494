"""The viewer's first view is the clip camera's."""

import math
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from support.tiny_clip import camera_to_world
from viser import ClientHandle

from ntalker_ns.viewer import VIEWER_SCALE, StartInFront, vertical_fov


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


def test_a_new_browser_starts_at_the_first_camera():
    pose = camera_to_world(0.3, -0.1)
    start = StartInFront(pose, 0.4)
    connected: list[Any] = []
    server = SimpleNamespace(on_client_connect=connected.append)
    viewer: Any = SimpleNamespace(viser_server=server, config=ViewerConfig())
    start._setup(viewer)
    assert viewer.config == ViewerConfig(max_num_display_images=0)
    camera = SimpleNamespace()
    (callback,) = connected
    callback(Browser(camera))
    np.testing.assert_allclose(camera.position, 10 * pose[:, 3])
    forward = camera.look_at - camera.position
    np.testing.assert_allclose(forward / np.linalg.norm(forward), -pose[:, 2], atol=1e-6)
    np.testing.assert_allclose(camera.look_at, 0.0, atol=1e-5)  # this camera looks at the head's centre
    assert camera.up_direction == (0.0, 0.0, 1.0)
    assert camera.fov == 0.4
