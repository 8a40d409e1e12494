"""Pose corrections: rotations against scipy, the mean over training frames, gradients."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ntalker_ns.field.pose_refinement import PoseRefinement, corrected_rays, fit_poses
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.reference.poses import rotation_matrices, skew_matrices


@pytest.fixture(params=["numba", "reference"])
def ops(request: pytest.FixtureRequest) -> Ops:
    return Ops("cpu", request.param)


def test_rotations_equal_scipy() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotation_matrices(torch.from_numpy(vectors)).numpy(), expected, atol=1e-12)


def test_samples_move_with_their_frame(ops: Ops) -> None:
    positions = torch.randn(5, 3, dtype=torch.float64)
    corrections = torch.zeros(2, 6, dtype=torch.float64)
    corrections[1, 2] = np.pi / 2
    corrections[1, 3:] = torch.tensor([1.0, 2.0, 3.0])
    moved = ops.correct_poses(positions, corrections, [2, 3])
    torch.testing.assert_close(moved[:2], positions[:2])
    x, y, z = positions[2:].unbind(-1)
    torch.testing.assert_close(moved[2:], torch.stack([-y + 1.0, x + 2.0, z + 3.0], dim=-1))


def test_samples_are_not_rounded_under_autocast(ops: Ops) -> None:
    positions, corrections = torch.randn(5, 3), 0.1 * torch.randn(2, 6)
    expected = ops.correct_poses(positions, corrections, [2, 3])
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(ops.correct_poses(positions, corrections, [2, 3]), expected)


def test_points_of_corrected_rays_are_corrected_points(ops: Ops) -> None:
    origins, directions, correction = (torch.randn(size, dtype=torch.float64) for size in ((5, 3), (5, 3), 6))
    distances = torch.rand(5, 1, dtype=torch.float64)
    points = ops.correct_poses(origins + distances * directions, correction[None], [5])
    moved_origins, moved_directions = corrected_rays(origins, directions, correction)
    torch.testing.assert_close(moved_origins + distances * moved_directions, points)


def test_gradients_at_no_correction_are_exact(ops: Ops) -> None:
    positions = torch.randn(4, 3, dtype=torch.float64)
    corrections = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: ops.correct_poses(positions, c, [1, 3]), (corrections,))


def test_gradients_over_many_samples_of_uneven_frames_equal_autograd(ops: Ops) -> None:
    torch.manual_seed(2)
    counts, weights = [700, 0, 1, 299], torch.randn(1000, 3)
    positions, corrections = torch.randn(1000, 3), (0.3 * torch.randn(4, 6)).requires_grad_()
    ops.correct_poses(positions, corrections, counts).mul(weights).sum().backward()
    exact = corrections.detach().double().requires_grad_()
    rotations = torch.linalg.matrix_exp(skew_matrices(exact[:, :3]))
    of_samples = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    moved = (rotations[of_samples] @ positions.double()[:, :, None]).squeeze(-1) + exact[of_samples, 3:]
    (moved * weights).sum().backward()
    assert corrections.grad is not None and exact.grad is not None
    torch.testing.assert_close(corrections.grad.double(), exact.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("angle", [1e-3, 0.009, 0.011, 0.5, 3.0])
def test_gradients_of_corrections_equal_finite_differences(angle: float, ops: Ops) -> None:
    torch.manual_seed(0)
    corrections = torch.randn(2, 6, dtype=torch.float64)
    corrections[:, :3] *= angle / corrections[:, :3].norm(dim=1, keepdim=True)
    positions = torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c: ops.correct_poses(positions, c, [1, 3]), (corrections.requires_grad_(),))


@pytest.mark.parametrize("angle", [1e-3, 0.009, 0.011, 0.5, 3.0])
def test_gradients_of_rotations_equal_finite_differences(angle: float) -> None:
    torch.manual_seed(0)
    vectors = angle * torch.nn.functional.normalize(torch.randn(3, 3, dtype=torch.float64), dim=1)
    assert torch.autograd.gradcheck(rotation_matrices, (vectors.requires_grad_(),))


def test_gradients_of_small_rotations_hold_in_single_precision() -> None:
    torch.manual_seed(0)
    vectors, upstream = 0.012 * torch.nn.functional.normalize(torch.randn(4, 3), dim=1), torch.randn(4, 3, 3)
    found, exact = (each.requires_grad_() for each in (vectors.clone(), vectors.double()))
    (rotation_matrices(found) * upstream).sum().backward()
    (torch.linalg.matrix_exp(skew_matrices(exact)) * upstream).sum().backward()
    assert found.grad is not None and exact.grad is not None
    torch.testing.assert_close(found.grad.double(), exact.grad, rtol=0, atol=2e-6)


def poses_near_one_place(count: int) -> torch.Tensor:
    rng = np.random.default_rng(5)
    rotations = Rotation.from_rotvec(0.1 * rng.normal(size=(count, 3))).as_matrix()
    positions = np.array([0.0, -5.0, 0.0]) + 0.2 * rng.normal(size=(count, 3))
    return torch.from_numpy(np.concatenate([rotations, positions[:, :, None]], axis=2)).float()


def test_untrained_poses_take_what_training_poses_have_in_common() -> None:
    poses = poses_near_one_place(80)
    refinement = PoseRefinement(poses, ridge=1e-9)
    assert refinement.of_pose(poses[0]).abs().sum() == 0
    refinement.mark_trained(torch.arange(70))
    slopes = torch.randn(3, 6) * 0.01
    with torch.no_grad():
        refinement.vectors.copy_(0.02 + (poses[:, :, 3] - poses[:, :, 3].mean(dim=0)) @ slopes)
        expected = refinement.vectors[70:].clone()
        refinement.vectors[70:] = 9.0  # never trained: must not count
    lowest, highest = (poses[:70].flatten(1).amin(0), poses[:70].flatten(1).amax(0))
    inside = ((poses[70:].flatten(1) >= lowest) & (poses[70:].flatten(1) <= highest)).all(dim=1)
    assert inside.sum() >= 3
    for pose, correction in zip(poses[70:][inside], expected[inside], strict=True):
        torch.testing.assert_close(refinement.of_pose(pose)[0], correction, atol=1e-4, rtol=0)


def test_far_cameras_take_the_correction_at_the_edge_of_the_clip() -> None:
    poses = poses_near_one_place(40)
    refinement = PoseRefinement(poses)
    refinement.mark_trained(torch.arange(40))
    with torch.no_grad():
        refinement.vectors.copy_(0.01 * torch.randn(40, 6))
    far = torch.eye(4)[:3].clone()
    far[:, 3] = torch.tensor([50.0, -80.0, 20.0])
    assert refinement.of_pose(far).abs().max() < 0.2


def test_without_slopes_the_mean_correction_is_applied() -> None:
    poses = poses_near_one_place(10)
    refinement = PoseRefinement(poses)
    refinement.mark_trained(torch.tensor([0, 2]))
    with torch.no_grad():
        refinement.vectors[0] = 1.0
        refinement.vectors[1] = 9.0
        refinement.vectors[2] = 1.0
    torch.testing.assert_close(refinement.of_pose(poses[5]), torch.ones(1, 6))


def test_values_follow_poses_as_ridge_regression_does() -> None:
    from sklearn.linear_model import Ridge

    poses, values = poses_near_one_place(60), torch.randn(60, 3)
    # By hand: the axis of each rotation away from the mean orientation, and the place, each normalised.
    center = poses[:, :, :3].double().mean(dim=0).numpy()
    relative = poses[:, :, :3].double().numpy() @ center.T
    skew = (relative - relative.transpose(0, 2, 1)) / 2
    inputs = np.concatenate([skew[:, [2, 0, 1], [1, 2, 0]], poses[:, :, 3].numpy()], axis=1)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    expected = Ridge(alpha=0.1 * 60).fit(inputs, values.numpy()).predict(inputs)
    np.testing.assert_allclose(fit_poses(poses, values, ridge=0.1).at(poses).numpy(), expected, atol=1e-4)
