"""From a clip to a data set: the steps of `ntalker process`, in order."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.capture import crop as cropping
from ntalker_ns.capture import dense, gaps, measures, parsing, placing, plate, preview, tracking
from ntalker_ns.capture.dataset import DatasetWriter, check_outside, image_name
from ntalker_ns.capture.face_parsing import FaceParser
from ntalker_ns.capture.landmarks import FaceMesh
from ntalker_ns.capture.matte import RESOLUTION, PersonMatte, smooth_in_time
from ntalker_ns.capture.sound import read_sound
from ntalker_ns.console import track as progress
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face import mesh_indices
from ntalker_ns.media.video_reader import FPS, VideoInfo, probe_video, read_frames

SHORTEST = 2.0
"""Seconds that a clip must last."""
PLATE_FRAMES = 48
"""Frames that the plate, the colour model and the head's size are taken from."""


@dataclass(frozen=True)
class ProcessOptions:
    """What a user may choose."""

    size: int = 512
    """Side of the stored frames in px."""
    features: str = "mel"
    """Audio features: an extractor's name or a .npy file."""
    feature_model: str | None = None
    """Hub id or folder of the feature extractor's weights."""
    parsing_model: str | None = None
    """Hub id or folder of a face-parsing model; None uses the clip's own colours."""


@dataclass
class Report:
    """What was made, in figures."""

    output: Path
    frames: int
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent per step."""
    notes: list[str] = field(default_factory=list)
    """What a person should know: two faces, bridged gaps, a moving background."""
    figures: dict[str, float] = field(default_factory=dict)


@dataclass
class _Seen:
    """What the first pass over the frames found."""

    landmarks: Float[np.ndarray, "n 478 3"]
    mattes: UInt8[np.ndarray, "n 256 256"]

    def matte(self, index: int) -> UInt8[np.ndarray, "256 256"]:
        """A frame's matte, without single-frame flicker."""
        if not 0 < index < len(self.mattes) - 1:
            return np.asarray(self.mattes[index])
        return smooth_in_time(np.asarray(self.mattes[index - 1 : index + 2]))[1]


def process_clip(clip: Path, output: Path, options: ProcessOptions | None = None) -> Report:
    """Makes a data set from a clip.

    Args:
        clip: a video with sound that shows one person talking.
        output: the data set's folder.
        options: what to make of it.

    Returns:
        Figures and notes for the summary.

    Raises:
        NTalkerError: the clip or an option cannot be used; nothing is left behind then.
    """
    from threadpoolctl import threadpool_limits

    # The work is many small products in a few threads; BLAS threads on top of those only get in each other's way.
    with threadpool_limits(1):
        return _process(clip, output, options or ProcessOptions())


def _process(clip: Path, output: Path, options: ProcessOptions) -> Report:
    info = probe_video(clip)
    _check_clip(info, options)
    models = [Path(model) for model in (options.feature_model, options.parsing_model) if model is not None]
    check_outside(output, [clip, Path(options.features), *models])
    report = Report(output, 0)
    with _timed(report, "features"):
        sound = read_sound(clip, options.features, options.feature_model)
    parser = None if options.parsing_model is None else FaceParser(options.parsing_model)
    with DatasetWriter(output) as writer:
        with _timed(report, "survey"):
            crop, expected, crowded = _survey(info, options, report)
        report.frames = len(expected)
        report.notes += sound.fit(report.frames)
        with _timed(report, "landmarks and mattes"):
            seen = _see_frames(clip, writer, crop, expected, crowded)
        with _timed(report, "tracking"):
            solved = _track(writer, seen, crop, info, report)
        with _timed(report, "labels and plate"):
            backdrop = _make_plate(writer, seen, report)
            _label_frames(writer, seen, backdrop, parser)
        with _timed(report, "placing"):
            placed = _place(writer, solved)
        with _timed(report, "features"):
            feature_name = sound.write(writer.folder, report.frames)
        with _timed(report, "writing"):
            _write_rest(writer, info, crop, seen, solved, placed, backdrop, feature_name, report)
    return report


