"""The field in one kernel against the field operation by operation."""

from typing import Any

import numpy as np
import pytest
import torch
from support.made_up_lids import open_lids
from torch import Tensor

from ntalker_ns.face.rig import Rig
from ntalker_ns.field.talker_field import FrameConditions, TalkerField, TalkerFieldConfig
from ntalker_ns.kernels.backend import Backend
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import RayInputs

KEYPOINTS = {
    "left_eye": np.array([0.2, -0.4, 0.3]),
    "right_eye": np.array([-0.2, -0.4, 0.3]),
    "mouth": np.array([0.0, -0.45, -0.1]),
    "chin": np.array([0.0, -0.4, -0.35]),
    "nose": np.array([0.0, -0.5, 0.1]),
}
KEYPOINTS = {name: place.astype(np.float32) for name, place in KEYPOINTS.items()}


def make_field(backend: Backend = "numba", **sizes: Any) -> TalkerField:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = {
        "num_levels": 5,
        "max_resolution": 64,
        "log2_hashmap_size": 10,
        "hidden_dim": 32,
        "hidden_layers": 1,
        "geometry_dim": 15,
        "direction_levels": 0,
        "speech_code_dim": 8,
    }
    places = rng.uniform(-0.3, 0.3, (9, 2)).astype(np.float32)
    motions = (0.05 * rng.normal(size=(3, 9, 2))).astype(np.float32)
    brows = rng.uniform([-0.4, 0.2], [0.4, 0.6], (7, 2)).astype(np.float32)
    raised = (0.05 * rng.normal(size=(2, 7, 2))).astype(np.float32)
    rig = Rig(KEYPOINTS, places, motions, brows, raised, open_lids(KEYPOINTS))
    field = TalkerField(TalkerFieldConfig(**{**config, **sizes}), rig, Ops("cpu", backend))
    for table in field.grid_parameters():
        torch.nn.init.normal_(table)
    return field


def conditions(field: TalkerField, openness: list[float]) -> FrameConditions:
    frames, generator = len(openness), torch.Generator().manual_seed(1)
    kind = field.space_grid.table.dtype
    lips = torch.randn(frames, 3, generator=generator).to(kind)
    appearance = torch.randn(frames, field.config.appearance_dim, generator=generator).to(kind)
    brows = torch.randn(frames, 2, generator=generator).to(kind)
    eyes = torch.tensor(openness, dtype=kind)[:, None]
    return FrameConditions(lips, field.speech_code(lips), brows, eyes, appearance)


def places(frames: int) -> Tensor:
    """Of each frame some everywhere, mostly near mouth and eyes, and outside the box."""
    near = [torch.from_numpy(KEYPOINTS[name]) + 0.2 * torch.randn(frames * 60, 3) for name in ("mouth", "left_eye")]
    return torch.stack([2.4 * torch.rand(frames * 60, 3) - 1.2, *near], dim=1).view(-1, 3)


def views_of(field: TalkerField, samples: int) -> RayInputs | None:
    """Viewing directions of as many rays as two samples each make."""
    directions = torch.nn.functional.normalize(torch.randn(samples // 2 + 1, 3), dim=-1)
    known = field.views(directions.to(field.space_grid.table.dtype))
    return None if known is None else RayInputs(known, torch.arange(samples) // 2)


def by_reference(field: TalkerField) -> TalkerField:
    """The same field in float64 by the reference implementations."""
    reference = make_field("reference", **vars(field.config))
    reference.load_state_dict(field.state_dict())
    reference.show_levels(0.5)
    return reference.double()


# Kernels are compiled for each pair of widths.
SIZES = [{}, {"hidden_layers": 2, "geometry_dim": 20, "appearance_dim": 0, "direction_levels": 2}]


# Tiles that are full and that are not; a frame without samples; what all frames share and what one has alone.
@pytest.mark.parametrize("sizes", SIZES)
def test_same_numbers_and_gradients_as_torch_in_float64(sizes: dict[str, Any]):
    field = make_field(**sizes)
    field.show_levels(0.5)
    reference, openness, counts = by_reference(field), [1.0, 0.5, 0.3], [150, 0, 210]
    positions = places(2)
    views = views_of(field, 360)
    # Some samples have no gradient, as those behind surfaces.
    weights = [torch.randn(360, channels) * (torch.arange(360) % 3 > 0)[:, None] for channels in (1, 3)]
    results = []
    for each in (field, reference):
        kind = each.space_grid.table.dtype
        frames, asked = conditions(each, openness), positions.to(kind, copy=True).requires_grad_()
        frames.counts = counts
        frames.speech_code.retain_grad()
        frames.appearance = frames.appearance.detach().clone().requires_grad_()
        found = each(asked, None if views is None else RayInputs(views.values.to(kind), views.rays), frames)
        (found.density.log() * weights[0] + (found.rgb * weights[1]).sum(dim=1, keepdim=True)).sum().backward()
        gradients = {name: parameter.grad for name, parameter in each.named_parameters()}
        inputs = {"positions": asked.grad, "code": frames.speech_code.grad, "appearance": frames.appearance.grad}
        results.append((found._asdict(), gradients | inputs))
    (found, gradients), (expected, expected_gradients) = results
    assert 40 < int((expected["audio_motion"] > 0).sum()) < 320
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-3, atol=1e-4, msg=name)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            found_gradient = gradients[name]
            assert found_gradient is not None, name
            off = (found_gradient.double() - gradient).abs().max() / gradient.abs().max()
            assert off < 1e-3, f"{name}: {off:.1e}"


@pytest.mark.parametrize("openness", [1.0, 0.3])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_picture_is_the_same_without_gradients(openness: float, sizes: dict[str, Any]):
    field = make_field(**sizes)
    field.show_levels(0.5)
    frame, positions, views = conditions(field, [openness]), places(1), views_of(field, 180)
    frame.counts = [len(positions)]
    expected = field(positions, views, frame)
    found = field.at_frame(frame)(positions, views)
    for name in ("density", "rgb", "audio_motion"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert not getattr(found, name).requires_grad
    torch.testing.assert_close(field.density(positions, frame), expected.density)


@pytest.mark.parametrize("count", [0, 1])
def test_no_samples_and_one(count: int):
    field = make_field()
    field.show_levels(0.5)
    results = []
    for each in (field, by_reference(field)):
        frame = conditions(each, [0.5])
        frame.counts = [count]
        positions = torch.zeros(count, 3, dtype=each.space_grid.table.dtype, requires_grad=True)
        found = each(positions, None, frame)
        found.density.sum().backward()
        results.append((found.density, found.rgb, found.audio_motion, positions.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_a_number_reaches_the_output():
    field = make_field()
    frame, positions = conditions(field, [1.0]), torch.rand(70, 3)
    positions[66, 1] = float("nan")
    frame.counts = [70]
    found = field(positions, None, frame)
    assert found.density.isnan().any(dim=1).nonzero().flatten().tolist() == [66]
    assert found.rgb.isnan().any(dim=1).nonzero().flatten().tolist() == [66]


def test_other_precisions_and_backends_go_operation_by_operation():
    field = make_field("reference")
    frame, positions = conditions(field, [1.0]), torch.rand(10, 3)
    frame.counts = [10]
    with torch.no_grad():
        assert torch.equal(field.at_frame(frame)(positions, None).rgb, field(positions, None, frame).rgb)
    half = make_field()
    half.picture_type = torch.bfloat16
    exact, short = (each.at_frame(frame)(positions, None).rgb.detach() for each in (make_field(), half))
    assert 0 < float((exact - short).abs().max()) < 0.05
