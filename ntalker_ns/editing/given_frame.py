"""The frame that a user edits, and its description in the metadata of a PNG file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError

CHUNK = "ntalker-frame"
"""Keyword of the PNG text chunk."""
SLIGHTLY_OPEN = 0.35
"""The mouth opening of the frame to edit, between the 5th (0) and the 95th percentile (1) of the clip's."""
LEAST_SIZE = 16
"""Longest side, px."""
POSE_TOLERANCE = 1e-4
"""Difference of camera positions, world units, up to which two frames are the same."""


@dataclass(frozen=True)
class FrameDescription:
    """Camera, time and conditions of a rendered frame."""

    frame: int
    """Index in the driving sequence."""
    time: float
    """Position in the audio, 0 to 1."""
    camera_to_world: list[list[float]]
    """3 x 4, OpenGL axes."""
    intrinsics: dict[str, float]
    """fl_x, fl_y, cx, cy in px of the picture, and its width and height."""
    lip_shape: list[float]
    brow_shape: list[float]
    eye_openness: float
    mouth_opening: float
    """Inner-lip gap over face height, measured in the clip."""

    @classmethod
    def of(cls, sequence: DrivingSequence, frame: int, size: int | None) -> "FrameDescription":
        """Describes a frame.

        Args:
            sequence: drives the head.
            frame: index in it.
            size: longest side of the picture in px; None: the clip's.
        """
        from ntalker_ns.data.images import fitted_size

        track = sequence.track
        camera = sequence.camera.resized(fitted_size(sequence.camera.size, size, enlarge=True))
        names = ("fl_x", "fl_y", "cx", "cy", "width", "height")
        return cls(
            frame=frame,
            time=float(track.times[frame]),
            camera_to_world=track.camera_to_worlds[frame].astype(float).tolist(),
            intrinsics={name: float(getattr(camera, name)) for name in names},
            lip_shape=track.lip_shapes[frame].astype(float).tolist(),
            brow_shape=track.brow_shapes[frame].astype(float).tolist(),
            eye_openness=float(track.eye_openness[frame]),
            mouth_opening=float(np.nan_to_num(track.mouth_opening[frame])),
        )


def frame_to_edit(sequence: DrivingSequence) -> int:
    """A frame that shows as much of the face as possible: from the front, eyes open, mouth slightly open.

    Args:
        sequence: drives the head.
    """
    track = sequence.track
    # The face looks towards -y: from straight ahead the camera's z axis points there.
    backward = track.camera_to_worlds[:, :, 2]
    turned = np.degrees(np.arccos(np.clip(-backward[:, 1], -1.0, 1.0))) / 10.0
    opening = np.nan_to_num(track.mouth_opening)
    low, high = np.percentile(opening, [5, 95])
    open_mouth = np.abs((opening - low) / max(high - low, 1e-6) - SLIGHTLY_OPEN)
    closed_eyes = 1.0 - track.eye_openness / max(float(np.percentile(track.eye_openness, 90)), 1e-6)
    return int(np.argmin(turned + open_mouth + 3.0 * np.clip(closed_eyes, 0.0, None)))


def rendered_frame(model: Any, frame: int | None, size: int | None) -> tuple[int, UInt8[np.ndarray, "h w 3"]]:
    """A frame of a head as editors see it, and its index in the sequence that drives the head.

    Args:
        model: the head.
        frame: index; None: `frame_to_edit`.
        size: longest side, px; None: the clip's.

    Raises:
        NTalkerError: there is no such frame, or it would be too small.
    """
    from ntalker_ns.driving.cameras import sequence_cameras
    from ntalker_ns.media.pixels import to_uint8

    if size is not None and size < LEAST_SIZE:
        raise NTalkerError(f"--size {size} is too small: give at least {LEAST_SIZE} px.")
    sequence = model.driving
    index = frame_to_edit(sequence) if frame is None else frame
    if not 0 <= index < len(sequence):
        raise NTalkerError(f"There is no frame {index}: the clip has frames 0 to {len(sequence) - 1}.")
    outputs = model.get_outputs_for_camera(sequence_cameras(sequence, np.array([index]), size, enlarge=True))
    # Editors work on the field's own picture, which the refinement of an edited head follows.
    return index, to_uint8(outputs.get("field_rgb", outputs["rgb"]))


def write_frame(path: Path, picture: UInt8[np.ndarray, "h w 3"], description: FrameDescription) -> None:
    """Writes a frame as a PNG file with its description.

    Raises:
        NTalkerError: the ending is not .png, or it cannot be written.
    """
    from io import BytesIO

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from ntalker_ns.editing.store import write_whole

    if path.suffix.lower() != ".png":
        raise NTalkerError(f"{path} does not end in .png: the frame's camera and time are stored in a PNG file.")
    info = PngInfo()
    info.add_text(CHUNK, json.dumps(asdict(description)))
    encoded = BytesIO()
    Image.fromarray(picture).save(encoded, "png", pnginfo=info)
    write_whole(path, encoded.getvalue())


def read_description(path: Path) -> FrameDescription | None:
    """The description in a picture file; None: it has none, as after most picture editors."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            text: Any = image.info.get(CHUNK)
        return None if text is None else FrameDescription(**json.loads(text))
    except (OSError, UnidentifiedImageError, ValueError, TypeError):
        return None


def frame_of_picture(path: Path, number: int | None, sequence: DrivingSequence) -> int:
    """Which frame of a driving sequence a picture was made from.

    Args:
        path: of the picture.
        number: given by the user; None: not given.
        sequence: drives the head.

    Raises:
        NTalkerError: there is no such frame, or the picture is of another head.
    """
    if number is not None:
        if not 0 <= number < len(sequence):
            raise NTalkerError(f"There is no frame {number} among the {len(sequence)} that drive the head.")
        return number
    described = read_description(path)
    if described is None:
        return frame_to_edit(sequence)
    if not 0 <= described.frame < len(sequence) or not _same_pose(
        np.array(described.camera_to_world), sequence.track.camera_to_worlds[described.frame]
    ):
        raise NTalkerError(
            f"{path} was rendered from another head or with other audio: render a frame of this one with ntalker frame."
        )
    return described.frame


def _same_pose(one: Float[np.ndarray, "3 4"], other: Float[np.ndarray, "3 4"]) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < POSE_TOLERANCE)
