"""The scripts beside the package."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.paths import REPOSITORY
from support.sequences import make_sequence
from support.synthetic_clip import poses

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.errors import NTalkerError
from scripts.benchmarks import held_out_speech
from scripts.benchmarks.fringe import composed, rim_of
from scripts.benchmarks.portrait import consecutive, holes, orbit, second

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_errors(path: Path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()
    assert path.stat().st_mode & 0o111


def test_lip_sync_of_joined_parts_is_that_of_the_whole():
    true, noise = RNG.random(60), 0.1 * RNG.random(60)
    parts = [(true[k] + noise[k], true[k]) for k in (slice(0, 25), slice(25, 60))]
    sync = held_out_speech.joined_sync(parts)
    assert sync.frames == 60
    assert sync.correlation == pytest.approx(np.corrcoef(true + noise, true)[0, 1])


def test_heads_need_data_or_three_runs():
    with pytest.raises(NTalkerError, match="--data"):
        held_out_speech.Heads().main()
    with pytest.raises(NTalkerError, match="three runs"):
        held_out_speech.Heads(runs=(Path("a"), Path("b"))).main()


def test_an_orbit_looks_at_the_head_from_where_it_says():
    camera = np.array([[1.0, 0, 0, 0], [0, 0, -1, -3], [0, 1, 0, 0]])
    np.testing.assert_allclose(orbit(camera, 0.0, 0.0), camera)
    for yaw, pitch, place in ((0.3, 0, (np.sin(0.3), -np.cos(0.3), 0)), (0, 0.2, (0, -np.cos(0.2), np.sin(0.2)))):
        turned = orbit(camera, yaw, pitch)
        np.testing.assert_allclose(turned[:, 3], 3 * np.array(place), atol=1e-6)
        np.testing.assert_allclose(turned[:, 2], place, atol=1e-6)  # it looks back along this axis
        assert turned[2, 1] > 0.9  # and stays upright


def test_flicker_is_a_mean_over_pairs_of_frames():
    frames = [np.full((2, 2, 3), value) for value in (0.0, 0.2, 0.1)]
    assert consecutive(frames) == pytest.approx(0.15 * 255)


def test_the_regression_predicts_what_follows_from_the_audio():
    features = RNG.standard_normal((600, 16, 4)).astype(np.float32)
    shapes = features[:, 4:12].mean(axis=1) @ RNG.standard_normal((4, 6)).astype(np.float32)
    opening = 0.05 + 0.01 * shapes[:, 0]
    sequence = make_sequence(600).with_track(features=features, lip_shapes=shapes, mouth_opening=opening)
    sequence = replace(sequence, feature_info=FeatureInfo("a file", None, 4))
    predicted = held_out_speech.predicted_shapes(sequence, 4)
    error = held_out_speech.relative_error
    assert error(predicted, shapes) < 0.5 < error(predicted[::-1], shapes)
    openings = held_out_speech.predicted_openings(predicted, sequence)
    assert np.corrcoef(openings, opening)[0, 1] > 0.8
    assert error(np.broadcast_to(shapes.mean(axis=0), shapes.shape), shapes) == pytest.approx(1.0)


def test_steady_motion_does_not_flicker():
    steady = [np.full((4, 4), 0.1 * k) for k in range(5)]
    assert second(steady) == pytest.approx(0.0, abs=1e-9)
    steady[2] = steady[2] + 0.1
    # Of three second differences 0.1, -0.2 and 0.1.
    assert second(steady) == pytest.approx(255.0 * 0.4 / 3.0)


def test_a_rim_is_around_the_head_and_away_from_the_torso():
    head, torso = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    head[10:25, 10:30], torso[25:, 5:35] = True, True
    rim = rim_of(head, torso, 2)
    assert rim[8, 20] and rim[11, 20] and not rim[7, 20] and not rim[12, 20]
    assert not rim[21:].any() and rim[20].any()


def test_a_layer_hides_its_background_by_its_opacity():
    layer = np.concatenate([np.full((1, 1, 3), 0.1), np.full((1, 1, 1), 0.25)], axis=2).astype(np.float32)
    np.testing.assert_allclose(composed(layer, np.array([1.0, 0.0, 0.4])), [[[0.85, 0.1, 0.4]]], rtol=1e-6)


class Ball:
    """A head in the shape of a ball, with a hole that only views from the side show."""

    size = 64

    def __init__(self) -> None:
        clip = make_sequence(4)
        track = replace(clip.track, camera_to_worlds=poses(4)[:, :3].astype(np.float32))
        self.clip = replace(clip, track=track)

    def show(self, frame: int, yaw: float = 0.0, pitch: float = 0.0) -> dict[str, np.ndarray]:
        y, x = np.mgrid[:64, :64] - 31.5
        opacity = (np.hypot(y, x) < 20.0).astype(float)
        if yaw:
            opacity[31:33, 31:33] = 0.5
        return {"head_opacity": opacity[..., None]}


def test_holes_are_what_shows_through_inside_of_the_outline():
    found = holes(Ball())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert found["front"] == found["pitch 20 degrees"] == pytest.approx(0.0)
    assert found["yaw 30 degrees"] == pytest.approx(100.0 * 4 * 0.5 / (np.pi * 19.0**2), rel=0.1)
