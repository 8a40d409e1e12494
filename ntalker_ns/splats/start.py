"""Initialisation of the Gaussians of a head: on the pixels of a few frames, at the depth of the tracked face."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntalker_ns.face.keypoints import point_rays

OPACITY = 0.7
"""Of each Gaussian at the start."""

HIDDEN_OPACITY = 0.95
"""Of those behind the surface."""

INSIDE = 1.5
"""Distance of those from the surface and from the head's outline, over their standard deviation."""

STEEPEST = 5.0
"""By how much the surface is stretched at most where it is seen from its side."""

MARCH = 192
"""Steps along a ray to the face's surface."""

REACH = 1.2
"""Half the length of that march, world units; the head's box is 2 wide."""


@dataclass
class SeenHead:
    """A frame of the clip that Gaussians are placed on."""

    image: Float[np.ndarray, "h w 3"]
    """RGB in [0, 1]."""
    where: Bool[np.ndarray, "h w"]
    """The pixels to place Gaussians on."""
    camera_to_world: Float[np.ndarray, "3 4"]
    """OpenGL, with the pose's correction if there is one."""
    intrinsics: tuple[float, float, float, float]
    """fl_x, fl_y, cx, cy in px."""


def unproject(
    seen: SeenHead,
    count: int,
    size: float,
    surface: Float[np.ndarray, "columns columns"],
    deeper: float,
    rng: np.random.Generator,
) -> Float[Tensor, "chosen attributes"]:
    """Gaussians on random pixels of a frame; fewer than wanted if no pixel is to be used.

    Args:
        seen: the frame.
        count: how many.
        size: standard deviation of each, px.
        surface: world y of the face over x and z in [-1, 1].
        deeper: how far behind the surface they lie at most, at random, world units.
        rng: draws the pixels.

    Returns:
        Attributes in the order of `ntalker_ns.splats.gaussians.WIDTHS`.
    """
    rows, columns = np.nonzero(seen.where)
    if not len(rows) or count <= 0:
        return torch.zeros(0, 14)
    chosen = rng.permutation(np.resize(rng.permutation(len(rows)), max(count, len(rows))))[:count]
    attributes = _on_pixels(seen, np.stack([columns[chosen], rows[chosen]], axis=1), size, surface, (0.0, deeper), rng)
    attributes[:, 10] = np.log(OPACITY / (1.0 - OPACITY))
    return torch.from_numpy(attributes).float()


def fill_behind(
    seen: SeenHead,
    count: int,
    cover: float,
    surface: Float[np.ndarray, "columns columns"],
    deeper: float,
    rng: np.random.Generator,
) -> Float[Tensor, "chosen attributes"]:
    """Gaussians behind what a frame shows, equally many for each area of the surface; none at the outline, beyond which
    they would be seen.

    Args:
        seen: the frame.
        count: how many.
        cover: optical depth of all together, where the surface is seen from its own direction.
        surface: world y of the face over x and z in [-1, 1].
        deeper: how far behind the surface they lie at most, at random, beside their own size, world units.
        rng: draws the pixels.

    Returns:
        See `unproject`.
    """
    rows, columns = np.nonzero(seen.where)
    if not len(rows) or count <= 0:
        return torch.zeros(0, 14)
    stretch = _stretch(seen, surface)
    # count Gaussians of size s cover 2 pi s^2 each, as often as their opacity says.
    optical = -np.log1p(-HIDDEN_OPACITY)
    size = float(np.sqrt(cover * stretch[rows, columns].sum() / (count * 2.0 * np.pi * optical)))
    inside = cv2.distanceTransform(seen.where.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) > INSIDE * size
    rows, columns = np.nonzero(inside if inside.any() else seen.where)
    # One in each piece of equal area along a curve that keeps neighbours together: at random there would be holes.
    curve = np.argsort(_along_curve(rows, columns))
    areas = np.cumsum(stretch[rows, columns][curve])
    chosen = curve[np.searchsorted(areas, (np.arange(count) + 0.5) / count * areas[-1])]
    attributes = _on_pixels(
        seen, np.stack([columns[chosen], rows[chosen]], axis=1), size, surface, (INSIDE * size, deeper), rng
    )
    attributes[:, 10] = np.log(HIDDEN_OPACITY / (1.0 - HIDDEN_OPACITY))
    return torch.from_numpy(attributes).float()


