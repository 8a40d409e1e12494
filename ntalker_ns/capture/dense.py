"""Refines poses photometrically: every frame's face is aligned to the clip's mean face texture.

Landmarks err together, by a pixel or two and differently in every frame, so that their own residual does not show
it; the skin's texture does not. The upper face (forehead, nose, temples and cheekbones, without eyes and brows) is
sampled on a grid over the tracked shape, in a band of frequencies whose local contrast is normalised against changing
light, and each frame's pose moves by Gauss-Newton until its samples agree with the robust mean over frames (direct
alignment of a textured rigid surface). Landmarks and the penalty on acceleration stay in the cost.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.linalg import solveh_banded

from ntalker_ns.capture import tracking
from ntalker_ns.console import track as progress
from ntalker_ns.face import mesh_indices, rotations
from ntalker_ns.media.frame_indices import evenly_spaced

GRID = 112
"""Samples along each side of the face: about one per two px at 512 px."""
NOISE = 4.0
"""Normalised texture difference beyond which a sample counts as something else (hair, a highlight)."""
SAMPLE_WEIGHT = 0.2
"""Fraction of samples that count as independent: neighbours see the same skin."""
LANDMARK_NOISE = 1.9
"""Noise assumed for a landmark here, in measured residuals: their errors are correlated."""
LEAST_NOISE = 1.5
"""Its lower bound, in units of the landmark solve's noise: residuals do not show errors common to all landmarks."""
FACING = 0.35
"""Cosine between surface and view below which a sample is too slanted to use."""
PASSES = 2
STEPS = 2
REFERENCE_FRAMES = 64


@dataclass(frozen=True)
class Surface:
    """Samples of the rigid part of the face."""

    points: Float[np.ndarray, "k 3"]
    """Head axes."""
    normals: Float[np.ndarray, "k 3"]


@dataclass(frozen=True)
class Texture:
    """The part of a frame around the face, made comparable between frames."""

    channels: Float32[np.ndarray, "h w 3"]
    """Band-passed grey levels in tenths of their local standard deviation, and the derivatives along x and y per px."""
    origin: Float[np.ndarray, "2"]
    """Where its upper left corner lies in the frame, px."""


@dataclass(frozen=True)
class Agreement:
    """How well frames agree once unwrapped onto the face."""

    texture: Float[np.ndarray, "k"]
    deviation: float
    """Root mean square difference from the mean texture, in local standard deviations of the picture's contrast."""


def refine_poses(
    track: tracking.Track,
    landmarks: Float[np.ndarray, "n 478 2"],
    read_grey: Callable[[int], UInt8[np.ndarray, "s s"]],
    options: tracking.TrackingOptions,
) -> tuple[tracking.Track, float, float]:
    """Aligns every frame's pose to the clip's mean texture.

    Args:
        track: the solve from landmarks; its focal length is kept.
        landmarks: px; NaN rows where unseen.
        read_grey: gives a frame's grey levels.
        options: those of the solve.

    Returns:
        The refined track, and the texture deviation (see `Agreement`) before and after.
    """
    surface = sample_surface(track.shape)
    start = track

    def texture_of(index: int) -> Texture:
        return face_texture(read_grey(index), _project(start, index, surface.points)[1])

    chosen = evenly_spaced(REFERENCE_FRAMES, len(track.valid)).tolist()
    textures = [texture_of(i) for i in chosen]
    noise = max(LANDMARK_NOISE * tracking.residual_px(track, landmarks), LEAST_NOISE * options.noise)
    looser = replace(options, noise=noise)
    before = agreement(track, surface, textures, chosen).deviation
    with ThreadPoolExecutor(2) as pool:
        for number in range(PASSES):
            reference = agreement(track, surface, textures, chosen).texture

            def align(index: int, track: tracking.Track = track, reference: np.ndarray = reference) -> "_Quadratic":
                return _align(track, index, surface, reference, texture_of(index), landmarks[index], looser)

            title = f"Aligning poses {number + 1}/{PASSES}"
            aligned = list(progress(pool.map(align, range(len(track.valid))), title, len(track.valid)))
            track = _smooth(track, aligned, options)
    after = agreement(track, surface, textures, chosen).deviation
    return replace(track, shape=tracking.triangulate(track, landmarks, options)), before, after


