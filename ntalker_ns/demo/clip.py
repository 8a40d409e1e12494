"""Films the made-up head: a video with sound whose poses, mouth openings and blinks are known."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from ntalker_ns.demo.motion import Motion, make_motion
from ntalker_ns.demo.photograph import CROP_LEFT, CROP_SIDE, CROP_TOP, HEAD_WIDTH, Portrait, load_portrait
from ntalker_ns.demo.speech import TRAINING_TEXT, speech_of_length
from ntalker_ns.media.pixels import to_uint8

FPS = 25.0
CAMERA_DISTANCE = 660.0
"""From the lens to the cheeks in photograph px, so also the focal length: about 0.7 m for a head of this width."""
_NECK = np.array([227.0, 165.0, 40.0])
"""What the head turns about, photograph px."""
_SUPERSAMPLING = 2
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class ClipTruth:
    """What is true of a made-up clip, per frame.

    Attributes:
        poses: (n, 4, 4) camera-to-world in the head's frame, in head widths: OpenGL camera axes (x right, y up, z
            back); world z towards the crown, the face looks towards -y.
        mouth_opening: (n,) gap between the inner lips over the face's height; 0 is closed.
        blink: (n,) 0 open, 1 closed.
        focal_length: px.
        fps: frames a second.
    """

    poses: Float[np.ndarray, "n 4 4"]
    mouth_opening: Float[np.ndarray, "n"]
    blink: Float[np.ndarray, "n"]
    focal_length: float
    fps: float


def make_clip(path: Path, seconds: float, size: int = 320, seed: int = 0, text: str = TRAINING_TEXT) -> ClipTruth:
    """Makes a talking clip with sound.

    Args:
        path: the mp4 to write; a wav of its speech is written beside it.
        seconds: the clip's duration, s.
        size: side of the square picture, px, even.
        seed: draws head motion and blinks.
        text: what is said, from its start and again where it ends.

    Returns:
        The true pose, mouth opening and blink of each frame.
    """
    from ntalker_ns.console import track
    from ntalker_ns.media.sound import read_sound, write_wav
    from ntalker_ns.media.video_writer import write_video

    waveform, sample_rate = speech_of_length(text, seconds)
    frames = round(seconds * FPS)
    motion = make_motion(waveform, sample_rate, frames, FPS, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = path.with_suffix(".wav")
    write_wav(wav, waveform, sample_rate)
    portrait = load_portrait()
    pictures = (draw_frame(portrait, motion, i, size) for i in track(range(frames), "Making a clip"))
    write_video(path, pictures, FPS, read_sound(wav))
    poses = np.stack([_camera_to_world(*_head_motion(motion, i)) for i in range(frames)])
    return ClipTruth(poses, motion.mouth_opening, motion.blink, CAMERA_DISTANCE * size / CROP_SIDE, FPS)


def draw_frame(portrait: Portrait, motion: Motion, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Draws one frame: the deformed and turned head over the still backdrop and shoulders.

    Args:
        portrait: the head and its backdrop.
        motion: what moves.
        index: the frame.
        size: side of the picture, px.
    """
    head = draw_head(portrait, motion, index, size)
    still = cv2.resize(portrait.still, (size, size), interpolation=cv2.INTER_CUBIC)
    return to_uint8(head[..., :3] + still * (1.0 - head[..., 3:]))


