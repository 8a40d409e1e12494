"""Pixels looked up in one pass against plain indexing, and rays against nerfstudio's."""

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from support.frames import random_frames
from support.synthetic_clip import poses

from ntalker_ns.data.coverage import head_coverage
from ntalker_ns.data.frame_cache import build_store
from ntalker_ns.kernels.numba.pixels import PixelBuffers, Rays, cast_rays, gather_pixels


def _looks(count: int) -> PixelBuffers:
    widths = (3, 3, 3, 2, 1)
    return PixelBuffers(
        *(np.full((count, width), np.nan, np.float32) for width in widths), labels=np.full(count, 99, np.uint8)
    )


@pytest.mark.parametrize("chosen", [[1], [4, 0, 2]])
@pytest.mark.parametrize("each", [1, 50])
def test_pixels_are_those_of_the_frames(chosen: list[int], each: int) -> None:
    width, height = 37, 29
    frames = random_frames(5, width, height)
    store = build_store(frames.__getitem__, 5, (width, height))
    rng = np.random.default_rng(0)
    plate = rng.integers(0, 256, (height, width, 3), np.uint8)
    x, y = rng.integers(0, width, each * len(chosen)), rng.integers(0, height, each * len(chosen))
    x[0], y[0] = width - 1, height - 1
    found = _looks(len(x))
    gather_pixels(store.pixels, plate, np.array(chosen), x, y, found)
    for i, index in enumerate(np.repeat(chosen, each)):
        frame, at = frames[index], (y[i], x[i])
        for name, true in (("image", frame.image), ("headless", frame.headless_frame), ("plate", plate)):
            np.testing.assert_array_equal(getattr(found, name)[i], true[at].astype(np.float32) / np.float32(255))
        assert found.labels[i] == frame.labels[at]
        coverage = head_coverage(frame.image, frame.headless_frame, frame.labels)[at]
        np.testing.assert_allclose(found.coverage[i, 0], coverage, atol=0.5 / 127 + 1e-6)
        np.testing.assert_allclose(found.place[i], [(x[i] + 0.5) / width, (y[i] + 0.5) / height], rtol=1e-6)


@pytest.mark.parametrize("intrinsics", [(500.0, 480.0, 130.0, 121.5), (90.0, 95.0, 32.0, 30.0)])
def test_rays_are_those_of_nerfstudio_for_each_frame(intrinsics: tuple[float, float, float, float]) -> None:
    rng, each = np.random.default_rng(0), 500
    cameras_to_world = poses(3)[:, :3].astype(np.float32)
    cameras = Cameras(torch.from_numpy(cameras_to_world), *intrinsics, width=256, height=240)
    x, y = rng.integers(0, 256, 3 * each), rng.integers(0, 240, 3 * each)
    found = Rays.of(3 * each)
    cast_rays(cameras_to_world, intrinsics, x, y, found)
    indices = torch.arange(3).repeat_interleave(each)[:, None]
    expected = cameras.generate_rays(indices, coords=torch.from_numpy(np.stack([y, x], axis=1) + 0.5).float())
    np.testing.assert_allclose(found.directions, expected.directions.numpy(), atol=2e-6)
    np.testing.assert_allclose(found.origins, expected.origins.numpy(), atol=1e-6)
    assert expected.pixel_area is not None
    np.testing.assert_allclose(found.areas, expected.pixel_area.numpy(), rtol=0.03)
    assert found.directions.dtype == found.areas.dtype == found.origins.dtype == np.float32


def test_no_pixels() -> None:
    store = build_store(random_frames(1, 8, 8).__getitem__, 1, (8, 8))
    none = np.zeros(0, np.int64)
    gather_pixels(store.pixels, np.zeros((8, 8, 3), np.uint8), np.array([0]), none, none, _looks(0))
    cast_rays(np.zeros((1, 3, 4), np.float32), (1.0, 1.0, 0.0, 0.0), none, none, Rays.of(0))
