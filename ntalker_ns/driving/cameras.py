"""The cameras of a driving sequence."""

import numpy as np
import torch
from jaxtyping import Int64
from nerfstudio.cameras.cameras import Cameras, CameraType

from ntalker_ns.data.images import fitted_size
from ntalker_ns.driving.sequence import DrivingSequence


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
