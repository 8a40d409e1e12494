"""The paper's user study (Table 2): a page that lets people choose without knowing who made what, and the count."""

import base64
import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.console import track
from ntalker_ns.errors import NTalkerError, in_words
from ntalker_ns.media.decode import open_media, picture_stream

FORMAT, KEY_FORMAT, FORMAT_VERSION = "ntalker-comparison", "ntalker-comparison-key", 2
QUESTIONS = {
    "lip_sync": ("Lip sync.", "Whose lips fit the sound best?"),
    "editing_quality": ("Instruction editing quality", "Who follows the instruction best?"),
    "identity": ("Face identity preserving", "Who looks most like the same person as in the original?"),
    "overall": ("Overall video quality", "Which video is best, all in all?"),
}
"""The four columns of Table 2, and the questions to viewers."""
TEMPLATE = Path(__file__).with_name("comparison.html")
PLACEHOLDER = "/*COMPARISON*/"
PLAYED = {
    "mp4": {"h264", "av1", "aac", "mp3", "opus", "flac"},
    "webm": {"vp8", "vp9", "av1", "opus", "vorbis"},
}
"""What browsers play, by container. OpenCV's mp4v is none of it."""
PIXELS = ("yuv420p", "yuvj420p")
"""How browsers want pixels stored."""
LENGTHS_APART = 0.5
"""Seconds by which videos of the same audio may differ in length."""
CERTAINTY = 1.96
"""Standard deviations of a 95% interval."""


@dataclass(frozen=True)
class Page:
    """A page, and the key that it hides."""

    html: str
    """Everything is inside it: it can be sent around and opened from disk."""
    key: str
    """JSON with the system of each id on the page, for whoever counts."""


def comparison_page(videos: Mapping[str, Path], original: Path | None = None, instruction: str | None = None) -> Page:
    """A page that plays videos side by side in an order that each viewer's browser draws, asks, and saves the answers.

    Nothing in it names a system: videos have ids that follow from what they show.

    Args:
        videos: videos of the same audio by the name of what made them.
        original: the video before the edit, shown first; without it there is no question about identity.
        instruction: of the edit, shown above; without it there is no question about following it.

    Raises:
        NTalkerError: there are fewer than two videos, two are the same, or they are not of the same length.
    """
    if len(videos) < 2:
        raise NTalkerError("A comparison needs at least two videos.")
    _check_lengths([*videos.values(), *([original] if original else [])])
    shown = _coded(videos)
    # In an order that says nothing of the names either.
    codes = sorted(shown)
    comparison_id = _code("".join(codes).encode())
    left_out = {*(() if original else ("identity",)), *(() if instruction else ("editing_quality",))}
    comparison = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "id": comparison_id,
        "instruction": instruction,
        "questions": [{"key": key, "text": text} for key, (_, text) in QUESTIONS.items() if key not in left_out],
        "candidates": [{"id": code, "video": shown[code][1].data_uri()} for code in codes],
        "original": playable(original).data_uri() if original else None,
    }
    key = {
        "format": KEY_FORMAT,
        "format_version": FORMAT_VERSION,
        "comparison": comparison_id,
        "candidates": {code: name for code, (name, _) in shown.items()},
    }
    # "</" may not occur inside a script element; in JSON text the slash can be escaped.
    page = TEMPLATE.read_text("utf8").replace(PLACEHOLDER, json.dumps(comparison).replace("</", "<\\/"))
    return Page(page, json.dumps(key, indent=1, ensure_ascii=False))


@dataclass(frozen=True)
class Playable:
    """A video as browsers play it."""

    container: str
    """mp4 or webm."""
    content: bytes
    """Of its file."""

    def data_uri(self) -> str:
        """The video as an address that holds it."""
        return f"data:video/{self.container};base64,{base64.b64encode(self.content).decode()}"


def _coded(videos: Mapping[str, Path]) -> "dict[str, tuple[str, Playable]]":
    """Names and videos by ids that say nothing of the names."""
    shown: dict[str, tuple[str, Playable]] = {}
    for name, path in videos.items():
        video = playable(path)
        code = _code(video.content)
        if code in shown:
            raise NTalkerError(f"{name} and {shown[code][0]} are the same video: leave one of them out.")
        shown[code] = name, video
    return shown


