"""Head tracking: one focal length, one rigid shape and a pose per frame, solved jointly from landmarks.

A bundle adjustment whose cameras are the frames of one clip. Robust Gauss-Newton (pseudo-Huber weights); the poses
form a band (each frame is tied to its two neighbours on either side by a penalty on acceleration, which smooths
without lag) and shape and focal length a border that is eliminated last (Schur complement), so a clip of any length
costs time in proportion to its frames.

Camera axes here are OpenCV's (x right, y down, z forward); a head point X is seen at R X + t.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solveh_banded

from ntalker_ns.face import mesh_indices, rotations
from ntalker_ns.media.frame_indices import evenly_spaced

TRIANGULATION_FRAMES = 200
"""Frames that points are triangulated from once the poses are known; more change nothing."""
POOR_RATIO, POOR_PX = 4.0, 4.0
"""A frame is tracked poorly if its residual exceeds so many medians over the clip and so many px at 512 px. Clips
without a cut reach 3.6 medians and 3 px; the frames beside a cut have ten times the median."""


@dataclass(frozen=True)
class TrackingOptions:
    """Standard deviations that weight the terms of the solve."""

    focal_prior: float
    """Expected focal length in px."""
    focal_spread: float = 0.25
    """Standard deviation of the focal length's logarithm: landmarks alone determine it weakly."""
    noise: float = 1.0
    """Landmark noise in px; residuals far beyond it count linearly instead of squared."""
    rotation_acceleration: float = 0.5
    """Standard deviation of the second difference of rotation, degrees per frame^2."""
    shift_acceleration: float = 0.7
    """Standard deviation of the second difference of position across the picture, px per frame^2."""
    depth_acceleration: float = 0.002
    """The same along the view, as a fraction of the distance."""
    shape_spread: float = 0.03
    """Standard deviation of a point's departure from mediapipe's own shape, as a fraction of the head's size. A head
    that hardly turns looks the same twice as deep and turning half as much: only this fixes its depth."""
    iterations: int = 40

    @classmethod
    def for_size(cls, size: int, focal_prior: float) -> "TrackingOptions":
        """The defaults, which are for frames of 512 px, for another size."""
        scale = size / 512
        return cls(focal_prior, noise=scale * cls.noise, shift_acceleration=scale * cls.shift_acceleration)


@dataclass(frozen=True)
class Track:
    """A solved clip."""

    focal: float
    """px"""
    centre: Float[np.ndarray, "2"]
    """Principal point, px."""
    shape: Float[np.ndarray, "points 3"]
    """Landmarks in the head's own axes, in units of its size (mean distance of the rigid points from their centre)."""
    rotation: Float[np.ndarray, "n 3 3"]
    translation: Float[np.ndarray, "n 3"]
    valid: Bool[np.ndarray, "n"]
    """Frames whose landmarks were seen; the others' poses are bridged by the acceleration penalty, or held at the
    clip's ends."""

    def camera_points(self) -> Float[np.ndarray, "n points 3"]:
        """The shape in every frame's camera axes."""
        return self.shape @ np.swapaxes(self.rotation, 1, 2) + self.translation[:, None]

    def project(self) -> Float[np.ndarray, "n points 2"]:
        """The shape in every frame's picture, px."""
        return _project(self.camera_points(), self.focal, self.centre)

    def project_points(self, points: Float[np.ndarray, "k 3"], frame: int) -> Float[np.ndarray, "k 2"]:
        """Any points in head axes in one frame's picture, px."""
        return _project(points @ self.rotation[frame].T + self.translation[frame], self.focal, self.centre)


def solve_track(
    landmarks: Float[np.ndarray, "n 478 3"],
    centre: Float[np.ndarray, "2"],
    options: TrackingOptions,
    rigid: np.ndarray = mesh_indices.RIGID,
) -> Track:
    """Solves focal length, shape and poses of a clip.

    Args:
        landmarks: x and y in px and mediapipe's relative depth per frame; NaN rows where no face was seen.
        centre: principal point in px.
        options: the weights.
        rigid: indices of the points that move with the skull.

    Returns:
        The track, with all landmarks in its shape, not only the rigid ones.
    """
    valid = np.isfinite(landmarks).all(axis=(1, 2))
    start = _initial_track(landmarks, valid, centre, options.focal_prior, rigid)
    weights = np.ones(len(rigid))
    track = _bundle(replace(start, shape=start.shape[rigid]), landmarks[:, rigid, :2], weights, options)
    shape = triangulate(replace(track, shape=start.shape), landmarks[..., :2], options)
    shape[rigid] = track.shape
    return replace(track, shape=shape)


