"""The frames of an edit in memory: where they are seen from, what they show, and patches of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from nerfstudio.cameras.cameras import Cameras

from ntalker_ns.data import pixel_sampling
from ntalker_ns.data.images import scaled_boxes
from ntalker_ns.data.training_rays import EditInputs, TrainingRays
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.training.transfers import to_device

UNSEEN = 0.5
"""Side of the mouth that is assumed in a lip box where no lips are found, over the box's."""


def evenly_spaced(count: int, total: int) -> Int64[np.ndarray, " count"]:
    """Frames evenly spaced over a sequence, its first and last among them.

    Raises:
        NTalkerError: there are not so many frames.
    """
    if count > total:
        raise NTalkerError(
            f"--edit.num-frames {count} is more than the {total} frames that drive the head: give {total} or less, or "
            "longer audio."
        )
    return np.linspace(0, total - 1, count).round().astype(np.int64)


@dataclass
class EditFrames:
    """N frames of a driving sequence at training size."""

    driving: DrivingSequence
    indices: Int64[np.ndarray, " n"]
    """Their places in the driving sequence."""
    cameras: Cameras
    """Theirs, with times."""
    plate: Float32[np.ndarray, "h w 3"]
    """The background without the person, as the clip's camera sees it at this size."""
    unedited: UInt8[np.ndarray, "n h w 3"]
    """What the head showed before it was edited."""
    opacities: UInt8[np.ndarray, "n h w 2"]
    """How opaque its head and its torso were, 0 to 255."""
    lips: Bool[np.ndarray, "n h w"]
    """Where its lips were."""
    edited: UInt8[np.ndarray, "n h w 3"]
    """What it is to show."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.edited.shape[2], self.edited.shape[1]

    def patch(
        self, rng: np.random.Generator, frame: int, side: int, on_lips: bool, device: torch.device
    ) -> tuple[TrainingRays, dict[str, Any]]:
        """A patch of a frame, as `EditModel` takes it.

        Args:
            rng: draws its place.
            frame: which of the N.
            side: px; at most the frame's.
            on_lips: whether it lies on the lips, and comes with what the lip-edge loss needs.
            device: where to.
        """
        from ntalker_ns.kernels.numba.pixels import Rays, cast

        side = min(side, *self.size)
        box = self._lip_box(frame) if on_lips else None
        x, y = pixel_sampling.patch(rng, side, box, self.size)
        poses = self.driving.track.camera_to_worlds[self.indices[[frame]]]
        rays = Rays.of(len(x))
        cast(poses, self._intrinsics(), x, y, rays)

        def put(values: np.ndarray) -> torch.Tensor:
            return to_device(torch.from_numpy(np.ascontiguousarray(values)), device)

        edited = _unit(self.edited[frame][y, x])
        bundle = TrainingRays(
            origins=put(rays.origins),
            directions=put(rays.directions),
            pixel_area=put(rays.areas),
            camera_indices=torch.full((len(x), 1), frame, device=device),
            times=torch.full((len(x), 1), float(self.driving.track.times[self.indices[frame]]), device=device),
            step=EditInputs(
                # On the host: a copy to a GPU would have to be read back.
                frames=torch.tensor([int(self.indices[frame])]),
                place=put(((np.stack([x, y], axis=1) + 0.5) / np.array(self.size)).astype(np.float32)),
                plate=put(self.plate[y, x]),
                edited=put(edited),
            ),
        )
        batch: dict[str, Any] = {
            "edited": put(_planes(edited, side)),
            "opacities": put(_unit(self.opacities[frame][y, x])),
        }
        if on_lips:
            batch["unedited"] = put(_planes(_unit(self.unedited[frame][y, x]), side))
            batch["lip_mask"] = put(self.lips[frame][y, x].astype(np.float32).reshape(1, 1, side, side))
        return bundle, batch

    def _lip_box(self, frame: int) -> Float[np.ndarray, "4"]:
        """x0, y0, x1, y1 in px around the lips."""
        rows, columns = np.nonzero(self.lips[frame])
        if len(rows):
            return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
        scale = self.size[0] / self.driving.camera.width, self.size[1] / self.driving.camera.height
        return scaled_boxes(self.driving.track.lip_boxes[self.indices[frame]][None], scale)[0].astype(np.float64)

    def _intrinsics(self) -> tuple[float, float, float, float]:
        cameras = self.cameras
        return tuple(float(getattr(cameras, name)[0]) for name in ("fx", "fy", "cx", "cy"))  # type: ignore[return-value]


def edit_cameras(driving: DrivingSequence, indices: Int64[np.ndarray, " n"], image_size: int | None) -> Cameras:
    """The cameras of some frames, at a longest side in px; None is the clip's."""
    return sequence_cameras(driving, indices, image_size)


def lip_masks(
    pictures: UInt8[np.ndarray, "n h w 3"], driving: DrivingSequence, indices: Int64[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, "n h w"], int]:
    """Where the lips are in rendered pictures, inside of their outer outline.

    Args:
        pictures: in the order of time.
        driving: gives a lip box where no face is found.
        indices: of the pictures in the driving sequence.

    Returns:
        Masks, and in how many pictures the lips were found; elsewhere an ellipse in the middle of the lip box stands
        for them.
    """
    from ntalker_ns.capture.landmarks import MEASURED_AT, face_landmarks
    from ntalker_ns.data.images import polygon_mask
    from ntalker_ns.face.mesh_indices import OUTER_LIPS

    height, width = pictures.shape[1:3]
    outlines = face_landmarks(pictures)[:, OUTER_LIPS] * (max(height, width) / MEASURED_AT)
    scale = width / driving.camera.width, height / driving.camera.height
    boxes = scaled_boxes(driving.track.lip_boxes[indices], scale)
    found = np.isfinite(outlines).all(axis=(1, 2))
    shapes = [outline if seen else _ellipse(box) for outline, seen, box in zip(outlines, found, boxes, strict=True)]
    return np.stack([polygon_mask(shape, (width, height)) for shape in shapes]), int(found.sum())


def _ellipse(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "32 2"]:
    angles = np.arange(32) * (2.0 * np.pi / 32)
    radius = 0.5 * UNSEEN * (box[2:] - box[:2])
    return 0.5 * (box[:2] + box[2:]) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _unit(colours: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    return colours.astype(np.float32) / np.float32(255)


def _planes(colours: Float32[np.ndarray, "pixels 3"], side: int) -> Float32[np.ndarray, "1 3 side side"]:
    return colours.reshape(side, side, 3).transpose(2, 0, 1)[None]
