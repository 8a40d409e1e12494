"""The bank of clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import MESH, RIGID
from ntalker_ns.speech.training.bank import BankClip, align, lip_displacements, read_bank, read_clip

FRAMES = 40


def write_clip(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    values: dict = {
        "landmarks": rng.normal(size=(FRAMES, 478, 3)).astype(np.float16),
        "valid": np.ones(FRAMES, bool),
        "sound": rng.integers(-9000, 9000, FRAMES * 640).astype(np.int16),
        "sr": 16000,
        "fps": 25.0,
        "lag": -1.5,
    }
    np.savez(path, **{name: value for name, value in (values | changes).items() if value is not None})
    return path


def test_clips_are_read_in_order_but_for_those_left_out(tmp_path: Path):
    for name in ("b", "a", "c"):
        write_clip(tmp_path / f"{name}.npz")
    assert [clip.name for clip in read_bank(tmp_path)] == ["a", "b", "c"]
    assert [clip.name for clip in read_bank(tmp_path, ["b"])] == ["a", "c"]
    assert read_clip(tmp_path / "a.npz").lag == -1.5
    with pytest.raises(NTalkerError, match="no clip z"):
        read_bank(tmp_path, ["z"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lag": None}, "is no clip of a bank"),
        ({"landmarks": np.zeros((FRAMES, 68, 3))}, "must be \\(frames, 478, 3\\)"),
        ({"landmarks": np.full((FRAMES, 478, 3), np.nan)}, "finite"),
        ({"valid": np.zeros(FRAMES, bool)}, "is empty"),
        ({"sound": np.zeros(FRAMES * 640, np.int16)}, "is empty"),
        ({"sr": 8000}, "16 kHz"),
    ],
)
def test_unusable_clips_are_named(tmp_path: Path, changes: dict, sentence: str):
    path = write_clip(tmp_path / "clip.npz", **changes)
    with pytest.raises(NTalkerError, match=sentence) as raised:
        read_clip(path)
    assert str(path) in str(raised.value)


def test_an_empty_folder_is_a_sentence(tmp_path: Path):
    with pytest.raises(NTalkerError, match="no clips"):
        read_bank(tmp_path)


def test_alignment_undoes_a_similarity_transform():
    rng = np.random.default_rng(3)
    face, points = rng.normal(size=(30, 3)), rng.normal(size=(10, 3))
    rotation, scale, shift = Rotation.from_euler("xyz", [0.4, -0.3, 1.2]).as_matrix(), 2.5, np.array([3.0, -1.0, 0.5])
    moved = [scale * each @ rotation.T + shift for each in (points, face)]
    np.testing.assert_allclose(align(moved[0], moved[1], face), points, atol=1e-9)


def test_displacements_do_not_know_the_heads_pose():
    rng = np.random.default_rng(4)
    face = rng.normal(size=(478, 3))
    opening = np.zeros((FRAMES, 478, 3))
    opening[:, 14, 1] = 0.3 * np.abs(np.sin(np.arange(FRAMES)))  # the lower inner lip, down in the picture
    still = face + opening
    turns = Rotation.from_euler("xyz", 0.3 * rng.normal(size=(FRAMES, 3))).as_matrix()
    turned = 150.0 * np.einsum("nij,npj->npi", turns, still) + 200.0 * rng.normal(size=(FRAMES, 1, 3))
    clips = [
        BankClip(name, landmarks, np.ones(FRAMES, bool), np.zeros(1, np.float32), 0.0)
        for name, landmarks in (("still", still), ("turned", turned))
    ]
    assert 14 not in RIGID
    first, second = lip_displacements(clips)
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.square(first).sum(axis=(1, 2)).mean() == pytest.approx(1.0)
    lower = first[:, MESH.lips.index(14)]
    assert np.linalg.norm(lower, axis=1).std() > 0.1
