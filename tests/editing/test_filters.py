"""The offline filter editor: choice of styles, their amount, determinism."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntalker_ns.editing.filters import STYLES, FilterEditor, FilterEditorConfig, filter_amount, named_styles, warp
from ntalker_ns.editing.plan import Strength, progressive_schedule
from ntalker_ns.editing.style_networks import PAINTERS
from ntalker_ns.errors import NTalkerError

FULL = Strength(6.0, 20, 20)
# The painters' networks are slow: one stands for all.
TRIED = [name for name in STYLES if name not in PAINTERS or name == "van-gogh"]
CONFIG = FilterEditorConfig()
EDITOR = FilterEditor(CONFIG)


def frames(count: int = 1, height: int = 48, width: int = 64) -> torch.Tensor:
    """Pictures with edges and soft shades."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    disc = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.08).float()
    picture = torch.stack([0.3 + 0.5 * disc * x, 0.2 + 0.4 * y, 0.6 - 0.3 * disc])
    return picture.repeat(count, 1, 1, 1)


@pytest.mark.parametrize(
    ("instruction", "styles"),
    [
        ("Make her look like a bronze statue", ["bronze"]),
        ("Turn him into a statue", ["stone"]),
        ("a bronze statue on a marble column", ["bronze", "stone"]),
        ("Turn him into an Edvard Munch painting", ["munch"]),
        ("Make him look like Van Gogh", ["van-gogh"]),
        ("a cold oil painting by Hokusai", ["cold", "hokusai"]),
        ("Turn him into a Modigliani painting", ["painting"]),
        ("Make him look like a cartoon character", ["cartoon"]),
        ("a pencil sketch", ["sketch"]),
        ("Make it a COLD winter day", ["cold"]),
        ("warm evening light, sepia", ["warm", "sepia"]),
        ("a warped oil painting", ["warp", "painting"]),
    ],
)
def test_the_instruction_names_the_style(instruction: str, styles: list[str]):
    assert named_styles(instruction) == styles
    assert ", ".join(styles) in CONFIG.describe(instruction)
    assert "no diffusion model" in CONFIG.describe(instruction)


def test_an_instruction_without_a_style_lists_all_styles():
    with pytest.raises(NTalkerError, match="'Make him old'") as caught:
        CONFIG.check("Make him old")
    assert all(name in str(caught.value) for name in STYLES)
    with pytest.raises(NTalkerError, match="There is no instruction"):
        CONFIG.check("")


def test_amount_follows_guidance_and_steps():
    amounts = [filter_amount(one, 6.0) for one in progressive_schedule(3, (3.0, 6.0), (10, 20))]
    assert amounts == pytest.approx([0.5 * 0.4, 0.75 * 0.7, 1.0])
    assert filter_amount(Strength(1.0, 20, 20), 6.0) == 0.0
    assert filter_amount(Strength(99.0, 20, 20), 6.0) == 1.0


@pytest.mark.parametrize("style", TRIED)
def test_every_style_is_deterministic_and_grows_with_the_amount(style: str):
    words = STYLES[style].words.split("|")[0]
    unchanged = EDITOR.edit(frames(), words, Strength(1.0, 20, 20), [0])
    torch.testing.assert_close(unchanged, frames(), rtol=0, atol=1e-5)
    changes = []
    for strength in progressive_schedule(3, (3.0, 6.0), (10, 20)):
        edited = EDITOR.edit(frames(), words, strength, [0])
        assert edited.shape == frames().shape
        assert 0.0 <= edited.min() <= edited.max() <= 1.0
        torch.testing.assert_close(EDITOR.edit(frames(), words, strength, [0]), edited)
        changes.append(float((edited - frames()).abs().mean()))
    assert 0.001 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("style", ["bronze", "stone", "sepia"])
def test_updates_on_one_another_end_where_a_single_edit_does(style: str):
    """Each update edits the result of the previous one: its effects must not accumulate."""
    x, y = torch.arange(64.0), torch.arange(48.0)[:, None]
    light = 0.5 + 0.05 * torch.sin(2.5 * x) * torch.sin(2.5 * y)
    skin = light * torch.tensor([1.0, 0.8, 0.7])[None, :, None, None]
    picture, once = skin, EDITOR.edit(skin, style, FULL, [0])
    for strength in progressive_schedule(3, (3.0, 6.0), (10, 20)):
        picture = EDITOR.edit(picture, style, strength, [0])
    again = EDITOR.edit(picture, style, FULL, [0])
    change = (once - skin).abs().mean()
    assert (picture - once).abs().mean() < 0.3 * change
    assert (again - picture).abs().mean() < 0.01 * change


@pytest.mark.parametrize("style", TRIED)
def test_frames_do_not_depend_on_their_batch_and_only_warp_on_its_seed(style: str):
    words = STYLES[style].words.split("|")[0]
    batch = torch.cat([frames(), 1 - frames()])
    together = EDITOR.edit(batch, words, FULL, [3, 4])
    alone = torch.cat([EDITOR.edit(batch[i : i + 1], words, FULL, [3 + i]) for i in range(2)])
    torch.testing.assert_close(together, alone)
    other = EDITOR.edit(batch, words, FULL, [8, 9])
    assert torch.equal(other, together) == (style != "warp")


def test_several_styles_follow_one_another():
    both = EDITOR.edit(frames(), "cold sepia", FULL, [0])
    after = EDITOR.edit(EDITOR.edit(frames(), "cold", FULL, [0]), "sepia", FULL, [0])
    torch.testing.assert_close(both, after)


def test_a_condition_attracts_the_result():
    strength = Strength(3.5, 10, 20)
    amount = filter_amount(strength, 6.0)
    given_condition = EDITOR.edit(1 - frames(), "sepia", strength, [0], conditions=frames())
    target = EDITOR.edit(frames(), "sepia", strength, [0])
    expected = (1 - frames()) + amount * (target - (1 - frames()))
    torch.testing.assert_close(given_condition, expected, rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 1.0), st.integers(0, 1000))
def test_warp_moves_pixels_by_the_amount(amount: float, seed: int):
    """A picture whose colours are pixel coordinates shows the displacement of each pixel."""
    height, width = 64, 96
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([x / width, y / height, np.zeros_like(x)], axis=-1)
    inside = (slice(16, -16), slice(16, -16))

    def moved(amount: float) -> np.ndarray:
        return (warp(places, amount, seed) - places)[inside]

    full, part = moved(1.0), moved(amount)
    distance = np.abs(full[..., 0]).max()
    assert 0.004 < distance < 0.08
    assert np.abs(part).mean() == pytest.approx(amount * np.abs(full).mean(), rel=0.05)
    assert not np.array_equal(full, (warp(places, 1.0, seed + 1) - places)[inside])
