"""One square crop around head and shoulders for the whole clip, so that the background stays still."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.console import quiet_native_logs
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.video_reader import placement

SURVEY_STRIDE = 8
"""Every how many frames the survey looks for faces: a third of a second, in which nobody leaves the picture."""
SIDE_IN_FACES = 2.2
"""Side of the crop in heights of the detected face (brows to chin): leaves room for hair and shoulders."""
CENTRE_DROP = 0.08
"""How far below the face's centre the crop's centre lies, in sides: shoulders need more room than the air above."""


@dataclass(frozen=True)
class Crop:
    """A square of the source picture and the size it is resized to."""

    x0: int
    y0: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        """Output px per source px."""
        return self.size / self.side

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Cuts the square out of a source frame and resizes it."""
        square = image[self.y0 : self.y0 + self.side, self.x0 : self.x0 + self.side]
        if self.side == self.size:
            return np.ascontiguousarray(square)
        interpolation = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        return cv2.resize(square, (self.size, self.size), interpolation=interpolation)


@dataclass(frozen=True)
class Survey:
    """Where faces are in the sampled source frames, all brought to the largest size that the clip has."""

    width: int
    height: int
    sizes: int
    """Different sizes of the pictures: calls change them."""
    frame_count: int
    """Frames of the clip at the steady rate."""
    samples: list[int]
    """Indices of the frames looked at."""
    boxes: list[Float[np.ndarray, "_ 4"]]
    """Per sample: x0, y0, x1, y1 in source px, largest face first."""

    def largest_face(self) -> float:
        """Height of the largest face in px; 0 where there is none."""
        return max((float((boxes[:, 3] - boxes[:, 1]).max()) for boxes in self.boxes if len(boxes)), default=0.0)


@dataclass(frozen=True)
class Person:
    """The person who is filmed, and the crop around them."""

    crop: Crop
    centres: Float[np.ndarray, "frames 2"]
    """Where the centre of the person's face is expected in each cropped frame, px."""
    crowded: bool
    """Whether another face is in the crop."""
    together: int
    """Faces of comparable size seen at once."""
    face: float
    """Height of the face in the clip's own pixels, brows to chin."""

    @classmethod
    def of(cls, survey: Survey, size: int) -> "Person":
        """Chooses the person and the crop from a survey.

        Args:
            survey: faces per sampled frame.
            size: side of the stored frames in px.

        Raises:
            NTalkerError: no sampled frame shows a face.
        """
        track, together = follow_largest(survey)
        crop = choose_crop(track, survey.width, survey.height, size)
        centres, crowded = expected_centres(survey, track, crop), is_crowded(survey, track, crop)
        return cls(crop, centres, crowded, together, float(np.nanmedian(track[:, 3] - track[:, 1])))


def survey_faces(frames: Iterable[UInt8[np.ndarray, "_ _ 3"]], parts: int = 1) -> Survey:
    """Finds faces in every `SURVEY_STRIDE`-th frame.

    Args:
        frames: the clip's frames in the sizes that they are stored in.
        parts: how many times smaller than the picture's shorter side the squares are in which faces are looked for: the
            detector finds none that are smaller than about a tenth of what it is shown. 1: in the whole picture.

    Returns:
        Boxes per sampled frame, and the number of frames.
    """
    from mediapipe.python.solutions import face_detection

    count, samples, boxes, sizes, own = 0, [], [], set(), []
    with quiet_native_logs():
        detector = face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)
    with detector:
        for index, frame in enumerate(frames):
            count, size = index + 1, (frame.shape[1], frame.shape[0])
            sizes.add(size)
            if index % SURVEY_STRIDE == 0:
                samples.append(index)
                boxes.append(_face_boxes(detector, frame) if parts == 1 else _small_faces(detector, frame, parts))
                own.append(size)
    largest = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    placed = [_placed(each, size, largest) for each, size in zip(boxes, own, strict=True)]
    return Survey(largest[0], largest[1], len(sizes), count, samples, placed)


