"""Lip motion: mouth openings measured on pictures, and the agreement of two sequences of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SHIFTS = 20
"""Number of circular shifts that a real correlation must exceed."""

MAX_LAG = 12
"""Largest lag in frames, about half a second."""


@dataclass(frozen=True)
class LipSync:
    """Agreement of a rendered mouth with the true one, over the frames where both are known."""

    correlation: float
    """Pearson correlation of the openings."""
    amplitude_ratio: float
    """Standard deviation of the rendered opening over that of the true one."""
    lag: int
    """Delay of the rendered mouth in frames at the best fit; positive is late."""
    shifted: tuple[float, ...]
    """Correlations after circular shifts of the rendered opening."""
    frames: int
    """Frames where both are known."""

    @property
    def beats_shifts(self) -> bool:
        """Whether the correlation exceeds that of every shift, which lips that move by chance do not."""
        return self.correlation > max(self.shifted)


def mouth_openings(landmarks: Float[np.ndarray, "n 478 2"]) -> Float[np.ndarray, " n"]:
    """Gap between the inner lips, measured down the face, over the face's height (forehead to chin) in that frame.

    Args:
        landmarks: px; NaN rows stay NaN.

    Returns:
        About 0 (closed) to 0.2 (wide open).
    """
    from ntalker_ns.face import mesh_indices

    down = landmarks[:, mesh_indices.CHIN] - landmarks[:, mesh_indices.FOREHEAD_TOP]
    gap = landmarks[:, mesh_indices.LOWER_INNER_LIP] - landmarks[:, mesh_indices.UPPER_INNER_LIP]
    return np.maximum((gap * down).sum(axis=1) / np.square(down).sum(axis=1), 0.0)


def lip_distances(
    rendered: Float[np.ndarray, "n 478 2"], true: Float[np.ndarray, "n 478 2"]
) -> Float[np.ndarray, " n"]:
    """Mean distance of the lip landmarks of two pictures of each frame.

    Args:
        rendered: landmarks of `face_landmarks`.
        true: opening per frame.

    Returns:
        px in a picture of 512 px, NaN where either face is unknown.
    """
    from ntalker_ns.face.mesh_indices import INNER_LIPS, OUTER_LIPS

    lips = np.concatenate([OUTER_LIPS, INNER_LIPS])
    return np.linalg.norm(rendered[:, lips] - true[:, lips], axis=-1).mean(axis=1)


def lip_sync(rendered: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], shifts: int = SHIFTS) -> LipSync:
    """Every comparison of two sequences of mouth openings.

    Args:
        rendered: opening per frame, NaN where unknown.
        true: opening per frame.
        shifts: how many circular shifts to compare with.
    """
    return LipSync(
        correlation=opening_correlation(rendered, true),
        amplitude_ratio=amplitude_ratio(rendered, true),
        lag=best_lag(rendered, true),
        shifted=tuple(shifted_correlations(rendered, true, shifts).tolist()),
        frames=len(_known(rendered, true)[0]),
    )


def opening_correlation(rendered: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> float:
    """Pearson correlation over the frames where both are known.

    Args:
        rendered: opening per frame, NaN where unknown.
        true: opening per frame.

    Returns:
        -1 to 1; 0 where a mouth never moves or fewer than three frames are known.
    """
    first, second = _known(rendered, true)
    if len(first) < 3:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float((first * second).sum() / scale) if scale > 1e-12 else 0.0


def amplitude_ratio(rendered: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> float:
    """Standard deviation of the rendered opening over the true one's, over the frames where both are known.

    Args:
        rendered: opening per frame, NaN where unknown.
        true: opening per frame.

    Returns:
        1 for a mouth that moves as much as the true one, 0 for a frozen one; NaN where the true one never moves.
    """
    first, second = _known(rendered, true)
    return float(first.std() / second.std()) if len(second) > 1 and second.std() > 1e-9 else float("nan")


def best_lag(rendered: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], max_lag: int = MAX_LAG) -> int:
    """The delay at which the rendered mouth fits the true one best, by cross-correlation.

    Args:
        rendered: opening per frame, NaN where unknown.
        true: opening per frame.
        max_lag: largest lag in frames, limited to half of the sequence: few frames agree by chance.

    Returns:
        Frames in [-max_lag, max_lag]; positive: the rendered mouth is late.
    """
    count = len(true)
    furthest = min(max_lag, count // 2)
    lags = sorted(range(-furthest, furthest + 1), key=abs)

    def fit(lag: int) -> float:
        late, early = max(lag, 0), max(-lag, 0)
        return opening_correlation(rendered[late : count - early], true[early : count - late])

    return max(lags, key=fit)


def shifted_correlations(
    rendered: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"], count: int = SHIFTS
) -> Float[np.ndarray, " count"]:
    """Correlations with the true opening after shifting the rendered one circularly: what chance reaches.

    Args:
        rendered: opening per frame, NaN where unknown.
        true: opening per frame; at least two frames.
        count: number of non-zero shifts, evenly spaced over the sequence; fewer for short ones.
    """
    count = min(count, len(true) - 1)
    steps = np.round(np.arange(1, count + 1) * len(true) / (count + 1)).astype(int)
    return np.array([opening_correlation(np.roll(rendered, step), true) for step in steps])


def _known(rendered: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(rendered) & np.isfinite(true)
    return np.asarray(rendered, np.float64)[known], np.asarray(true, np.float64)[known]