@contextmanager
def _timed(report: Report, step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    report.seconds[step] = report.seconds.get(step, 0.0) + time.perf_counter() - start


def _check_clip(info: VideoInfo, options: ProcessOptions) -> None:
    if not 64 <= options.size <= 2048 or options.size % 2:
        raise NTalkerError(f"--size {options.size} is not possible; give an even number of pixels from 64 to 2048.")
    if not info.has_audio:
        raise NTalkerError(f"{info.path} has no audio track; give a clip with the speaker's voice.")
    if info.frames < SHORTEST * FPS:
        raise NTalkerError(
            f"{info.path} lasts {info.frames / FPS:.1f} s; give a clip of at least {SHORTEST:.0f} s (better: minutes)."
        )


def _survey(info: VideoInfo, options: ProcessOptions, report: Report) -> tuple[cropping.Crop, np.ndarray, bool]:
    frames = progress(read_frames(info.path), "Looking for the face", info.frames)
    survey = cropping.survey_faces(frames)
    if survey.frame_count < SHORTEST * FPS:
        raise NTalkerError(
            f"{info.path} holds {survey.frame_count / FPS:.1f} s of picture; give a clip of at least {SHORTEST:.0f} s."
        )
    person, together = cropping.follow_largest(survey)
    if together > 1:
        report.notes.append(f"{together} faces are in the picture: the larger one is taken.")
    crop = cropping.choose_crop(person, survey.width, survey.height, options.size)
    return crop, cropping.expected_centres(survey, person, crop), cropping.is_crowded(survey, person, crop)


def _see_frames(clip: Path, writer: DatasetWriter, crop: cropping.Crop, expected: np.ndarray, crowded: bool) -> _Seen:
    """One pass over the frames: store, find landmarks and matte. The two networks run side by side."""
    count = len(expected)
    landmarks = np.full((count, mesh_indices.NUM_POINTS, 3), np.nan)
    mattes = np.lib.format.open_memmap(
        writer.folder / "mattes.npy", mode="w+", dtype=np.uint8, shape=(count, RESOLUTION, RESOLUTION)
    )
    pending: deque[tuple[int, Future, Future, Future]] = deque()

    def collect() -> None:
        index, points, matte, stored = pending.popleft()
        found = points.result()
        if found is not None:
            landmarks[index] = found
        mattes[index] = matte.result()
        stored.result()

    # One thread per network: each follows the frames in order.
    with (
        FaceMesh(crowded) as mesh,
        PersonMatte() as matting,
        ThreadPoolExecutor(1) as mesh_thread,
        ThreadPoolExecutor(1) as matte_thread,
    ):
        for index, frame in enumerate(progress(read_frames(clip), "Landmarks and mattes", count)):
            image = crop(frame)
            pending.append(
                (
                    index,
                    mesh_thread.submit(mesh, image, expected[index]),
                    matte_thread.submit(matting, image),
                    matte_thread.submit(writer.write_image, index, image),
                )
            )
            if len(pending) > 8:
                collect()
        while pending:
            collect()
    return _Seen(landmarks, mattes)


def _track(writer: DatasetWriter, seen: _Seen, crop: cropping.Crop, info: VideoInfo, report: Report) -> tracking.Track:
    found = np.isfinite(seen.landmarks).all(axis=(1, 2))
    bridged = gaps.check_gaps(found, str(info.path))
    if bridged:
        report.notes.append(
            f"No face in {gaps.describe_gaps(bridged)}: the pose is bridged there and the picture is not learned from."
        )
    centre = (np.array([info.width, info.height]) / 2 - [crop.x0, crop.y0]) * crop.scale
    # A cropped-in television picture is taken from afar; a whole picture has a view of about 50 degrees.
    focal = max(2.0 * crop.size, max(info.width, info.height) * crop.scale)
    options = tracking.TrackingOptions.for_size(crop.size, focal)
    observed = seen.landmarks[..., :2]
    by_landmarks = tracking.solve_track(seen.landmarks, centre, options)
    solved, before, after = dense.refine_poses(by_landmarks, observed, writer.read_grey, options)
    solved = tracking.hold_ends(solved)
    to_512 = 512 / crop.size
    report.figures["residual_px"] = tracking.residual_px(solved, observed) * to_512
    poor = gaps.find_gaps(~tracking.poorly_tracked(to_512 * tracking.frame_residuals(solved, observed)))
    if poor:
        report.notes.append(
            f"Tracking is poor in {gaps.describe_gaps(poor)}: if there is a cut or another face, cut the clip there."
        )
    report.figures["rotation_jitter_deg"] = tracking.rotation_jitter(solved)
    report.figures["landmarks_only_residual_px"] = tracking.residual_px(by_landmarks, observed) * to_512
    report.figures["landmarks_only_rotation_jitter_deg"] = tracking.rotation_jitter(by_landmarks)
    report.figures["texture_deviation_landmarks_only"] = before
    report.figures["texture_deviation"] = after
    report.figures["focal_px"] = solved.focal
    return solved


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _make_plate(writer: DatasetWriter, seen: _Seen, report: Report) -> plate.Plate:
    chosen = _spread(len(seen.mattes), PLATE_FRAMES)
    images = [writer.read_image(i) for i in chosen]
    size = images[0].shape[0]
    made = plate.make_plate(images, [plate.background_mask(seen.matte(i), size) for i in chosen])
    report.figures["plate_observed_share"] = made.observed_share
    if made.moves:
        report.notes.append(
            f"The background moves (by {made.deviation:.0f} of 255 grey levels on average): "
            "the plate is blurred; a still backdrop is better."
        )
    return made


def _label_frames(writer: DatasetWriter, seen: _Seen, backdrop: plate.Plate, parser: FaceParser | None) -> None:
    points = _bridged_landmarks(seen.landmarks[..., :2])
    label = parser or _colour_labeller(writer, seen, backdrop, points)
    count = len(points)

    def one(index: int) -> None:
        image = writer.read_image(index)
        writer.write_labels(index, label(image, _person(seen, index, image, backdrop), points[index]))

    with ThreadPoolExecutor(2) as pool:
        for _ in progress(pool.map(one, range(count)), "Labels", count):
            pass


def _colour_labeller(writer: DatasetWriter, seen: _Seen, backdrop: plate.Plate, points: np.ndarray) -> Any:
    chosen = _spread(len(points), parsing.SEED_FRAMES)
    images = [writer.read_image(i) for i in chosen]
    with ThreadPoolExecutor(2) as pool:
        people = list(pool.map(lambda i, image: _person(seen, i, image, backdrop), chosen, images))
    return parsing.fit_head_parser(images, people, [points[i] for i in chosen])


def _person(seen: _Seen, index: int, image: np.ndarray, backdrop: plate.Plate) -> np.ndarray:
    import cv2

    size = image.shape[0]
    person = cv2.resize(seen.matte(index), (size, size), interpolation=cv2.INTER_LINEAR) > 127
    # A background that moves is no evidence of where the person is not.
    return person if backdrop.moves else parsing.trim_matte(person, image, backdrop.image, backdrop.observed)


def _bridged_landmarks(landmarks: Float[np.ndarray, "n 478 2"]) -> Float[np.ndarray, "n 478 2"]:
    """Landmarks with short gaps interpolated, for labels and boxes."""
    found = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    if len(found) == len(landmarks):
        return landmarks
    at = np.clip(np.arange(len(landmarks)), found[0], found[-1])
    upper = np.searchsorted(found, at)
    lower = np.where(found[upper] == at, upper, np.maximum(upper - 1, 0))
    span = np.maximum(found[upper] - found[lower], 1)
    share = ((at - found[lower]) / span)[:, None, None]
    return (1 - share) * landmarks[found[lower]] + share * landmarks[found[upper]]


def _place(writer: DatasetWriter, solved: tracking.Track) -> placing.Placing:
    chosen = _spread(len(solved.valid), PLATE_FRAMES)
    return placing.place_head(solved, chosen, [writer.read_labels(i) >= parsing.HEAD for i in chosen])


def _write_rest(
    writer: DatasetWriter,
    info: VideoInfo,
    crop: cropping.Crop,
    seen: _Seen,
    solved: tracking.Track,
    placed: placing.Placing,
    backdrop: plate.Plate,
    feature_name: str,
    report: Report,
) -> None:
    landmarks = seen.landmarks[..., :2]
    cameras = placed.camera_to_worlds(solved)
    if not np.isfinite(cameras).all():
        bad = int(np.flatnonzero(~np.isfinite(cameras).all(axis=(1, 2)))[0])
        raise NTalkerError(f"The head's pose could not be solved at frame {bad} of {info.path}; cut the clip there.")
    writer.write_landmarks(landmarks)
    writer.write_face_shape(placed.points(solved.shape))
    writer.write_picture("background.png", backdrop.image)
    writer.write_transforms(
        {
            "camera_model": "OPENCV",
            "w": crop.size,
            "h": crop.size,
            "fl_x": solved.focal,
            "fl_y": solved.focal,
            "cx": float(solved.centre[0]),
            "cy": float(solved.centre[1]),
            "fps": FPS,
            "feature_extractor": feature_name,
            "tracking": {name: round(value, 4) for name, value in report.figures.items()},
            "source": {
                "file": info.path.name,
                "width": info.width,
                "height": info.height,
                "fps": info.fps,
                "crop": [crop.x0, crop.y0, crop.side],
            },
            "frames": _frame_entries(landmarks, solved, cameras, crop.size),
        }
    )
    writer.write_picture("preview.png", _preview(writer, seen, solved, placed, backdrop, info, report))
    del seen.mattes
    (writer.folder / "mattes.npy").unlink()


def _frame_entries(
    landmarks: np.ndarray, solved: tracking.Track, cameras: np.ndarray, size: int
) -> list[dict[str, Any]]:
    points = measures.head_points(solved, landmarks)
    eyes, mouth = measures.eye_openness(points), measures.mouth_opening(points)
    faces = measures.box_around(landmarks[:, mesh_indices.FACE_OVAL], 0.05, size)
    lips = measures.box_around(landmarks[:, mesh_indices.OUTER_LIPS], 0.2, size)
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
            "tracked": bool(solved.valid[i]),
        }
        for i, camera in enumerate(cameras)
    ]


