"""Rays of pictures against nerfstudio's own."""

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from ntalker_ns.rendering.rays import camera_rays


def camera(kind: CameraType = CameraType.PERSPECTIVE, distortion: float = 0.0, size: int = 32) -> Cameras:
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    pose = torch.cat([turn, torch.randn(3, 1)], dim=1)[None]
    parameters = torch.tensor([[distortion, 0.0, 0.0, 0.0, 0.0, 0.0]])
    return Cameras(pose, 50.0, 60.0, 15.0, 13.5, size, size - 4, parameters, kind, torch.tensor([[0.25]])).flatten()


@pytest.mark.parametrize("kind", [CameraType.PERSPECTIVE, CameraType.FISHEYE])
@pytest.mark.parametrize("distortion", [0.0, 0.1])
def test_rays_are_nerfstudios(kind: CameraType, distortion: float) -> None:
    one = camera(kind, distortion)
    ours, theirs = camera_rays(one, torch.device("cpu")), one.generate_rays(camera_indices=0, keep_shape=True)
    assert ours.shape == theirs.shape == (28, 32)
    torch.testing.assert_close(ours.origins, theirs.origins)
    torch.testing.assert_close(ours.directions, theirs.directions)
    assert ours.times is not None and theirs.times is not None
    torch.testing.assert_close(ours.times, theirs.times)
    # Nerfstudio's area is a product of differences between neighbours, off by what the field of view bends.
    torch.testing.assert_close(ours.pixel_area, theirs.pixel_area, rtol=0.2, atol=0)


def test_a_camera_without_time_has_rays_without() -> None:
    one = camera()
    one.times = None
    assert camera_rays(one, torch.device("cpu")).times is None
