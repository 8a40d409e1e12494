"""The torso field: what a head pose is, how motion enters, and that a torso that moves with the head is found."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ntalker_ns.driving.controls import cameras_of_heads
from ntalker_ns.field.torso_field import MEMORY, TorsoField, TorsoFieldConfig, displacements, pose_features
from ntalker_ns.kernels.ops import Ops

FRAMES = 12


def heads(seed: int = 0, count: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors and places of heads in the camera's axes."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.1, (count, 3)), np.array([0.1, -0.2, -4.0]) + rng.normal(0.0, 0.2, (count, 3))


def cameras(vectors: np.ndarray, places: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(cameras_of_heads(Rotation.from_rotvec(vectors).as_matrix(), places))


def tiny_field(trained: torch.Tensor | None = None, **sizes) -> TorsoField:
    torch.manual_seed(0)
    trained = torch.ones(FRAMES, dtype=torch.bool) if trained is None else trained
    config = TorsoFieldConfig(num_levels=4, max_resolution=64, log2_hashmap_size=10, **sizes)
    return TorsoField(config, cameras(*heads()), trained, Ops("cpu", "reference"))


def test_pose_features_by_hand():
    vectors = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, -0.2]])
    places = np.array([[0.0, 0.0, -4.0], [0.8, 0.0, -4.0], [0.0, -1.0, -5.0]])
    features = pose_features(cameras(vectors, places), torch.eye(3)).numpy()
    expected = [
        [0, 0, 0, 0, 0, np.log(4)],
        [np.sin(0.3), 0, 0, 0.2, 0, np.log(4)],
        [0, 0, -np.sin(0.2), 0, -0.2, np.log(5)],
    ]
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_poses_are_not_rounded_under_autocast():
    poses = cameras(*heads()).float()
    expected = pose_features(poses, torch.eye(3))
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(pose_features(poses, torch.eye(3)), expected)


def test_turning_on_the_spot_is_no_motion_of_the_place():
    vectors, _ = heads()
    features = pose_features(cameras(vectors, np.tile([0.1, 0.2, -4.0], (FRAMES, 1))), torch.eye(3))
    assert features[:, 3:].std(dim=0).max() < 1e-5
    assert features[:, :3].std(dim=0).min() > 0.03


def test_conditions_are_normalised_over_training_frames_and_held_within_them():
    trained = torch.arange(FRAMES) < 8
    field = tiny_field(trained)
    known = field.conditions(cameras(*heads())[:8], torch.arange(8))[:, :6]
    torch.testing.assert_close(known.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(known.std(dim=0, correction=0), torch.ones(6), atol=1e-2, rtol=0)
    vectors, places = heads()
    far = field.conditions(cameras(vectors[:1] + 1.0, places[:1] + np.array([2.0, 0, 0])), torch.tensor([0]))[0, :6]
    assert (far <= known.amax(dim=0) + 1e-5).all() and (far >= known.amin(dim=0) - 1e-5).all()
    torch.testing.assert_close(far[3], known[:, 3].amax())


def test_a_frame_that_was_not_trained_remembers_its_neighbours_code():
    field = tiny_field(torch.arange(FRAMES) < 8)
    with torch.no_grad():
        field.codes.normal_()
    codes = field.conditions(cameras(*heads())[:3], torch.tensor([7, 8, 11]))[:, 6:]
    for code, distance in zip(codes, (0, 1, 4), strict=True):
        torch.testing.assert_close(code, field.codes[7] * np.exp(-distance / MEMORY))


def test_displacements_are_linear_in_the_conditions():
    field = tiny_field()
    places, one, two = torch.rand(20, 2), torch.randn(1, 8), torch.randn(1, 8)
    weights = field.motion_weights(places)
    separate = [displacements(weights, one, [20]), displacements(weights, two, [20])]
    together = displacements(weights, 2.0 * one - 3.0 * two, [20])
    torch.testing.assert_close(together, 2.0 * separate[0] - 3.0 * separate[1], atol=1e-5, rtol=1e-4)


def test_frames_side_by_side_are_as_frames_alone():
    field = tiny_field()
    torch.nn.init.normal_(field.grid.table)
    places, conditions = torch.rand(9, 2), torch.randn(2, 8)
    colour, opacity = field(places, conditions, [4, 5])
    for part, row, count in ((slice(0, 4), 0, 4), (slice(4, 9), 1, 5)):
        alone = field(places[part], conditions[row : row + 1], [count])
        torch.testing.assert_close((colour[part], opacity[part]), alone)
    outside = field(places + torch.tensor([2.0, 0.0]), conditions, [4, 5])
    border = field(torch.stack([torch.ones(9), places[:, 1]], dim=1), conditions, [4, 5])
    torch.testing.assert_close(outside, border)


@pytest.mark.parametrize("code_dim", [0, 2])
def test_a_torso_that_moves_with_the_head_is_found(code_dim: int):
    """A striped block slides with the head's place; breath that no pose tells moves it up and down."""
    vectors, positions = heads(count=40)
    breath = 0.03 * np.sin(np.arange(40) * 1.7)
    slide = torch.tensor(np.stack([0.3 * positions[:, 0] / 4, breath], axis=1), dtype=torch.float32)
    torch.manual_seed(0)
    config = TorsoFieldConfig(num_levels=4, max_resolution=32, log2_hashmap_size=10, code_dim=code_dim)
    trained = torch.arange(40) < 36
    poses = cameras(vectors, positions)
    field = TorsoField(config, poses, trained, Ops("cpu", "reference"))
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)

    def target(places: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        x, y = (places - shift).unbind(dim=1)
        return torch.stack([0.5 + 0.4 * torch.sin(18.0 * x), 0.5 + 0.4 * torch.sin(18.0 * y)], dim=1)

    def error(frames: torch.Tensor) -> torch.Tensor:
        places = torch.rand(128 * len(frames), 2)
        truth = torch.cat([target(p, slide[f]) for p, f in zip(places.split(128), frames, strict=True)])
        colour, _ = field(places, field.conditions(poses[frames], frames), [128] * len(frames))
        return (colour[:, :2] - truth).square().mean()

    for _ in range(250):
        optimizer.zero_grad()
        loss = error(torch.randperm(36)[:8])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        seen, unseen = float(error(torch.arange(36))), float(error(torch.arange(36, 40)))
    # Breath alone is an error of (0.4 * 18)^2 / 2 * 0.03^2 / 2 in one of two channels: 0.006.
    assert (seen < 0.003) == (code_dim > 0)
    assert unseen < 0.02  # the pattern's variance is 0.08
