"""Runs rendered with the poses of landmarks alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.synthetic_clip import poses
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns import runs
from ntalker_ns.data.readers import read_clip
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.evaluate import evaluate
from ntalker_ns.evaluation.landmark_poses import landmark_pose_entries, without_offset
from ntalker_ns.evaluation.options import MetricOptions


def moved(camera_to_worlds: np.ndarray, turn: Rotation, shift: np.ndarray) -> np.ndarray:
    """The poses in a world that was turned, then shifted."""
    rotation = turn.as_matrix() @ camera_to_worlds[:, :, :3]
    place = camera_to_worlds[:, :, 3] @ turn.as_matrix().T + shift
    return np.concatenate([rotation, place[..., None]], axis=-1)


@given(st.integers(0, 1000), st.floats(0, 2.0), st.floats(0, 1.0))
def test_a_movement_of_the_world_is_undone_from_the_training_frames(seed: int, angle: float, distance: float):
    rng = np.random.default_rng(seed)
    aligned = poses(20)[:, :3].astype(np.float32)
    axis = rng.normal(size=3)
    turn, shift = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)), distance * rng.normal(size=3)
    given_poses = moved(aligned, turn, shift).astype(np.float32)
    train = np.arange(20) < 15
    given_poses[~train, :, 3] += rng.normal(size=3)  # What is held out may not tell where the head is.
    found = without_offset(given_poses, aligned, train)
    np.testing.assert_allclose(found[train], aligned[train], atol=2e-5)
    np.testing.assert_allclose(
        found[~train], moved(given_poses, turn.inv(), -turn.inv().apply(shift))[~train], atol=2e-5
    )


def test_videos_have_no_poses():
    run, video = Entry("head", Path("run/config.yml")), Entry("other", Path("other.mp4"))
    (posed,) = landmark_pose_entries([run, video], "clip")
    assert posed.name == "head, landmark poses" and posed.path == run.path
    assert any("landmarks alone" in note for note in posed.notes)


def test_the_poses_are_those_of_the_data_set_without_the_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Whether a detector takes a ball for a face is not what is tested here.
    monkeypatch.setattr(
        "ntalker_ns.evaluation.footage.face_points", lambda all: np.full((len(list(all)), 478, 3), np.nan)
    )
    data = write_tiny_clip(tmp_path / "ball", 66)
    entry = Entry("head", runs.train_config(tiny_config(data, tmp_path / "outputs")))
    with pytest.raises(NTalkerError, match=r"no landmark_poses\.npy"):
        evaluate([entry], MetricOptions(), landmark_poses=True)
    aligned = read_clip(data).camera_to_worlds
    elsewhere = moved(aligned, Rotation.from_rotvec([0.1, -0.2, 0.05]), np.array([0.1, 0.2, -0.1]))
    np.save(data / "landmark_poses.npy", elsewhere)
    same = evaluate([entry], MetricOptions(), landmark_poses=True)
    assert [row.take.name for row in same.rows] == ["true", "head", "head, landmark poses"]
    head, posed = (row.scores.values for row in same.rows[1:])
    assert posed["psnr"] == pytest.approx(head["psnr"], abs=1e-3)
    elsewhere[60:, :, 3] += [0.3, 0.0, 0.0]
    np.save(data / "landmark_poses.npy", elsewhere)
    wrong = evaluate([entry], MetricOptions(), landmark_poses=True).row("head, landmark poses").scores.values
    assert wrong["psnr"] < head["psnr"] - 0.05
