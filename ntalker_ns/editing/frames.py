"""The N frames of an edit in memory, and the training patches cut from them."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from nerfstudio.cameras.cameras import Cameras

from ntalker_ns.data import pixel_sampling
from ntalker_ns.data.images import polygon_mask, scaled_boxes
from ntalker_ns.data.training_rays import EditInputs, PixelWindow, TrainingRays
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.outline import edited_opacity, within_outline
from ntalker_ns.editing.plan import EditPlan, EditRegion
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import lip_contours
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.training.transfers import to_device

CHANGED_PATCHES = 0.5
"""Fraction of the large patches that are drawn where the edit has changed most; the others lie anywhere. A drawn rim or
spot is small, and would be learned last."""
CELL = 8
"""Side in px of the cells in which change is averaged."""
COVERED = 0.5
"""Target opacity of the head from which on torso and background do not learn a pixel."""


def edit_indices(count: int, editable: Int64[np.ndarray, " total"]) -> Int64[np.ndarray, " count"]:
    """Indices of the frames that are edited, evenly spaced over those that may be.

    Args:
        count: how many; at most as many as there are.
        editable: frames of the driving sequence.
    """
    return editable[evenly_spaced(count, len(editable))]


@dataclass
class EditFrames:
    """N frames of a driving sequence at training size."""

    driving: DrivingSequence
    indices: Int64[np.ndarray, " n"]
    """Of the frames in the driving sequence."""
    cameras: Cameras
    """One for each frame, with times."""
    plate: Float32[np.ndarray, "h w 3"]
    """The background without the person, as seen by the clip's camera at this size."""
    unedited: UInt8[np.ndarray, "n h w 3"]
    """Renders of the unedited head."""
    opacities: UInt8[np.ndarray, "n h w 2"]
    """Opacities of head and torso in them, 0 to 255."""
    lips: Bool[np.ndarray, "n h w"]
    """Lip masks of them."""
    edited: UInt8[np.ndarray, "n h w 3"]
    """The training targets."""
    behind: UInt8[np.ndarray, "n h w 3"] | None = None
    """Torso and background without the head; None: outlines are kept."""

    def __post_init__(self) -> None:
        self.held = self.opacities.copy()
        """Target opacities of head and torso (n, h, w, 2), 0 to 255."""
        self._changed = [
            _changed_cells(edited, before) for edited, before in zip(self.edited, self.unedited, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.indices)

    def set_edited(self, frame: int, edited: UInt8[np.ndarray, "h w 3"]) -> None:
        """Makes an edited picture a frame's target; where outlines may change, also the opacity of its head."""
        self.edited[frame] = edited
        self._changed[frame] = _changed_cells(edited, self.unedited[frame])
        self.held[frame, ..., 0] = to_uint8(self.head_in(frame, from_uint8(edited)))[..., 0]

    def head_in(self, frame: int, edited: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 1"]:
        """Opacity of the head in an edited picture of a frame, 0 to 1."""
        head, torso = np.split(from_uint8(self.opacities[frame]), 2, axis=-1)
        if self.behind is None:
            return head
        return edited_opacity(edited, from_uint8(self.unedited[frame]), head, torso, from_uint8(self.behind[frame]))

    def within_outline(
        self, frame: int, edited: Float32[np.ndarray, "h w 3"], behind: Float32[np.ndarray, "h w 3"]
    ) -> Float32[np.ndarray, "h w 3"]:
        """An edited picture of a frame without what was painted beside the head; see `outline.within_outline`."""
        head, torso = np.split(from_uint8(self.opacities[frame]), 2, axis=-1)
        return within_outline(edited, from_uint8(self.unedited[frame]), head, torso, behind)

    def region(
        self, frame: int, region: EditRegion, head: Float32[np.ndarray, "h w 1"]
    ) -> Float32[np.ndarray, "h w 1"]:
        """Fraction of each pixel of a frame that belongs to the edited region, 0 to 1.

        Args:
            frame: index among the N frames.
            region: which.
            head: opacity of the head in the edited picture.
        """
        head = np.maximum(head, from_uint8(self.opacities[frame, ..., :1]))
        torso = from_uint8(self.opacities[frame, ..., 1:])
        if region == "head":
            return head
        return head + (1 - head) * torso if region == "portrait" else np.ones_like(head)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px."""
        return self.edited.shape[2], self.edited.shape[1]

    def patch(
        self, rng: np.random.Generator, frame: int, side: int, on_lips: bool, device: torch.device
    ) -> tuple[TrainingRays, dict[str, Any]]:
        """A patch of a frame, as rays and batch of `EditModel`.

        Args:
            rng: draws its position.
            frame: index among the N frames.
            side: px; at most the frame's.
            on_lips: whether it lies on the lips and includes the inputs of the lip-edge loss.
            device: of the result.
        """
        from ntalker_ns.kernels.numba.pixels import Rays, cast_rays

        side = min(side, *self.size)
        box = self._lip_box(frame) if on_lips else self._changed_box(rng, frame)
        x, y = pixel_sampling.patch(rng, side, box, self.size)
        poses = self.driving.track.camera_to_worlds[self.indices[[frame]]]
        rays = Rays.of(len(x))
        cast_rays(poses, self._intrinsics(), x, y, rays)

        def put(values: np.ndarray) -> torch.Tensor:
            return to_device(torch.from_numpy(np.ascontiguousarray(values)), device)

        edited, held = from_uint8(self.edited[frame][y, x]), from_uint8(self.held[frame][y, x])
        bundle = TrainingRays(
            origins=put(rays.origins),
            directions=put(rays.directions),
            pixel_area=put(rays.areas),
            camera_indices=torch.full((len(x), 1), frame, device=device),
            times=torch.full((len(x), 1), float(self.driving.track.times[self.indices[frame]]), device=device),
            step=EditInputs(
                # On the CPU: reading it from a GPU would synchronise.
                frames=torch.tensor([int(self.indices[frame])]),
                place=put(((np.stack([x, y], axis=1) + 0.5) / np.array(self.size)).astype(np.float32)),
                plate=put(self.plate[y, x]),
                edited=put(edited),
                covered=put((held[:, :1] > COVERED).astype(np.float32)),
                windows=[
                    PixelWindow.of_pixels(put(poses[0]), self._intrinsics(), (int(x[0]), int(y[0])), (side, side))
                ],
            ),
        )
        batch: dict[str, Any] = {
            "edited": put(_planes(edited, side)),
            "opacities": put(held),
        }
        if on_lips:
            batch["unedited"] = put(_planes(from_uint8(self.unedited[frame][y, x]), side))
            batch["lip_mask"] = put(self.lips[frame][y, x].astype(np.float32).reshape(1, 1, side, side))
        return bundle, batch

    def _changed_box(self, rng: np.random.Generator, frame: int) -> Float[np.ndarray, "4"] | None:
        """A cell that the edit has changed, drawn by how much, in px as x0, y0, x1, y1; None: anywhere."""
        chances = self._changed[frame]
        if chances is None or rng.random() >= CHANGED_PATCHES:
            return None
        row, column = np.unravel_index(rng.choice(chances.size, p=chances.ravel()), chances.shape)
        left, top = CELL * float(column), CELL * float(row)
        return np.array([left, top, min(left + CELL, self.size[0]), min(top + CELL, self.size[1])])

    def _lip_box(self, frame: int) -> Float[np.ndarray, "4"]:
        """x0, y0, x1, y1 of the lips in px."""
        rows, columns = np.nonzero(self.lips[frame])
        if len(rows):
            return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
        scale = self.size[0] / self.driving.camera.width, self.size[1] / self.driving.camera.height
        return scaled_boxes(self.driving.track.lip_boxes[self.indices[frame]][None], scale)[0].astype(np.float64)

    def _intrinsics(self) -> tuple[float, float, float, float]:
        cameras = self.cameras
        return tuple(float(getattr(cameras, name)[0]) for name in ("fx", "fy", "cx", "cy"))  # type: ignore[return-value]


@dataclass(frozen=True)
class Supervision:
    """What a head is trained on between dataset updates: patches of the edited frames, by the plan."""

    frames: EditFrames
    plan: EditPlan

    def on_lips(self, step: int) -> bool:
        """Whether the patch of a training step lies on the lips."""
        return self.plan.on_lips(step)

    def patch(self, step: int, rank: int, device: torch.device) -> tuple[TrainingRays, dict[str, Any]]:
        """The patch of a training step.

        Args:
            step: training step.
            rank: of the process.
            device: of the result.
        """
        on_lips = self.plan.on_lips(step)
        side = self.plan.config.lip_patch_size if on_lips else self.plan.config.patch_size
        rng = self.plan.patch_rng(step, rank)
        return self.frames.patch(rng, self.plan.frame_of(step, rank), side, on_lips, device)


class NoSupervision:
    """Stands for the frames of an edit until there are some."""

    def on_lips(self, step: int) -> bool:
        """See `Supervision`."""
        return False

    def patch(self, step: int, rank: int, device: torch.device) -> tuple[TrainingRays, dict[str, Any]]:
        """Raises an `NTalkerError`."""
        raise NTalkerError("An edit trains on edited frames, and there are none yet: start it with ns-train.")


def lip_masks(
    driving: DrivingSequence,
    indices: Int64[np.ndarray, " n"],
    shapes: Float[np.ndarray, "n lip_dim"],
    size: tuple[int, int],
) -> Bool[np.ndarray, "n h w"]:
    """Masks of the lips in rendered pictures, inside their outer outline: the rig's landmarks, moved by the lip shapes
    that the head shows, as the frames' cameras see them.

    Args:
        driving: the person and the cameras.
        indices: of the pictures in the driving sequence.
        shapes: of the lips in them.
        size: width and height of the pictures in px.
    """
    rig, camera = driving.rig, driving.camera.resized(size)
    outer, _ = lip_contours(len(rig.lip_points))
    flat = rig.lip_points[outer] + np.einsum("nd,dpc->npc", shapes, rig.lip_basis[:, outer])
    depth = np.full(flat.shape[:2], rig.keypoints["mouth"][1])
    points = np.stack([flat[..., 0], depth, flat[..., 1]], axis=-1)
    poses = driving.track.camera_to_worlds[indices]
    seen = np.einsum("npi,nij->npj", points - poses[:, None, :, 3], poses[:, :, :3])
    x = camera.cx - camera.fl_x * seen[..., 0] / seen[..., 2]
    y = camera.cy + camera.fl_y * seen[..., 1] / seen[..., 2]
    return np.stack([polygon_mask(outline, size) for outline in np.stack([x, y], axis=-1)])


def _changed_cells(
    edited: UInt8[np.ndarray, "h w 3"], unedited: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "rows columns"] | None:
    """How likely each cell is drawn: by the mean square of its change. None: nothing has changed."""
    change = np.square(from_uint8(edited) - from_uint8(unedited)).sum(axis=-1)
    size = -(-change.shape[1] // CELL), -(-change.shape[0] // CELL)
    cells = cv2.resize(change, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    total = cells.sum()
    return cells / total if total > 0.0 else None


def _planes(colours: Float32[np.ndarray, "pixels 3"], side: int) -> Float32[np.ndarray, "1 3 side side"]:
    return colours.reshape(side, side, 3).transpose(2, 0, 1)[None]
