"""Footage that is evaluated: the true frames, and takes of them by a run, a video or a baseline."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.capture.landmarks import face_points
from ntalker_ns.console import track
from ntalker_ns.data.regions import Masks, region_masks
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.frame_file import FrameFile
from ntalker_ns.evaluation.heldout import render
from ntalker_ns.evaluation.options import FrameOptions, Surroundings
from ntalker_ns.evaluation.peak_memory import PeakMemory
from ntalker_ns.media.frame_indices import longest_run
from ntalker_ns.media.pixels import from_uint8, to_uint8

Picture = UInt8[np.ndarray, "h w 3"]
Exact = Float32[np.ndarray, "h w 3"]
Judge = Callable[[int, Exact], None]
"""Is called with the index among the true frames and each picture of a take, in [0, 1] before rounding."""

ASPECT_TOLERANCE = 0.02
"""Fraction by which a video's aspect may differ from the true frames'."""
FRAMES_APART = 12
"""Frames that a video may have more or fewer than what it shows: encoders and other systems lose some at the ends."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
TRUE_SURROUNDINGS = "torso and background are the true frames'"
ENCODED = "its pictures come out of an encoded video, which loses a little: runs are scored on exact ones"
"""Notes."""


@dataclass(frozen=True)
class Reference:
    """The true frames."""

    name: str
    """Name in the report."""
    indices: Int64[np.ndarray, " n"]
    """Indices in the clip; consecutive."""
    of: int
    """Frames of the whole clip."""
    frames: FrameFile
    """The pictures, at the compared size."""
    points: Float[np.ndarray, "n 478 3"]
    """Landmarks (`face_points`), px at 512; NaN where no face was found."""
    masks: Callable[[int], Masks]
    """The regions of a frame by its index here, not in the clip; unknown regions are left out."""
    sound: Float32[np.ndarray, " samples"] | None
    """The frames' sound, mono, 16 kHz; None where the clip has none."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, px."""
        return self.frames.shape[1], self.frames.shape[0]


@dataclass(frozen=True)
class Speed:
    """Rendering time and memory."""

    seconds: tuple[float, ...]
    """Of each picture."""
    peak_gib: float
    """Most memory in use while rendering (GPU memory where there is a GPU, else the process's), GiB."""

    @property
    def fps(self) -> float:
        """Pictures per second without the first one, which may include compiling; NaN for a single picture."""
        later = self.seconds[1:]
        return len(later) / sum(later) if later else float("nan")


@dataclass
class Take:
    """One rendition of the true frames, or of the first of them."""

    name: str
    """Name in the report."""
    frames: FrameFile
    """The pictures, at the true frames' size."""
    points: Float[np.ndarray, "m 478 3"]
    """Landmarks (`face_points`), px at 512; NaN where no face was found."""
    sound: Float32[np.ndarray, " samples"] | None = None
    """The sound, mono, 16 kHz."""
    speed: Speed | None = None
    """None where the pictures were not rendered here."""
    source: str = ""
    """Where it comes from: a path, or a sentence."""
    captions: tuple[str, str] | None = None
    """Captions before and after an edit."""
    notes: list[str] = field(default_factory=list)
    """Caveats for the reader of the report."""

    def __len__(self) -> int:
        return len(self.frames)


def true_take(reference: Reference) -> Take:
    """The true frames as a take: what the figures that need no comparison are for a real recording."""
    return Take("true", reference.frames, reference.points, reference.sound, source=reference.name)


def run_reference(pipeline: Any, options: FrameOptions) -> Reference:
    """The true frames of a loaded run.

    Args:
        pipeline: a loaded `TalkerPipeline`.
        options: which frames, at which size.

    Raises:
        NTalkerError: the data set's frames are not there.
    """
    train, held_out = datasets(pipeline, options.image_size)
    clip = held_out.require_clip()
    places = {}
    for dataset in (train, held_out):
        places |= {int(frame): (dataset, order) for order, frame in enumerate(dataset.frame_indices)}
    which = options.frames
    shown = np.isin(np.arange(len(clip)), list(places) if which == "all" else held_out.frame_indices)
    # Motion cannot be judged over frames without a face.
    start, length = longest_run(shown)
    indices = start + np.arange(length)
    width, height = held_out.size
    frames = FrameFile(height, width)
    for index in track(indices, "True frames"):
        dataset, order = places[int(index)]
        frames.append(dataset.read_frame(order).image)

    def masks(place: int) -> Masks:
        dataset, order = places[int(indices[place])]
        frame = dataset.read_frame(order)
        return region_masks(frame.labels, frame.face_mask)

    points = face_points(track((clip.image(int(i)) for i in indices), "True faces", total=len(indices)))
    name = f"{clip.folder.name}, {which} frames {indices[0]} to {indices[-1]}"
    return Reference(name, indices, len(clip), frames, points, masks, _clip_sound(clip, indices))


