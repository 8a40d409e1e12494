"""Scores of a take: every metric that can be computed, and the reasons for the others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.capture.landmarks import MEASURED_AT
from ntalker_ns.console import track
from ntalker_ns.data.regions import region_errors, region_psnr
from ntalker_ns.evaluation.footage import Exact, Reference, Take
from ntalker_ns.evaluation.metrics import catalogue
from ntalker_ns.evaluation.metrics.clip_direction import Clip, clip_directions
from ntalker_ns.evaluation.metrics.face_network import FaceNetwork, face_chip
from ntalker_ns.evaluation.metrics.fidelity import ssim
from ntalker_ns.evaluation.metrics.head_motion import head_rotations, rotation_jitter
from ntalker_ns.evaluation.metrics.identity import Embedder, described_faces, identity_distances
from ntalker_ns.evaluation.metrics.lips import lip_distances, lip_sync, mouth_openings
from ntalker_ns.evaluation.metrics.syncnet import SyncNet, sync_score
from ntalker_ns.evaluation.metrics.warping import Flow, warping_errors
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.media.pixels import from_uint8
from ntalker_ns.media.video_reader import FPS
from ntalker_ns.speech.offset import sync_curve

Loaded = TypeVar("Loaded")

LEAST_SPOKEN = 40
"""Frames with a face that a comparison of mouth and sound needs."""

REGION_KEYS = {"full": "psnr", "head": "psnr_head", "face": "psnr_face", "lips": "psnr_lips"}


@dataclass
class Found:
    """Results of one group of metrics."""

    values: dict[str, float] = field(default_factory=dict)
    """By metric."""
    series: dict[str, Float[np.ndarray, " m"]] = field(default_factory=dict)
    """Frame by frame, NaN where unknown."""


@dataclass
class Scores:
    """Results of a take. Every metric that applies is in one of `values` and `unavailable`."""

    values: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    """By metric, the reason."""
    series: dict[str, Float[np.ndarray, " m"]] = field(default_factory=dict)
    """Frame by frame, NaN where unknown: psnr_head and so on."""


@dataclass(frozen=True)
class Tools:
    """Networks that metrics need; where one is not available, the reason."""

    flow: Flow | Unavailable
    syncnet: SyncNet | Unavailable
    arcface: Embedder | Unavailable
    clip: Clip | Unavailable
    lpips: Callable[[Exact, Exact], float] | Unavailable
    perceptual: Callable[[Exact, Exact], float] | Unavailable


@dataclass(frozen=True)
class Scene:
    """The material that a take is compared with."""

    reference: Reference
    before: Take
    """The frames before the edit: the base run's, or the true ones."""
    tools: Tools
    wanted: frozenset[str] = frozenset(catalogue.BY_KEY)
    """Keys of the metrics that are taken."""


def attempt(load: Callable[..., Loaded], *arguments: Any) -> Loaded | Unavailable:
    """The result of a loader, or its reason for giving none."""
    try:
        return load(*arguments)
    except Unavailable as reason:
        return reason


def _need(tool: Loaded | Unavailable) -> Loaded:
    if isinstance(tool, Unavailable):
        raise tool
    return tool


class FidelityJudge:
    """Compares pictures with the true ones one by one, before rounding."""

    def __init__(self, reference: Reference, tools: Tools) -> None:
        self._reference = reference
        tried = {"lpips": tools.lpips, "perceptual_efficientnet": tools.perceptual}
        self._perceptual = {name: tool for name, tool in tried.items() if not isinstance(tool, Unavailable)}
        self._errors: list[dict[str, tuple[float, int]]] = []
        self._ssim: list[float] = []
        self._distances: dict[str, list[float]] = {name: [] for name in self._perceptual}

    def __call__(self, place: int, picture: Exact) -> None:
        truth = from_uint8(self._reference.frames[place])
        self._errors.append(region_errors(picture, truth, self._reference.masks(place)))
        self._ssim.append(ssim(picture, truth))
        for name, distance in self._perceptual.items():
            self._distances[name].append(distance(picture, truth))

    def found(self) -> Found:
        """PSNR by region, SSIM, and perceptual distances where they can be taken: means over the frames."""
        psnr = region_psnr(self._errors)
        found = Found({REGION_KEYS[name]: value.mean for name, value in psnr.items()})
        for name in psnr:
            rows = [region_psnr([{name: row[name]}]) if name in row else {} for row in self._errors]
            found.series[REGION_KEYS[name]] = np.array([r[name].mean if name in r else np.nan for r in rows])
        for name, values in {"ssim": self._ssim, **self._distances}.items():
            found.series[name] = np.array(values)
            found.values[name] = known_mean(found.series[name])
        return found


