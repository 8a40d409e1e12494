"""The outline of the head in an edited frame: a ball before a wall and a torso, that gets a hat."""

import numpy as np
import pytest

from ntalker_ns.editing.outline import edited_opacity, within_outline

SIZE = 96


@pytest.fixture
def scene() -> dict[str, np.ndarray]:
    """Opacities, the frame and what is behind the head."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5
    head = np.clip(20.5 - np.hypot(x - 48, y - 48), 0.0, 1.0)[..., None]
    torso = ((y > 70) & (np.abs(x - 48) < 36)).astype(np.float32)[..., None]
    wall = np.stack([0.15 + 0.002 * x, 0.2 + 0 * x, 0.35 - 0.002 * y], axis=-1)
    wall += 0.01 * np.random.default_rng(0).standard_normal(wall.shape)
    behind = (torso * [0.2, 0.25, 0.5] + (1 - torso) * wall).astype(np.float32)
    picture = (head * [0.8, 0.5, 0.4] + (1 - head) * behind).astype(np.float32)
    return {"unedited": picture, "head": head.astype(np.float32), "torso": torso, "behind": behind}


def bronze(picture: np.ndarray) -> np.ndarray:
    """Another look of everything: brightness in other colours."""
    grey = picture.mean(axis=-1, keepdims=True)
    return (grey * [1.1, 0.8, 0.4]).astype(np.float32)


def test_without_an_edit_nothing_changes(scene: dict[str, np.ndarray]):
    found = edited_opacity(scene["unedited"], **scene)
    np.testing.assert_allclose(found, scene["head"], atol=0.02)


def test_a_style_of_the_whole_frame_moves_no_outline(scene: dict[str, np.ndarray]):
    found = edited_opacity(bronze(scene["unedited"]), **scene)
    assert (((found > 0.5) != (scene["head"] > 0.5)).mean()) < 0.002


@pytest.mark.parametrize("styled", [False, True])
def test_a_hat_belongs_to_the_head(scene: dict[str, np.ndarray], styled: bool):
    edited = scene["unedited"].copy()
    hat = np.zeros((SIZE, SIZE), bool)
    hat[14:34, 38:58] = True
    edited[hat] = [0.7, 0.9, 0.5]
    found = edited_opacity(bronze(edited) if styled else edited, **scene)[..., 0] > 0.5
    expected = hat | (scene["head"][..., 0] > 0.5)
    assert (found & expected).sum() / (found | expected).sum() > 0.95


def test_a_stain_away_from_the_head_does_not(scene: dict[str, np.ndarray]):
    edited = scene["unedited"].copy()
    edited[5:15, 75:90] = [0.9, 0.1, 0.1]
    found = edited_opacity(edited, **scene)
    assert (found > 0.5).sum() == (scene["head"] > 0.5).sum()


def test_a_head_that_loses_weight_is_smaller(scene: dict[str, np.ndarray]):
    edited = scene["unedited"].copy()
    side = np.zeros((SIZE, SIZE), bool)
    side[:, 58:] = True
    edited[side] = scene["behind"][side]
    found = edited_opacity(edited, **scene)[..., 0] > 0.5
    expected = (scene["head"][..., 0] > 0.5) & ~side
    assert (found & expected).sum() / (found | expected).sum() > 0.95


def test_a_frame_that_is_all_head_stays(scene: dict[str, np.ndarray]):
    full = np.ones_like(scene["head"])
    np.testing.assert_array_equal(edited_opacity(scene["unedited"], **(scene | {"head": full})), full)


@pytest.mark.parametrize("styled", [False, True])
def test_where_the_outline_is_kept_a_hat_is_learned_on_the_head_only(scene: dict[str, np.ndarray], styled: bool):
    look = bronze if styled else np.array
    edited = scene["unedited"].copy()
    edited[14:34, 38:58] = [0.7, 0.9, 0.5]
    found = within_outline(look(edited), **scene)
    beside, on_head = scene["head"][..., 0] < 0.02, scene["head"][..., 0] > 0.98
    np.testing.assert_allclose(found[beside], look(scene["unedited"])[beside], atol=0.06)
    np.testing.assert_allclose(found[on_head], look(edited)[on_head], atol=0.005)


def test_where_the_outline_is_kept_paint_on_the_torso_stays(scene: dict[str, np.ndarray]):
    edited = scene["unedited"].copy()
    edited[66:90, 42:54] = [0.9, 0.1, 0.1]
    found = within_outline(edited, **scene)
    np.testing.assert_allclose(found[72:90, 42:54], edited[72:90, 42:54], atol=1e-6)


def test_where_the_outline_is_kept_a_style_of_the_whole_frame_stays(scene: dict[str, np.ndarray]):
    edited = bronze(scene["unedited"])
    assert np.abs(within_outline(edited, **scene) - edited).mean() < 0.002
