"""What one pass over the cropped frames observes: the person's landmarks and mattes."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.capture.crop import Person
from ntalker_ns.capture.dataset import DatasetWriter
from ntalker_ns.capture.landmarks import FaceMesh
from ntalker_ns.capture.matte import RESOLUTION, PersonMatte, smooth_in_time
from ntalker_ns.console import track as progress
from ntalker_ns.face.mesh_indices import NUM_POINTS
from ntalker_ns.media.video_reader import VideoInfo, read_frames

AHEAD = 8
"""Frames in flight between reading and the slower of the two networks."""


@dataclass(frozen=True)
class Observations:
    """Landmarks and mattes of all frames."""

    landmarks: Float[np.ndarray, "n 478 3"]
    """x and y in px and relative depth; NaN where the person's face was not found."""
    mattes: UInt8[np.ndarray, "n 256 256"]

    def matte(self, index: int) -> UInt8[np.ndarray, "256 256"]:
        """A frame's matte, without single-frame flicker."""
        if not 0 < index < len(self.mattes) - 1:
            return np.asarray(self.mattes[index])
        return smooth_in_time(np.asarray(self.mattes[index - 1 : index + 2]))[1]

    def bridged_landmarks(self) -> Float[np.ndarray, "n 478 2"]:
        """Landmarks in the picture with short gaps interpolated, for labels and boxes."""
        landmarks = self.landmarks[..., :2]
        found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
        if len(found) == len(landmarks):
            return landmarks
        at = np.clip(np.arange(len(landmarks)), found[0], found[-1])
        upper = np.searchsorted(found, at)
        lower = np.where(found[upper] == at, upper, np.maximum(upper - 1, 0))
        span = np.maximum(found[upper] - found[lower], 1)
        weight = ((at - found[lower]) / span)[:, None, None]
        return (1 - weight) * landmarks[found[lower]] + weight * landmarks[found[upper]]


@contextmanager
def matte_file(folder: Path, frames: int) -> Iterator[UInt8[np.ndarray, "n 256 256"]]:
    """A matte per frame in a temporary file of `folder`: those of minutes of film do not fit into memory."""
    path = folder / "mattes.npy"
    shape = (frames, RESOLUTION, RESOLUTION)
    try:
        with path.open("wb") as file:
            # Writing to a mapped file for which the disk has no room ends the program.
            os.posix_fallocate(file.fileno(), 0, frames * RESOLUTION**2)
        yield np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    finally:
        path.unlink(missing_ok=True)


def observe_frames(
    clip: VideoInfo, writer: DatasetWriter, person: Person, mattes: UInt8[np.ndarray, "n 256 256"]
) -> Observations:
    """One pass over the frames: stores them, finds landmarks and mattes. The two networks run side by side.

    Args:
        clip: the video; its frames are brought to the size it names.
        writer: stores the cropped frames.
        person: the crop, and where in it the face is expected.
        mattes: filled with the mattes.
    """
    landmarks = np.full((len(mattes), NUM_POINTS, 3), np.nan)
    pending: deque[tuple[int, Future, Future, Future]] = deque()

    def collect() -> None:
        index, points, matte, stored = pending.popleft()
        found = points.result()
        if found is not None:
            landmarks[index] = found
        mattes[index] = matte.result()
        stored.result()

    # One thread per network: each follows the frames in order.
    with (
        FaceMesh(person.crowded) as mesh,
        PersonMatte() as matting,
        ThreadPoolExecutor(1) as mesh_thread,
        ThreadPoolExecutor(1) as matte_thread,
    ):
        frames = read_frames(clip.path, size=(clip.width, clip.height))
        for index, frame in enumerate(progress(frames, "Landmarks and mattes", len(mattes))):
            image = person.crop(frame)
            points = mesh_thread.submit(mesh, image, person.centres[index])
            matte = matte_thread.submit(matting, image)
            pending.append((index, points, matte, matte_thread.submit(writer.write_image, index, image)))
            if len(pending) > AHEAD:
                collect()
        while pending:
            collect()
    return Observations(landmarks, mattes)
