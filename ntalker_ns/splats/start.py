"""Where the Gaussians of a head begin: on the pixels of a few frames, at the depth of the tracked face."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntalker_ns.face.keypoints import point_rays

OPACITY = 0.7
"""Of each Gaussian at the start."""

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
) -> Float[Tensor, "count columns"]:
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
    places = np.stack([columns[chosen], rows[chosen]], axis=1) + rng.uniform(0.0, 1.0, (count, 2))
    origins, directions = point_rays(places, np.repeat(seen.camera_to_world[None], count, axis=0), seen.intrinsics)
    depths = depth_along(origins, directions, surface) + deeper * rng.uniform(0.0, 1.0, count)
    attributes = np.zeros((count, 14))
    attributes[:, :3] = origins + depths[:, None] * directions
    attributes[:, 3:6] = np.log(size * depths / seen.intrinsics[0])[:, None]
    attributes[:, 6] = 1.0
    attributes[:, 10] = np.log(OPACITY / (1.0 - OPACITY))
    attributes[:, 11:] = seen.image[rows[chosen], columns[chosen]]
    return torch.from_numpy(attributes).float()


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
