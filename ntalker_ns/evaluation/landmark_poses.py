"""Runs rendered with head poses from landmarks alone.

The data set's poses are refined by aligning the texture of every frame's face, held-out frames included. These poses
are those before that alignment.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.footage import Exact, Reference
from ntalker_ns.evaluation.heldout import render
from ntalker_ns.evaluation.options import Surroundings
from ntalker_ns.face import rotations

Poses = Float[np.ndarray, "n 3 4"]


def landmark_pose_entries(entries: list[Entry], surroundings: Surroundings) -> list[Entry]:
    """For each run another entry, rendered with poses by landmarks alone.

    Args:
        entries: runs and videos.
        surroundings: what the heads are composited over.
    """
    pictures = partial(landmark_pose_pictures, surroundings=surroundings)
    note = "poses by landmarks alone, without the alignment of the face's texture"
    return [
        replace(entry, name=f"{entry.name}, landmark poses", pictures=pictures, notes=(*entry.notes, note))
        for entry in entries
        if entry.is_run
    ]


def landmark_pose_pictures(pipeline: Any, truth: Reference, surroundings: Surroundings = "learned") -> Iterator[Exact]:
    """Pictures of the true frames, whose poses come from landmarks alone.

    Args:
        pipeline: a loaded `TalkerPipeline`.
        truth: the true frames.
        surroundings: what the head is composited over.

    Raises:
        NTalkerError: the data set does not have these poses.
    """
    clip = pipeline.datamanager.eval_dataset.require_clip()
    if clip.landmark_poses is None:
        raise NTalkerError(
            f"{clip.folder} has no landmark_poses.npy: --landmark-poses needs a data set made by this version's "
            "`ntalker process`."
        )
    driving = pipeline.model.driving
    learned_from = driving.track.is_train & clip.tracked
    poses = without_offset(clip.landmark_poses, driving.track.camera_to_worlds, learned_from)
    posed = replace(driving, track=replace(driving.track, camera_to_worlds=poses))
    cameras = sequence_cameras(posed, truth.indices, max(truth.size))
    for index in range(len(cameras)):
        yield render(pipeline, cameras[index : index + 1], surroundings)


def without_offset(poses: Poses, aligned: Poses, train: Bool[np.ndarray, " n"]) -> Poses:
    """Undoes the rigid movement of the world by which poses differ from the aligned ones on average over some frames.

    Both solves of a clip define the head's axes slightly differently, and the head was trained in those of `aligned`.

    Args:
        poses: OpenGL camera-to-world matrices.
        aligned: the same frames' poses in the axes of the world that is wanted.
        train: the frames that the offset is estimated from.

    Returns:
        Camera-to-world matrices in the axes of `aligned`, float32.
    """
    given, wanted = poses[train].astype(np.float64), aligned[train].astype(np.float64)
    turn = rotations.mean(wanted[:, :, :3] @ given[:, :, :3].transpose(0, 2, 1))
    shift = (wanted[:, :, 3] - given[:, :, 3] @ turn.T).mean(axis=0)
    moved = turn @ poses.astype(np.float64)
    moved[:, :, 3] += shift
    return moved.astype(np.float32)
