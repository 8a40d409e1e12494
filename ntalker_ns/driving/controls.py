"""User controls of a driving sequence: eye openness, head pose, smoothing of head motion.

Every control returns a new sequence; what it does not change (audio, times, lips) is kept. Head poses are
handled as the head's own in the camera's axes, x = R y + t for a head point y: that is what a person moves.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from ntalker_ns.audio.clock import mirrored_replay
from ntalker_ns.data.readers import is_clip, read_clip
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face import rotations

SWAY = 0.5
"""Size of a swaying head's motion, over that of the clip's own."""
SWAY_SECONDS = 0.8
"""Standard deviation of the Gaussian that smooths noise into sway: a nod or a turn takes about three of them."""

SMOOTHEST = 1000
"""Most frames that motion is smoothed over: a head is still long before, and the Gaussian takes memory."""

BLINK_INTERVAL = (2.0, 6.0)
"""Shortest and longest time between the starts of two blinks in s; people who talk blink every four."""
BLINK_DURATION = (0.2, 0.4)
"""Shortest and longest blink in s."""
CLOSING_SHARE = 0.35
"""Part of a blink in which the lids go down: they fall faster than they rise."""


def controlled(
    sequence: DrivingSequence,
    clip: DrivingSequence,
    eyes: str = "replay",
    pose: str = "replay",
    smooth: float = 0.0,
    seed: int = 0,
) -> DrivingSequence:
    """Applies the options of a command.

    Args:
        sequence: what drives the head.
        clip: the head's own sequence, for how it is held and moves.
        eyes: `replay`, `blink`, or an openness from 0 to 1.
        pose: `replay`, `still`, `sway`, or a data set (its folder or its transforms.json) whose head motion is taken.
        smooth: standard deviation in frames of a Gaussian over the head's motion; 0: none.
        seed: of blinks and sway.

    Raises:
        NTalkerError: an option cannot be understood.
    """
    check_controls(eyes, pose, smooth, seed)
    if pose == "still":
        sequence = with_motion(sequence, clip, np.zeros((1, 6)))
    elif pose == "sway":
        sequence = with_motion(sequence, clip, sway(clip, len(sequence), seed))
    elif pose != "replay":
        sequence = with_motion(sequence, clip, motion_of_data(Path(pose)))
    if smooth > 0:
        sequence = smoothed(sequence, smooth)
    if eyes == "blink":
        return with_eyes(sequence, blinks(len(sequence), sequence.fps, usual_openness(clip), seed))
    return sequence if eyes == "replay" else with_eyes(sequence, float(eyes))


def check_controls(eyes: str, pose: str, smooth: float, seed: int) -> None:
    """Checks the options of `controlled`.

    Raises:
        NTalkerError: one of them cannot be understood.
    """
    if eyes not in ("replay", "blink"):
        try:
            openness = float(eyes)
        except ValueError:
            openness = -1.0
        if not 0.0 <= openness <= 1.0:
            raise NTalkerError(f"--eyes {eyes} is not possible; give replay, blink, or a number from 0 (closed) to 1.")
    if pose not in ("replay", "still", "sway") and not is_clip(_data_set(Path(pose))):
        raise NTalkerError(f"--pose {pose} is not possible; give replay, still, sway, or the folder of a data set.")
    if not 0.0 <= smooth <= SMOOTHEST:
        raise NTalkerError(f"--smooth {smooth:g} is not possible; give a number of frames from 0 to {SMOOTHEST}.")
    if seed < 0:
        raise NTalkerError(f"--seed {seed} is not possible; give 0 or more.")


def _data_set(path: Path) -> Path:
    return path.parent if path.is_file() else path


def with_eyes(sequence: DrivingSequence, openness: float | Float[np.ndarray, " n"]) -> DrivingSequence:
    """The sequence with other eyes.

    Args:
        sequence: what drives the head.
        openness: 0 (closed) to 1, one for all frames or one a frame.
    """
    eyes = np.broadcast_to(np.asarray(openness, np.float32), len(sequence))
    return sequence.with_track(eye_openness=np.clip(eyes, 0.0, 1.0))


def usual_openness(clip: DrivingSequence) -> float:
    """How open the eyes are in the clip's training frames between blinks (the median)."""
    openness, is_train = clip.track.eye_openness, clip.track.is_train
    return float(np.median(openness[is_train] if is_train.any() else openness))


def blinks(count: int, fps: float, openness: float, seed: int) -> Float[np.ndarray, " count"]:
    """Eyes that blink now and then.

    Args:
        count: frames.
        fps: frames per second.
        openness: between blinks.
        seed: draws when and how long; the same seed gives the same blinks, whatever the length.

    Returns:
        Openness of each frame: `openness`, but 0 at the middle of each blink.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(count) / fps
    closed = np.zeros(count)
    start = rng.uniform(0.5, BLINK_INTERVAL[1] - BLINK_INTERVAL[0])
    while start < count / fps:
        duration = rng.uniform(*BLINK_DURATION)
        closed = np.maximum(closed, blink_shape((time - start) / duration))
        shortest, longest = BLINK_INTERVAL
        start += min(shortest + rng.exponential(0.4 * (longest - shortest)), longest)
    return (openness * (1.0 - closed)).astype(np.float32)


def blink_shape(phase: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """How far the lids are down, 0 to 1, at a phase of 0 to 1 through a blink; 0 outside of it."""
    falling = phase / CLOSING_SHARE
    rising = (1.0 - phase) / (1.0 - CLOSING_SHARE)
    height = np.clip(np.minimum(falling, rising), 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * height)


def head_poses(
    camera_to_worlds: Float[np.ndarray, "n 3 4"],
) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 3"]]:
    """Rotations and places of the head in the camera's axes (OpenGL), float64."""
    turned = np.swapaxes(camera_to_worlds[:, :, :3], 1, 2).astype(np.float64)
    return turned, -np.einsum("nij,nj->ni", turned, camera_to_worlds[:, :, 3])