def sample_surface(shape: Float[np.ndarray, "478 3"]) -> Surface:
    """Lays a grid of samples over the upper face of a rigid shape (x right, y down, z away)."""
    from scipy.interpolate import LinearNDInterpolator

    mesh = shape[: mesh_indices.SURFACE_POINTS]
    oval = mesh[mesh_indices.FACE_OVAL, :2]
    low, high = oval.min(axis=0), oval.max(axis=0)
    step = float((high - low).max()) / GRID
    x, y = np.meshgrid(*(np.arange(low[k], high[k], step) for k in range(2)))
    depth = LinearNDInterpolator(mesh[:, :2], mesh[:, 2])(x, y)
    inside = (
        _polygon(oval, low, step, x.shape, shrink=3)
        & np.isfinite(depth)
        & (y < mesh[mesh_indices.UNDER_NOSE, 1] - 2 * step)
    )
    for outline in mesh_indices.MOVING_OUTLINES:
        inside &= ~_polygon(mesh[outline, :2], low, step, x.shape, shrink=-3)
    smooth = cv2.GaussianBlur(np.nan_to_num(depth, nan=float(np.nanmedian(depth))), (0, 0), 1.5)
    down, across = np.gradient(smooth, step)
    normals = np.stack([across, down, -np.ones_like(down)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return Surface(np.stack([x, y, depth], axis=-1)[inside], normals[inside])


def face_texture(grey: UInt8[np.ndarray, "s s"], around: Float[np.ndarray, "k 2"]) -> Texture:
    """Cuts out the face and divides its band-passed grey levels by their local contrast.

    Args:
        grey: the frame's grey levels.
        around: px that must lie inside.
    """
    scale = grey.shape[0] / 512
    margin = 24 * scale
    low = np.clip(np.floor(around.min(axis=0) - margin), 0, grey.shape[0] - 16).astype(int)
    high = np.clip(np.ceil(around.max(axis=0) + margin), low + 16, grey.shape[0]).astype(int)
    face = grey[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    fine = cv2.GaussianBlur(face, (0, 0), scale)
    band = fine - _wide_blur(fine, 9.0 * scale)
    contrast = np.sqrt(_wide_blur(band * band, 14.0 * scale) + 9.0)
    texture = 10.0 * band / contrast
    slopes = [cv2.Sobel(texture, cv2.CV_32F, dx, dy, scale=1 / 8) for dx, dy in ((1, 0), (0, 1))]
    return Texture(np.dstack([texture, *slopes]), low.astype(np.float64))


def agreement(track: tracking.Track, surface: Surface, textures: Sequence[Texture], frames: Sequence[int]) -> Agreement:
    """Unwraps some frames onto the face and compares them with their robust mean.

    Args:
        track: the poses.
        surface: where to sample.
        textures: what those frames show around the face.
        frames: their indices.
    """
    values = np.stack([_sample(track, i, surface.points, t)[1][0] for i, t in zip(frames, textures, strict=True)])
    seen = np.stack([_facing(track, i, surface) for i in frames]) & track.valid[frames][:, None]
    weight = seen.astype(np.float64)
    mean = (values * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
    robust = weight / (1.0 + ((values - mean) / NOISE) ** 2)
    mean = (values * robust).sum(axis=0) / np.maximum(robust.sum(axis=0), 1e-9)
    return Agreement(mean, float(np.sqrt((((values - mean) ** 2) * weight).sum() / weight.sum())) / 10.0)


@dataclass(frozen=True)
class _Quadratic:
    """A frame's pose and its cost around it: 0.5 d' hessian d + gradient' d."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    hessian: Float[np.ndarray, "6 6"]
    gradient: Float[np.ndarray, "6"]


def _align(
    track: tracking.Track,
    index: int,
    surface: Surface,
    reference: np.ndarray,
    texture: Texture,
    landmarks: np.ndarray,
    options: tracking.TrackingOptions,
) -> _Quadratic:
    """A few Gauss-Newton steps of one frame's pose, and the linearisation where they end."""
    rigid = mesh_indices.RIGID
    seen = slice(index, index + 1)
    one = replace(track, rotation=track.rotation[seen], translation=track.translation[seen], valid=track.valid[seen])
    hessian, gradient = np.zeros((6, 6)), np.zeros(6)
    if not track.valid[index]:
        return _Quadratic(one.rotation[0], one.translation[0], hessian, gradient)
    for step in range(STEPS + 1):
        hessian, gradient = _photometric(one, surface, reference, texture)
        by_landmark = tracking.pose_normal_equations(
            replace(one, shape=track.shape[rigid]), landmarks[None, rigid], options
        )
        hessian, gradient = hessian + by_landmark[0][0], gradient + by_landmark[1][0]
        if step < STEPS:
            change = -np.linalg.solve(hessian + 1e-9 * np.eye(6), gradient)
            one = replace(
                one,
                rotation=rotations.exp(change[None, :3]) @ one.rotation,
                translation=one.translation + change[3:],
            )
    return _Quadratic(one.rotation[0], one.translation[0], hessian, gradient)


def _photometric(
    one: tracking.Track, surface: Surface, reference: np.ndarray, texture: Texture
) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the pose from texture differences."""
    points, (value, along_x, along_y) = _sample(one, 0, surface.points, texture)
    residual = value - reference
    robust = 1.0 / (1.0 + (residual / NOISE) ** 2) ** 2
    weight = robust * _facing(one, 0, surface) * SAMPLE_WEIGHT / NOISE**2
    by_x, by_y = along_x * one.focal / points[:, 2], along_y * one.focal / points[:, 2]
    by_point = np.stack([by_x, by_y, -(by_x * points[:, 0] + by_y * points[:, 1]) / points[:, 2]], axis=1)
    jacobian = np.concatenate([np.cross(points - one.translation[0], by_point), by_point], axis=1)
    weighted = jacobian * weight[:, None]
    return weighted.T @ jacobian, weighted.T @ residual


def _smooth(track: tracking.Track, aligned: Sequence[_Quadratic], options: tracking.TrackingOptions) -> tracking.Track:
    """One joint step of all poses: each frame's quadratic and the penalty on acceleration."""
    track = replace(
        track,
        rotation=np.stack([a.rotation for a in aligned]),
        translation=np.stack([a.translation for a in aligned]),
    )
    band, gradient = tracking.banded_poses(track, np.stack([a.hessian for a in aligned]), options)
    gradient = gradient + np.stack([a.gradient for a in aligned])
    step = -solveh_banded(band, gradient.reshape(-1), check_finite=False).reshape(-1, 6)
    return replace(
        track, rotation=rotations.exp(step[:, :3]) @ track.rotation, translation=track.translation + step[:, 3:]
    )


def _project(track: tracking.Track, index: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in a frame's camera axes and in its picture."""
    seen = points @ track.rotation[index].T + track.translation[index]
    return seen, track.focal * seen[:, :2] / seen[:, 2:] + track.centre


def _sample(track: tracking.Track, index: int, points: np.ndarray, texture: Texture) -> tuple[np.ndarray, np.ndarray]:
    """Points in camera axes, and the texture's channels where they are seen."""
    seen, pixel = _project(track, index, points)
    at = (pixel - texture.origin - 0.5).astype(np.float32)[None]
    values = cv2.remap(texture.channels, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return seen, values[0].T.astype(np.float64)


def _facing(track: tracking.Track, index: int, surface: Surface) -> Bool[np.ndarray, "k"]:
    towards = -track.rotation[index].T @ track.translation[index]
    return surface.normals @ (towards / np.linalg.norm(towards)) > FACING


def _wide_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur computed on a quarter of the resolution, where nothing is lost by it."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (width, height), interpolation=cv2.INTER_LINEAR)


def _polygon(outline: np.ndarray, low: np.ndarray, step: float, shape: tuple[int, ...], shrink: int) -> np.ndarray:
    """Grid cells inside the convex hull of an outline, eroded (or, if negative, grown) by some cells."""
    mask = np.zeros(shape, np.uint8)
    cells = np.rint((outline - low) / step).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(cells), (1,))
    kernel = np.ones((2 * abs(shrink) + 1,) * 2, np.uint8)
    return (cv2.erode(mask, kernel) if shrink > 0 else cv2.dilate(mask, kernel)).astype(bool)
