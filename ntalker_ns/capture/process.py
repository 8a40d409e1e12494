"""From a clip to a data set: the steps of `ntalker process`, in order."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.capture import tracking
from ntalker_ns.capture.crop import Crop, Person, Survey, survey_faces
from ntalker_ns.capture.dataset import DatasetWriter, check_outside, image_name
from ntalker_ns.capture.dense import refine_poses
from ntalker_ns.capture.face_parsing import FaceParser
from ntalker_ns.capture.gaps import check_gaps, describe_gaps, find_gaps
from ntalker_ns.capture.measures import box_around, eye_openness, head_points, mouth_opening
from ntalker_ns.capture.observations import Observations, matte_file, observe_frames
from ntalker_ns.capture.parsing import SEED_FRAMES, fit_head_parser, steadied, trim_matte
from ntalker_ns.capture.placing import Placing, place_head
from ntalker_ns.capture.plate import Plate, background_mask, make_plate
from ntalker_ns.capture.preview import PreviewFrame, draw_preview
from ntalker_ns.capture.sound import read_sound
from ntalker_ns.capture.tracking import Track, TrackingOptions
from ntalker_ns.console import track as progress
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face import rotations
from ntalker_ns.face.mesh_indices import FACE_OVAL, OUTER_LIPS
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.media.video_reader import FPS, VideoInfo, probe_video, read_stored_sizes

SHORTEST = 2.0
"""Seconds that a clip must last."""
SMALL_SHARE, SMALL_PARTS = 0.15, 3
"""Where the whole picture shows no face or only smaller ones, in shares of its shorter side, which are missed or
misplaced, it is searched in squares this many times smaller."""
SMALL_FACE = 100
"""Height of a face in px below which a note says that the head will be blurred."""
PLATE_FRAMES = 48
"""Frames that the plate, the colour model and the head's size are taken from."""

