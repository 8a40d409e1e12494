"""The backdrop: looked up by direction, so that the camera's size, crop and field of view do not matter."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from support.sequences import make_sequence

from ntalker_ns.driving.sequence import ClipCamera, DrivingSequence
from ntalker_ns.rendering.image_plane import ImagePlane, places_of

CPU = torch.device("cpu")


@dataclass
class OnePicture:
    """The pictures of a driving sequence whose frames are all the same."""

    image: np.ndarray

    def plate(self) -> np.ndarray:
        return self.image

    def headless_frame(self, frame: int) -> np.ndarray:
        return self.image

    def thumbnail(self, frame: int) -> np.ndarray:
        return self.image


def camera(fx: float, cx: float, cy: float, width: int, height: int) -> Cameras:
    pose = torch.eye(4)[None, :3]
    return Cameras(pose, fx, fx, cx, cy, width, height).flatten()


@pytest.fixture()
def ramp() -> DrivingSequence:
    """A picture whose red grows to the right and whose green grows downwards."""
    rows, columns = np.mgrid[:48, :64]
    image = np.stack([columns * 3, rows * 4, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    camera = ClipCamera(100.0, 100.0, 32.0, 24.0, width=64, height=48)
    return replace(make_sequence(1), camera=camera, pictures=OnePicture(image))


def test_clip_camera_sees_the_picture_itself(ramp: DrivingSequence) -> None:
    seen = ImagePlane(ramp).behind(0, camera(100.0, 32.0, 24.0, 64, 48), CPU)
    torch.testing.assert_close(seen, torch.from_numpy(ramp.headless_frame(0)).float() / 255.0, atol=1e-4, rtol=0)


def test_crop_sees_a_part(ramp: DrivingSequence) -> None:
    seen = ImagePlane(ramp).behind(0, camera(100.0, 32.0 - 10, 24.0 - 5, 20, 30), CPU)
    torch.testing.assert_close(
        seen, torch.from_numpy(ramp.headless_frame(0)[5:35, 10:30]).float() / 255.0, atol=1e-4, rtol=0
    )


def test_half_size_camera_sees_area_averages(ramp: DrivingSequence) -> None:
    seen = ImagePlane(ramp).behind(0, camera(50.0, 16.0, 12.0, 32, 24), CPU)
    expected = ramp.headless_frame(0).reshape(24, 2, 32, 2, 3).mean(axis=(1, 3)) / 255.0
    # The averages are rounded to whole grey values.
    np.testing.assert_allclose(seen.numpy(), expected, atol=0.6 / 255)


def test_wide_camera_continues_the_border(ramp: DrivingSequence) -> None:
    seen = ImagePlane(ramp).behind(0, camera(100.0, 64.0, 24.0, 128, 48), CPU)
    assert torch.isfinite(seen).all()
    torch.testing.assert_close(
        seen[:, 0], torch.from_numpy(ramp.headless_frame(0)[:, 0]).float() / 255.0, atol=1e-4, rtol=0
    )


def test_places_are_fractions_of_the_clips_picture(ramp: DrivingSequence) -> None:
    places = places_of(ramp.camera, camera(50.0, 16.0, 12.0, 32, 24), CPU)
    assert places.shape == (24, 32, 2)
    np.testing.assert_allclose(places[3, 5], [5.5 / 32, 3.5 / 24], atol=1e-6)
    shifted = places_of(ramp.camera, camera(100.0, 22.0, 24.0, 64, 48), CPU)
    np.testing.assert_allclose(shifted[0, 0], [10.5 / 64, 0.5 / 48], atol=1e-6)


def test_any_picture_covers_the_clips_and_keeps_its_middle(ramp: DrivingSequence) -> None:
    wide = np.zeros((12, 64, 3), np.uint8)
    wide[:, 32:, 0] = 255  # left black, right red
    seen = ImagePlane(ramp).cover(wide, camera(100.0, 32.0, 24.0, 64, 48), CPU)
    assert seen.shape == (48, 64, 3)
    assert seen[:, :28].max() < 0.05 and seen[:, 36:, 0].min() > 0.95
    plane, other = ImagePlane(ramp), np.full((48, 64, 3), 51, np.uint8)
    view = camera(100.0, 32.0, 24.0, 64, 48)
    plane.cover(wide, view, CPU)
    torch.testing.assert_close(plane.cover(other, view, CPU), torch.full((48, 64, 3), 0.2), atol=1e-4, rtol=0)
