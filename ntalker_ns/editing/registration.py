"""Reads a picture that somebody edited, and aligns it with the frame that it was made from."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from ntalker_ns.errors import NTalkerError

ASPECT_TOLERANCE = 0.03
"""Relative difference of width over height up to which a picture is taken for the whole frame."""
MOST_SHIFT = 0.05
"""Shift over the frame's width up to which a picture is aligned."""
MOST_SCALE = 0.05
"""Relative difference of scale up to which a picture is aligned."""
LEAST_SHIFT = 0.15
"""Displacement in px below which a picture is left as it is: resampling would blur it."""
MOST_MISMATCH = 0.06
"""Median distance between the facial landmarks of picture and frame, over the distance between the eyes, from which on
a picture is refused. A painted beard moves the detected chin, not most of the face."""
LEAST_LIKENESS = 0.3
"""Correlation of the edges of picture and frame below which a picture without a detectable face is refused."""


@dataclass(frozen=True, eq=False)
class Registered:
    """An edited picture aligned with its frame."""

    picture: Float32[np.ndarray, "h w 3"]
    """RGB, 0 to 1."""
    shift: tuple[float, float]
    """How far it was displaced to the right and down, px of the frame."""
    likeness: float
    """Correlation of the edges of picture and frame, at most 1."""
    mismatch: float | None
    """Median distance between the facial landmarks of both, over the distance between the eyes; None: no face was
    found."""


def read_painting(path: Path) -> Float32[np.ndarray, "h w 4"]:
    """Reads a picture of any depth: RGB and opacity, 0 to 1.

    Raises:
        NTalkerError: it is missing or no picture.
    """
    if not path.is_file():
        raise NTalkerError(f"There is no picture at {path}: check --editor.picture.")
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise NTalkerError(f"{path} cannot be decoded as a picture: save it as PNG or JPEG.")
    if found.dtype not in (np.uint8, np.uint16):
        raise NTalkerError(f"{path} has {found.dtype} values: save it as PNG or JPEG with 8 or 16 bits.")
    values = found.astype(np.float32) / np.iinfo(found.dtype).max
    if values.ndim == 2:
        values = values[..., None]
    alpha = values[..., -1:] if values.shape[2] in (2, 4) else np.ones_like(values[..., :1])
    colour = values[..., 2::-1] if values.shape[2] >= 3 else np.repeat(values[..., :1], 3, axis=-1)
    return np.ascontiguousarray(np.concatenate([colour, alpha], axis=-1))


