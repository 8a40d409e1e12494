"""Pictures as people give them back: shifted, resized, compressed, of other depths, and of something else."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from ntalker_ns.editing.registration import read_painting, register
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.pixels import from_uint8, to_uint8

SIZE = 256
HEAD = np.zeros((SIZE, SIZE, 1), np.float32)
HEAD[20:200, 60:190] = 1.0


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A face."""
    return from_uint8(cv2.resize(astronaut()[0:280, 90:370], (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def opaque(picture: np.ndarray) -> np.ndarray:
    return np.concatenate([picture, np.ones_like(picture[..., :1])], axis=-1).astype(np.float32)


def tinted(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * [1.0, 0.8, 0.6] + [0.1, 0.0, 0.0], 0.0, 1.0).astype(np.float32)


def test_a_picture_in_its_place_is_not_resampled(frame: np.ndarray):
    found = register(opaque(tinted(frame)), frame, HEAD, "edited.png")
    np.testing.assert_allclose(found.picture, tinted(frame), atol=1e-6)
    assert found.likeness > 0.95
    assert found.mismatch is not None and found.mismatch < 0.05


def test_a_shift_is_undone(frame: np.ndarray):
    moved = cv2.warpAffine(
        tinted(frame), np.array([[1, 0, 4.5], [0, 1, -3.0]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE
    )
    found = register(opaque(moved), frame, HEAD, "edited.png")
    np.testing.assert_allclose(found.shift, [4.5, -3.0], atol=0.3)
    inner = slice(12, -12)
    assert np.abs(found.picture - tinted(frame))[inner, inner].mean() < 0.01


@pytest.mark.parametrize("size", [(180, 180), (700, 700), (256, 260)])
def test_other_sizes_and_jpeg_are_accepted(frame: np.ndarray, tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "edited.jpg"
    resized = cv2.resize(tinted(frame), size, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), to_uint8(resized)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    found = register(read_painting(path), frame, HEAD, path.name)
    assert found.picture.shape == frame.shape
    assert np.abs(found.picture - tinted(frame)).mean() < 0.03


def test_a_layer_of_paint_lies_on_the_frame(frame: np.ndarray):
    layer = np.zeros((SIZE, SIZE, 4), np.float32)
    layer[100:110, 100:120] = [1.0, 0.0, 0.0, 1.0]
    layer[150:160, 100:120] = [1.0, 0.0, 0.0, 0.5]
    found = register(layer, frame, HEAD, "paint.png").picture
    np.testing.assert_allclose(found[104, 110], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(found[155, 110], 0.5 * frame[155, 110] + [0.5, 0.0, 0.0], atol=1e-6)
    np.testing.assert_array_equal(found[10], frame[10])


def test_sixteen_bits_grey_and_alpha_are_read(tmp_path: Path):
    values = np.arange(48, dtype=np.uint16).reshape(4, 4, 3) * 1000
    cv2.imwrite(str(tmp_path / "deep.png"), values[..., ::-1])
    np.testing.assert_allclose(read_painting(tmp_path / "deep.png")[..., :3], values / 65535.0, atol=1e-7)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 15
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    found = read_painting(tmp_path / "grey.png")
    np.testing.assert_allclose(found[..., 1], grey / 255.0, atol=1e-7)
    assert (found[..., 3] == 1.0).all()
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[..., 2], layer[..., 3] = 200, 51  # Red, a fifth opaque; cv2's order is blue, green, red.
    cv2.imwrite(str(tmp_path / "layer.png"), layer)
    np.testing.assert_allclose(read_painting(tmp_path / "layer.png")[0, 0], [200 / 255, 0, 0, 0.2], atol=1e-6)


def test_what_is_no_picture_is_refused(tmp_path: Path):
    with pytest.raises(NTalkerError, match="There is no picture"):
        read_painting(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(NTalkerError, match="cannot be decoded"):
        read_painting(tmp_path / "text.png")


def test_another_shape_a_cut_and_something_else_are_refused(frame: np.ndarray):
    with pytest.raises(NTalkerError, match="of another shape"):
        register(opaque(frame[:, 40:-40]), frame, HEAD, "cut.png")
    cut = cv2.resize(frame[30:-30, 30:-30], (SIZE, SIZE))
    with pytest.raises(NTalkerError, match="does not show its frame"):
        register(opaque(cut), frame, HEAD, "cut.png")
    noise = np.random.default_rng(0).random((SIZE, SIZE, 3))
    with pytest.raises(NTalkerError, match="does not show its frame"):
        register(opaque(noise), frame, HEAD, "noise.png")
    with pytest.raises(NTalkerError, match="does not show its frame"):
        register(opaque(np.full((SIZE, SIZE, 3), 0.5)), frame, HEAD, "flat.png")


def test_another_face_in_the_same_place_is_refused(frame: np.ndarray):
    """The same face wider and shorter, as another person's is."""
    stretched = cv2.warpAffine(
        frame, np.array([[1.2, 0, -0.2 * 125], [0, 0.92, 0.08 * 110]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE
    )
    mixed = np.where(HEAD > 0, stretched, frame)
    with pytest.raises(NTalkerError, match="does not show its frame"):
        register(opaque(mixed), frame, HEAD, "other.png")