def _preview(
    writer: DatasetWriter,
    seen: _Seen,
    solved: tracking.Track,
    placed: placing.Placing,
    backdrop: plate.Plate,
    info: VideoInfo,
    report: Report,
) -> UInt8[np.ndarray, "h w 3"]:
    projected = solved.project()
    tips = placed.centre + np.concatenate([np.zeros((1, 3)), 0.8 * placed.axes / placed.scale])
    chosen = _extreme_frames(solved)
    frames = [
        preview.PreviewFrame(
            index=i,
            image=writer.read_image(i),
            labels=writer.read_labels(i),
            landmarks=seen.landmarks[i, :, :2],
            reprojected=projected[i],
            axes=solved.project_points(tips, i),
        )
        for i in chosen
    ]
    title = (
        f"{info.path.name}: {report.frames} frames, landmark residual {report.figures['residual_px']:.2f} px, "
        f"rotation jitter {report.figures['rotation_jitter_deg']:.2f} deg/frame^2, "
        f"plate seen on {100 * backdrop.observed_share:.0f}%"
    )
    return preview.draw_preview(frames, backdrop.image, title)


def _extreme_frames(solved: tracking.Track) -> Iterable[int]:
    """Frames for the preview: first, last, and those turned farthest to either side."""
    yaw = solved.rotation[:, 0, 2]
    return sorted({0, len(yaw) - 1, int(np.argmin(yaw)), int(np.argmax(yaw))})
