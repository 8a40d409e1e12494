"""Rotations as vectors (axis times angle) and matrices, many at once, in float64."""

import numpy as np
from jaxtyping import Float


def hat(v: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """The matrix of the cross product with `v`: hat(v) @ x = v x x."""
    zero = np.zeros_like(v[..., 0])
    rows = [zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero]
    return np.stack(rows, axis=-1).reshape(*v.shape[:-1], 3, 3)


def exp(v: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotation matrices of rotation vectors in radians (Rodrigues)."""
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    small = angle < 1e-8
    safe = np.where(small, 1.0, angle)
    k = hat(v)
    a = np.where(small, 1.0, np.sin(safe) / safe)
    b = np.where(small, 0.5, (1.0 - np.cos(safe)) / safe**2)
    return np.eye(3) + a * k + b * (k @ k)


def log(r: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Rotation vectors in radians of rotation matrices; angles below pi."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(r.reshape(-1, 3, 3)).as_rotvec().reshape(*r.shape[:-2], 3)


def nearest(m: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """The proper rotation nearest to each matrix in the Frobenius norm."""
    u, _, vt = np.linalg.svd(m)
    u[..., :, 2] *= np.linalg.det(u @ vt)[..., None]
    return u @ vt


def mean(r: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "3 3"]:
    """The chordal mean of rotations."""
    return nearest(r.mean(axis=0))


def second_differences(r: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n-2 3"]:
    """How much the rotation from one frame to the next changes from frame to frame, rotation vectors in radians."""
    steps = log(r[1:] @ np.swapaxes(r[:-1], -1, -2))
    return steps[1:] - steps[:-1]


def jitter(r: Float[np.ndarray, "n 3 3"]) -> float:
    """Mean norm of the second difference of rotation: what the head's turning changes by from frame to frame.

    Args:
        r: rotations, NaN where unknown.

    Returns:
        Degrees per frame^2, over the frames whose neighbours on both sides are known; NaN where there are none.
    """
    known = np.isfinite(r).all(axis=(1, 2))
    triples = known[:-2] & known[1:-1] & known[2:]
    if not triples.any():
        return float("nan")
    second = second_differences(np.where(known[:, None, None], r, np.eye(3)))[triples]
    return float(np.degrees(np.linalg.norm(second, axis=1)).mean())