def datasets(pipeline: Any, image_size: int | None) -> tuple[Any, Any]:
    """The training and the held-out frames of a loaded run (`TalkerDataset`).

    Args:
        pipeline: a loaded `TalkerPipeline`.
        image_size: longest side, px; None as in training.
    """
    both = pipeline.datamanager.train_dataset, pipeline.datamanager.eval_dataset
    return both if image_size is None else (both[0].at_size(image_size), both[1].at_size(image_size))


def _clip_sound(clip: Any, indices: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, " samples"] | None:
    from ntalker_ns.data.radnerf import RadNerfClip
    from ntalker_ns.media.sound import read_audio

    path = next((path for name in ("audio.wav", "aud.wav") if (path := clip.folder / name).is_file()), None)
    if path is None:
        return None
    start = int(clip.feature_rows[indices[0]]) if isinstance(clip, RadNerfClip) else int(indices[0])
    return _cut(read_audio(path), start, len(indices))


def _cut(sound: np.ndarray, first: int, count: int) -> Float32[np.ndarray, " samples"]:
    return sound[first * SAMPLES_PER_FRAME : (first + count) * SAMPLES_PER_FRAME]


def run_take(
    name: str, pipeline: Any, reference: Reference, source: str, judge: Judge, surroundings: Surroundings = "learned"
) -> Take:
    """Renders the true frames' cameras with a loaded run, each from its own place in the clip's audio.

    Args:
        name: in the report.
        pipeline: a loaded `TalkerPipeline` of the reference's clip.
        reference: the true frames.
        source: where the run lies.
        judge: is called with each picture.
        surroundings: what the head is composited over.
    """
    from ntalker_ns.driving.cameras import sequence_cameras

    driving = pipeline.model.driving
    cameras = sequence_cameras(driving, reference.indices, max(reference.size))
    seconds: list[float] = []
    peak = PeakMemory(gpu=pipeline.device.type == "cuda")
    pictures = _timed_pictures(pipeline, cameras, surroundings, seconds)
    take = kept_take(name, track(pictures, f"Rendering {name}", total=len(reference)), reference, judge)
    take.sound, take.source = reference.sound, source
    if surroundings == "clip":
        take.notes.append(TRUE_SURROUNDINGS)
    take.speed = Speed(tuple(seconds), peak.gib())
    return take


def _timed_pictures(pipeline: Any, cameras: Any, surroundings: Surroundings, seconds: list[float]) -> Iterator[Exact]:
    for index in range(len(cameras)):
        start = time.perf_counter()
        picture = render(pipeline, cameras[index : index + 1], surroundings)
        seconds.append(time.perf_counter() - start)
        yield picture


def video_reference(path: Path) -> Reference:
    """The frames of a video as the true ones, 25 a second. Regions come from landmarks; the head's is not known.

    Args:
        path: the video.

    Raises:
        NTalkerError: it cannot be read.
    """
    from ntalker_ns.media.video_reader import probe_video, read_frames

    info = probe_video(path)
    frames = FrameFile(info.height, info.width)
    for picture in track(read_frames(path), f"Reading {path.name}", total=info.frames):
        frames.append(picture)
    points = face_points(track(frames, "True faces"))
    scale = max(info.width, info.height) / 512.0

    def masks(place: int) -> Masks:
        from ntalker_ns.data.images import polygon_mask
        from ntalker_ns.face.mesh_indices import FACE_OVAL, OUTER_LIPS

        height, width = frames.shape[:2]
        found: Masks = {"full": np.ones((height, width), bool)}
        landmarks = points[place, :, :2] * scale
        if np.isfinite(landmarks).all():
            found["face"] = polygon_mask(landmarks[FACE_OVAL], (width, height))
            found["lips"] = polygon_mask(landmarks[OUTER_LIPS], (width, height))
        return found

    name = f"{path.name}, all {len(frames)} frames"
    indices = np.arange(len(frames), dtype=np.int64)
    return Reference(name, indices, len(frames), frames, points, masks, video_sound(path))


def video_sound(path: Path) -> Float32[np.ndarray, " samples"] | None:
    """A video's sound, mono, 16 kHz; None where it has none."""
    from ntalker_ns.media.sound import read_audio
    from ntalker_ns.media.video_reader import probe_video

    return read_audio(path) if probe_video(path).has_audio else None