def _small_faces(detector: Any, frame: UInt8[np.ndarray, "h w 3"], parts: int) -> Float[np.ndarray, "faces 4"]:
    """Boxes of the faces in overlapping squares of a picture, largest first, each face once."""
    side = min(frame.shape[:2]) // parts
    rows, columns = (np.unique(np.r_[0 : length - side : side // 2, length - side]) for length in frame.shape[:2])
    found: list[np.ndarray] = []
    for y, x in itertools.product(rows, columns):
        square = np.ascontiguousarray(frame[y : y + side, x : x + side])
        found += list(_face_boxes(detector, square) + np.array([x, y, x, y]))
    kept: list[np.ndarray] = []
    for box in sorted(found, key=_area, reverse=True):
        if all(np.linalg.norm(0.5 * (box[:2] + box[2:] - one[:2] - one[2:])) > one[2] - one[0] for one in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


def _placed(boxes: Float[np.ndarray, "faces 4"], own: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Boxes in a picture that `fitted` brings to another size."""
    scale, x, y = placement(own, size)
    return boxes * scale + np.array([x, y, x, y])


def _face_boxes(detector: Any, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "faces 4"]:
    height, width = frame.shape[:2]
    found = detector.process(frame).detections or []
    boxes = [d.location_data.relative_bounding_box for d in found]
    corners = np.array([[b.xmin, b.ymin, b.xmin + b.width, b.ymin + b.height] for b in boxes]).reshape(-1, 4)
    corners = corners * np.array([width, height, width, height])
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return corners[np.argsort(-areas)]


def follow_largest(survey: Survey) -> tuple[Float[np.ndarray, "samples 4"], int]:
    """Picks one person: the face that is largest over the clip, followed from sample to sample.

    Every face is followed to both sides from where it is largest; the sum of its areas is its size.

    Args:
        survey: faces per sampled frame.

    Returns:
        The person's box per sampled frame (NaN where unseen), and the largest number of faces of comparable size
        (a third of the area or more) seen at once.

    Raises:
        NTalkerError: no sampled frame shows a face.
    """
    if not any(map(len, survey.boxes)):
        raise NTalkerError(
            f"No face was found in any of the {len(survey.boxes)} frames looked at; "
            "film one person from the front, head and shoulders, in good light."
        )
    faces = [(_area(box), i, k) for i, boxes in enumerate(survey.boxes) for k, box in enumerate(boxes)]
    track, most, followed = np.empty((0, 4)), 0.0, set()
    for area, i, k in sorted(faces, reverse=True):
        # Faces this small are not the largest even if they are always there.
        if area * len(survey.boxes) <= most:
            break
        if (i, k) not in followed:
            found, on_it = _follow(survey, i, k)
            followed |= on_it
            total = sum(map(_area, found[~np.isnan(found[:, 0])]))
            track, most = (found, total) if total > most else (track, most)
    together = max(sum(_area(b) > _area(boxes[0]) / 3 for b in boxes) for boxes in survey.boxes if len(boxes))
    return track, together


def _follow(survey: Survey, start: int, face: int) -> tuple[Float[np.ndarray, "samples 4"], set[tuple[int, int]]]:
    """One face followed to both sides from a sample: its boxes, NaN where unseen, and which faces of which samples."""
    track, on_it = np.full((len(survey.boxes), 4), np.nan), set()
    for order in (range(start, len(track)), range(start, -1, -1)):
        last = survey.boxes[start][face]
        for i in order:
            nearest = _continue_track(survey.boxes[i], last)
            if nearest is not None:
                track[i] = last = survey.boxes[i][nearest]
                on_it.add((i, nearest))
    return track, on_it


def _continue_track(boxes: Float[np.ndarray, "faces 4"], last: Float[np.ndarray, "4"]) -> int | None:
    """The box nearest to the last one, if it is near enough to be the same face."""
    if not len(boxes):
        return None
    centres = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    distance = np.linalg.norm(centres - 0.5 * (last[:2] + last[2:]), axis=1)
    nearest = int(np.argmin(distance))
    return nearest if distance[nearest] < last[2] - last[0] else None


def _area(box: Float[np.ndarray, "4"]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def choose_crop(track: Float[np.ndarray, "samples 4"], width: int, height: int, size: int) -> Crop:
    """Chooses the square that holds head and shoulders in every frame.

    Args:
        track: the person's face box per sampled frame, source px, NaN where unseen.
        width: source width in px.
        height: source height in px.
        size: side of the stored frames in px.

    Returns:
        A crop that lies inside the source picture.
    """
    boxes = track[~np.isnan(track[:, 0])]
    face = float(np.percentile(boxes[:, 3] - boxes[:, 1], 90))
    centres = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    low, high = np.percentile(centres, 2, axis=0), np.percentile(centres, 98, axis=0)
    # A head that moves by more than half its size needs more space.
    movement = float(np.max(high - low))
    side = min(round(SIDE_IN_FACES * face + max(0.0, movement - 0.5 * face)), width, height)
    centre = 0.5 * (low + high) + [0.0, CENTRE_DROP * side]
    x0 = int(np.clip(round(centre[0] - side / 2), 0, width - side))
    y0 = int(np.clip(round(centre[1] - side / 2), 0, height - side))
    return Crop(x0, y0, side, size)


def is_crowded(survey: Survey, track: Float[np.ndarray, "samples 4"], crop: Crop) -> bool:
    """Whether a face beside the person's, however small, is in the crop in any frame looked at."""
    low = np.array([crop.x0, crop.y0])
    for boxes, own in zip(survey.boxes, track, strict=True):
        others = boxes[(boxes != own).any(axis=1)]
        if ((others[:, 2:] > low) & (others[:, :2] < low + crop.side)).all(axis=1).any():
            return True
    return False


def expected_centres(
    survey: Survey, track: Float[np.ndarray, "samples 4"], crop: Crop
) -> Float[np.ndarray, "frames 2"]:
    """Where the person's face should be in each cropped frame, interpolated between samples, in stored px."""
    seen = ~np.isnan(track[:, 0])
    centres = 0.5 * (track[seen, :2] + track[seen, 2:])
    at = np.array(list(itertools.compress(survey.samples, seen)))
    columns = [np.interp(np.arange(survey.frame_count), at, centres[:, k]) for k in range(2)]
    return (np.stack(columns, axis=1) - [crop.x0, crop.y0]) * crop.scale
