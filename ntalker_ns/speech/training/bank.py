"""A bank of (sound, landmarks) pairs of talking people, which the prior over speakers is learned from.

A file for each clip (`.npz`): `landmarks` (frames, 478, 3) of mediapipe's face mesh at 25 fps, up to scale; `valid`
(frames,), which of them were found; `sound` (samples,), int16 at 16 kHz, from the first frame on; `lag`, by how many
frames the mouth moves later than the sound.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import FOREHEAD_TOP, MESH, RIGID

_PLACE = {point: place for place, point in enumerate(RIGID.tolist())}
CROWN, NOSE_ROOT = _PLACE[FOREHEAD_TOP], _PLACE[168]
RIGHT_EYE, LEFT_EYE = _PLACE[133], _PLACE[362]


@dataclass(frozen=True)
class BankClip:
    """A clip of one speaker."""

    name: str
    landmarks: Float[np.ndarray, "frames 478 3"]
    valid: Bool[np.ndarray, " frames"]
    waveform: Float32[np.ndarray, " samples"]
    """Mono, 16 kHz."""
    lag: float
    """Frames by which the mouth moves later than the sound."""


def read_bank(folder: Path, leave_out: Collection[str] = ()) -> list[BankClip]:
    """Reads the clips of a bank, in the order of their names.

    Args:
        folder: of the clips.
        leave_out: names of clips that are not read.

    Raises:
        NTalkerError: there are none, one that is to be left out is not there, or one cannot be used.
    """
    paths = {path.stem: path for path in sorted(Path(folder).glob("*.npz"))}
    unknown = [name for name in leave_out if name not in paths]
    if unknown:
        raise NTalkerError(f"There is no clip {unknown[0]} in {folder} to leave out.")
    if not paths.keys() - set(leave_out):
        raise NTalkerError(f"There are no clips (*.npz) in {folder}: give the folder of a bank.")
    return [read_clip(path) for name, path in paths.items() if name not in leave_out]


def read_clip(path: Path) -> BankClip:
    """Reads a clip.

    Raises:
        NTalkerError: it is broken, empty, of other shapes, or not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            landmarks, valid = data["landmarks"].astype(np.float64), data["valid"].astype(bool)
            waveform, lag = data["sound"].astype(np.float32) / 32768.0, float(data["lag"])
            rate, fps = int(data["sr"]), float(data["fps"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise NTalkerError(f"{path} is no clip of a bank ({error}).") from error
    if landmarks.shape[1:] != (478, 3) or valid.shape != landmarks.shape[:1] or waveform.ndim != 1:
        raise NTalkerError(f"{path} has landmarks of shape {landmarks.shape}; they must be (frames, 478, 3).")
    if not valid.any() or not waveform.any():
        raise NTalkerError(f"{path} is empty: no frame with a face, or no sound.")
    if (rate, fps) != (16000, 25.0) or not np.isfinite(landmarks).all() or not np.isfinite(lag):
        raise NTalkerError(f"{path} must have sound at 16 kHz, 25 frames a second, and only finite numbers.")
    return BankClip(path.stem, landmarks, valid, waveform, lag)


def lip_displacements(clips: list[BankClip]) -> list[Float[np.ndarray, "frames points 2"]]:
    """How `MESH.lips` move in each clip, free of the head's pose: sideways and up, less the clip's mean, in units of
    the root mean square, over the clip, of all displacements' norm.

    Each frame's rigid landmarks are aligned to a common face by a similarity transform.
    """
    face = common_face([clip.landmarks[clip.valid][:, RIGID] for clip in clips])
    displacements = []
    for clip in clips:
        lips = clip.landmarks[:, list(MESH.lips)]
        moved = [align(points, frame[RIGID], face) for points, frame in zip(lips, clip.landmarks, strict=True)]
        places = np.stack(moved)[..., :2] * [1.0, -1.0]  # the picture's y is down
        displacement = places - places[clip.valid].mean(axis=0)
        size = np.sqrt(np.square(displacement[clip.valid]).sum(axis=(1, 2)).mean())
        displacements.append(displacement / size)
    return displacements


def common_face(clips: list[Float[np.ndarray, "frames rigid 3"]]) -> Float[np.ndarray, "rigid 3"]:
    """The mean face over clips (generalised Procrustes), upright, from the front, inner corners of the eyes 1 apart."""
    means = [_mean_face(clip[::5]) for clip in clips]
    face = _mean_face(np.stack(means))
    across = face[LEFT_EYE] - face[RIGHT_EYE]
    across /= np.linalg.norm(across)
    down = face[NOSE_ROOT] - face[CROWN]
    down -= (down @ across) * across
    down /= np.linalg.norm(down)
    turned = face @ np.stack([across, down, np.cross(across, down)], axis=1)
    return turned / np.linalg.norm(turned[LEFT_EYE] - turned[RIGHT_EYE])


def _mean_face(frames: Float[np.ndarray, "frames rigid 3"]) -> Float[np.ndarray, "rigid 3"]:
    face = frames[len(frames) // 2]
    for _ in range(4):
        face = np.mean([align(frame, frame, face) for frame in frames], axis=0)
    return face - face.mean(axis=0)


def align(
    points: Float[np.ndarray, "points 3"], source: Float[np.ndarray, "rigid 3"], target: Float[np.ndarray, "rigid 3"]
) -> Float[np.ndarray, "points 3"]:
    """Points under the similarity transform that brings `source` closest to `target` (Umeyama 1991)."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    from_mean, to_mean = source - source_mean, target - target_mean
    left, singular, right = np.linalg.svd(from_mean.T @ to_mean)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    scale = (singular * signs).sum() / np.square(from_mean).sum()
    return scale * (points - source_mean) @ (left * signs) @ right + target_mean