def draw_head(portrait: Portrait, motion: Motion, index: int, size: int) -> Float32[np.ndarray, "size size 4"]:
    """The head of a frame alone: RGB multiplied by opacity, and opacity, in [0, 1]; see `draw_frame`."""
    mesh = portrait.mesh
    gap = (motion.mouth_opening[index] - portrait.rest_opening) * portrait.face_height
    vertices = mesh.vertices + gap * mesh.jaw + motion.blink[index] * mesh.lids
    rotation, shift = _head_motion(motion, index)
    in_camera = (_to_camera(vertices) - _to_camera(_NECK)) @ rotation.T + _to_camera(_NECK) + shift
    scale = _SUPERSAMPLING * size / CROP_SIDE
    middle = np.array([CROP_LEFT, CROP_TOP]) + CROP_SIDE / 2
    pixels = (in_camera[:, :2] / in_camera[:, 2:] * CAMERA_DISTANCE + middle - [CROP_LEFT, CROP_TOP]) * scale
    order = np.argsort(-in_camera[mesh.triangles, 2].mean(axis=1)[mesh.behind :]) + mesh.behind
    order = np.concatenate([np.arange(mesh.behind), order])
    head = _paint(portrait, pixels, mesh.triangles[order], size * _SUPERSAMPLING)
    return cv2.resize(head, (size, size), interpolation=cv2.INTER_AREA)


def _to_camera(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Photograph px and depth to camera axes (x right, y down, z away), so that the photograph is the view at rest."""
    middle = np.array([CROP_LEFT + CROP_SIDE / 2, CROP_TOP + CROP_SIDE / 2])
    z = CAMERA_DISTANCE + points[..., 2:]
    return np.concatenate([(points[..., :2] - middle) * z / CAMERA_DISTANCE, z], axis=-1)


def _head_motion(motion: Motion, index: int) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The head's rotation about the neck and its shift in photograph px, in camera axes."""
    rotation, _ = cv2.Rodrigues(motion.angles[index])
    return rotation, motion.shifts[index] * HEAD_WIDTH


def _camera_to_world(rotation: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The camera seen from the head, which stands still at its neck."""
    # Camera axes at rest (x right, y down, z away) to world axes (x right, y away from the face, z up).
    to_world = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    opengl = np.diag([1.0, -1.0, -1.0])
    pose = np.eye(4)
    pose[:3, :3] = to_world @ rotation.T @ opengl
    pose[:3, 3] = to_world @ rotation.T @ -(_to_camera(_NECK) + shift) / HEAD_WIDTH
    return pose


def _paint(
    portrait: Portrait, pixels: Float[np.ndarray, "v 2"], triangles: np.ndarray, size: int
) -> Float[np.ndarray, "size size 4"]:
    """Paints textured triangles, far ones first; colours are multiplied by coverage."""
    index = np.zeros((size, size), np.float32)
    corners = np.round((pixels[triangles] - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    for number, corner in enumerate(corners, start=1):
        cv2.fillConvexPoly(index, corner, (float(number),), lineType=cv2.LINE_8, shift=_SUBPIXEL_BITS)
    rows, columns = np.nonzero(index)
    painted = index[rows, columns].astype(np.int32) - 1
    to_texture = _affine_maps(pixels[triangles], portrait.mesh.texture[triangles])[painted]
    place = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1).astype(np.float32)
    texture = np.einsum("nij,nj->ni", to_texture, place) - 0.5
    colours = _sample(portrait.atlas, texture)
    picture = np.zeros((size, size, 4), np.float32)
    picture[rows, columns] = np.concatenate([colours[:, :3] * colours[:, 3:], colours[:, 3:]], axis=1)
    return picture


def _affine_maps(pixels: Float[np.ndarray, "t 3 2"], texture: Float[np.ndarray, "t 3 2"]) -> Float[np.ndarray, "t 2 3"]:
    """Per triangle, the affine map from picture to texture; triangles seen edge-on get the nearest that exists."""
    corners = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2)
    return np.einsum("tik,tkj->tji", np.linalg.pinv(corners), texture).astype(np.float32)


def _sample(atlas: Float[np.ndarray, "h w 4"], places: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 4"]:
    """Bicubic colours of the atlas; remap takes pictures under 32,768 px a side, so the places are folded into rows."""
    rows = -(-len(places) // 4096)
    padded = np.zeros((rows * 4096, 2), np.float32)
    padded[: len(places)] = places
    sampled = cv2.remap(atlas, padded.reshape(rows, 4096, 2), None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.clip(sampled.reshape(-1, 4)[: len(places)], 0.0, 1.0)