def _code(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def playable(path: Path) -> Playable:
    """A video's file as it is where browsers play it; otherwise its pictures and sound, encoded anew as H.264."""
    container = _played_container(path)
    if container is not None:
        return Playable(container, path.read_bytes())
    from ntalker_ns.evaluation.footage import video_sound, write_pictures
    from ntalker_ns.media.video_reader import probe_video, read_frames

    frames = track(read_frames(path), f"Encoding {path.name}", total=probe_video(path).frames)
    with tempfile.TemporaryDirectory(prefix="ntalker-") as folder:
        encoded = Path(folder) / "video.mp4"
        write_pictures(encoded, frames, video_sound(path))
        return Playable("mp4", encoded.read_bytes())


def _played_container(path: Path) -> str | None:
    """mp4 or webm, where browsers play what is in it."""
    with open_media(path, "video") as file:
        container = _container(path, file.format.name, file.metadata)
        if (stream := picture_stream(file)) is None:
            return None
        picture = stream.codec_context
        codecs = {picture.name, *(sound.codec_context.name for sound in file.streams.audio)}
    return container if codecs <= PLAYED.get(container, set()) and picture.pix_fmt in PIXELS else None


def _container(path: Path, format_name: str, metadata: Mapping[str, str]) -> str:
    """The container by what is in the file: readers have one name for mp4 and QuickTime, and for WebM and Matroska."""
    if "mp4" in format_name.split(","):
        return "quicktime" if metadata.get("major_brand", "").strip() == "qt" else "mp4"
    if "webm" in format_name.split(","):
        # The document type stands in the first of the file's elements.
        with path.open("rb") as file:
            return "webm" if b"webm" in file.read(64) else "matroska"
    return format_name


def _check_lengths(paths: Iterable[Path]) -> None:
    from ntalker_ns.media.video_reader import FPS, probe_video

    seconds = {path: probe_video(path).frames / FPS for path in paths}
    shortest, longest = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    if seconds[longest] - seconds[shortest] > LENGTHS_APART:
        raise NTalkerError(
            f"{shortest} lasts {seconds[shortest]:.1f} s and {longest} {seconds[longest]:.1f} s: "
            "compare videos of the same audio."
        )


@dataclass(frozen=True)
class Tally:
    """What was chosen."""

    votes: dict[str, dict[str, int]]
    """By system and question."""
    viewings: int
    """Times that a page was opened and its answers saved; one person may have done so twice."""
    repeated: int
    """Files left out because the same viewing was saved before."""

    def answers(self, question: str) -> int:
        """How often a question was answered; pages without an original or instruction leave some out."""
        return sum(votes[question] for votes in self.votes.values())

    def share(self, name: str, question: str) -> float:
        """Per cent of the answers to a question."""
        total = self.answers(question)
        return 100.0 * self.votes[name][question] / total if total else 0.0

    def interval(self, name: str, question: str) -> tuple[float, float]:
        """The 95% interval of a share, per cent (Wilson, 1927), as if each viewing were by itself."""
        total = self.answers(question)
        if not total:
            return 0.0, 100.0
        share, weight = self.votes[name][question] / total, CERTAINTY**2 / total
        middle = (share + weight / 2) / (1 + weight)
        reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
        return 100.0 * max(middle - reach, 0.0), 100.0 * min(middle + reach, 1.0)


def tally(paths: Iterable[Path], keys: Iterable[Path]) -> Tally:
    """Counts answers, those to several comparisons of the same systems together.

    Where a viewing was saved twice, the last time counts.

    Args:
        paths: files that the page saved.
        keys: the files that were written beside the pages.

    Raises:
        NTalkerError: there are no answers, a file is not what it should be, a key is missing, or the answers are about
            different systems.
    """
    names = dict(_read_key(path) for path in keys)
    records = [(path, _read_answers(path)) for path in paths]
    if not records:
        raise NTalkerError("There are no answers to count: give the files that the page saved.")
    systems: list[str] = []
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for path, record in sorted(records, key=lambda pair: pair[1]["saved"]):
        if record["comparison"] not in names:
            raise NTalkerError(
                f"{path} answers the comparison {record['comparison']}, whose key is not here: give the .key.json "
                "beside its page with --key."
            )
        known = names[record["comparison"]]
        if not set(record["candidates"]) <= set(known):
            raise NTalkerError(f"{path} names videos that are not in its comparison's key: it was changed.")
        systems = systems or list(known.values())
        if sorted(known.values()) != sorted(systems):
            raise NTalkerError(
                f"{path} compares {', '.join(sorted(known.values()))}, others {', '.join(sorted(systems))}: "
                "count comparisons of the same systems together."
            )
        latest[record["comparison"], record["session"]] = record
    votes = {name: dict.fromkeys(QUESTIONS, 0) for name in systems}
    for record in latest.values():
        for question, code in record["answers"].items():
            votes[names[record["comparison"]][code]][question] += 1
    return Tally(votes, len(latest), len(records) - len(latest))


def _read_key(path: Path) -> tuple[str, dict[str, str]]:
    """A comparison's id, and by id of a video the system's name."""
    key = _read(path, KEY_FORMAT, "key")
    if not isinstance(key.get("comparison"), str) or not isinstance(key.get("candidates"), dict):
        raise NTalkerError(f"{path} holds no whole key of a comparison page.")
    return key["comparison"], key["candidates"]


def _read_answers(path: Path) -> dict[str, Any]:
    record = _read(path, FORMAT, "answers")
    try:
        fits = set(record["questions"]) == set(record["answers"]) <= set(QUESTIONS)
        fits &= bool(record["answers"]) and set(record["answers"].values()) <= set(record["candidates"])
        fits &= all(isinstance(record[key], str) for key in ("comparison", "session", "saved"))
    except (KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise NTalkerError(f"{path} holds no whole answers of a comparison page.")
    return record


def _read(path: Path, form: str, what: str) -> dict[str, Any]:
    """A JSON file that says what it is."""
    try:
        content = json.loads(path.read_text("utf8"))
        fits = content["format"] == form and content["format_version"] == FORMAT_VERSION
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NTalkerError(f"{path} holds no {what} of a comparison page ({in_words(error)}).") from error
    if not fits:
        raise NTalkerError(f"{path} holds no {what} of a comparison page of this version.")
    return content
