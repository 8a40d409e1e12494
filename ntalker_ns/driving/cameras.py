"""TODO ntalker_ns.driving.cameras."""

import numpy as np
import torch
from jaxtyping import Int64
from nerfstudio.cameras.cameras import Cameras, CameraType

from ntalker_ns.data.images import fitted_size
from ntalker_ns.driving.sequence import DrivingSequence


def sequence_cameras(sequence: "DrivingSequence", size: int | None = None) -> "Cameras":
    """The clip's own camera at every frame of a driving sequence.

    Args:
        sequence: poses, intrinsics and times.
        size: longest side of the pictures in px; None for the clip's own.
    """
    import torch
    from nerfstudio.cameras.cameras import Cameras, CameraType

    scale = 1.0 if size is None else size / max(sequence.width, sequence.height)
    width, height = max(1, round(sequence.width * scale)), max(1, round(sequence.height * scale))
    wide, high = width / sequence.width, height / sequence.height
    return Cameras(
        camera_to_worlds=torch.from_numpy(sequence.camera_to_worlds).float(),
        fx=float(sequence.fl_x * wide),
        fy=float(sequence.fl_y * high),
        cx=float(sequence.cx * wide),
        cy=float(sequence.cy * high),
        width=width,
        height=height,
        camera_type=CameraType.PERSPECTIVE,
        times=torch.from_numpy(sequence.times).float()[:, None],
    )


def cameras_of(driving: DrivingSequence, frames: Int64[np.ndarray, " m"], image_size: int | None) -> Cameras:
    """The cameras of some frames of a driving sequence, at a longest side in px.

    Times are the frames' places in the audio.
    """
    width, height = fitted_size((driving.width, driving.height), image_size)
    scale_x, scale_y = width / driving.width, height / driving.height
    return Cameras(
        camera_to_worlds=torch.from_numpy(driving.camera_to_worlds[frames]),
        fx=float(driving.fl_x * scale_x),
        fy=float(driving.fl_y * scale_y),
        cx=float(driving.cx * scale_x),
        cy=float(driving.cy * scale_y),
        width=width,
        height=height,
        camera_type=CameraType.PERSPECTIVE,
        times=torch.from_numpy(driving.times[frames])[:, None],
    )
