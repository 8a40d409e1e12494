"""Labels per pixel: background, torso, head, lips, mouth interior."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ntalker_ns.capture import colours
from ntalker_ns.capture.motion_cue import MotionCue
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.face import mesh_indices
from ntalker_ns.media.masks import connected_to, disc

LABEL_NAMES = ("background", "torso", "head", "lips", "mouth interior")

BESIDE_JAW = 0.25
"""Height of the jaw's corners above the chin in face heights: above it all but cloth is head, below it only hair."""
AT_REST = -6.0
"""Log odds of head by motion below which what looks like hair is cloth."""
SAME_AS_PLATE = 10
"""Grey levels of 255 within which a pixel looks like the plate."""
EM_ROUNDS = 5
MAP_ACROSS = np.arange(-1.4, 1.401, 0.05)
"""Columns of the map of where hair falls, in face heights."""
MAP_UP = np.arange(-1.8, 1.001, 0.05)
"""Its rows."""
SEED_FRAMES = 24
"""Frames that the colour model is fitted to."""


@dataclass(frozen=True)
class FaceCoordinates:
    """Pixels of a frame, or some of them, in the face's own upright coordinates, in face heights."""

    across: Float32[np.ndarray, "*pixels"]
    """To the picture's right of the middle between the ears."""
    up: Float32[np.ndarray, "*pixels"]
    """0 at the chin, 1 at the middle of the forehead."""


class HeadParser:
    """Tells head from torso by the jaw's outline, this clip's colours of hair, skin and clothes, where hair falls, and
    what stays in its place when the head moves.

    Args:
        model: the clip's colour model.
        hair_map: log odds of head at each place around the face, on the grid of `MAP_ACROSS` and `MAP_UP`.
        cue: log odds of head by motion.
    """

    def __init__(self, model: colours.ColourModel, hair_map: Float32[np.ndarray, "rows columns"], cue: MotionCue):
        self.model = model
        self.hair_map = hair_map
        self.cue = cue

    def __call__(
        self,
        image: UInt8[np.ndarray, "s s 3"],
        person: Bool[np.ndarray, "s s"],
        points: Float[np.ndarray, "478 2"],
    ) -> UInt8[np.ndarray, "s s"]:
        """Labels one frame.

        Args:
            image: RGB.
            person: the person's matte.
            points: landmarks, px.

        Returns:
            One of the five labels per pixel.
        """
        size = image.shape[0]
        face = fill_polygon(points[mesh_indices.FACE_OVAL], size)
        odds = self.model(colours.to_lab(image)) + look_up(self.hair_map, face_coordinates(points, size))
        head = _head(odds + self.cue(image, points), person | face, face)
        labels = np.where(person | face, TORSO, BACKGROUND).astype(np.uint8)
        labels[head] = HEAD
        return paint_mouth(labels, points)


