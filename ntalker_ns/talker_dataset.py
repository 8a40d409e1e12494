"""The dataset: frames at training size with labels, headless frames and masks of the face."""

import copy
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from ntalker_ns.data.clip import Clip
from ntalker_ns.data.frame_cache import Frame, FrameStore, build_store
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.data.images import polygon_mask, shrink_labels
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import landmark_set
from ntalker_ns.media.pixels import from_uint8


class TalkerDataset(InputDataset):
    """Frames of one split.

    An item has image_idx, image (H, W, 3) and headless_frame (H, W, 3) float32 in [0, 1], labels (H, W) uint8 and
    face_mask (H, W) bool. Where there are no frames (new audio, or the data set is gone) the image is the replayed
    frame's thumbnail enlarged, and labels and face_mask are absent.
    """

    exclude_batch_keys_from_device: list[str] = ["image"]  # noqa: RUF012 (nerfstudio's attribute)

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0):
        if scale_factor != 1.0:
            raise NTalkerError(
                "Frames are resized by --pipeline.datamanager.dataparser.image-size, not by camera-res-scale-factor."
            )
        super().__init__(dataparser_outputs, scale_factor)
        self.driving: DrivingSequence = dataparser_outputs.metadata["driving"]
        self.frame_indices: npt.NDArray[np.int64] = dataparser_outputs.metadata["frame_indices"]
        self.clip: Clip | None = dataparser_outputs.metadata["clip"]
        self.size = (int(self.cameras.width[0]), int(self.cameras.height[0]))
        self._store: FrameStore | None = None
        self._plate: npt.NDArray[np.uint8] | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """Size in px of the dataset's pictures over that of the stored ones, in x and y."""
        return self.size[0] / self.driving.camera.width, self.size[1] / self.driving.camera.height

    def at_size(self, image_size: int) -> "TalkerDataset":
        """The same frames at another size.

        Args:
            image_size: longest side in px, at most that of the data set.
        """
        other = copy.copy(self)
        other.cameras = sequence_cameras(self.driving, self.frame_indices, image_size)
        other.size = (int(other.cameras.width[0]), int(other.cameras.height[0]))
        other._store = other._plate = None
        return other

    def require_clip(self) -> Clip:
        """The data set's frames.

        Raises:
            NTalkerError: there are none; the message says why.
        """
        if self.clip is None:
            raise NTalkerError(self.metadata["no_frames"])
        return self.clip

    def store(self) -> FrameStore:
        """All frames at training size; read at the first call and kept.

        Raises:
            NTalkerError: there are no frames, or one cannot be read.
        """
        if self._store is None:
            self.require_clip()
            self._store = build_store(self.read_frame, len(self), self.size)
        return self._store

    def plate(self) -> npt.NDArray[np.uint8]:
        """The background without the person at training size, RGB."""
        if self._plate is None:
            self._plate = self._resized(self.driving.plate())
        return self._plate

    def read_frame(self, index: int) -> Frame:
        """Reads one frame of the split from the data set and resizes it.

        Raises:
            NTalkerError: there are no frames, or this one cannot be read.
        """
        clip, frame = self.require_clip(), int(self.frame_indices[index])
        labels = shrink_labels(clip.labels(frame), self.size)
        return Frame(
            image=self._resized(clip.image(frame)),
            headless_frame=self._resized(self.driving.headless_frame(frame)),
            labels=labels,
            face_mask=self._face_mask(clip, frame, labels),
        )

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """The image at training size, RGB."""
        if self._store is not None:
            return self._store.frame(image_idx).image
        frame = int(self.frame_indices[image_idx])
        if self.clip is not None:
            return self._resized(self.clip.image(frame))
        return self._resized(self.driving.thumbnail(frame))

    def get_metadata(self, data: dict[str, Any]) -> dict[str, Any]:
        """The other entries of an item with an image."""
        index = data["image_idx"]
        if self.clip is None:
            headless_frame = self._resized(self.driving.headless_frame(int(self.frame_indices[index])))
            return {"headless_frame": _unit(headless_frame)}
        frame = self._store.frame(index) if self._store is not None else self.read_frame(index)
        return {
            "labels": torch.from_numpy(frame.labels),
            "headless_frame": _unit(frame.headless_frame),
            "face_mask": torch.from_numpy(frame.face_mask),
        }

    def _resized(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if picture.shape[1::-1] == self.size:
            return picture
        method = cv2.INTER_AREA if picture.shape[1] > self.size[0] else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(picture, self.size, interpolation=method), np.uint8)

    def _face_mask(self, clip: Clip, frame: int, labels: npt.NDArray[np.uint8]) -> Bool[np.ndarray, "h w"]:
        outline = face_outline(clip.landmarks[frame])
        if np.isfinite(outline).all():
            return polygon_mask(outline * np.array(self.scale), self.size)
        # In frames without landmarks (an interpolated gap) the face is the part of the head inside the face box.
        x0, y0, x1, y1 = np.round(clip.face_boxes[frame] * np.array([*self.scale, *self.scale])).astype(int)
        mask = np.zeros(labels.shape, bool)
        mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
        return mask & (labels >= HEAD)


def face_outline(landmarks: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "k 2"]:
    """The outline of the face among a frame's landmarks, in order."""
    return landmarks[list(landmark_set(len(landmarks)).outline)]


def _unit(picture: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(from_uint8(picture))
