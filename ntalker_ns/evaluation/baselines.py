"""Two baselines without audio: the nearest and the mean training frame."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.footage import TRUE_SURROUNDINGS, Exact, Reference, datasets
from ntalker_ns.media.pixels import from_uint8


def baseline_entries(source: Entry | None) -> list[Entry]:
    """Both baselines, each composited over the true torso and background.

    Args:
        source: the run whose training frames they are.

    Raises:
        NTalkerError: there is no run.
    """
    if source is None:
        raise NTalkerError("--baselines are made of a run's training frames: give --load-config.")
    makers = {"nearest": nearest_pictures, "mean": mean_pictures}
    return [Entry(name, source.path, pictures=maker, notes=(TRUE_SURROUNDINGS,)) for name, maker in makers.items()]


def nearest_pictures(pipeline: Any, truth: Reference) -> Iterator[Exact]:
    """For each true frame the head of the training frame with the nearest landmarks: an oracle."""
    train, held_out = datasets(pipeline, max(truth.size))
    landmarks = held_out.require_clip().landmarks
    chosen = nearest_frames(landmarks[train.frame_indices], landmarks[truth.indices])
    return _over_truth(truth, (_training_frame(train, int(index)) for index in chosen))


def mean_pictures(pipeline: Any, truth: Reference) -> Iterator[Exact]:
    """For each true frame the mean training frame where the head is."""
    train, _ = datasets(pipeline, max(truth.size))
    mean = mean_frame(_training_frame(train, i) for i in track(range(len(train)), "Mean training frame"))
    return _over_truth(truth, itertools.repeat(mean))


def _training_frame(train: Any, index: int) -> Exact:
    return from_uint8(train.get_numpy_image(index))


def _over_truth(truth: Reference, pictures: Iterable[Exact]) -> Iterator[Exact]:
    """The pictures where the true frames show the head, the true frames elsewhere."""
    for index, picture in zip(range(len(truth)), pictures, strict=False):
        exact = from_uint8(truth.frames[index])
        yield np.where(truth.masks(index)["head"][..., None], picture, exact)


def nearest_frames(
    train: Float[np.ndarray, "n 478 2"], wanted: Float[np.ndarray, "m 478 2"]
) -> Int64[np.ndarray, " m"]:
    """For each wanted frame, the training frame at the least Euclidean distance over all landmarks.

    Args:
        train: landmarks of the training frames, px; NaN rows are never chosen.
        wanted: landmarks of the true frames, px.

    Returns:
        Indices into `train`.

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
    """The mean picture, summed in double precision.

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