def _head(odds: np.ndarray, person: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The head by its log odds: smooth, in one piece with the face, without small holes."""
    size = odds.shape[0]
    odds = np.asarray(cv2.GaussianBlur(odds, (0, 0), size / 170))
    candidate = ((odds > 0) & person | face).astype(np.uint8)
    candidate = cv2.morphologyEx(candidate, cv2.MORPH_OPEN, disc(max(1, size // 170)))
    candidate = cv2.morphologyEx(candidate, cv2.MORPH_CLOSE, disc(max(1, size // 100)))
    candidate = candidate.astype(bool) & person | face
    return _fill_small_holes(connected_to(candidate, face), size // 40) & person


def trim_matte(
    person: Bool[np.ndarray, "s s"],
    image: UInt8[np.ndarray, "s s 3"],
    plate: UInt8[np.ndarray, "s s 3"],
    observed: Bool[np.ndarray, "s s"],
) -> Bool[np.ndarray, "s s"]:
    """Takes away what is plainly background at the matte's rim: where it was seen before and looks the same.

    Args:
        person: the matte.
        image: the frame, RGB.
        plate: the background plate.
        observed: where the plate was truly seen.

    Returns:
        The trimmed matte; what has the background's colour inside the person stays.
    """
    red, green, blue = cv2.split(cv2.absdiff(image, plate))
    difference = cv2.max(cv2.max(red, green), blue)
    same = (cv2.blur(difference, (5, 5)) < SAME_AS_PLATE) & observed
    outside = connected_to(~person | same, ~person)
    kept = cv2.morphologyEx((~outside).astype(np.uint8), cv2.MORPH_OPEN, disc(2))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(kept, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] > 0.002 * person.size
    large[0] = False
    return np.take(large, np.asarray(parts, np.int32)) & person


def face_coordinates(points: Float[np.ndarray, "478 2"], size: int) -> FaceCoordinates:
    """Pixel coordinates along and across the line from chin to forehead."""
    chin, top = points[mesh_indices.CHIN], points[mesh_indices.FOREHEAD_TOP]
    ears = 0.5 * (points[mesh_indices.RIGHT_EAR] + points[mesh_indices.LEFT_EAR])
    height = float(np.linalg.norm(top - chin))
    up = (top - chin) / height
    right = np.array([-up[1], up[0]])
    x, y = np.ogrid[:size, :size][::-1]
    x, y = x + 0.5, y + 0.5
    # Neck and hair stay under the ears when the chin turns to a side.
    across = (x * right[0] + y * right[1] - ears @ right) / height
    rise = (x * up[0] + y * up[1] - chin @ up) / height
    return FaceCoordinates(across.astype(np.float32), rise.astype(np.float32))


def fit_head_parser(
    images: Sequence[UInt8[np.ndarray, "s s 3"]],
    people: Sequence[Bool[np.ndarray, "s s"]],
    points: Sequence[Float[np.ndarray, "478 2"]],
) -> HeadParser:
    """Learns this clip's colours, and where below the jaw its hair falls, by expectation maximisation.

    Sure are hair above the forehead and beside the face, skin in the face, the neck under the chin and cloth far below,
    far out or plainly at rest; what lies between is sorted by colour and place in turns.

    Args:
        images: some frames, RGB.
        people: their person mattes.
        points: their landmarks, px.
    """
    cue = MotionCue(images, points)
    samples = [_samples(*frame, cue) for frame in zip(images, people, points, strict=True)]
    lab = np.concatenate([s[0] for s in samples])
    across = np.concatenate([s[1] for s in samples])
    up = np.concatenate([s[2] for s in samples])
    in_face = np.concatenate([s[3] for s in samples])
    at_rest = ~in_face & (np.concatenate([s[4] for s in samples]) < AT_REST)
    place = FaceCoordinates(across, up)
    resting = _share_at(place, ~in_face, at_rest)
    first = _first_map(resting)
    hair_map = first
    sure_hair = ~in_face & (up > BESIDE_JAW + 0.1) & (np.abs(across) < 0.7) & ~at_rest
    sure_other = (
        at_rest | in_face & (up < 0.7) | _is_neck(across, up) | (up < 0.05) & (np.abs(across) > 0.78) | (up < -1.0)
    )
    free = ~in_face & ~sure_hair & ~sure_other & (up < BESIDE_JAW)
    hair = np.where(sure_hair, 1.0, 0.0)
    # Beside the face there are ears too: what has the face's colour counts little.
    model = colours.fit_colour_model(lab, hair, sure_other.astype(np.float64))
    for _ in range(EM_ROUNDS):
        odds = model(lab[:, None])[:, 0]
        posterior = 1.0 / (1.0 + np.exp(-(odds + look_up(hair_map, place))))
        hair = np.where(free, posterior, sure_hair * np.where(odds > -2, 1.0, 0.2))
        other = np.where(free, 1.0 - posterior, sure_other.astype(np.float64))
        model = colours.fit_colour_model(lab, hair, other)
        hair_map = _learn_map(place, ~in_face & free, posterior, first, resting)
    return HeadParser(model, hair_map, cue)


def _samples(
    image: np.ndarray, person: np.ndarray, landmarks: np.ndarray, cue: MotionCue
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every third person pixel of a frame: colour, place, whether it is inside the face, and log odds by motion."""
    size = image.shape[0]
    place = face_coordinates(landmarks, size)
    face = fill_polygon(landmarks[mesh_indices.FACE_OVAL], size)
    near_face = cv2.dilate(face.astype(np.uint8), disc(size // 64)).astype(bool)
    inner = cv2.erode(person.astype(np.uint8), disc(size // 100)).astype(bool)
    taken = inner & (face | ~near_face | (place.up < 0))
    grid = (slice(None, None, 3), slice(None, None, 3))
    keep = taken[grid]
    values = (colours.to_lab(image), place.across, place.up, face, cue(image, landmarks))
    return tuple(each[grid][keep] for each in values)  # type: ignore[return-value]


def _is_neck(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (np.abs(across) < 0.2) & (up < -0.06) & (up > -0.35)


def _first_map(resting: np.ndarray) -> np.ndarray:
    """Before anything is known: hair may fall beside the neck, less so in front of it, far out or far down."""
    across, up = np.meshgrid(np.abs(MAP_ACROSS), MAP_UP)
    odds = -3.0 * np.clip((0.35 - across) / 0.15, 0, 1) - 8.0 * np.clip(across - 0.75, 0, None)
    odds = odds - 3.0 * np.clip(-0.5 - up, 0, None)
    return _with_certainties(odds, resting)


def _cells(place: FaceCoordinates) -> tuple[np.ndarray, np.ndarray]:
    """The map's cell of each place, and which places lie on the map."""
    column = np.rint((place.across - MAP_ACROSS[0]) / (MAP_ACROSS[1] - MAP_ACROSS[0])).astype(int)
    row = np.rint((place.up - MAP_UP[0]) / (MAP_UP[1] - MAP_UP[0])).astype(int)
    inside = (column >= 0) & (column < len(MAP_ACROSS)) & (row >= 0) & (row < len(MAP_UP))
    return row * len(MAP_ACROSS) + column, inside


def _sums(cells: np.ndarray, weights: np.ndarray | None, sigma: float) -> np.ndarray:
    """Sums over the cells of the map, blurred."""
    shape = (len(MAP_UP), len(MAP_ACROSS))
    total = np.bincount(cells, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
    return cv2.GaussianBlur(total.astype(np.float64), (0, 0), sigma)


def _share_at(place: FaceCoordinates, outside: np.ndarray, at_rest: np.ndarray) -> np.ndarray:
    """At each place around the face, how much of the person is plainly at rest, 0 to 1."""
    cells, inside = _cells(place)
    taken = inside & outside
    return _sums(cells[taken], at_rest[taken].astype(np.float64), 2.0) / (_sums(cells[taken], None, 2.0) + 20)


def _learn_map(
    place: FaceCoordinates, taken: np.ndarray, posterior: np.ndarray, first: np.ndarray, resting: np.ndarray
) -> np.ndarray:
    """Averages over time what was found at each place around the face."""
    cells, inside = _cells(place)
    cells, posterior = cells[taken & inside], posterior[taken & inside]
    before = 1.0 / (1.0 + np.exp(-first))
    mean = (_sums(cells, posterior, 1.5) + 20 * before) / (_sums(cells, None, 1.5) + 20)
    mean = np.clip(mean, 0.05, 0.95)
    return _with_certainties(np.log(mean / (1 - mean)), resting)


def _with_certainties(odds: np.ndarray, resting: np.ndarray) -> np.ndarray:
    """Above the jaw's corners everything but the shoulders and what rests is head, right under the chin nothing is."""
    across, up = np.meshgrid(np.abs(MAP_ACROSS), MAP_UP)
    rise = np.clip((up - BESIDE_JAW) / 0.15, 0.0, 1.0)
    shoulder = np.clip((across - 0.7) / 0.15, 0.0, 1.0) * np.clip((0.7 - up) / 0.2, 0.0, 1.0)
    sure = 8.0 * rise * (1.0 - shoulder) * np.clip(1.0 - 2.0 * resting, 0.0, 1.0)
    neck = 4.0 * ((across < 0.2) & (up < 0.0) & (up > -0.35))
    return (odds + sure - cv2.GaussianBlur(neck, (0, 0), 1.0)).astype(np.float32)


def look_up(hair_map: Float32[np.ndarray, "rows columns"], place: FaceCoordinates) -> Float32[np.ndarray, "..."]:
    """Reads the map at places around the face, interpolated; beyond its rim it continues."""
    step = float(MAP_UP[1] - MAP_UP[0])
    column = ((place.across - MAP_ACROSS[0]) / step).astype(np.float32)
    row = ((place.up - MAP_UP[0]) / step).astype(np.float32)
    if column.ndim == 2:
        return cv2.remap(hair_map, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    from scipy.ndimage import map_coordinates

    return map_coordinates(hair_map, [row, column], order=1, mode="nearest")


def paint_mouth(labels: UInt8[np.ndarray, "s s"], points: Float[np.ndarray, "478 2"]) -> UInt8[np.ndarray, "s s"]:
    """Writes lips and mouth interior over the head, from the landmarks' outlines."""
    size = labels.shape[0]
    labels = labels.copy()
    labels[fill_polygon(points[mesh_indices.OUTER_LIPS], size)] = LIPS
    inner = points[mesh_indices.INNER_LIPS]
    if np.linalg.norm(points[mesh_indices.LOWER_INNER_LIP] - points[mesh_indices.UPPER_INNER_LIP]) > 1.0:
        labels[fill_polygon(inner, size)] = MOUTH_INTERIOR
    return labels


def steadied(labels: Iterable[UInt8[np.ndarray, "s s"]]) -> Iterator[UInt8[np.ndarray, "s s"]]:
    """Labels of frames in order, without pixels that are head or torso for a single frame between two of the other."""
    before = current = None
    for after in labels:
        if current is not None:
            before = current if before is None else _between(before, current, after)
            yield before
        current = after
    if current is not None:
        yield current


def _between(before: np.ndarray, current: np.ndarray, after: np.ndarray) -> np.ndarray:
    same = (before == after) & (before != current)
    return np.where(same & np.isin(before, (TORSO, HEAD)) & np.isin(current, (TORSO, HEAD)), before, current)


def fill_polygon(points: Float[np.ndarray, "k 2"], size: int) -> Bool[np.ndarray, "s s"]:
    """Pixels inside a closed outline given in px (pixel centres at .5)."""
    mask = np.zeros((size, size), np.uint8)
    fixed = np.rint((points - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (1,), lineType=cv2.LINE_8, shift=4)
    return mask.astype(bool)


def _fill_small_holes(mask: np.ndarray, side: int) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < side * side
    small[0] = False
    return mask | np.take(small, np.asarray(parts, np.int32))
