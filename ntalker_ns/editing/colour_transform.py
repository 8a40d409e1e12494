"""A smooth transform of colours, learned from what an edit did to some pixels, for pixels that it does not show."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.cluster.vq import kmeans2

ANCHORS = 160
"""Places in the space of position and colour at which an affine map is fitted."""
SAMPLES = 8000
"""Most pixels that it is learned from."""
RIDGE = 2.0
"""Pixels by which the map of an anchor is pulled to the global one."""
NEAR = 4.0
"""Squared distance to the nearest anchor, in kernel widths, from which on the global map takes over."""


@dataclass(frozen=True)
class ColourTransform:
    """Locally weighted affine maps from a pixel's colour to the change of its colour.

    A pixel's features are its position and its colour, each in units of its kernel's width: pixels near in both have
    been changed alike. Far from all that was seen, the map fitted to everything is used.
    """

    anchors: Float32[np.ndarray, "anchors features"]
    maps: Float32[np.ndarray, "anchors 4 3"]
    """From (red, green, blue, 1) to the change."""
    overall: Float32[np.ndarray, "4 3"]
    """The map fitted to all pixels."""

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "pixels features"],
        colours: Float[np.ndarray, "pixels 3"],
        changes: Float[np.ndarray, "pixels 3"],
    ) -> "ColourTransform":
        """Fits the maps.

        Args:
            features: of the pixels, in kernel widths.
            colours: before the edit.
            changes: of them.
        """
        rng = np.random.default_rng(0)
        drawn = rng.permutation(len(colours))[:SAMPLES]
        features, changes = features[drawn].astype(np.float32), changes[drawn].astype(np.float32)
        inputs = _with_one(colours[drawn])
        scatter = inputs.T @ inputs + 1e-3 * len(inputs) * np.diag([1.0, 1.0, 1.0, 1e-3])
        overall = np.linalg.solve(scatter, inputs.T @ changes)
        count = min(ANCHORS, max(len(features) // 20, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # An empty cluster keeps its place.
            # The pixels are in random order: the first ones are a fair start.
            anchors, _ = kmeans2(features, features[:count], iter=8, minit="matrix")
        weights = np.exp(-0.5 * _squared_distances(anchors.astype(np.float32), features))
        residual = changes - inputs @ overall
        normal = np.einsum("an,ni,nj->aij", weights, inputs, inputs, optimize=True)
        normal += RIDGE * np.diag([0.1, 0.1, 0.1, 1.0])
        right = np.einsum("an,ni,nj->aij", weights, inputs, residual, optimize=True)
        maps = overall + np.linalg.solve(normal, right)
        return cls(anchors.astype(np.float32), maps.astype(np.float32), overall.astype(np.float32))

    def changes(
        self, features: Float[np.ndarray, "pixels features"], colours: Float[np.ndarray, "pixels 3"]
    ) -> Float32[np.ndarray, "pixels 3"]:
        """How the edit would have changed pixels.

        Args:
            features: as for `fit`.
            colours: before the edit.
        """
        squared = _squared_distances(features.astype(np.float32), self.anchors)
        nearest = squared.min(axis=1, keepdims=True)
        weights = np.exp(-0.5 * (squared - nearest))
        weights /= weights.sum(axis=1, keepdims=True)
        known = 1.0 / (1.0 + (nearest / NEAR) ** 2)
        mixed = (weights @ self.maps.reshape(len(self.maps), -1)).reshape(-1, 4, 3)
        mixed = self.overall + known[..., None] * (mixed - self.overall)
        return np.einsum("ni,nij->nj", _with_one(colours), mixed).astype(np.float32)


def _with_one(colours: Float[np.ndarray, "pixels 3"]) -> Float32[np.ndarray, "pixels 4"]:
    return np.concatenate([colours, np.ones((len(colours), 1))], axis=1).astype(np.float32)


def _squared_distances(
    points: Float32[np.ndarray, "n features"], others: Float32[np.ndarray, "m features"]
) -> Float32[np.ndarray, "n m"]:
    cross = points @ others.T
    squared = (points**2).sum(axis=1)[:, None] - 2.0 * cross + (others**2).sum(axis=1)
    return np.maximum(squared, 0.0)
