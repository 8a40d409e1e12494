"""Rotation vectors and matrices against scipy."""

import numpy as np
from scipy.spatial.transform import Rotation

from ntalker_ns.face import rotations


def test_exp_and_log_agree_with_scipy():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 3)) * np.array([1e-10, 1e-4, 0.1, 0.9, 1.0])[rng.integers(5, size=50)][:, None]
    assert np.allclose(rotations.exp(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    assert np.allclose(rotations.log(rotations.exp(vectors)), vectors, atol=1e-9)


def test_hat_is_the_cross_product():
    a, b = np.random.default_rng(1).normal(size=(2, 7, 3))
    assert np.allclose(np.einsum("nij,nj->ni", rotations.hat(a), b), np.cross(a, b))


def test_nearest_repairs_noise_and_never_mirrors():
    rng = np.random.default_rng(2)
    true = rotations.exp(rng.normal(size=(20, 3)))
    repaired = rotations.nearest(true + 0.01 * rng.normal(size=true.shape))
    assert np.allclose(np.linalg.det(repaired), 1.0)
    assert np.abs(repaired - true).max() < 0.05
    assert np.linalg.det(rotations.nearest(np.diag([1.0, 1.0, -1.0]))) > 0


def test_a_steady_turn_has_no_second_difference():
    turn = rotations.exp(np.outer(np.arange(10), [0.01, 0.02, 0.0]))
    assert np.abs(rotations.second_differences(turn)).max() < 1e-12