def cameras_of_heads(
    turned: Float[np.ndarray, "n 3 3"], places: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3 4"]:
    """Camera-to-world matrices under which a head has these poses: the inverse of `head_poses`, float32."""
    back = np.swapaxes(turned, 1, 2)
    position = -np.einsum("nij,nj->ni", back, places)
    return np.concatenate([back, position[:, :, None]], axis=2).astype(np.float32)


def motion_about_mean(camera_to_worlds: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, "n 6"]:
    """Head motion without the pose it is about.

    Returns:
        Rotation vector away from the mean orientation (radians) and way from the mean place (world units), both in
        camera axes.
    """
    turned, places = head_poses(camera_to_worlds)
    middle = rotations.mean(turned)
    return np.concatenate([rotations.log(turned @ middle.T), places - places.mean(axis=0)], axis=1)


def rest_frame(clip: DrivingSequence) -> int:
    """The training frame whose head pose is nearest to the clip's mean, in standard deviations."""
    trained = clip.track.is_train & clip.clip_is_train[clip.track.replay]
    frames = np.flatnonzero(trained) if trained.any() else np.arange(len(clip))
    motion = motion_about_mean(clip.track.camera_to_worlds[frames])
    return int(frames[np.square(motion / (motion.std(axis=0) + 1e-6)).sum(axis=1).argmin()])


def with_motion(sequence: DrivingSequence, clip: DrivingSequence, motion: Float[np.ndarray, "m 6"]) -> DrivingSequence:
    """A head that moves like this about the way it rests in its clip, played back and forth.

    Torso, background, brows and boxes are those of the frame at rest; the torso still follows the head.

    Args:
        sequence: what drives the head.
        clip: the head's own sequence.
        motion: as `motion_about_mean` gives it; a single row of zeros holds the head still.
    """
    rest = rest_frame(clip)
    turned, places = head_poses(clip.track.camera_to_worlds[rest : rest + 1])
    moved = motion[mirrored_replay(len(sequence), len(motion))]
    cameras = cameras_of_heads(rotations.exp(moved[:, :3]) @ turned, places + moved[:, 3:])
    shown: Int64[np.ndarray, " n"] = np.full(len(sequence), rest, np.int64)
    held = clip.track.take(shown)
    return sequence.with_track(
        camera_to_worlds=cameras,
        replay=held.replay,
        brow_shapes=held.brow_shapes,
        is_train=held.is_train,
        face_boxes=held.face_boxes,
        lip_boxes=held.lip_boxes,
    )


def sway(clip: DrivingSequence, count: int, seed: int) -> Float[np.ndarray, "count 6"]:
    """Small natural motion: smooth noise with the covariance of the clip's own head motion.

    A head turns, nods and leans together in the way its owner does; drawn from the clip's covariance, it stays among
    poses that training has seen, and the torso can follow.

    Args:
        clip: the head's own sequence.
        count: frames.
        seed: of the noise.

    Returns:
        As `motion_about_mean`, with `SWAY` times the clip's standard deviations.
    """
    from scipy.ndimage import gaussian_filter1d

    poses, is_train = clip.track.camera_to_worlds, clip.track.is_train
    own = motion_about_mean(poses[is_train] if is_train.any() else poses)
    values, vectors = np.linalg.eigh(own.T @ own / len(own))
    width = SWAY_SECONDS * clip.fps
    # The noise is longer than the sequence, so that its ends are as lively as its middle.
    border = int(np.ceil(4 * width))
    noise = np.random.default_rng(seed).normal(size=(count + 2 * border, 6))
    smooth = gaussian_filter1d(noise, width, axis=0, truncate=4.0)[border : border + count]
    # Smoothing white noise by a Gaussian leaves a variance of 1 / (2 width sqrt(pi)).
    smooth *= np.sqrt(2.0 * width * np.sqrt(np.pi))
    bounded = 2.0 * np.tanh(smooth / 2.0)
    return SWAY * (bounded * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def motion_of_data(path: Path) -> Float[np.ndarray, "m 6"]:
    """The head motion of a data set, ours or one of AD-NeRF, RAD-NeRF or ER-NeRF.

    Lengths need no conversion: heads have one size in all data sets.

    Args:
        path: its folder, or its transforms file.

    Raises:
        NTalkerError: there is no such data set.
    """
    return motion_about_mean(read_clip(_data_set(path)).camera_to_worlds)


def smoothed(sequence: DrivingSequence, frames: float) -> DrivingSequence:
    """The sequence with smoothed head motion.

    Args:
        sequence: what drives the head.
        frames: standard deviation of a Gaussian over time; rotations are averaged as matrices and put back on the
            nearest rotation. The ends are held.
    """
    from scipy.ndimage import gaussian_filter1d

    turned, places = head_poses(sequence.track.camera_to_worlds)
    smoothed = rotations.nearest(gaussian_filter1d(turned, frames, axis=0, mode="nearest"))
    places = gaussian_filter1d(places, frames, axis=0, mode="nearest")
    return sequence.with_track(camera_to_worlds=cameras_of_heads(smoothed, places))
