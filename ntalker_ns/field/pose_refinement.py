"""Small corrections of the tracked head poses, learned from the pictures while the field is.

Landmarks leave errors of a few pixels that no landmark sees (pose and depth pull against each other), and frames
that do not agree on where things are cannot all be sharp. Gradients of the photometric loss reach sample positions
through the hash grid, and from there these corrections.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def rotation_matrices(vectors: Float[Tensor, "frames 3"]) -> Float[Tensor, "frames 3 3"]:
    """Rotations from axis-angle vectors in radians (the exponential map)."""
    x, y, z = vectors.unbind(dim=-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


class PoseRefinement(nn.Module):
    """One rigid correction a clip frame, applied in head space: x' = R(w) x + t.

    Rotating about the head's centre, and not about the camera's, keeps rotation and translation from fighting.

    Frames that are not trained have no correction of their own, but most of a correction is no accident of its frame:
    a focal length or a face depth that is a little wrong bends all poses of a clip alike, so that corrections follow
    the pose. What they have in common is fitted over the training frames, as an affine map of the tracked pose, and
    applied to every camera, held out or free. Nothing but training poses enters the fit.
    """

    trained: Tensor
    tracked: Tensor

    def __init__(self, camera_to_worlds: Float[Tensor, "frames 3 4"], ridge: float = 0.05) -> None:
        """
        Args:
            camera_to_worlds: the tracker's poses of the clip's frames.
            ridge: pull of the affine map towards the mean correction, as a share of the frames.
        """
        super().__init__()
        frames = len(camera_to_worlds)
        self.ridge = ridge
        self.vectors = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("trained", torch.zeros(frames, dtype=torch.bool))
        self.register_buffer("tracked", camera_to_worlds.clone())

    def mark_trained(self, frames: Int[Tensor, "trained"]) -> None:
        """Says which clip frames are trained on."""
        self.trained[frames] = True

    def of_frames(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames 6"]:
        """Rotation vector (radians) and translation (world units) of training frames."""
        return self.vectors[frames]

    @torch.no_grad()
    def of_pose(self, camera_to_world: Float[Tensor, "3 4"]) -> Float[Tensor, "1 6"]:
        """What the corrections of the training frames say of a camera that was not trained.

        Args:
            camera_to_world: the tracker's pose, or a free camera's.
        """
        if not bool(self.trained.any()):
            return torch.zeros_like(self.vectors[:1])
        poses, corrections = self.tracked[self.trained], self.vectors[self.trained]
        return follow_poses(poses, corrections, camera_to_world[None], self.ridge)

    def spread(self) -> Tensor:
        """Mean squared size of the corrections: a weak pull towards the tracker."""
        return self.vectors.square().mean()


def follow_poses(
    poses: Float[Tensor, "frames 3 4"],
    values: Float[Tensor, "frames channels"],
    asked: Float[Tensor, "others 3 4"],
    ridge: float = 0.05,
) -> Float[Tensor, "others channels"]:
    """What values of frames have in common with their poses, at other poses: an affine map fitted by least squares.

    Args:
        poses: of the frames whose values are known, at least one.
        values: theirs.
        asked: poses; beyond the known ones each counts as the nearest of them, axis by axis: an affine map is not to
            be trusted there.
        ridge: pull of the map towards the mean value, as a share of the frames.
    """
    center = poses[:, :, :3].double().mean(dim=0)
    inputs, places = _pose_features(poses.double(), center), _pose_features(asked.double(), center)
    places = torch.minimum(torch.maximum(places, inputs.amin(dim=0)), inputs.amax(dim=0))
    mean, scale = inputs.mean(dim=0), inputs.std(dim=0, correction=0) + 1e-9
    inputs, places = (inputs - mean) / scale, (places - mean) / scale
    usual = values.double().mean(dim=0)
    normal = inputs.T @ inputs + ridge * len(inputs) * torch.eye(6, dtype=inputs.dtype, device=inputs.device)
    slopes = torch.linalg.solve(normal, inputs.T @ (values.double() - usual))
    return (usual + places @ slopes).to(values.dtype)


def _pose_features(
    camera_to_worlds: Float[Tensor, "frames 3 4"], center: Float[Tensor, "3 3"]
) -> Float[Tensor, "frames 6"]:
    """Rotation away from a mean orientation (the sine of its angle along its axis) and position."""
    relative = camera_to_worlds[:, :, :3] @ center.T
    skew = 0.5 * (relative - relative.transpose(1, 2))
    rotation = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
    return torch.cat([rotation, camera_to_worlds[:, :, 3]], dim=-1)


def apply_per_frame(
    positions: Float[Tensor, "samples 3"], corrections: Float[Tensor, "frames 6"], counts: list[int]
) -> Float[Tensor, "samples 3"]:
    """Moves the samples of each frame by the frame's correction.

    Args:
        positions: world, grouped by frame.
        corrections: rotation vectors and translations.
        counts: samples of each frame.
    """
    # The half precision of autocast would round positions to cells of the grid.
    with torch.autocast(positions.device.type, enabled=False):
        rotations = rotation_matrices(corrections[:, :3])
        moved = [
            part @ rotation.T + shift
            for part, rotation, shift in zip(positions.split(counts), rotations, corrections[:, 3:], strict=True)
        ]
    return torch.cat(moved)


@torch.no_grad()
def corrected_rays(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    corrections: Float[Tensor, "frames 6"],
    counts: list[int],
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """The rays whose points are those of the frames' rays after `apply_per_frame`; no gradient.

    Args:
        origins: world, grouped by frame.
        directions: unit.
        corrections: rotation vectors and translations.
        counts: rays of each frame.
    """
    turns = torch.cat([corrections[:, :3], torch.zeros_like(corrections[:, 3:])], dim=-1)
    return apply_per_frame(origins, corrections, counts), apply_per_frame(directions, turns, counts)