def video_take(name: str, path: Path, reference: Reference, judge: Judge) -> Take:
    """A video of the true frames, by any system.

    It may show the true frames, or the whole clip that they are from, of which they are then taken; a few frames more
    or fewer are noted. Where the true frames are a video of another length, what both have is compared, from the start.

    Args:
        name: in the report.
        path: the video; any size of the same aspect, any frame rate.
        reference: the true frames.
        judge: is called with each picture.

    Raises:
        NTalkerError: it cannot be read, or has another aspect or another length.
    """
    from ntalker_ns.media.video_reader import probe_video, read_frames

    info = probe_video(path)
    width, height = reference.size
    if abs(info.width / info.height / (width / height) - 1.0) > ASPECT_TOLERANCE:
        raise NTalkerError(
            f"{path} is {info.width}x{info.height}, the true frames are {width}x{height}: give a video of that aspect."
        )
    pictures = FrameFile(height, width)
    for picture in track(read_frames(path), f"Reading {path.name}", total=info.frames):
        pictures.append(_fitted(picture, (width, height)))
    first, count, notes = _matching(len(pictures), reference, path)
    exact = (from_uint8(pictures[i]) for i in range(first, first + count))
    take = kept_take(name, track(exact, f"Comparing {path.name}", total=count), reference, judge)
    take.source, take.notes = str(path), [ENCODED, *notes]
    if (info.width, info.height) not in ((width, height), _padded((width, height))):
        take.notes.append(f"resized from {info.width}x{info.height}")
    sound = video_sound(path)
    if sound is None:
        take.notes.append("without sound: the true frames' sound is used")
    take.sound = _cut(reference.sound, 0, count) if sound is None and reference.sound is not None else sound
    if sound is not None:
        take.sound = _cut(sound, first, count)
    return take


def _matching(count: int, reference: Reference, path: Path) -> tuple[int, int, list[str]]:
    """(first frame, number of frames, notes): which frames of a video are the true ones."""
    excerpt, clip = (0, len(reference)), (int(reference.indices[0]), reference.of)
    first, length = min(excerpt, clip, key=lambda place: abs(count - place[1]))
    shared = min(count - first, len(reference))
    # Beside a whole video, what both have is compared, however much that is.
    near = abs(count - length) <= FRAMES_APART or excerpt == clip
    if not near or shared < 1:
        raise NTalkerError(
            f"{path} has {count} frames at {FPS} Hz, but there are {len(reference)} true frames to compare with, of a "
            f"clip of {reference.of}: give a video of either length."
        )
    if count == length:
        return first, shared, []
    return first, shared, [f"it has {count} frames and not {length}: the first {shared} true frames are compared"]


def kept_take(name: str, pictures: Iterable[Exact], reference: Reference, judge: Judge) -> Take:
    """Stores pictures, calls the judge with each, and finds their faces.

    Args:
        name: in the report.
        pictures: RGB in [0, 1], from the first true frame on.
        reference: the true frames.
        judge: is called with each picture.
    """
    width, height = reference.size
    frames = FrameFile(height, width)
    for place, picture in enumerate(pictures):
        judge(place, picture)
        frames.append(to_uint8(picture))
    return Take(name, frames, face_points(track(frames, f"Faces of {name}")))


def write_take(path: Path, take: Take) -> None:
    """Writes a take as an mp4 with its sound."""
    write_pictures(path, track(take.frames, f"Writing {path.name}"), take.sound)


def write_pictures(path: Path, pictures: Iterable[Picture], sound: Float32[np.ndarray, " samples"] | None) -> None:
    """Writes pictures at 25 Hz and their sound as an mp4.

    Args:
        path: where to.
        pictures: RGB.
        sound: mono, 16 kHz; None for none.
    """
    from ntalker_ns.media.sound import Sound
    from ntalker_ns.media.video_writer import write_video

    write_video(path, pictures, sound=None if sound is None else Sound.of_waveform(sound))


def _fitted(picture: Picture, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """A video's picture at the true frames' width and height."""
    width, height = size
    if picture.shape[1::-1] == _padded(size):
        return picture[:height, :width]
    method = cv2.INTER_AREA if picture.shape[1] > width else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def _padded(size: tuple[int, int]) -> tuple[int, int]:
    """The width and height that videos of pictures of a size have: even, with the last column or row twice."""
    width, height = size
    return width + width % 2, height + height % 2
