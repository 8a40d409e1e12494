"""Two heads that know nothing of speech, which a learned one has to beat."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.errors import NTalkerError


def nearest_frames(
    train: Float[np.ndarray, "n 478 2"], wanted: Float[np.ndarray, "m 478 2"]
) -> Int64[np.ndarray, " m"]:
    """For each wanted frame, the training frame whose landmarks are nearest: an oracle that sees the truth.

    Args:
        train: landmarks of the training frames, px; NaN rows are never chosen.
        wanted: landmarks of the true frames, px.

    Returns:
        Indices into `train`; the Euclidean distance over all landmarks decides.

    Raises:
        NTalkerError: no training frame has landmarks, or a wanted one has none.
    """
    usable = np.flatnonzero(np.isfinite(train).all(axis=(1, 2)))
    if len(usable) == 0:
        raise NTalkerError("No training frame has landmarks: process the clip again.")
    missing = np.flatnonzero(~np.isfinite(wanted).all(axis=(1, 2)))
    if len(missing):
        raise NTalkerError(f"Held-out frame {missing[0]} has no landmarks: leave it out of the comparison.")
    known = train[usable].reshape(len(usable), -1).astype(np.float64)
    distances = [np.linalg.norm(known - frame.reshape(-1), axis=1) for frame in wanted]
    return usable[np.array([int(np.argmin(distance)) for distance in distances], np.int64)]


def mean_frame(images: Iterable[Float[np.ndarray, "h w 3"]]) -> Float32[np.ndarray, "h w 3"]:
    """The mean picture of the training frames, summed in double precision.

    Raises:
        NTalkerError: there are no frames.
    """
    total, count = None, 0
    for image in images:
        total = image.astype(np.float64) if total is None else total + image
        count += 1
    if total is None:
        raise NTalkerError("There are no training frames to average.")
    return (total / count).astype(np.float32)


def over_true_rest(
    prediction: Float[np.ndarray, "h w 3"], truth: Float[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    """The prediction where the true frame shows the head, the true frame elsewhere.

    Args:
        prediction: RGB in [0, 1].
        truth: RGB in [0, 1].
        labels: of the true frame.
    """
    return np.where((labels >= HEAD)[..., None], prediction, truth)