Labeller = Callable[
    [UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"], Float[np.ndarray, "478 2"]], UInt8[np.ndarray, "s s"]
]
"""Labels of a frame from its picture, the person's matte and the landmarks."""


@dataclass(frozen=True)
class ProcessOptions:
    """Options of `process_clip`."""

    size: int = 512
    """Side of the stored frames in px."""
    audio_track: int | None = None
    """Which of the clip's sound tracks to use, from 1; None: the default one, or the first that is not silent."""
    features: str = "whisper"
    """Audio features: an extractor's name or a .npy file."""
    feature_model: str | None = None
    """Hub id or folder of the feature extractor's weights."""
    parsing_model: str | None = None
    """Hub id or folder of a face-parsing model; None uses the clip's own colours."""


@dataclass(frozen=True)
class Report:
    """Summary of a processed clip."""

    output: Path
    frames: int
    seconds: dict[str, float]
    """Time spent per step."""
    notes: list[str]
    """Warnings for the user: two faces, bridged gaps, a moving background."""
    figures: dict[str, float]
    """The tracker's residuals in px at 512 px, its jitter in degrees per frame^2, and more; also in transforms.json."""


@dataclass(frozen=True)
class _Solved:
    """A clip once everything is solved: what remains is to write it down."""

    info: VideoInfo
    crop: Crop
    seen: Observations
    track: Track
    by_landmarks: Track
    """As it was before the faces' texture was aligned."""
    placing: Placing
    plate: Plate
    figures: dict[str, float]


def process_clip(clip: str | Path, output: str | Path, options: ProcessOptions | None = None) -> Report:
    """Makes a data set from a clip.

    Args:
        clip: a video with sound that shows one person talking.
        output: the data set's folder.
        options: size of the frames, audio features, models.

    Returns:
        Figures and notes for the summary.

    Raises:
        NTalkerError: the clip or an option cannot be used; nothing is left behind then.

    Examples:
        >>> report = process_clip(clip, folder / "data", ProcessOptions(size=128))
        >>> report.frames
        75
    """
    from threadpoolctl import threadpool_limits

    clip, output = Path(clip), Path(output)
    # The work is many small products in a few threads; BLAS threads on top of those only get in each other's way.
    with threadpool_limits(1):
        return _process(clip, output, options or ProcessOptions())


def _process(clip: Path, output: Path, options: ProcessOptions) -> Report:
    info = probe_video(clip)
    _check_clip(info, options)
    models = [Path(model) for model in (options.feature_model, options.parsing_model) if model is not None]
    check_outside(output, [clip, Path(options.features), *models])
    seconds: dict[str, float] = {}
    with _timed(seconds, "features"):
        sound = read_sound(clip, options.features, options.feature_model, options.audio_track)
    parser = None if options.parsing_model is None else FaceParser(options.parsing_model)
    with DatasetWriter(output) as writer:
        with _timed(seconds, "survey"):
            survey = _survey(info)
            info = replace(info, width=survey.width, height=survey.height)
            person = Person.of(survey, options.size)
        frames = len(person.centres)
        writer.check_room(frames, options.size)
        notes = [*_notes_of_picture(info, survey, person), *sound.fit(frames)]
        with matte_file(writer.folder, frames) as mattes:
            with _timed(seconds, "landmarks and mattes"):
                seen = observe_frames(info, writer, person, mattes)
            with _timed(seconds, "tracking"):
                bridged = check_gaps(np.isfinite(seen.landmarks).all(axis=(1, 2)), str(info.path))
                track, by_landmarks, figures = _track(writer, seen, person.crop, info)
            with _timed(seconds, "labels and plate"):
                plate = _make_plate(writer, seen)
                _label_frames(writer, seen, plate, parser)
            with _timed(seconds, "placing"):
                placing = _place(writer, track)
            with _timed(seconds, "features"):
                sync = sound.compare(mouth_opening(head_points(track, seen.landmarks[..., :2])))
                features = sound.write(writer.folder, frames, sync)
            with _timed(seconds, "writing"):
                figures |= {"plate_observed_share": plate.observed_fraction, "mouth_lag_ms": 1000 / FPS * sync.lag}
                figures |= {"mouth_lag_correlation": sync.peak}
                solved = _Solved(info, person.crop, seen, track, by_landmarks, placing, plate, figures)
                _write(writer, solved, features)
        notes += [*_notes_of_track(bridged, track, seen, person.crop), *_notes_of_plate(plate), *sound.notes(sync)]
    return Report(output, frames, seconds, notes, figures)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start


def _check_clip(info: VideoInfo, options: ProcessOptions) -> None:
    if not 64 <= options.size <= 2048 or options.size % 2:
        raise NTalkerError(f"--size {options.size} is not possible; give an even number of pixels from 64 to 2048.")
    if not info.has_audio:
        raise NTalkerError(f"{info.path} has no audio track; give a clip with the speaker's voice.")


def _survey(info: VideoInfo) -> Survey:
    survey = survey_faces(progress(read_stored_sizes(info.path), "Looking for the face", info.frames))
    if survey.largest_face() < SMALL_SHARE * min(survey.width, survey.height):
        looked = progress(read_stored_sizes(info.path), "Looking for small ones", survey.frame_count)
        survey = survey_faces(looked, parts=SMALL_PARTS)
    if survey.frame_count < SHORTEST * FPS:
        raise NTalkerError(
            f"{info.path} holds {survey.frame_count / FPS:.1f} s of picture; give a clip of at least {SHORTEST:.0f} s "
            "(better: minutes)."
        )
    return survey


def _track(
    writer: DatasetWriter, seen: Observations, crop: Crop, info: VideoInfo
) -> tuple[Track, Track, dict[str, float]]:
    """The head's poses by its texture, those by landmarks alone, and how well they fit."""
    centre = (np.array([info.width, info.height]) / 2 - [crop.x0, crop.y0]) * crop.scale
    # A cropped-in television picture is taken from afar; a whole picture has a view of about 50 degrees.
    focal = max(2.0 * crop.size, max(info.width, info.height) * crop.scale)
    options = TrackingOptions.for_size(crop.size, focal)
    observed = seen.landmarks[..., :2]
    by_landmarks = tracking.solve_track(seen.landmarks, centre, options)
    refined, before, after = refine_poses(by_landmarks, observed, writer.read_grey, options)
    track = tracking.hold_ends(refined)
    to_512 = 512 / crop.size
    figures = {
        "residual_px": tracking.residual_px(track, observed) * to_512,
        "rotation_jitter_deg": rotations.jitter(track.rotation),
        "landmarks_only_residual_px": tracking.residual_px(by_landmarks, observed) * to_512,
        "landmarks_only_rotation_jitter_deg": rotations.jitter(by_landmarks.rotation),
        "texture_deviation_landmarks_only": before,
        "texture_deviation": after,
        "focal_px": track.focal,
    }
    return track, tracking.hold_ends(by_landmarks), figures


def _notes_of_picture(info: VideoInfo, survey: Survey, person: Person) -> list[str]:
    notes = []
    if person.together > 1:
        notes.append(f"{person.together} faces are in the picture: the larger one is taken.")
    if person.face < SMALL_FACE:
        x, y = person.crop.x0 + person.crop.side // 2, person.crop.y0 + person.crop.side // 2
        notes.append(
            f"The face, at ({x}, {y}), is only {person.face:.0f} px high: it is cut out and enlarged, and the head "
            "will be blurred. Film head and shoulders."
        )
    if info.interlaced:
        notes.append("The pictures are interlaced: their fields are made whole, at half the height's detail.")
    if survey.sizes > 1:
        notes.append(
            f"The picture has {survey.sizes} sizes: all frames are brought to {survey.width} x {survey.height} px, and "
            "those that were smaller are blurred."
        )
    return notes


def _notes_of_track(bridged: list[tuple[int, int]], track: Track, seen: Observations, crop: Crop) -> list[str]:
    residuals = 512 / crop.size * tracking.frame_residuals(track, seen.landmarks[..., :2])
    poor = find_gaps(~tracking.poorly_tracked(residuals))
    gone = "No face in {}: the pose is bridged there and the picture is not learned from."
    wrong = "Tracking is poor in {}: if there is a cut or another face, cut the clip there."
    return [note.format(describe_gaps(gaps)) for note, gaps in ((gone, bridged), (wrong, poor)) if gaps]


def _notes_of_plate(plate: Plate) -> list[str]:
    if not plate.moves:
        return []
    return [
        f"The background moves (by {plate.deviation:.0f} of 255 grey levels on average): "
        "the plate is blurred; a still backdrop is better."
    ]


def _make_plate(writer: DatasetWriter, seen: Observations) -> Plate:
    chosen = evenly_spaced(PLATE_FRAMES, len(seen.mattes)).tolist()
    images = [writer.read_image(i) for i in chosen]
    return make_plate(images, [background_mask(seen.matte(i), len(images[0])) for i in chosen])


def _label_frames(writer: DatasetWriter, seen: Observations, plate: Plate, parser: FaceParser | None) -> None:
    points = seen.bridged_landmarks()
    label = parser or _colour_labeller(writer, seen, plate, points)
    count = len(points)

    def one(index: int) -> UInt8[np.ndarray, "s s"]:
        image = writer.read_image(index)
        return label(image, _person_mask(seen.matte(index), image, plate), points[index])

    with ThreadPoolExecutor(2) as pool:
        labels = progress(pool.map(one, range(count)), "Labels", count)
        for index, steady in enumerate(steadied(labels)):
            writer.write_labels(index, steady)


def _colour_labeller(
    writer: DatasetWriter, seen: Observations, plate: Plate, points: Float[np.ndarray, "n 478 2"]
) -> Labeller:
    chosen = evenly_spaced(SEED_FRAMES, len(points)).tolist()
    images = [writer.read_image(i) for i in chosen]
    with ThreadPoolExecutor(2) as pool:
        people = list(pool.map(lambda i, image: _person_mask(seen.matte(i), image, plate), chosen, images))
    return fit_head_parser(images, people, [points[i] for i in chosen])


def _person_mask(
    matte: UInt8[np.ndarray, "256 256"], image: UInt8[np.ndarray, "s s 3"], plate: Plate
) -> Bool[np.ndarray, "s s"]:
    import cv2

    size = image.shape[0]
    person = cv2.resize(matte, (size, size), interpolation=cv2.INTER_LINEAR) > 127
    # A background that moves is no evidence of where the person is not.
    return person if plate.moves else trim_matte(person, image, plate.image, plate.observed)


def _place(writer: DatasetWriter, track: Track) -> Placing:
    chosen = evenly_spaced(PLATE_FRAMES, len(track.valid)).tolist()
    return place_head(track, chosen, [writer.read_labels(i) >= HEAD for i in chosen])


def _write(writer: DatasetWriter, solved: _Solved, features: str) -> None:
    """Writes what is neither of a single frame nor sound."""
    writer.write_landmarks(solved.seen.landmarks[..., :2])
    writer.write_landmark_poses(solved.placing.camera_to_worlds(solved.by_landmarks))
    writer.write_face_shape(solved.placing.points(solved.track.shape))
    writer.write_picture("background.png", solved.plate.image)
    writer.write_transforms(_transforms(solved, features))
    writer.write_picture("preview.png", _preview(writer, solved))


def _transforms(solved: _Solved, features: str) -> dict[str, Any]:
    info, crop, track = solved.info, solved.crop, solved.track
    return {
        "camera_model": "OPENCV",
        "w": crop.size,
        "h": crop.size,
        "fl_x": track.focal,
        "fl_y": track.focal,
        "cx": float(track.centre[0]),
        "cy": float(track.centre[1]),
        "fps": float(FPS),
        "feature_extractor": features,
        "tracking": {name: round(value, 4) for name, value in solved.figures.items()},
        "source": {
            "file": info.path.name,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "crop": [crop.x0, crop.y0, crop.side],
        },
        "frames": _frame_entries(solved),
    }


def _frame_entries(solved: _Solved) -> list[dict[str, Any]]:
    track, landmarks, size = solved.track, solved.seen.landmarks[..., :2], solved.crop.size
    cameras = solved.placing.camera_to_worlds(track)
    if not np.isfinite(cameras).all():
        bad = int(np.flatnonzero(~np.isfinite(cameras).all(axis=(1, 2)))[0])
        raise NTalkerError(
            f"The head's pose could not be solved at frame {bad} of {solved.info.path}; cut the clip there."
        )
    points = head_points(track, landmarks)
    eyes, mouth = eye_openness(points), mouth_opening(points)
    faces, lips = box_around(landmarks[:, FACE_OVAL], 0.05, size), box_around(landmarks[:, OUTER_LIPS], 0.2, size)
    last = max(len(cameras) - 1, 1)
    return [
        {
            "file_path": image_name(i),
            "transform_matrix": camera.tolist(),
            "time": i / last,
            "eye_openness": round(float(eyes[i]), 5),
            "mouth_opening": round(float(mouth[i]), 6),
            "face_box": [round(float(v), 2) for v in faces[i]],
            "lip_box": [round(float(v), 2) for v in lips[i]],
            "tracked": bool(track.valid[i]),
        }
        for i, camera in enumerate(cameras)
    ]


def _preview(writer: DatasetWriter, solved: _Solved) -> UInt8[np.ndarray, "h w 3"]:
    track, placing, figures = solved.track, solved.placing, solved.figures
    projected = track.project()
    tips = placing.centre + np.concatenate([np.zeros((1, 3)), 0.8 * placing.axes / placing.scale])
    frames = [
        PreviewFrame(
            index=i,
            image=writer.read_image(i),
            labels=writer.read_labels(i),
            landmarks=solved.seen.landmarks[i, :, :2],
            reprojected=projected[i],
            axes=track.project_points(tips, i),
        )
        for i in _extreme_frames(track)
    ]
    title = (
        f"{solved.info.path.name}: {len(track.valid)} frames, landmark residual {figures['residual_px']:.2f} px, "
        f"rotation jitter {figures['rotation_jitter_deg']:.2f} deg/frame^2, "
        f"plate seen on {100 * solved.plate.observed_fraction:.0f}%, "
        f"mouth {figures['mouth_lag_ms']:+.0f} ms after sound"
    )
    return draw_preview(frames, solved.plate.image, title)


def _extreme_frames(track: Track) -> list[int]:
    """Frames for the preview: first, last, and those turned farthest to either side."""
    yaw = track.rotation[:, 0, 2]
    return sorted({0, len(yaw) - 1, int(np.argmin(yaw)), int(np.argmax(yaw))})
