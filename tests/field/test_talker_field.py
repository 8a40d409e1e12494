"""The field: what audio can and cannot change, and that shortcuts give the numbers of the long way."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.made_up_lids import KEYPOINTS, open_lids

from ntalker_ns.face.rig import Rig
from ntalker_ns.field.landmark_warp import inside_contour
from ntalker_ns.field.mlp import FrameMLP, truncated_exp
from ntalker_ns.field.talker_field import FrameConditions, TalkerField, TalkerFieldConfig
from ntalker_ns.kernels.backend import Backend
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs
from ntalker_ns.training import transfers


@pytest.fixture()
def field() -> TalkerField:
    return make_field("auto")


def make_field(backend: Backend) -> TalkerField:
    torch.manual_seed(0)
    config = TalkerFieldConfig(num_levels=4, max_resolution=64, log2_hashmap_size=10)
    places = np.stack([KEYPOINTS[name][[0, 2]] for name in ("mouth", "chin", "nose")]).astype(np.float32)
    motions = np.zeros((3, 3, 2), np.float32)
    motions[0, :2, 1] = -0.05
    brows = np.array([[-0.2, 0.2], [0.2, 0.2], [0.0, 0.4]], np.float32)
    raised = np.zeros((2, 3, 2), np.float32)
    raised[0, :2, 1] = 0.05
    rig = Rig(KEYPOINTS, places, motions, brows, raised, open_lids(KEYPOINTS))
    field = TalkerField(config, rig, Ops("cpu", backend))
    for table in field.grid_parameters():
        torch.nn.init.normal_(table)
    return field


def conditions(
    field: TalkerField, counts: list[int], audio: float = 0.0, eyes: float = 1.0, brow: float = 0.0
) -> FrameConditions:
    frames = len(counts)
    code = torch.full((frames, field.config.speech_code_dim), audio)
    lips, brows = torch.full((frames, 3), audio), torch.tensor([[brow, 0.0]]).expand(frames, 2)
    return FrameConditions(lips, code, brows, torch.full((frames, 1), eyes), torch.zeros(frames, 4), counts)


def points_at(keypoint: str, count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    around = 0.02 * torch.randn(count, 3, generator=generator)
    return torch.tensor(KEYPOINTS[keypoint], dtype=torch.float32) + around


def views(field: TalkerField, directions: torch.Tensor) -> RayInputs | None:
    """Encoded directions, one for each sample."""
    known = field.views(directions)
    return None if known is None else RayInputs(known, torch.arange(len(directions)))


def test_audio_moves_the_mouth_and_nothing_else(field: TalkerField) -> None:
    positions = torch.cat([points_at("mouth"), torch.rand(200, 3) * torch.tensor([1.6, 1.6, 0.6]) - 0.8])
    positions[20:, 2] += 1.0  # above the eyes
    directions = torch.nn.functional.normalize(torch.randn(220, 3), dim=-1)
    one = field(positions, views(field, directions), conditions(field, [220], audio=-2.0))
    two = field(positions, views(field, directions), conditions(field, [220], audio=2.0))
    assert (one.density[:20] - two.density[:20]).abs().min() > 0
    assert torch.equal(one.density[20:], two.density[20:])
    assert torch.equal(one.rgb[20:], two.rgb[20:])
    assert (one.audio_motion[:20] > 0).all() and (one.audio_motion[20:] == 0).all()


def test_blinks_move_the_eyes_and_nothing_else(field: TalkerField) -> None:
    positions = torch.cat([points_at("left_eye"), points_at("mouth")])
    open_eyes = field.density(positions, conditions(field, [40], eyes=1.0))
    closed = field.density(positions, conditions(field, [40], eyes=0.0))
    assert (open_eyes[:20] - closed[:20]).abs().min() > 0
    assert torch.equal(open_eyes[20:], closed[20:])


def test_brows_move_the_brows_and_nothing_else(field: TalkerField) -> None:
    over_eyes = points_at("left_eye") + torch.tensor([0.0, 0.0, 0.1])
    positions = torch.cat([over_eyes, points_at("mouth")])
    calm = field.density(positions, conditions(field, [40]))
    raised = field.density(positions, conditions(field, [40], brow=1.0))
    assert torch.equal(calm[20:], raised[20:])
    # What was at a place is where the brow has carried it: up by 0.05, wherever both landmarks agree.
    carried = field.density(over_eyes + torch.tensor([0.0, 0.0, 0.05]), conditions(field, [20], brow=1.0))
    assert (raised[:20] - calm[:20]).abs().mean() > 10 * (carried - calm[:20]).abs().mean()


def test_closed_lids_cover_the_eye_with_the_skin_over_it(field: TalkerField, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntalker_ns.field.talker_field.LID_LEVELS", 1.0)
    first = field.density_net.layers[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.data[:, -1] = 0  # the network does not know eye closure
    on_eye = torch.tensor(KEYPOINTS["left_eye"], dtype=torch.float32)[None] + torch.tensor([[0.0, 0.0, 0.03]])
    skin = on_eye + torch.tensor([[0.0, 0.0, 0.15 * 0.08 / 0.18]])
    closed = field.density(on_eye, conditions(field, [1], eyes=0.0))
    torch.testing.assert_close(closed, field.density(skin, conditions(field, [1])), rtol=1e-3, atol=1e-4)
    assert (closed - field.density(on_eye, conditions(field, [1]))).abs() > 1e-3


def test_frames_do_not_mix(field: TalkerField) -> None:
    positions = points_at("mouth", 30)
    directions = torch.nn.functional.normalize(torch.randn(30, 3), dim=-1)
    codes = torch.randn(3, field.config.speech_code_dim)
    counts = [7, 0, 23]
    lips, brows, eyes, light = torch.randn(3, 3), torch.randn(3, 2), torch.rand(3, 1), torch.randn(3, 4)
    together = FrameConditions(lips, codes, brows, eyes, light, counts)
    out = field(positions, views(field, directions), together)
    for frame, (part, direction) in enumerate(zip(positions.split(counts), directions.split(counts), strict=True)):
        lips_, code, brows_, eyes_, light_ = (each[[frame]] for each in (lips, codes, brows, eyes, light))
        alone = FrameConditions(lips_, code, brows_, eyes_, light_, [len(part)])
        expected = field(part, views(field, direction), alone)
        torch.testing.assert_close(out.rgb.split(counts)[frame], expected.rgb)
        torch.testing.assert_close(out.density.split(counts)[frame], expected.density)


def test_gradients_reach_positions_audio_and_tables(field: TalkerField) -> None:
    positions = points_at("mouth").requires_grad_()
    frames = conditions(field, [20])
    frames.speech_code.requires_grad_()
    directions = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    out = field(positions, views(field, directions), frames)
    (out.density.sum() + out.rgb.sum()).backward()
    for tensor in (positions, frames.speech_code, *field.grid_parameters()):
        assert tensor.grad is not None and float(tensor.grad.abs().sum()) > 0


def test_frame_mlp_equals_repeated_columns() -> None:
    torch.manual_seed(0)
    mlp = FrameMLP(Ops("cpu"), 5, 3, width=8, layers=3, out_dim=2).double()
    samples, rows, counts = torch.randn(9, 5).double(), torch.randn(2, 3).double(), [4, 5]
    assert mlp.frame is not None
    repeated = torch.repeat_interleave(rows, torch.tensor(counts), dim=0)
    first = mlp.layers[0]
    assert isinstance(first, torch.nn.Linear)
    weight = torch.cat([first.weight, mlp.frame.weight], dim=1)
    hidden = torch.nn.functional.linear(torch.cat([samples, repeated], dim=1), weight, first.bias)
    torch.testing.assert_close(mlp(samples, rows, counts), mlp.layers[2](mlp.layers[1](hidden.relu()).relu()))


def test_half_precision_falls_back_to_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("ntalker_ns.kernels.numba.mlp.run_mlp", refuse)
    samples = torch.randn(9, 5)
    plain, fused = (FrameMLP(Ops("cpu", backend), 5, 0, 16, 2, 2) for backend in ("reference", "numba"))
    assert plain(samples, None, [9]).dtype == torch.float32
    with pytest.raises(AssertionError):
        fused(samples, None, [9])
    with torch.autocast("cpu", torch.bfloat16):
        assert fused(samples, None, [9]).dtype == torch.bfloat16


def test_half_precision_is_for_the_networks_alone(field: TalkerField) -> None:
    positions = torch.cat([points_at("mouth"), points_at("left_eye")])
    directions = torch.nn.functional.normalize(torch.randn(40, 3), dim=-1)
    frames = conditions(field, [40], audio=1.0, eyes=0.5, brow=1.0)
    last = field.density_net.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias.data[0] += 12.0  # float16 ends at exp(11)
    expected = field(positions, views(field, directions), frames)
    # What is heard under autocast comes in half precision as well.
    half = replace(frames, lip_shapes=frames.lip_shapes.half(), speech_code=frames.speech_code.half())
    with torch.autocast("cpu", torch.float16):
        found = field(positions, views(field, directions), half)
    for name, tolerance in (("density", 0.02), ("rgb", 0.002), ("audio_motion", 0.002)):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=tolerance, atol=1e-3, msg=name)
    assert expected.density.min() > torch.finfo(torch.float16).max


def test_truncated_exp() -> None:
    x = torch.tensor([-3.0, 0.0, 2.0, 40.0], dtype=torch.float64, requires_grad=True)
    truncated_exp(x).sum().backward()
    expected = torch.exp(torch.tensor([-3.0, 0.0, 2.0, 15.0], dtype=torch.float64))
    torch.testing.assert_close(truncated_exp(x).detach(), expected)
    torch.testing.assert_close(x.grad, expected)


def test_masked_samples_give_the_numbers_of_compacted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In double precision; samples are masked on devices, where compacting them would need a synchronisation."""
    field = make_field("reference").double()
    keypoints = [points_at(name) for name in ("mouth", "left_eye", "chin")]
    counts = [50, 0, 60]
    positions = torch.cat([*keypoints, torch.rand(50, 3) * 2.0 - 1.0]).double()[torch.randperm(110)].requires_grad_()
    asked = conditions(field, counts, audio=1.5, eyes=0.3, brow=1.0)
    asked = replace(asked, **{name: getattr(asked, name).double() for name in asked.__dict__ if name != "counts"})
    directions = torch.nn.functional.normalize(torch.randn(110, 3).double(), dim=-1)

    def run() -> list[torch.Tensor]:
        found = field(positions, views(field, directions), asked)
        outputs = [found.density, found.rgb, found.audio_motion]
        parameters = [each for each in field.parameters() if each.requires_grad]
        loss = found.density.log().square().mean() + found.rgb.square().mean()
        gradients = torch.autograd.grad(loss, [positions, *parameters], allow_unused=True)
        return outputs + [torch.zeros(1) if each is None else each for each in gradients]

    expected = run()
    monkeypatch.setattr(transfers, "would_synchronize", lambda tensor: True)
    for one, other in zip(run(), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert 0 < int((expected[2] > 0).sum()) < 110


def test_inside_contour_agrees_with_opencv() -> None:
    rng = np.random.default_rng(0)
    angles = np.sort(rng.random(12)) * 2 * np.pi
    contour = (rng.uniform(0.3, 1.0, 12)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype("f4")
    points = rng.uniform(-1, 1, (300, 2)).astype("f4")
    expected = [cv2.pointPolygonTest(contour, tuple(map(float, point)), False) > 0 for point in points]
    found = inside_contour(torch.from_numpy(points), torch.from_numpy(contour))
    assert 30 < sum(expected) < 270
    assert found.tolist() == expected
