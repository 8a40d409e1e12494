"""Coverage of pixels at the head's outline, against pictures composed with known coverages."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntalker_ns.data.coverage import NOISE, estimate, head_coverage
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, TORSO

SIZE, FINE = 128, 16


def _disc() -> np.ndarray:
    """Coverage of pixels by a disc, from a drawing sixteen times finer."""
    fine = np.zeros((SIZE * FINE, SIZE * FINE), np.float32)
    cv2.circle(fine, (64 * FINE, 60 * FINE), 37 * FINE, (1.0,), -1)
    return cv2.resize(fine, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _composed(coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A head of varied colour over a background of another, and the background."""
    rng = np.random.default_rng(0)
    hair = np.array([70.0, 50.0, 40.0]) + cv2.GaussianBlur(rng.normal(0, 40, (SIZE, SIZE)), (0, 0), 1.0)[..., None]
    behind = np.full((SIZE, SIZE, 3), (60.0, 120.0, 220.0))
    behind += rng.normal(0, 2, behind.shape)
    mixed = coverage[..., None] * hair + (1.0 - coverage[..., None]) * behind
    return np.clip(mixed, 0, 255).astype(np.uint8), np.clip(behind, 0, 255).astype(np.uint8)


def test_rims_are_unmixed():
    coverage = _disc()
    image, behind = _composed(coverage)
    # The labels' outline is off by a pixel.
    labels = np.where(np.roll(coverage, 1, axis=1) > 0.5, HEAD, BACKGROUND).astype(np.uint8)
    found, rim = head_coverage(image, behind, labels), (coverage > 0) & (coverage < 1)
    assert np.abs(found - coverage)[rim].mean() < 0.12
    assert np.abs((labels >= HEAD) - coverage)[rim].mean() > 0.3
    assert np.abs(found - coverage)[~rim].mean() < 0.003


@given(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(-0.3, 0.3), st.integers(0, 10**6))
def test_one_colour_over_another(true, off, seed):
    rng = np.random.default_rng(seed)
    head, behind = rng.uniform(0, 100, 3), rng.uniform(155, 255, 3)
    seen = true * head + (1.0 - true) * behind
    prior = np.clip(np.array([true + off]), 0.0, 1.0)
    seen, behind, head = (colour[None].astype(np.float32) for colour in (seen, behind, head))
    found = estimate(seen, behind, head, np.zeros((1, 3, 3), np.float32), prior)
    # Between the coverages tried, and as far as noise along the line between the colours reaches.
    assert found[0] == pytest.approx(true, abs=0.07 + 4.0 * NOISE / float(np.linalg.norm(head - behind)))


def test_a_background_never_seen_leaves_the_label():
    coverage = _disc()
    image, _ = _composed(coverage)
    behind = np.full_like(image, (250, 240, 20))
    labels = np.where(coverage > 0.5, HEAD, BACKGROUND).astype(np.uint8)
    found = head_coverage(image, behind, labels)
    outside = coverage == 0
    assert found[outside].max() < 0.6
    assert found[outside].mean() < 0.002


def test_next_to_the_torso_the_label_counts():
    coverage = _disc()
    image, behind = _composed(coverage)
    labels = np.where(coverage > 0.5, HEAD, BACKGROUND).astype(np.uint8)
    labels[90:][labels[90:] != HEAD] = TORSO
    found = head_coverage(image, behind, labels)
    np.testing.assert_array_equal(found[92:], labels[92:] == HEAD)
    assert ((found[:80] > 0.1) & (found[:80] < 0.9)).any()


@pytest.mark.parametrize("label", [BACKGROUND, HEAD])
def test_all_head_or_none(label):
    picture = np.zeros((9, 7, 3), np.uint8)
    found = head_coverage(picture, picture, np.full((9, 7), label, np.uint8))
    np.testing.assert_array_equal(found, label == HEAD)