def _on_pixels(
    seen: SeenHead,
    pixels: Int[np.ndarray, "count 2"],
    size: float,
    surface: Float[np.ndarray, "columns columns"],
    behind: tuple[float, float],
    rng: np.random.Generator,
) -> Float[np.ndarray, "count attributes"]:
    """Attributes of Gaussians somewhere in these pixels (x, y), without opacities; they lie behind the surface by so
    many px, and at random by as much as this more, world units."""
    count = len(pixels)
    places = pixels + rng.uniform(0.0, 1.0, (count, 2))
    origins, directions = point_rays(places, np.repeat(seen.camera_to_world[None], count, axis=0), seen.intrinsics)
    depths = depth_along(origins, directions, surface)
    depths = depths * (1.0 + behind[0] / seen.intrinsics[0]) + behind[1] * rng.uniform(0.0, 1.0, count)
    attributes = np.zeros((count, 14))
    attributes[:, :3] = origins + depths[:, None] * directions
    attributes[:, 3:6] = np.log(size * depths / seen.intrinsics[0])[:, None]
    attributes[:, 6] = 1.0
    attributes[:, 11:] = seen.image[pixels[:, 1], pixels[:, 0]]
    return attributes


def _along_curve(rows: Int[np.ndarray, "n"], columns: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Places of pixels on Morton's curve: the bits of both coordinates in turn."""
    bits = np.arange(16)
    spread = [((values[:, None] >> bits & 1) << 2 * bits).sum(axis=1) for values in (rows, columns)]
    return 2 * spread[0] + spread[1]


def _stretch(seen: SeenHead, surface: Float[np.ndarray, "columns columns"]) -> Float[np.ndarray, "h w"]:
    """Area of the surface over that of the pixel it is seen in, at most `STEEPEST`; 1 outside of the head."""
    depths = np.zeros(seen.where.shape)
    rows, columns = np.nonzero(seen.where)
    places = np.stack([columns, rows], axis=1) + 0.5
    origins, directions = point_rays(places, np.repeat(seen.camera_to_world[None], len(rows), axis=0), seen.intrinsics)
    depths[rows, columns] = depth_along(origins, directions, surface)
    smooth = cv2.GaussianBlur(depths, (0, 0), 1.5) / np.maximum(
        cv2.GaussianBlur(seen.where.astype(float), (0, 0), 1.5), 1e-6
    )
    slopes = np.gradient(smooth) / np.maximum(smooth, 1e-6) * seen.intrinsics[0]
    return np.where(seen.where, np.minimum(np.sqrt(1.0 + np.square(slopes).sum(axis=0)), STEEPEST), 1.0)


def depth_along(
    origins: Float[np.ndarray, "rays 3"],
    directions: Float[np.ndarray, "rays 3"],
    surface: Float[np.ndarray, "columns columns"],
) -> Float[np.ndarray, "rays"]:
    """Distance at which rays first pass behind a surface; where they do not, that of their point nearest to the origin.

    Args:
        origins: world.
        directions: unit.
        surface: world y over x and z in [-1, 1].
    """
    middle = -(origins * directions).sum(axis=1)
    steps = np.linspace(-REACH, REACH, MARCH)
    points = origins[:, None] + (middle[:, None] + steps)[..., None] * directions[:, None]
    columns = len(surface)
    i, j = (np.clip(((points[..., axis] + 1.0) * 0.5 * columns).astype(int), 0, columns - 1) for axis in (0, 2))
    behind = points[..., 1] >= surface[i, j]
    first = behind.argmax(axis=1)
    return np.where(behind.any(axis=1), middle + steps[first], middle)


def round_surface(keypoints: dict[str, Float[np.ndarray, "3"]], columns: int) -> Float[np.ndarray, "columns columns"]:
    """A face's depth where none is tracked: a ball through the eyes' and the mouth's depth.

    Args:
        keypoints: of the rig.
        columns: of the result along x and along z.
    """
    eyes = 0.5 * (keypoints["left_eye"] + keypoints["right_eye"])
    unit = float(np.linalg.norm(keypoints["left_eye"] - keypoints["right_eye"]))
    radius = 1.4 * unit
    middle = 0.5 * (eyes + keypoints["mouth"]).astype(np.float64)
    axis = (np.arange(columns) + 0.5) * (2.0 / columns) - 1.0
    x, z = np.meshgrid(axis - middle[0], axis - middle[2], indexing="ij")
    height = np.sqrt(np.maximum(radius**2 - x**2 - z**2, 0.0))
    return middle[1] + radius - height