def hold_ends(track: Track) -> Track:
    """The track with the nearest seen pose before its first seen frame and after its last: the penalty on acceleration
    alone lets a head fly on for ever."""
    seen = np.flatnonzero(track.valid)
    nearest = np.clip(np.arange(len(track.valid)), seen[0], seen[-1])
    return replace(track, rotation=track.rotation[nearest], translation=track.translation[nearest])


def frame_residuals(
    track: Track, observed: Float[np.ndarray, "n 478 2"], rigid: np.ndarray = mesh_indices.RIGID
) -> Float[np.ndarray, "n"]:
    """Root mean square distance between rigid landmarks and the projected shape per frame, px; NaN where unseen."""
    difference = np.where(track.valid[:, None, None], track.project() - observed, np.nan)[:, rigid]
    return np.sqrt((difference**2).sum(axis=-1).mean(axis=-1))


def residual_px(track: Track, observed: Float[np.ndarray, "n 478 2"], rigid: np.ndarray = mesh_indices.RIGID) -> float:
    """The same over all seen frames."""
    return float(np.sqrt(np.nanmean(frame_residuals(track, observed, rigid) ** 2)))


def poorly_tracked(residuals: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Frames that do not fit a head which moves as heads do: a cut, or landmarks of something else.

    Args:
        residuals: per frame, in px at 512 px; NaN where unseen.
    """
    return residuals > max(POOR_PX, POOR_RATIO * float(np.nanmedian(residuals)))


def _project(points: np.ndarray, focal: float, centre: np.ndarray) -> np.ndarray:
    return focal * points[..., :2] / points[..., 2:] + centre


def _initial_track(
    landmarks: np.ndarray, valid: np.ndarray, centre: np.ndarray, focal: float, rigid: np.ndarray
) -> Track:
    """Weak perspective: the mean of mediapipe's shapes, brought together by similarity transforms."""
    seen = landmarks[valid]
    offset = seen[:, rigid].mean(axis=1, keepdims=True)
    points = seen - offset
    size = np.sqrt((points[:, rigid] ** 2).sum(-1).mean(-1))
    points = points / size[:, None, None]
    shape = points[len(points) // 2]
    rotation = np.tile(np.eye(3), (len(points), 1, 1))
    for _ in range(5):
        rotation = rotations.nearest(np.swapaxes(points[:, rigid], 1, 2) @ shape[rigid])
        shape = (points @ rotation).mean(axis=0)
    upright = rotations.mean(rotation)
    shape, rotation = shape @ upright.T, rotation @ upright.T
    depth = focal / size
    translation = np.concatenate([(offset[:, 0, :2] - centre) / size[:, None], depth[:, None]], axis=1)
    return Track(focal, centre, shape, *_fill_gaps(rotation, translation, valid), valid)


def _fill_gaps(
    rotation: Float[np.ndarray, "seen 3 3"], translation: Float[np.ndarray, "seen 3"], valid: Bool[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 3"]]:
    """Poses of all frames from those of the seen ones, interpolated between neighbours."""
    from scipy.spatial.transform import Rotation, Slerp

    at = np.flatnonzero(valid)
    inside = np.clip(np.arange(len(valid)), at[0], at[-1])
    turned = Slerp(at, Rotation.from_matrix(rotation))(inside).as_matrix() if len(at) > 1 else rotation[0 * inside]
    return turned, np.stack([np.interp(inside, at, column) for column in translation.T], axis=1)


def _bundle(
    track: Track, observed: Float[np.ndarray, "n m 2"], weights: Float[np.ndarray, "m"], options: TrackingOptions
) -> Track:
    """Levenberg-Marquardt on everything at once; a step that does not lower the cost is taken back."""
    prior_shape = track.shape.copy()
    damping, cost = 1e-3, _cost(track, observed, weights, prior_shape, options)
    for _ in range(options.iterations):
        moved = _step(track, observed, weights, prior_shape, options, damping)
        new_cost = _cost(moved, observed, weights, prior_shape, options)
        if not new_cost < cost:
            damping *= 10.0
            continue
        gain, track, cost, damping = cost - new_cost, moved, new_cost, damping * 0.2
        if gain < 1e-5 * cost:
            break
    return track


def _cost(
    track: Track, observed: np.ndarray, weights: np.ndarray, prior_shape: np.ndarray, options: TrackingOptions
) -> float:
    """What the solve lowers: robust squared residuals, accelerations and departures from the priors."""
    if track.camera_points()[..., 2].min() <= 0:
        return float("inf")
    residual = (track.project() - observed)[track.valid]
    knee = (2.0 * options.noise) ** 2
    squared = (residual**2).sum(axis=-1) * weights
    data = knee * 2.0 * (np.sqrt(1.0 + squared / knee) - 1.0).sum() / options.noise**2
    second, precision = _accelerations(track, options)
    shape = ((track.shape - prior_shape) ** 2).sum() / options.shape_spread**2
    focal = (np.log(track.focal / options.focal_prior) / options.focal_spread) ** 2
    return float(data + (second**2 * precision).sum() + shape + focal)


def _step(
    track: Track,
    observed: np.ndarray,
    weights: np.ndarray,
    prior_shape: np.ndarray,
    options: TrackingOptions,
    damping: float,
) -> Track:
    n, m = observed.shape[:2]
    residual, pose_j, shape_j, focal_j = linearise(track, observed)
    weight = _robust_weight(residual, weights, track.valid, options.noise)
    weighted_pose = pose_j * weight[..., None, None]
    weighted_shape = shape_j * weight[..., None, None]
    weighted_focal = focal_j * weight[..., None]
    hessian = np.einsum("nmki,nmkj->nij", weighted_pose, pose_j)
    gradient = np.einsum("nmki,nmk->ni", weighted_pose, residual)
    border = np.empty((n, 6, 3 * m + 1))
    border[:, :, : 3 * m] = np.einsum("nmki,nmkj->nimj", weighted_pose, shape_j).reshape(n, 6, 3 * m)
    border[:, :, 3 * m] = np.einsum("nmki,nmk->ni", weighted_pose, focal_j)

    corner = np.zeros((3 * m + 1, 3 * m + 1))
    blocks = np.einsum("nmki,nmkj->mij", weighted_shape, shape_j)
    for k in range(m):
        corner[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] = blocks[k]
    cross = np.einsum("nmki,nmk->mi", weighted_shape, focal_j).reshape(-1)
    corner[:-1, -1] = corner[-1, :-1] = cross
    corner[-1, -1] = (weighted_focal * focal_j).sum()
    by_shape = np.einsum("nmki,nmk->mi", weighted_shape, residual).reshape(-1)
    side = np.concatenate([by_shape, [(weighted_focal * residual).sum()]])

    shape_weight = 1.0 / options.shape_spread**2
    corner[np.arange(3 * m), np.arange(3 * m)] += shape_weight
    side[:-1] += shape_weight * (track.shape - prior_shape).reshape(-1)
    corner[-1, -1] += 1.0 / options.focal_spread**2
    side[-1] += np.log(track.focal / options.focal_prior) / options.focal_spread**2

    band, smooth_gradient = banded_poses(track, hessian, options)
    band[17] *= 1.0 + damping
    corner[np.diag_indices(len(corner))] *= 1.0 + damping
    gradient = (gradient + smooth_gradient).reshape(-1)
    flat_border = border.reshape(6 * n, -1)
    solved = solveh_banded(band, np.concatenate([flat_border, gradient[:, None]], axis=1), check_finite=False)
    schur = corner - flat_border.T @ solved[:, :-1]
    reduced = side - flat_border.T @ solved[:, -1]
    delta_shape = -np.linalg.solve(schur, reduced)
    delta_pose = -(solved[:, -1] + solved[:, :-1] @ delta_shape)
    return _apply(track, delta_pose.reshape(n, 6), delta_shape)


def linearise(
    track: Track, observed: Float[np.ndarray, "n m 2"]
) -> tuple[
    Float[np.ndarray, "n m 2"], Float[np.ndarray, "n m 2 6"], Float[np.ndarray, "n m 2 3"], Float[np.ndarray, "n m 2"]
]:
    """Residuals and their derivatives by pose (rotation vector on the left, then translation), point and log focal."""
    n, m = observed.shape[:2]
    turned = track.shape @ np.swapaxes(track.rotation, 1, 2)
    points = turned + track.translation[:, None]
    projected = _project(points, track.focal, track.centre)
    residual = np.where(track.valid[:, None, None], projected - observed, 0.0)
    depth = points[..., 2]
    by_point = np.zeros((n, m, 2, 3))
    by_point[..., 0, 0] = by_point[..., 1, 1] = track.focal / depth
    by_point[..., :, 2] = -(projected - track.centre) / depth[..., None]
    by_rotation = -by_point @ rotations.hat(turned)
    pose = np.concatenate([by_rotation, by_point], axis=-1)
    shape = by_point @ track.rotation[:, None]
    return residual, pose, shape, projected - track.centre


def _robust_weight(residual: np.ndarray, weights: np.ndarray, valid: np.ndarray, noise: float) -> np.ndarray:
    """Pseudo-Huber: a squared loss up to about twice the noise, linear beyond."""
    squared = (residual**2).sum(axis=-1) * weights / (2.0 * noise) ** 2
    return weights / noise**2 / np.sqrt(1.0 + squared) * valid[:, None]


def pose_normal_equations(
    track: Track, observed: Float[np.ndarray, "n m 2"], options: TrackingOptions
) -> tuple[Float[np.ndarray, "n 6 6"], Float[np.ndarray, "n 6"]]:
    """Each frame's robust normal equations for its pose alone, from landmarks.

    Args:
        track: poses, and the shape of the m points that are observed.
        observed: px.
        options: the weights.

    Returns:
        Hessians and gradients by rotation vector (applied on the left, radians) and translation.
    """
    residual, by_pose, _, _ = linearise(track, observed)
    weight = _robust_weight(residual, np.ones(observed.shape[1]), track.valid, options.noise)
    weighted = by_pose * weight[..., None, None]
    return np.einsum("nmki,nmkj->nij", weighted, by_pose), np.einsum("nmki,nmk->ni", weighted, residual)


def banded_poses(
    track: Track, hessian: Float[np.ndarray, "n 6 6"], options: TrackingOptions
) -> tuple[Float[np.ndarray, "18 columns"], Float[np.ndarray, "n 6"]]:
    """Adds the acceleration penalty to the frames' Hessians.

    Args:
        track: the poses.
        hessian: each frame's own.
        options: the weights.

    Returns:
        All poses' Hessian in LAPACK's upper banded form, and the penalty's gradient.
    """
    n = len(hessian)
    second, precision = _accelerations(track, options)
    band = np.zeros((18, 6 * n))
    for i in range(6):
        for j in range(i, 6):
            band[17 - (j - i), j::6] += hessian[:, i, j]
    band[17] += 1e-9
    by_frame = band.reshape(18, n, 6)
    stencil = np.array([1.0, -2.0, 1.0])
    for a in range(3):
        for b in range(a, 3):
            by_frame[17 - 6 * (b - a), b : n - 2 + b] += stencil[a] * stencil[b] * precision
    gradient = np.zeros((n, 6))
    for a in range(3):
        gradient[a : n - 2 + a] += stencil[a] * second * precision
    return band, gradient


def _accelerations(track: Track, options: TrackingOptions) -> tuple[np.ndarray, np.ndarray]:
    """Second differences of rotation (radians) and translation per frame, and how precisely they should be 0."""
    second = np.concatenate(
        [rotations.second_differences(track.rotation), np.diff(track.translation, n=2, axis=0)], axis=1
    )
    distance = float(np.median(track.translation[:, 2]))
    across = options.shift_acceleration * distance / track.focal
    along = options.depth_acceleration * distance
    sigma = np.array([np.radians(options.rotation_acceleration)] * 3 + [across, across, along])
    return second, sigma**-2.0


def _apply(track: Track, delta_pose: np.ndarray, delta_shape: np.ndarray) -> Track:
    """Takes the step, then removes the freedom of the head's own axes: mean point at 0, unit size."""
    rotation = rotations.exp(delta_pose[:, :3]) @ track.rotation
    translation = track.translation + delta_pose[:, 3:]
    shape = track.shape + delta_shape[:-1].reshape(-1, 3)
    focal = track.focal * float(np.exp(np.clip(delta_shape[-1], -0.2, 0.2)))
    offset = shape.mean(axis=0)
    shape = shape - offset
    translation = translation + rotation @ offset
    size = float(np.sqrt((shape**2).sum(axis=-1).mean()))
    return replace(track, focal=focal, shape=shape / size, rotation=rotation, translation=translation / size)


def triangulate(
    track: Track, observed: Float[np.ndarray, "n points 2"], options: TrackingOptions
) -> Float[np.ndarray, "points 3"]:
    """The best position of every point with poses and focal length held, each for itself, robustly.

    Args:
        track: the poses, and a shape to start from and stay near.
        observed: px; NaN rows where unseen.
        options: the weights.

    Returns:
        The shape in head axes. Points that speech moves get their middle position.
    """
    chosen = evenly_spaced(TRIANGULATION_FRAMES, len(observed))
    observed = np.nan_to_num(observed[chosen])
    prior, shape = track.shape, track.shape
    poses = replace(
        track, rotation=track.rotation[chosen], translation=track.translation[chosen], valid=track.valid[chosen]
    )
    for _ in range(4):
        residual, _, by_point, _ = linearise(replace(poses, shape=shape), observed)
        weight = _robust_weight(residual, np.ones(len(shape)), poses.valid, options.noise)
        weighted = by_point * weight[..., None, None]
        hessian = np.einsum("nmki,nmkj->mij", weighted, by_point) + np.eye(3) / options.shape_spread**2
        gradient = np.einsum("nmki,nmk->mi", weighted, residual) + (shape - prior) / options.shape_spread**2
        shape = shape - np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return shape
