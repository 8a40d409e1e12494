"""Warping errors of sequences whose flow is known: near 0 for motion, not for flicker."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ntalker_ns.evaluation.metrics.warping import (
    motion_boundaries,
    optical_flow,
    pair_error,
    torch_flow,
    visible_in_both,
    warp,
    warping_errors,
)
from ntalker_ns.evaluation.metrics.weights import Unavailable

SIZE, STEP = 96, 3


def texture(size: int = 160) -> np.ndarray:
    """A smooth random picture that flow can follow."""
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.5).astype(np.float32)
    return np.clip((blurred - 127.5) * 5 + 127.5, 0, 255).astype(np.uint8)


def moving(count: int = 5) -> list[np.ndarray]:
    """The window over the texture moves right, so what it shows moves left by STEP px a frame."""
    picture = texture()
    return [picture[20 : 20 + SIZE, STEP * i : STEP * i + SIZE].copy() for i in range(count)]


def shift_flow(x: float, y: float, size: int = SIZE) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32), (size, size, 2)).copy()


def known_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The true flow between two frames of `moving`."""
    frames = moving()
    places = [next(i for i, frame in enumerate(frames) if np.array_equal(frame, wanted)) for wanted in (first, second)]
    return shift_flow(-STEP * (places[1] - places[0]), 0.0)


def test_motion_by_a_known_flow_is_no_error():
    errors = warping_errors(moving(), known_flow)
    np.testing.assert_allclose(errors.total, 0.0, atol=1e-6)
    assert len(errors.total) == 4
    np.testing.assert_array_equal(errors.short[0], errors.long[0])


def test_what_left_the_picture_is_not_visible():
    visible = visible_in_both(shift_flow(-5.0, 0.0), shift_flow(5.0, 0.0))
    assert not visible[:, :5].any()
    assert visible[:, 5:].all()


def test_flow_that_does_not_return_is_not_visible():
    there = shift_flow(4.0, 0.0)
    back = shift_flow(-4.0, 0.0)
    back[:, 40:60] = 3.0
    visible = visible_in_both(there, back)
    assert not visible[10:-10, 37:55].any()
    assert visible[10:-10, 5:35].all()


def test_motion_measured_by_dis_is_nearly_no_error_and_flicker_is_one():
    flow = optical_flow("dis")
    frames = moving()
    flicker = [np.clip(frame.astype(int) + 40 * (i % 2), 0, 255).astype(np.uint8) for i, frame in enumerate(frames)]
    still, moved, flickering = (warping_errors(clip, flow).mean for clip in ([frames[0]] * 5, frames, flicker))
    assert still == 0.0
    assert moved < 0.015
    assert flickering > 0.15


def test_dis_finds_the_flow():
    frames = moving()
    flow = optical_flow("dis")(frames[0], frames[2])
    np.testing.assert_allclose(np.median(flow[15:-15, 15:-15], axis=(0, 1)), [-2 * STEP, 0.0], atol=0.2)


def test_short_and_long_are_against_the_last_and_the_first():
    greys = [np.full((40, 40, 3), value, np.uint8) for value in (0, 51, 153)]

    def none(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return shift_flow(0.0, 0.0, 40)

    errors = warping_errors(greys, none)
    np.testing.assert_allclose(errors.short, [0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(errors.long, [0.2, 0.6], atol=1e-6)
    assert errors.mean == pytest.approx((0.4 + 1.0) / 2)


def test_only_visible_pixels_count():
    frame, other = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    other[:, :10] = 255
    flows = iter([shift_flow(0.0, 0.0, 40), shift_flow(0.0, 0.0, 40)])

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        values = next(flows)
        values[:, :10] = 9.0
        return values

    error = pair_error(frame, other, flow)
    # The edge of the motion does not count either.
    assert not error.visible[:, :11].any() and error.visible[:, 11:].all()
    assert error.mean == 0.0


def test_nothing_visible_is_not_a_number_and_left_out_of_the_mean():
    away = pair_error(
        np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8), lambda a, b: shift_flow(99, 0, 40)
    )
    assert np.isnan(away.mean)


def test_warping_reads_between_pixels():
    ramp = np.tile(np.arange(8, dtype=np.float32)[None, :, None], (8, 1, 1))
    moved = warp(ramp, shift_flow(0.5, 0.0, 8))
    np.testing.assert_allclose(moved[:, :7], ramp[:, :7] + 0.5, atol=1e-3)


def test_a_single_frame_is_unavailable():
    with pytest.raises(Unavailable, match="at least two frames"):
        warping_errors([np.zeros((9, 9, 3), np.uint8)], optical_flow("dis"))


class Constant(nn.Module):
    """A network of RAFT's kind that sees the same motion everywhere, as a share of the picture's width."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.1))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        rows, columns = first.shape[2:]
        assert rows % 8 == columns % 8 == 0 and min(rows, columns) >= 128
        assert float(first.max()) <= 1.0 and float(first.min()) >= -1.0
        vectors = torch.zeros(1, 2, rows, columns)
        vectors[:, 0] = self.share * columns
        return [torch.full_like(vectors, torch.nan), vectors]


@pytest.mark.parametrize("shape", [(64, 100), (130, 200)])
def test_a_network_works_at_its_own_size_and_answers_in_ours(shape: tuple[int, int]):
    picture = np.full((*shape, 3), 255, np.uint8)
    flow = torch_flow(Constant())(picture, picture)
    assert flow.shape == (*shape, 2)
    np.testing.assert_allclose(flow[..., 0], 0.1 * shape[1], rtol=1e-5)
    np.testing.assert_allclose(flow[..., 1], 0.0)


def test_raft_without_weights_is_unavailable_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)
    with pytest.raises(Unavailable, match="RAFT"):
        optical_flow("raft")


def test_motion_boundaries_do_not_count():
    """A square that moves before a still background: flows beside its edge are wrong in either direction."""
    there = np.zeros((SIZE, SIZE, 2), np.float32)
    there[30:60, 30:60, 0] = 4.0
    boundary = motion_boundaries(there)
    assert boundary[30:60, [29, 30, 59, 60]].all() and boundary[[29, 30, 59, 60], 30:60].all()
    assert not boundary[32:58, 32:58].any() and not boundary[:28].any()
    still = np.zeros_like(there)
    assert not visible_in_both(there, still)[30:60, 29].any()
    assert visible_in_both(still, still).all()
