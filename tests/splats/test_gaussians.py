"""The Gaussians of a head: what moves them, and what does not."""

import torch
from support.head_gaussians import COUNT, head, made_up_rig
from torch.autograd import gradcheck

from ntalker_ns.splats.gaussians import LIGHTS, Blend, HeadGaussians, with_spare


def shown(gaussians: HeadGaussians, **amounts: float) -> torch.Tensor:
    """Attributes with some controls moved: lips, brows, closed."""
    controls = torch.zeros(len(gaussians.deltas))
    controls[: gaussians.num_lips] = amounts.get("lips", 0.0)
    controls[gaussians.num_lips : -1] = amounts.get("brows", 0.0)
    controls[-1] = amounts.get("closed", 0.0)
    light = torch.full((LIGHTS,), amounts.get("light", 0.0))
    found = vars(gaussians(controls, light, gaussians.motion())).values()
    return torch.cat([each.view(COUNT, -1) for each in found], dim=1).detach()


def test_at_rest_they_are_as_placed():
    gaussians, attributes = head()
    torch.testing.assert_close(shown(gaussians), attributes)


def test_each_control_acts_within_its_gate_alone():
    gaussians, attributes = head()
    with torch.no_grad():
        gaussians.deltas.normal_()
    positions = attributes[:, :3]
    gates = {"lips": gaussians.speech_gate, "brows": gaussians.brow_gate, "closed": gaussians.eye_gate}
    for name, gate in gates.items():
        moved = (shown(gaussians, **{name: 0.5}) != shown(gaussians)).any(dim=1)
        inside = gaussians.ops.gate(positions, gate).squeeze(1) > 0
        assert moved.any() and not (moved & ~inside).any(), name


def test_light_changes_colours_alone():
    gaussians, attributes = head()
    with torch.no_grad():
        gaussians.shading.fill_(0.5)
    lit = shown(gaussians, light=0.3)
    torch.testing.assert_close(lit[:, :11], attributes[:, :11])
    assert (lit[:, 11:] > attributes[:, 11:]).all()


def test_lips_and_brows_begin_with_the_motion_of_the_fields_warp():
    gaussians, attributes = head()
    lips, brows = torch.full((1, 6), 0.02), torch.full((1, 3), 0.02)
    moved = shown(gaussians, lips=0.02, brows=0.02)[:, :3]
    face = gaussians.face(lips, brows, torch.ones(1))
    speech = gaussians.ops.gate(moved, gaussians.speech_gate)
    back, _ = gaussians.ops.inverse_warp(moved, speech, [COUNT], face)
    distance = (moved - attributes[:, :3]).norm(dim=1)
    off = (moved + back - attributes[:, :3]).norm(dim=1)
    # Small motions undo each other but for terms of the second order.
    assert distance.max() > 3e-4 and off.max() < 0.1 * distance.max()


def test_the_blend_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    base, deltas, amounts = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((5, 4), (3, 5, 4), (3, 5))
    )
    expected = base + torch.einsum("kn,knc->nc", amounts, deltas)
    torch.testing.assert_close(Blend.apply(base, deltas, amounts), expected)
    assert gradcheck(lambda b, d: Blend.apply(b, d, amounts), (base.requires_grad_(), deltas.requires_grad_()))


def test_spare_gaussians_show_nothing_until_they_are_placed():
    gaussians, _ = head()
    more = HeadGaussians(COUNT + 50, made_up_rig(), gaussians.ops)
    names = ("base", "deltas", "shading")
    found, wanted = (
        {f"head.gaussians.{name}": getattr(each, name).data for name in names} for each in (gaussians, more)
    )
    larger = with_spare(found, wanted)
    more.load_state_dict(more.state_dict() | {name.removeprefix("head.gaussians."): v for name, v in larger.items()})
    controls, light = torch.rand(more.deltas.shape[0]), torch.rand(LIGHTS)
    few, many = (each(controls, light, each.motion()) for each in (gaussians, more))
    for one, other in zip(vars(few).values(), vars(many).values(), strict=True):
        torch.testing.assert_close(one, other[:COUNT])
    assert float(torch.sigmoid(many.opacity_logits[COUNT:]).max()) < 1 / 255
    assert more.transparent()[COUNT:].all() and with_spare(found, found) == {}
    placed = torch.zeros(3, 14)
    placed[:, 6], placed[:, 10] = 1.0, 2.0
    more.place(placed, torch.tensor([COUNT, COUNT + 1, COUNT + 49]))
    assert int(more.transparent()[COUNT:].sum()) == 47
