"""Frames, headless frames and labels at training size, in one temporary file that is mapped into memory."""

import mmap
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

from ntalker_ns.console import track
from ntalker_ns.data.coverage import head_coverage
from ntalker_ns.data.head_removal import HEAD, dilate, dilation_of
from ntalker_ns.errors import NTalkerError

THREADS = 2
BYTES = 8
"""Bytes of a pixel in the store: image RGB, headless frame RGB, label, face mask and coverage. One load brings all of
it."""

RESIDENT_LIMIT = 256 << 20
"""Bytes up to which a store stays in the process's memory; a larger one stays in the system's file cache only."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame at training size."""

    image: UInt8[np.ndarray, "h w 3"]
    headless_frame: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]
    face_mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class FrameStore:
    """All frames of a split, for random access by pixel."""

    pixels: UInt64[np.ndarray, "n hw"]
    """A view of `memory`."""
    memory: mmap.mmap
    """Mapped from an unlinked temporary file, so nothing is left behind however the program ends."""
    head_spans: Int[np.ndarray, "n h 2"]
    """Per row the first and one past the last x of the dilated head mask; equal where it has none."""
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.pixels)

    def frame(self, index: int) -> Frame:
        """A whole frame."""
        values = self._bytes(index)
        image, headless_frame = (np.ascontiguousarray(values[..., i : i + 3]) for i in (0, 3))
        frame = Frame(image, headless_frame, values[..., 6].copy(), (values[..., 7] & 1).astype(bool))
        self.release(index)
        return frame

    def put(self, index: int, frame: Frame) -> None:
        """Stores a frame."""
        values = self._bytes(index)
        values[..., 0:3], values[..., 3:6] = frame.image, frame.headless_frame
        coverage = head_coverage(frame.image, frame.headless_frame, frame.labels)
        values[..., 6], values[..., 7] = frame.labels, frame.face_mask | np.rint(127 * coverage).astype(np.uint8) << 1
        self.head_spans[index] = row_spans(dilate(frame.labels >= HEAD, dilation_of(self.width)))
        self.release(index)

    def _bytes(self, index: int) -> UInt8[np.ndarray, "h w 8"]:
        return self.pixels[index].view(np.uint8).reshape(self.height, self.width, BYTES)

    def release(self, index: int) -> None:
        """Lets go of a frame's pages: what was written stays in the file, and the process stays small."""
        if len(self.memory) <= RESIDENT_LIMIT:
            return
        size = self.pixels[index].nbytes
        start = -(-index * size // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (index + 1) * size // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)


def build_store(read: Callable[[int], Frame], num_frames: int, size: tuple[int, int]) -> FrameStore:
    """Fills a store, under a progress bar.

    Args:
        read: gives a frame at training size.
        num_frames: how many there are.
        size: width and height in px.

    Raises:
        NTalkerError: there is no room for the temporary file, or a frame cannot be read.
    """
    width, height = size
    memory = _mapped_memory(num_frames * height * width * BYTES)
    store = FrameStore(
        pixels=np.frombuffer(memory, np.uint64).reshape(num_frames, height * width),
        memory=memory,
        head_spans=np.zeros((num_frames, height, 2), np.int32),
        height=height,
        width=width,
    )
    with ThreadPoolExecutor(THREADS) as threads:
        filled = threads.map(lambda index: store.put(index, read(index)), range(num_frames))
        for _ in track(filled, "Caching frames", total=num_frames):
            pass
    return store


def _mapped_memory(num_bytes: int) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(prefix="ntalker-frames-") as file:
            # Room is taken now: running out of it while writing to the map would end the program with SIGBUS.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)
    except OSError as error:
        raise NTalkerError(
            f"{tempfile.gettempdir()} has no room for {num_bytes / 1e9:.1f} GB of frames ({error.strerror}): set "
            "TMPDIR to a folder that has, or train at a smaller image size."
        ) from error


def row_spans(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h 2"]:
    """Per row the first and one past the last x of a mask; 0, 0 where it has none."""
    first = mask.argmax(axis=1)
    last = mask.shape[1] - mask[:, ::-1].argmax(axis=1)
    return np.where(mask.any(axis=1)[:, None], np.stack([first, last], axis=1), 0).astype(np.int32)
