"""Colour transforms learned from pixels."""

import numpy as np

from ntalker_ns.editing.colour_transform import ColourTransform


def test_an_affine_change_is_found_and_holds_everywhere():
    rng = np.random.default_rng(0)
    colours, places = rng.random((4000, 3)), rng.random((4000, 2))
    matrix, offset = np.array([[-0.3, 0.1, 0.0], [0.0, 0.2, 0.1], [0.2, 0.0, -0.5]]), np.array([0.1, 0.0, -0.1])
    change = colours @ matrix + offset
    transform = ColourTransform.fit(np.hstack([places, colours]) / 0.3, colours, change)
    others = rng.random((500, 3))
    expected = others @ matrix + offset
    near = np.hstack([rng.random((500, 2)), others]) / 0.3
    np.testing.assert_allclose(transform.changes(near, others), expected, atol=0.01)
    far = near + np.array([100.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(transform.changes(far, others), expected, atol=0.01)


def test_places_that_changed_differently_keep_their_own_change():
    rng = np.random.default_rng(1)
    places, colours = rng.random((4000, 1)), rng.random((4000, 3))
    is_left = places < 0.5
    change = np.where(is_left, [0.3, 0.0, 0.0], [0.0, 0.0, -0.2])
    transform = ColourTransform.fit(places / 0.05, colours, change)
    probes = np.array([[0.2], [0.8]]) / 0.05
    np.testing.assert_allclose(transform.changes(probes, np.full((2, 3), 0.5)), [[0.3, 0, 0], [0, 0, -0.2]], atol=0.01)
    # Far from both: what fits all pixels best, here close to their mean.
    far = transform.changes(np.array([[500.0]]), np.full((1, 3), 0.5))
    np.testing.assert_allclose(far, [change.mean(axis=0)], atol=0.03)


def test_it_does_not_depend_on_when_it_is_fitted():
    rng = np.random.default_rng(2)
    features, colours, changes = rng.random((9000, 4)), rng.random((9000, 3)), rng.random((9000, 3))
    first, second = (ColourTransform.fit(features, colours, changes) for _ in range(2))
    np.testing.assert_array_equal(first.maps, second.maps)
