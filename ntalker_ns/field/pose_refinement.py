"""Small corrections of the tracked head poses, learned from the pictures together with the field.

Landmark tracking leaves errors of a few pixels (pose and depth compensate each other), and frames that disagree on
geometry cannot all be sharp. Gradients of the photometric loss reach sample positions through the hash grid, and from
there these corrections.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntalker_ns.kernels.reference.poses import rotation_matrices
from ntalker_ns.training.transfers import CachedNonzero, to_device
from ntalker_ns.training.versioned import Snapshot


class PoseRefinement(nn.Module):
    """One rigid correction per clip frame, applied in head space: x' = R(w) x + t.

    Rotating about the head's centre, not the camera's, decouples rotation from translation.

    Frames that are not trained have no correction of their own, but corrections are mostly systematic: a slightly wrong
    focal length or face depth biases all poses of a clip in a similar way. An affine map from tracked poses to
    corrections is fitted over the training frames and applied to every other camera, held out or free.
    """

    trained: Tensor
    tracked: Tensor

    def __init__(self, camera_to_worlds: Float[Tensor, "frames 3 4"], ridge: float = 0.05) -> None:
        """
        Args:
            camera_to_worlds: the tracker's poses of the clip's frames.
            ridge: regularisation of the affine map towards the mean correction, as a fraction of the frames.
        """
        super().__init__()
        frames = len(camera_to_worlds)
        self.ridge = ridge
        self.vectors = nn.Parameter(torch.zeros(frames, 6))
        self.register_buffer("trained", torch.zeros(frames, dtype=torch.bool))
        self.register_buffer("tracked", camera_to_worlds.clone())
        self._trained = CachedNonzero(on_host=True)
        self._map = CachedPoseMap(ridge)

    def mark_trained(self, frames: Int[Tensor, "trained"]) -> None:
        """Marks clip frames as trained on."""
        self.trained[frames] = True

    def trained_frames(self) -> Int[Tensor, "trained"]:
        """The clip frames that are trained on, on the host."""
        return self._trained.of(self.trained)

    def of_frames(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames 6"]:
        """Rotation vector (radians) and translation (world units) of training frames."""
        return self.vectors[frames]

    def of_pose(self, camera_to_world: Float[Tensor, "3 4"]) -> Float[Tensor, "1 6"]:
        """The correction of a camera that was not trained, predicted from the training frames; on the host.

        Args:
            camera_to_world: the tracker's pose, or a free camera's.
        """
        return self._map.at(self, self.vectors, camera_to_world[None])


class PoseMap(NamedTuple):
    """An affine map from poses to values, see `fit_poses`; float64."""

    center: Float[Tensor, "3 3"]
    """The mean orientation."""
    lowest: Float[Tensor, "6"]
    highest: Float[Tensor, "6"]
    """Of the known poses' features."""
    mean: Float[Tensor, "6"]
    slopes: Float[Tensor, "6 channels"]
    offset: Float[Tensor, "channels"]
    """The value at the mean."""

    def at(self, poses: Float[Tensor, "others 3 4"]) -> Float[Tensor, "others channels"]:
        """The values of poses, clamped feature by feature to the range of the known ones: no extrapolation."""
        features = _pose_features(poses.double(), self.center)
        features = torch.minimum(torch.maximum(features, self.lowest), self.highest)
        return self.offset + (features - self.mean) @ self.slopes


def fit_poses(poses: Float[Tensor, "frames 3 4"], values: Float[Tensor, "frames channels"], ridge: float) -> PoseMap:
    """An affine map from poses to values, by ridge regression.

    Args:
        poses: of the frames whose values are known, at least one.
        values: of the same frames.
        ridge: regularisation of the map towards the mean value, as a fraction of the frames.
    """
    center = poses[:, :, :3].double().mean(dim=0)
    inputs = _pose_features(poses.double(), center)
    mean, scale = inputs.mean(dim=0), inputs.std(dim=0, correction=0) + 1e-9
    scaled = (inputs - mean) / scale
    offset = values.double().mean(dim=0)
    normal = scaled.T @ scaled + ridge * len(scaled) * torch.eye(6, dtype=scaled.dtype, device=scaled.device)
    slopes = torch.linalg.solve(normal, scaled.T @ (values.double() - offset))
    return PoseMap(center, inputs.amin(dim=0), inputs.amax(dim=0), mean, slopes / scale[:, None], offset)


class CachedPoseMap:
    """A `PoseMap` of the training frames' values, on the host, where a camera's pose is; fitted again only after the
    values were written."""

    def __init__(self, ridge: float = 0.05) -> None:
        """
        Args:
            ridge: see `fit_poses`.
        """
        self._ridge = ridge
        self._key: Snapshot | None = None
        self._map: PoseMap | None = None
        self._mean = torch.zeros(0)

    @torch.no_grad()
    def at(
        self, frames: PoseRefinement, values: Float[Tensor, "frames channels"], poses: Float[Tensor, "others 3 4"]
    ) -> Float[Tensor, "others channels"]:
        """Values at poses, on the host; the mean of all values where nothing was trained.

        Args:
            frames: which frames are trained, and their poses.
            values: of all frames.
            poses: on the host.
        """
        key = Snapshot((values, frames.trained, frames.tracked))
        if key != self._key:
            self._key, trained = key, frames.trained_frames()
            tracked, host = frames.tracked.cpu(), values.detach().cpu()
            self._map = fit_poses(tracked[trained], host[trained], self._ridge) if len(trained) else None
            self._mean = host.mean(dim=0)
        if self._map is None:
            return self._mean.expand(len(poses), -1)
        return self._map.at(poses).to(values.dtype)


def _pose_features(
    camera_to_worlds: Float[Tensor, "frames 3 4"], center: Float[Tensor, "3 3"]
) -> Float[Tensor, "frames 6"]:
    """Rotation away from a mean orientation (the sine of its angle along its axis) and position."""
    relative = camera_to_worlds[:, :, :3] @ center.T
    skew = 0.5 * (relative - relative.transpose(1, 2))
    rotation = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
    return torch.cat([rotation, camera_to_worlds[:, :, 3]], dim=-1)


@torch.no_grad()
def corrected_rays(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], correction: Float[Tensor, "6"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """The rays whose points are a frame's corrected points, see `kernels.reference.poses.correct_poses`; no gradient.

    Args:
        origins: world.
        directions: unit.
        correction: rotation vector and translation of the frame, on the host.
    """
    rotation, shift = rotation_matrices(correction[None, :3])[0], correction[3:]
    turn, shift = to_device(torch.stack([*rotation.T, shift]), origins.device).split([3, 1])
    return torch.addmm(shift, origins, turn), directions @ turn