def register(
    painting: Float32[np.ndarray, "h w 4"],
    frame: Float32[np.ndarray, "frame_h frame_w 3"],
    head: Float32[np.ndarray, "frame_h frame_w 1"],
    name: str,
) -> Registered:
    """Aligns a picture with the frame that it was made from; where it is transparent, the frame shows.

    Args:
        painting: RGB and opacity, of any size.
        frame: RGB, 0 to 1.
        head: opacity of the head in it.
        name: of the picture, for messages.

    Raises:
        NTalkerError: it does not show the frame.
    """
    height, width = frame.shape[:2]
    rows, columns = painting.shape[:2]
    if abs(columns / rows * height / width - 1.0) > ASPECT_TOLERANCE:
        raise NTalkerError(
            f"{name} has {columns} x {rows} pixels and its frame {width} x {height}, of another shape: give the whole "
            "frame, neither cut nor turned."
        )
    if (columns, rows) != (width, height):
        way = cv2.INTER_AREA if columns > width else cv2.INTER_CUBIC
        painting = np.clip(cv2.resize(painting, (width, height), interpolation=way), 0.0, 1.0)

    def over(layer: Float32[np.ndarray, "h w 4"]) -> Float32[np.ndarray, "h w 3"]:
        return layer[..., :3] * layer[..., 3:] + frame * (1.0 - layer[..., 3:])

    edges, wanted = _edges(over(painting)), _edges(frame)
    mask = cv2.dilate((head[..., 0] > 0.5).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    # A layer of paint alone has nothing to be aligned by.
    is_layer = float(painting[..., 3].mean()) < 0.5
    warp = np.eye(2, 3, dtype=np.float32) if is_layer else _alignment(edges, wanted)
    moved = _displacement(warp, mask)
    shift = _check_alignment(warp, (width, height), name)
    if np.abs(moved).max() > LEAST_SHIFT:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        painting = cv2.warpAffine(painting, warp, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        painting = painting.clip(0.0, 1.0)
    picture = over(painting)
    likeness = _correlation(_edges(picture), wanted, mask)
    mismatch = _face_mismatch(picture, frame)
    if mismatch is not None and mismatch > MOST_MISMATCH:
        raise NTalkerError(
            f"{name} does not show its frame: its facial landmarks are {mismatch:.2f} eye distances away from the "
            f"frame's, and {MOST_MISMATCH:g} are accepted. Edit the picture that ntalker frame writes, or name its "
            "frame with --editor.frame."
        )
    if mismatch is None and likeness < LEAST_LIKENESS:
        raise NTalkerError(
            f"{name} does not show its frame: its edges correlate by {likeness:.2f} with the frame's, and at least "
            f"{LEAST_LIKENESS:g} are needed. Edit the picture that ntalker frame writes, or name its frame with "
            "--editor.frame."
        )
    return Registered(picture.astype(np.float32), shift, likeness, mismatch)


def _edges(picture: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Strength of edges, 0 to 1, little affected by contrast: what most edits leave in its place."""
    grey = cv2.GaussianBlur(picture @ np.array([0.299, 0.587, 0.114], np.float32), (0, 0), 1.0)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return strength / (strength + np.median(strength) + 0.02)


def _alignment(edges: Float32[np.ndarray, "h w"], wanted: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "2 3"]:
    """The affine map from the frame's pixels to the picture's: a shift by phase correlation, then all of it by the
    enhanced correlation coefficient (Evangelidis and Psarakis 2008) where that improves it."""
    window = cv2.createHanningWindow(edges.shape[::-1], cv2.CV_32F)
    (across, down), _ = cv2.phaseCorrelate(wanted.copy(), edges.copy(), window)  # It writes into them.
    warp = np.array([[1, 0, across], [0, 1, down]], np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    candidates = [np.eye(2, 3, dtype=np.float32), warp]
    for start in (candidates[0], warp):
        try:
            _, refined = cv2.findTransformECC(
                wanted, edges, start.copy(), cv2.MOTION_AFFINE, criteria, np.ones(wanted.shape, np.uint8), 5
            )
            candidates.append(np.asarray(refined, np.float32))
        except cv2.error:  # It does not converge.
            continue
    every = np.ones(wanted.shape, bool)

    def quality(candidate: Float32[np.ndarray, "2 3"]) -> float:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(edges, candidate, edges.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return _correlation(moved, wanted, every)

    # In doubt the picture is where it should be.
    scores = [quality(each) + (0.01 if index == 0 else 0.0) for index, each in enumerate(candidates)]
    return candidates[int(np.argmax(scores))]


def _displacement(warp: Float32[np.ndarray, "2 3"], mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "n 2"]:
    """How far the map moves pixels of the mask, px."""
    rows, columns = np.nonzero(mask)
    places = np.stack([columns, rows, np.ones(len(rows))], axis=1)
    moved = places @ warp.T - places[:, :2]
    return moved if len(moved) else np.zeros((1, 2))


def _check_alignment(warp: Float32[np.ndarray, "2 3"], size: tuple[int, int], name: str) -> tuple[float, float]:
    """The shift of the picture's middle, px; an error if it, or the scale, is more than a little."""
    middle = np.array([size[0] / 2, size[1] / 2, 1.0])
    across, down = (warp @ middle - middle[:2]).tolist()
    scales = np.linalg.svd(warp[:, :2], compute_uv=False)
    scale = float(scales[np.argmax(np.abs(scales - 1.0))])
    if max(abs(across), abs(down)) > MOST_SHIFT * size[0] or abs(scale - 1.0) > MOST_SCALE:
        raise NTalkerError(
            f"{name} does not show its frame: it fits best if shifted by {across:.0f}, {down:.0f} of {size[0]} px and "
            f"scaled by {scale:.2f}. Give the whole frame as ntalker frame writes it, neither cut nor turned, and its "
            "number as --editor.frame if it is not the default one."
        )
    return across, down


def _correlation(a: Float32[np.ndarray, "h w"], b: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float:
    if mask.sum() < 16:
        mask = np.ones_like(mask)
    one, other = (values[mask] - values[mask].mean() for values in (a, b))
    return float((one * other).sum() / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))


def _face_mismatch(picture: Float32[np.ndarray, "h w 3"], frame: Float32[np.ndarray, "h w 3"]) -> float | None:
    """Median distance between facial landmarks over the distance between the eyes; None: no face in one."""
    from ntalker_ns.capture.landmarks import face_landmarks
    from ntalker_ns.face.mesh_indices import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
    from ntalker_ns.media.pixels import to_uint8

    # Each by itself: the second of a sequence would be sought where the first one was.
    found = [face_landmarks([to_uint8(each)])[0] for each in (picture, frame)]
    if not all(np.isfinite(points).all() for points in found):
        return None
    eyes = [found[1][list(corners)].mean(axis=0) for corners in (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)]
    distance = np.median(np.linalg.norm(found[0] - found[1], axis=1))
    return float(distance / max(np.linalg.norm(eyes[0] - eyes[1]), 1e-6))
