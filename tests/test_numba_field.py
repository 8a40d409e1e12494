"""The field's fused kernel for pictures against the field that is asked part by part."""

from typing import Any

import numpy as np
import pytest
import torch
from made_up_lids import open_lids

from ntalker_ns.field.segments import PerRay
from ntalker_ns.field.talker_field import FaceMotions, FrameConditions, TalkerField, TalkerFieldConfig

ANCHORS = {
    "left_eye": np.array([0.2, -0.4, 0.3]),
    "right_eye": np.array([-0.2, -0.4, 0.3]),
    "mouth": np.array([0.0, -0.45, -0.1]),
    "chin": np.array([0.0, -0.4, -0.35]),
    "nose": np.array([0.0, -0.5, 0.1]),
}
ANCHORS = {name: place.astype(np.float32) for name, place in ANCHORS.items()}


def make_field(**sizes: Any) -> TalkerField:
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
    face = FaceMotions(places, motions, brows, raised, open_lids(ANCHORS))
    field = TalkerField(TalkerFieldConfig(**{**config, **sizes}), 6, ANCHORS, face)
    for table in field.grid_parameters():
        torch.nn.init.normal_(table)
    return field


def conditions(field: TalkerField, openness: float) -> FrameConditions:
    lips = torch.randn(1, 3, generator=torch.Generator().manual_seed(1))
    appearance = torch.randn(1, field.config.appearance_dim, generator=torch.Generator().manual_seed(2))
    brows = torch.tensor([[0.8, -0.5]])
    return FrameConditions(lips, field.speech_code(lips), brows, torch.tensor([[openness]]), appearance)


@pytest.mark.parametrize("openness", [1.0, 0.3])
@pytest.mark.parametrize("sizes", [{}, {"hidden_layers": 2, "geometry_dim": 20}, {"appearance_dim": 0}])
def test_same_numbers_as_part_by_part(openness: float, sizes: dict[str, Any]):
    field = make_field(**sizes)
    field.show_levels(0.5)
    frame = conditions(field, openness)
    # Everywhere, mostly near mouth and eyes, and outside the box; more than two tiles, the last one not full.
    near = [torch.from_numpy(ANCHORS[name]) + 0.2 * torch.randn(60, 3) for name in ("mouth", "left_eye")]
    positions = torch.cat([2.4 * torch.rand(60, 3) - 1.2, *near])
    frame.counts = [len(positions)]
    with torch.no_grad():
        expected = field(positions, None, frame)
        found = field.at_frame(frame)(positions, None)
    assert 20 < int((expected.audio_motion > 0).sum()) < 160
    for name in ("density", "rgb", "audio_motion"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5, msg=name)


def test_no_samples_and_one():
    field = make_field()
    frame = conditions(field, 0.5)
    for count in (0, 1):
        positions = torch.zeros(count, 3)
        frame.counts = [count]
        with torch.no_grad():
            expected, found = field(positions, None, frame), field.at_frame(frame)(positions, None)
        torch.testing.assert_close(found.density, expected.density)
        assert found.rgb.shape == (count, 3) and found.audio_motion.shape == (count, 1)


@pytest.mark.parametrize("sizes", [{"direction_levels": 2}, {"backend": "torch"}])
def test_fields_that_the_kernel_does_not_know_are_asked_part_by_part(sizes: dict[str, Any]):
    field = make_field(**sizes)
    frame = conditions(field, 1.0)
    positions = torch.rand(10, 3)
    directions = torch.nn.functional.normalize(torch.randn(10, 3), dim=-1)
    frame.counts = [10]
    with torch.no_grad():
        known = field.views(directions)
        views = None if known is None else PerRay(known, torch.arange(10))
        assert torch.equal(field.at_frame(frame)(positions, views).rgb, field(positions, views, frame).rgb)
