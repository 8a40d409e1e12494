"""Cameras along a driving sequence: the clip's own, and those of a nerfstudio camera path."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from nerfstudio.cameras.cameras import Cameras, CameraType

from ntalker_ns.audio.clock import frames_of_times, times_of_frames
from ntalker_ns.data.images import fitted_size
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError, in_words


def sequence_cameras(
    sequence: DrivingSequence,
    frames: Int64[np.ndarray, " m"] | None = None,
    size: int | None = None,
    enlarge: bool = False,
) -> Cameras:
    """The clip's own camera at frames of a driving sequence; their times are the frames' positions in the audio.

    Args:
        sequence: poses, intrinsics and times.
        frames: of the sequence; None for all.
        size: longest side of the pictures in px; None for the clip's own.
        enlarge: whether pictures may be larger than the clip's.
    """
    track = sequence.track if frames is None else sequence.track.take(frames)
    camera = sequence.camera.resized(fitted_size(sequence.camera.size, size, enlarge))
    return Cameras(
        camera_to_worlds=torch.from_numpy(track.camera_to_worlds).float(),
        fx=float(camera.fl_x),
        fy=float(camera.fl_y),
        cx=float(camera.cx),
        cy=float(camera.cy),
        width=camera.width,
        height=camera.height,
        camera_type=CameraType.PERSPECTIVE,
        times=torch.from_numpy(track.times).float()[:, None],
    )


@dataclass(frozen=True)
class Shot:
    """Cameras with times and a frame rate."""

    cameras: Cameras
    """One per frame."""
    fps: float
    """Frames per second."""
    in_time: bool
    """Whether the times advance from 0 at the pace of the audio, so that its sound fits the frames."""


def path_shot(path: Path, sequence: DrivingSequence, size: int | None = None) -> Shot:
    """A nerfstudio camera path along a driving sequence.

    Cameras with a `render_time` show that time of the audio. Without, the frames advance at the pace of the audio until
    it ends; a path that ends earlier holds its last camera.

    Args:
        path: the JSON file that the viewer saves.
        sequence: what drives the head.
        size: longest side of the pictures in px; None for the path's own.

    Raises:
        NTalkerError: the file is no camera path.
    """
    from nerfstudio.cameras.camera_paths import get_path_from_json

    try:
        description = json.loads(path.read_text())
        if not description["camera_path"]:
            raise ValueError("it has no cameras")
        cameras = get_path_from_json(description)
        fps = float(description.get("fps", sequence.fps))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise NTalkerError(f"'{path}' is not a nerfstudio camera path ({in_words(error)}).") from error
    sides = torch.cat([cameras.width, cameras.height])
    if sides.min() < 1 or not 0.0 < fps < float("inf"):
        raise NTalkerError(f"'{path}' needs a render_width, a render_height and an fps above 0: save the path again.")
    if cameras.times is not None and not bool(torch.isfinite(cameras.times).all()):
        bad = int((~torch.isfinite(cameras.times.flatten())).nonzero()[0])
        raise NTalkerError(f"'{path}' has a render_time that is no number, at camera {bad}: save the path again.")
    if not bool(torch.isfinite(torch.cat([cameras.camera_to_worlds.flatten(), cameras.fx.flatten()])).all()):
        raise NTalkerError(f"'{path}' has a pose or a field of view that is no number: save the path again.")
    if size is not None:
        cameras.rescale_output_resolution(size / int(sides.max()))
    if cameras.times is None:
        count = max(1, round(len(sequence) / sequence.fps * fps))
        cameras = cameras[torch.arange(count).clamp(max=len(cameras) - 1)]
        times = times_of_frames(torch.arange(count) / fps * sequence.fps, len(sequence))
        cameras.times = times.clamp(max=1.0)[:, None]
        return Shot(cameras, fps, in_time=True)
    frames = frames_of_times(cameras.times.flatten(), len(sequence))
    pace = torch.arange(len(frames)) / fps * sequence.fps
    return Shot(cameras, fps, in_time=bool((frames - pace).abs().max() <= 1.0))
