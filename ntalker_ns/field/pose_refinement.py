"""Small corrections of the tracked head poses, learned from the pictures while the field is.

Landmarks leave errors of a few pixels that no landmark sees (pose and depth pull against each other), and frames
that do not agree on where things are cannot all be sharp. Gradients of the photometric loss reach sample positions
through the hash grid, and from there these corrections.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntalker_ns.kernels.backend import automatic_backend
from ntalker_ns.kernels.reference.poses import apply_per_frame_torch, rotation_matrices
from ntalker_ns.training.transfers import CachedNonzero, to_device


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
        self._trained = CachedNonzero(on_host=True)
        self._map = KeptMap(ridge)

    def mark_trained(self, frames: Int[Tensor, "trained"]) -> None:
        """Says which clip frames are trained on."""
        self.trained[frames] = True

    def trained_frames(self) -> Int[Tensor, "trained"]:
        """The clip frames that are trained on, on the host."""
        return self._trained.of(self.trained)

    def of_frames(self, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames 6"]:
        """Rotation vector (radians) and translation (world units) of training frames."""
        return self.vectors[frames]

    def of_pose(self, camera_to_world: Float[Tensor, "3 4"]) -> Float[Tensor, "1 6"]:
        """What the corrections of the training frames say of a camera that was not trained; on the host.

        Args:
            camera_to_world: the tracker's pose, or a free camera's.
        """
        return self._map.at(self, self.vectors, camera_to_world[None])

    def spread(self) -> Tensor:
        """Mean squared size of the corrections: a weak pull towards the tracker."""
        return self.vectors.square().mean()


class PoseMap(NamedTuple):
    """An affine map from poses to values, see `fit_poses`; float64."""

    center: Float[Tensor, "3 3"]
    """The mean orientation."""
    lowest: Float[Tensor, "6"]
    highest: Float[Tensor, "6"]
    """Of the known poses' features."""
    mean: Float[Tensor, "6"]
    slopes: Float[Tensor, "6 channels"]
    usual: Float[Tensor, "channels"]
    """The value at the mean."""

    def at(self, asked: Float[Tensor, "others 3 4"]) -> Float[Tensor, "others channels"]:
        """The values of poses. Beyond the known ones each counts as the nearest of them, axis by axis: an affine map is
        not to be trusted there."""
        places = _pose_features(asked.double(), self.center)
        places = torch.minimum(torch.maximum(places, self.lowest), self.highest)
        return self.usual + (places - self.mean) @ self.slopes


def fit_poses(poses: Float[Tensor, "frames 3 4"], values: Float[Tensor, "frames channels"], ridge: float) -> PoseMap:
    """What values of frames have in common with their poses: an affine map fitted by least squares.

    Args:
        poses: of the frames whose values are known, at least one.
        values: theirs.
        ridge: pull of the map towards the mean value, as a share of the frames.
    """
    center = poses[:, :, :3].double().mean(dim=0)
    inputs = _pose_features(poses.double(), center)
    mean, scale = inputs.mean(dim=0), inputs.std(dim=0, correction=0) + 1e-9
    scaled = (inputs - mean) / scale
    usual = values.double().mean(dim=0)
    normal = scaled.T @ scaled + ridge * len(scaled) * torch.eye(6, dtype=scaled.dtype, device=scaled.device)
    slopes = torch.linalg.solve(normal, scaled.T @ (values.double() - usual))
    return PoseMap(center, inputs.amin(dim=0), inputs.amax(dim=0), mean, slopes / scale[:, None], usual)


class KeptMap:
    """What values of training frames say of other poses: fitted again only after they were written, since all frames of
    a video ask for it, and on the host, where a camera's pose is."""

    def __init__(self, ridge: float = 0.05) -> None:
        """
        Args:
            ridge: see `fit_poses`.
        """
        self._ridge = ridge
        self._key: tuple[int, ...] | None = None
        self._map: PoseMap | None = None
        self._mean = torch.zeros(0)

    @torch.no_grad()
    def at(
        self, known: PoseRefinement, values: Float[Tensor, "frames channels"], asked: Float[Tensor, "others 3 4"]
    ) -> Float[Tensor, "others channels"]:
        """Values at poses, on the host; where nothing was trained, the mean of all.

        Args:
            known: says which frames are trained, and their poses.
            values: of all frames.
            asked: poses, on the host.
        """
        key = (values._version, known.trained._version, known.tracked._version)
        if key != self._key:
            self._key, trained = key, known.trained_frames()
            poses, host = known.tracked.cpu(), values.detach().cpu()
            self._map = fit_poses(poses[trained], host[trained], self._ridge) if len(trained) else None
            self._mean = host.mean(dim=0)
        if self._map is None:
            return self._mean.expand(len(asked), -1)
        return self._map.at(asked).to(values.dtype)


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
    """`apply_per_frame_torch`, by the fastest implementation for the device; positions have no gradient there."""
    backend = automatic_backend(positions.device.type)
    if backend == "numba":
        from ntalker_ns.kernels.numba import poses as numba_poses

        return numba_poses.apply_per_frame(positions, corrections, counts)
    if backend == "triton":
        from ntalker_ns.kernels.triton import poses as triton_poses

        return triton_poses.apply_per_frame(positions, corrections, counts)
    return apply_per_frame_torch(positions, corrections, counts)


@torch.no_grad()
def corrected_rays(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], correction: Float[Tensor, "6"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """The rays whose points are those of a frame's rays after `apply_per_frame`; no gradient.

    Args:
        origins: world.
        directions: unit.
        correction: rotation vector and translation of the frame, on the host.
    """
    rotation, shift = rotation_matrices(correction[None, :3])[0], correction[3:]
    turn, shift = to_device(torch.stack([*rotation.T, shift]), origins.device).split([3, 1])
    return torch.addmm(shift, origins, turn), directions @ turn
