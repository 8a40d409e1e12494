"""Moving pictures and video frames: the reference by hand, and the CPU's kernels against it."""

import pytest
import torch

from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import MovingPicture

MARGIN = 0.25


def a_picture(shifts: torch.Tensor, dtype: torch.dtype = torch.float32) -> MovingPicture:
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(18, 24, 4, generator=generator, dtype=torch.float64).to(dtype)
    texture[..., :3] *= texture[..., 3:]
    x, y = ((torch.arange(count, dtype=torch.float64) + 0.5) / count for count in (16, 12))
    return MovingPicture(texture, MARGIN, shifts.to(dtype), x.to(dtype), y.to(dtype))


def test_a_picture_that_does_not_move_is_cut_out_of_its_texture():
    picture = a_picture(torch.zeros(2, 2, 2), torch.float64)
    # The picture's pixels are those of the texture inside of its margin.
    found = Ops("cpu", "reference").moved_picture(picture)
    torch.testing.assert_close(found, picture.texture[3:15, 4:20])


def test_a_shift_of_whole_pixels():
    shifts = torch.zeros(3, 5, 2)
    shifts[..., 0], shifts[..., 1] = 2.0 / 16, -1.0 / 12
    picture = a_picture(shifts, torch.float64)
    found = Ops("cpu", "reference").moved_picture(picture)
    torch.testing.assert_close(found, picture.texture[2:14, 6:22], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0])
def test_kernels_agree_with_the_reference(size: float):
    generator = torch.Generator().manual_seed(1)
    picture = a_picture(size * torch.randn(4, 5, 2, generator=generator))
    picture = picture._replace(x=torch.linspace(-0.2, 1.2, 37), y=torch.linspace(-0.1, 1.1, 29))
    numba, reference = Ops("cpu", "numba"), Ops("cpu", "reference")
    torch.testing.assert_close(numba.moved_picture(picture), reference.moved_picture(picture), atol=2e-5, rtol=0)
    opacity = torch.rand(29, 37, generator=generator)
    opacity[:4], opacity[4:8] = 1.0, 0.0
    head = opacity[..., None] * torch.rand(29, 37, 3, generator=generator)
    background = torch.rand(29, 37, 3, generator=generator)
    frames = [ops.portrait_frame(head, opacity, picture, background) for ops in (numba, reference)]
    assert frames[0].dtype == torch.uint8
    assert (frames[0].int() - frames[1].int()).abs().max() <= 1


def test_a_frame_by_hand():
    picture = a_picture(torch.zeros(2, 2, 2))
    seen = picture.texture[3:15, 4:20]
    opacity, background = torch.full((12, 16), 0.25), torch.full((12, 16, 3), 0.5)
    head = torch.full((12, 16, 3), 0.1)
    expected = 0.1 + 0.75 * (seen[..., :3] + (1.0 - seen[..., 3:]) * 0.5)
    for backend in ("reference", "numba"):
        found = Ops("cpu", backend).portrait_frame(head, opacity, picture, background)
        torch.testing.assert_close(found.float() / 255.0, expected, atol=0.51 / 255.0, rtol=0)
