"""The gates that keep speech near the mouth and blinks near the eyes."""

import numpy as np
import torch
from support.made_up_lids import KEYPOINTS

from ntalker_ns.field.gates import brow_gate, eye_gate, speech_gate
from ntalker_ns.kernels.reference.warp import gate as gate_values
from ntalker_ns.kernels.types import Gate


def test_gate_is_a_smoothstep_of_distance() -> None:
    gate = Gate(((0.0, 0.0, 0.0),), inner=0.2, outer=0.6)
    distance = torch.tensor([0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 2.0])
    positions = torch.stack([distance, 0 * distance, 0 * distance], dim=-1)
    x = torch.tensor([1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    torch.testing.assert_close(gate_values(positions, gate).squeeze(-1), 3 * x**2 - 2 * x**3)


def test_gate_has_finite_gradients_everywhere() -> None:
    gate = Gate(((0.0, 0.0, 0.0), (0.5, 0.0, 0.0)), inner=0.1, outer=0.3)
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.3, 0.0, 0.0], [9.0, 0.0, 0.0]], requires_grad=True)
    gate_values(positions, gate).sum().backward()
    assert positions.grad is not None and torch.isfinite(positions.grad).all()


def test_speech_reaches_lips_and_chin_but_not_eyes() -> None:
    points = torch.tensor(np.stack([KEYPOINTS["mouth"], KEYPOINTS["chin"], KEYPOINTS["left_eye"]]), dtype=torch.float32)
    speech, eyes = (gate_values(points, gate(KEYPOINTS)).squeeze(-1) for gate in (speech_gate, eye_gate))
    assert speech[0] == 1.0 and speech[1] == 1.0 and speech[2] == 0.0
    assert eyes[0] == 0.0 and eyes[1] == 0.0 and eyes[2] == 1.0


def test_brows_are_over_the_eyes() -> None:
    brow, hair = KEYPOINTS["left_eye"] + [0.05, 0.0, 0.14], KEYPOINTS["left_eye"] + [0.0, 0.0, 0.5]
    points = torch.tensor(np.stack([brow, KEYPOINTS["left_eye"], hair, KEYPOINTS["mouth"]]), dtype=torch.float32)
    assert gate_values(points, brow_gate(KEYPOINTS)).squeeze(-1).tolist() == [1.0, 1.0, 0.0, 0.0]