Group = Callable[[Take, Scene], Found]


def sync(take: Take, scene: Scene) -> Found:
    """SyncNet's confidence, distance and offset."""
    network = _need(scene.tools.syncnet)
    if take.sound is None:
        raise Unavailable("there is no sound")
    frames = track(take.frames, f"Sync of {take.name}")
    score = sync_score(network, frames, _in_px(take), take.sound)
    values = {"sync_confidence": score.confidence, "sync_distance": score.distance, "sync_offset": float(score.offset)}
    return Found(values | {"sync_padded": 100.0 * score.padded})


def spoken(take: Take, scene: Scene) -> Found:
    """Agreement of the mouth with what the prior over speakers predicts from the sound."""
    if take.sound is None:
        raise Unavailable("there is no sound")
    openings = mouth_openings(take.points[..., :2])
    if np.isfinite(openings).sum() < LEAST_SPOKEN:
        raise Unavailable(f"fewer than {LEAST_SPOKEN} frames show a face")
    curve = sync_curve(take.sound.astype(np.float32), openings)
    values = {"spoken_peak": curve.peak}
    if curve.is_confident:
        values["spoken_offset"] = 1000.0 / FPS * curve.lag
    return Found(values)


def direction(take: Take, scene: Scene) -> Found:
    """CLIP direction from the frames before."""
    if take.captions is None:
        raise Unavailable("no captions: give --captions with what is seen before and after, or an --instruction preset")
    clip = _need(scene.tools.clip)
    count = min(len(take), len(scene.before))
    before = (scene.before.frames[i] for i in range(count))
    after = (take.frames[i] for i in track(range(count), f"CLIP direction of {take.name}"))
    values = clip_directions(clip, before, after, take.captions)
    return Found({"clip_direction": known_mean(values)}, {"clip_direction": values})


def identity(take: Take, scene: Scene) -> Found:
    """ArcFace's distances from the frames before."""
    distances = identity_distances(_need(scene.tools.arcface), *_faces_before_and_after(take, scene))
    series = {"identity_cosine": distances.cosine, "identity_squared_l2": distances.squared_l2}
    return Found({name: known_mean(values) for name, values in series.items()}, series)


