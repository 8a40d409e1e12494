"""Warping error: temporal consistency of the pictures, motion compensated by optical flow.

The paper's E_w (Eq. 11, after Lei et al., "Blind Video Deflickering", 2023): each frame is compared with the one before
it and with the first one, both warped to it by optical flow, where the flow there and back agrees. The paper takes its
flow from PWC-Net, which has no well-kept package; here it is OpenCV's DIS, or torchvision's RAFT.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ntalker_ns.evaluation.metrics.weights import Unavailable, require_torchvision_weights
from ntalker_ns.evaluation.options import FlowName
from ntalker_ns.media.pixels import from_uint8

Picture = UInt8[np.ndarray, "h w 3"]
Flow = Callable[[Picture, Picture], Float32[np.ndarray, "h w 2"]]
"""Optical flow from one RGB picture to another: by how many px each pixel of the first has moved in the second."""

AGREEMENT, SLACK = 0.01, 0.5
"""Tolerance of the forward-backward check: a fraction of the squared flow, plus px^2 (Sundaram et al., 2010)."""
BOUNDARY, BOUNDARY_SLACK = 0.01, 0.002
"""Squared gradient of the flow above which a pixel lies on a motion boundary: a fraction of the squared flow, plus a
constant (Sundaram et al., 2010; Ruder et al., 2016, whose masks the paper's source takes)."""
RAFT_MULTIPLE, RAFT_LEAST = 8, 128
"""Sides that RAFT takes are multiples of 8 and no smaller than 128 px."""


@dataclass(frozen=True)
class PairError:
    """One frame against another that was warped to it."""

    difference: Float32[np.ndarray, "h w"]
    """Absolute difference, mean of the channels, for RGB in [0, 1]."""
    visible: Bool[np.ndarray, "h w"]
    """Where what is seen in the frame is also seen in the other."""

    @property
    def mean(self) -> float:
        """Over the visible pixels; NaN where there are none."""
        return float(self.difference[self.visible].mean()) if self.visible.any() else float("nan")


@dataclass(frozen=True)
class WarpingErrors:
    """The errors of every frame but the first."""

    short: Float[np.ndarray, " n_less_1"]
    """Against the frame before."""
    long: Float[np.ndarray, " n_less_1"]
    """Against the first frame."""

    @property
    def total(self) -> Float[np.ndarray, " n_less_1"]:
        """Eq. 11's E_warp of each frame: the sum of both."""
        return self.short + self.long

    @property
    def mean(self) -> float:
        """E_w of the clip."""
        return float(np.nanmean(self.total))


def warping_errors(frames: Iterable[Picture], flow: Flow) -> WarpingErrors:
    """Short-term and long-term warping errors of consecutive frames.

    The norm of Eq. 11 is taken as the mean over visible pixels and channels of RGB in [0, 1]: so do those whom the
    paper cites, and so are the values of its tables of the order of 0.005.

    Args:
        frames: RGB.
        flow: of `optical_flow`.

    Raises:
        Unavailable: there are fewer than two frames.
    """
    pairs = list(_errors(iter(frames), flow))
    if not pairs:
        raise Unavailable("a warping error needs at least two frames")
    return WarpingErrors(np.array([short for short, _ in pairs]), np.array([long for _, long in pairs]))


def _errors(frames: Iterator[Picture], flow: Flow) -> Iterator[tuple[float, float]]:
    first = previous = next(frames, None)
    for frame in frames:
        assert first is not None and previous is not None
        short = pair_error(frame, previous, flow).mean
        yield short, short if previous is first else pair_error(frame, first, flow).mean
        previous = frame


def pair_error(frame: Picture, other: Picture, flow: Flow) -> PairError:
    """How one frame differs from another that is warped to it (Eq. 11's E_pair, before the mean).

    Args:
        frame: O_t.
        other: O_s.
        flow: of `optical_flow`.
    """
    there, back = flow(frame, other), flow(other, frame)
    warped = warp(from_uint8(other), there)
    difference = np.abs(from_uint8(frame) - warped).mean(axis=-1)
    return PairError(difference, visible_in_both(there, back))


def warp(picture: Float32[np.ndarray, "h w c"], flow: Float32[np.ndarray, "h w 2"]) -> Float32[np.ndarray, "h w c"]:
    """The picture as seen from where the flow starts: at each pixel, what lies at its other end, bilinear."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = x + flow[..., 0], y + flow[..., 1]
    # OpenCV drops the axis of a single channel.
    return cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(picture.shape)


def visible_in_both(there: Float32[np.ndarray, "h w 2"], back: Float32[np.ndarray, "h w 2"]) -> Bool[np.ndarray, "h w"]:
    """Where following the flow there and back returns to where it began, inside the picture and away from motion
    boundaries (M of Eq. 11).

    Args:
        there: flow from the frame to the other, px.
        back: flow from the other to the frame, px.
    """
    height, width = there.shape[:2]
    y, x = np.mgrid[:height, :width]
    ends_x, ends_y = x + there[..., 0], y + there[..., 1]
    inside = (ends_x >= 0) & (ends_x <= width - 1) & (ends_y >= 0) & (ends_y <= height - 1)
    returned = warp(back, there)
    missed = np.square(there + returned).sum(axis=-1)
    lengths = np.square(there).sum(axis=-1) + np.square(returned).sum(axis=-1)
    return inside & (missed < AGREEMENT * lengths + SLACK) & ~motion_boundaries(there)


def motion_boundaries(flow: Float32[np.ndarray, "h w 2"]) -> Bool[np.ndarray, "h w"]:
    """Where neighbouring pixels move differently: there, flows are wrong.

    Args:
        flow: px.
    """
    gradient = sum(np.square(one) for one in (*np.gradient(flow[..., 0]), *np.gradient(flow[..., 1])))
    return gradient > BOUNDARY * np.square(flow).sum(axis=-1) + BOUNDARY_SLACK


def optical_flow(name: FlowName) -> Flow:
    """An optical flow.

    Args:
        name: "dis", OpenCV's dense inverse search, or "raft", torchvision's RAFT with its own weights.

    Raises:
        Unavailable: RAFT's weights are neither here nor to be had.
    """
    return _raft() if name == "raft" else _dis()


def _dis() -> Flow:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(first: Picture, second: Picture) -> Float32[np.ndarray, "h w 2"]:
        grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
        return np.asarray(search.calc(grey[0], grey[1], None), np.float32)  # type: ignore[call-overload]

    return flow


def _raft() -> Flow:
    import torch
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    weights = Raft_Large_Weights.DEFAULT
    require_torchvision_weights(weights, "RAFT")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch_flow(raft_large(weights=weights).eval().to(device))


def torch_flow(network) -> Flow:
    """The flow of a network of torchvision's RAFT kind, at a size near the pictures' that it takes.

    Args:
        network: takes two batches (n, 3, h, w) in [-1, 1], gives a list of ever better flows (n, 2, h, w).
    """
    import torch

    device = next(network.parameters()).device

    @torch.inference_mode()
    def flow(first: Picture, second: Picture) -> Float32[np.ndarray, "h w 2"]:
        height, width = first.shape[:2]
        rows, columns = (max(RAFT_LEAST, -(-side // RAFT_MULTIPLE) * RAFT_MULTIPLE) for side in (height, width))
        batch = [
            torch.from_numpy(cv2.resize(picture, (columns, rows))).permute(2, 0, 1)[None].to(device) / 127.5 - 1.0
            for picture in (first, second)
        ]
        vectors = network(*batch)[-1][0].permute(1, 2, 0).float().cpu().numpy()
        scale = np.array([width / columns, height / rows], np.float32)
        return np.asarray(cv2.resize(vectors, (width, height)) * scale, np.float32)

    return flow
