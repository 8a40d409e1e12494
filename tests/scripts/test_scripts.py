"""The scripts beside the package."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.scripts import SCRIPTS, script

from ntalker_ns.errors import NTalkerError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_errors(path: Path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()
    assert path.stat().st_mode & 0o111


def test_lip_sync_of_joined_parts_is_that_of_the_whole():
    lip_sync = script("lip_sync")
    true, noise, shifted = RNG.random(60), 0.1 * RNG.random(60), RNG.random((3, 60))
    parts = [lip_sync.Measured(true[k] + noise[k], true[k], shifted[:, k]) for k in (slice(0, 25), slice(25, 60))]
    sync = lip_sync.Measured.joined(parts).sync()
    assert sync.frames == 60
    assert sync.correlation == pytest.approx(np.corrcoef(true + noise, true)[0, 1])
    np.testing.assert_allclose(sync.shifted, [np.corrcoef(row, true)[0, 1] for row in shifted])


def test_lip_sync_shifts_the_opening_where_no_audio_was_shifted():
    lip_sync = script("lip_sync")
    true = RNG.random(63)
    sync = lip_sync.Measured(true, true, np.zeros((0, 63))).sync()
    assert len(sync.shifted) == 20
    assert sync.beats_shifts
    np.testing.assert_allclose(sync.shifted[0], np.corrcoef(np.roll(true, 3), true)[0, 1])


def test_lip_sync_says_what_it_needs():
    lip_sync = script("lip_sync")
    with pytest.raises(NTalkerError, match="--data"):
        lip_sync.LipSyncOverThirds().main()
    with pytest.raises(NTalkerError, match="three runs"):
        lip_sync.LipSyncOverThirds(runs=(Path("a"), Path("b"))).main()


def test_an_orbit_looks_at_the_head_from_where_it_says():
    orbit = script("portrait_sheet").orbit
    camera = np.array([[1.0, 0, 0, 0], [0, 0, -1, -3], [0, 1, 0, 0]])
    np.testing.assert_allclose(orbit(camera, 0.0, 0.0), camera)
    for yaw, pitch, place in ((0.3, 0, (np.sin(0.3), -np.cos(0.3), 0)), (0, 0.2, (0, -np.cos(0.2), np.sin(0.2)))):
        turned = orbit(camera, yaw, pitch)
        np.testing.assert_allclose(turned[:, 3], 3 * np.array(place), atol=1e-6)
        np.testing.assert_allclose(turned[:, 2], place, atol=1e-6)  # it looks back along this axis
        assert turned[2, 1] > 0.9  # and stays upright


def test_flicker_is_a_mean_over_pairs_of_frames():
    consecutive = script("portrait_sheet").consecutive
    frames = [np.full((2, 2, 3), value) for value in (0.0, 0.2, 0.1)]
    assert consecutive(frames) == pytest.approx(0.15 * 255)


class Told(SimpleNamespace):
    """What of a driving sequence is asked."""

    def __len__(self) -> int:
        return len(self.features)


def test_hearing_hears_what_follows_from_the_audio():
    hearing = script("hearing")
    features = RNG.standard_normal((600, 16, 4)).astype(np.float32)
    shapes = features[:, 4:12].mean(axis=1) @ RNG.standard_normal((4, 6)).astype(np.float32)
    told = Told(
        features=features,
        lip_shapes=shapes,
        mouth_opening=0.05 + 0.01 * shapes[:, 0],
        feature_info={"extractor": "a file"},
    )
    heard = hearing.heard_shapes(told, 4)
    assert hearing.off(heard, shapes) < 0.5 < hearing.off(heard[::-1], shapes)
    assert hearing.openings(heard, told).correlation > 0.8
    assert hearing.off(np.broadcast_to(shapes.mean(axis=0), shapes.shape), shapes) == pytest.approx(1.0)