def identity_dlib(take: Take, scene: Scene) -> Found:
    """Distance by dlib's face network from the frames before."""
    network = FaceNetwork()

    def describe(picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"]) -> np.ndarray:
        return network(face_chip(picture, landmarks))

    faces = described_faces(describe, *_faces_before_and_after(take, scene))
    distances = np.linalg.norm(faces[:, 0] - faces[:, 1], axis=-1)
    return Found({"identity_dlib": known_mean(distances)}, {"identity_dlib": distances})


def _faces_before_and_after(take: Take, scene: Scene) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Pictures before the edit and after it, and their landmarks in px."""
    count = min(len(take), len(scene.before))
    shown = (take.frames[i] for i in track(range(count), f"Identity of {take.name}"))
    before = (scene.before.frames[i] for i in range(count))
    return before, shown, _in_px(scene.before)[:count], _in_px(take)[:count]


def warping(take: Take, scene: Scene) -> Found:
    """E_w and its two parts."""
    errors = warping_errors(track(take.frames, f"Warping of {take.name}"), _need(scene.tools.flow))
    series = {"warping_error": errors.total, "warping_short": errors.short, "warping_long": errors.long}
    # The first frame has none.
    series = {name: np.concatenate([[np.nan], values]) for name, values in series.items()}
    return Found({name: known_mean(values) for name, values in series.items()}, series)


def lips(take: Take, scene: Scene) -> Found:
    """Lip motion against the true one."""
    true = scene.reference.points[: len(take), :, :2]
    seen = take.points[..., :2]
    distances = lip_distances(seen, true)
    openings, true_openings = mouth_openings(seen), mouth_openings(true)
    if np.isfinite(openings * true_openings).sum() < 3:
        raise Unavailable("fewer than three frames have a face in both pictures")
    agreement = lip_sync(openings, true_openings)
    values = {
        "lip_distance": known_mean(distances),
        "opening_correlation": agreement.correlation,
        "opening_chance": max(agreement.shifted),
        "opening_amplitude": agreement.amplitude_ratio,
        "opening_lag": float(agreement.lag),
    }
    return Found(values, {"lip_distance": distances})


def faces(take: Take, scene: Scene) -> Found:
    """Fraction of frames with a face, and the mouth opening."""
    known = np.isfinite(take.points).all(axis=(1, 2))
    return Found({"faces": 100.0 * float(known.mean())}, {"opening": mouth_openings(take.points[..., :2])})


def head(take: Take, scene: Scene) -> Found:
    """Jitter of the head's pose."""
    width, height = scene.reference.size
    scale = MEASURED_AT / max(width, height)
    poses = head_rotations(take.points, round(width * scale), round(height * scale))
    return Found({"head_jitter": rotation_jitter(poses)})


def speed(take: Take, scene: Scene) -> Found:
    """Frames a second and peak memory, where this program rendered the pictures."""
    if take.speed is None:
        raise Unavailable("the pictures were not rendered here")
    return Found({"fps": take.speed.fps, "peak_memory": take.speed.peak_gib})


ALONE: tuple[tuple[Sequence[catalogue.Metric], Group], ...] = (
    (catalogue.SYNC, sync),
    (catalogue.SPOKEN, spoken),
    (catalogue.WARPING, warping),
    (catalogue.HEAD, head),
    (catalogue.FACES, faces),
)
"""Metrics of any footage, the true frames included."""
COMPARED: tuple[tuple[Sequence[catalogue.Metric], Group], ...] = (
    (catalogue.DIRECTION, direction),
    (catalogue.IDENTITY, identity),
    (catalogue.IDENTITY_DLIB, identity_dlib),
    (catalogue.LIPS, lips),
    (catalogue.SPEED, speed),
)
"""Metrics of a take relative to the true frames, or to the frames before the edit."""


def score_true(take: Take, scene: Scene) -> Scores:
    """The figures of the true frames that need no comparison."""
    return _scores(ALONE, take, scene)


def score_take(take: Take, scene: Scene, fidelity: FidelityJudge | Unavailable) -> Scores:
    """Every figure of a take.

    Args:
        take: what is scored.
        scene: what it is compared with.
        fidelity: the judge of its pictures, or the reason why they are not compared with the true ones.
    """
    scores = _scores(ALONE + COMPARED, take, scene)
    members = [metric for metric in catalogue.FIDELITY if metric.key in scene.wanted]
    if isinstance(fidelity, Unavailable):
        scores.unavailable |= {metric.key: str(fidelity) for metric in members}
    elif members:
        _add(scores, members, fidelity.found(), _fidelity_reasons(scene.tools))
    return scores


def _fidelity_reasons(tools: Tools) -> dict[str, str]:
    reasons = {"psnr_head": "the true frames have no labels: a video shows no data set"}
    for name, tool in (("lpips", tools.lpips), ("perceptual_efficientnet", tools.perceptual)):
        if isinstance(tool, Unavailable):
            reasons[name] = str(tool)
    return reasons


def _scores(groups: Iterable[tuple[Sequence[catalogue.Metric], Group]], take: Take, scene: Scene) -> Scores:
    scores = Scores()
    for group, measure in groups:
        members = [metric for metric in group if metric.key in scene.wanted]
        if not members:
            continue
        try:
            _add(scores, members, measure(take, scene), {})
        except Unavailable as reason:
            scores.unavailable |= {metric.key: str(reason) for metric in members}
    return scores


def _add(scores: Scores, members: Sequence[catalogue.Metric], found: Found, reasons: dict[str, str]) -> None:
    """Merges results; missing values and NaN are unavailable."""
    scores.series |= found.series
    for metric in members:
        value = found.values.get(metric.key, float("nan"))
        if np.isfinite(value):
            scores.values[metric.key] = value
        else:
            scores.unavailable[metric.key] = reasons.get(metric.key, "no frame has a value")


def _in_px(take: Take) -> Float[np.ndarray, "m 478 2"]:
    """Landmarks in px of the take's pictures."""
    return take.points[..., :2] * (max(take.frames.shape[:2]) / MEASURED_AT)


def known_mean(values: Float[np.ndarray, " m"]) -> float:
    """The mean of the values that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
