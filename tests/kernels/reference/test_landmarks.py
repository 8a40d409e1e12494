"""The landmark warp against Shepard's sum by hand."""

import numpy as np
import torch

from ntalker_ns.field.landmark_warp import LandmarkWarp
from ntalker_ns.kernels.reference.warp import landmark_displacement

PLACES = np.array([[-0.1, -0.3], [0.1, -0.3], [0.0, -0.5]], np.float32)


def displacement(
    motions: np.ndarray, positions: torch.Tensor, shapes: torch.Tensor, counts: list[int], softness: float = 0.02
) -> torch.Tensor:
    marks = LandmarkWarp(PLACES, motions.astype(np.float32), softness)(shapes)
    return landmark_displacement(positions, marks, counts)


def test_equals_shepards_sum_by_hand() -> None:
    rng = np.random.default_rng(0)
    motions, shapes = rng.normal(size=(2, 3, 2)) * 0.05, rng.normal(size=(2, 2))
    positions = rng.uniform(-0.6, 0.2, size=(7, 3))
    found = displacement(motions, torch.from_numpy(positions).float(), torch.from_numpy(shapes).float(), [3, 4])
    for row, frame in zip(range(7), [0, 0, 0, 1, 1, 1, 1], strict=True):
        moved = sum(shapes[frame, c] * motions[c] for c in range(2))
        squared = ((positions[row, [0, 2]] - (PLACES + moved)) ** 2).sum(axis=1)
        weights = 1.0 / (squared + 0.02**2) ** 2
        expected = (weights[:, None] * moved).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(found[row, [0, 2]].numpy(), expected, rtol=1e-3, atol=1e-6)
    assert (found[:, 1] == 0).all()


def test_a_landmark_is_brought_back_to_its_place() -> None:
    motions = np.zeros((1, 3, 2))
    motions[0, 2] = [0.01, -0.04]
    moved = np.append(PLACES[2] + motions[0, 2], -0.5)[[0, 2, 1]]
    positions = torch.from_numpy(moved[None]).float()
    shift = displacement(motions, positions, torch.ones(1, 1), [1], softness=0.01)
    np.testing.assert_allclose((positions - shift)[0, [0, 2]].numpy(), PLACES[2], atol=1e-4)


def test_the_mean_shape_moves_nothing_and_a_common_motion_moves_all_alike() -> None:
    motions = np.zeros((1, 3, 2))
    motions[0] = [0.02, 0.03]
    positions = torch.rand(20, 3) - 0.5
    assert (displacement(motions, positions, torch.zeros(1, 1), [20]) == 0).all()
    shift = displacement(motions, positions, torch.ones(1, 1), [20])
    torch.testing.assert_close(shift, torch.tensor([0.02, 0.0, 0.03]).expand(20, 3))


def test_no_samples() -> None:
    assert displacement(np.zeros((1, 3, 2)), torch.zeros(0, 3), torch.zeros(1, 1), [0]).shape == (0, 3)
