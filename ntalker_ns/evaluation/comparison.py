"""The paper's user study (Table 2): a page that lets people choose without knowing who made what, and the count."""

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media import open_media, picture_stream
from ntalker_ns.progress import track

FORMAT, FORMAT_VERSION = "ntalker-comparison", 1
QUESTIONS = {
    "lip_sync": ("Lip sync.", "Whose lips fit the sound best?"),
    "editing_quality": ("Instruction editing quality", "Who follows the instruction best?"),
    "identity": ("Face identity preserving", "Who looks most like the same person as in the original?"),
    "overall": ("Overall video quality", "Which video is best, all in all?"),
}
"""The four columns of Table 2, and how a viewer is asked."""
TEMPLATE = Path(__file__).with_name("comparison.html")
PLACEHOLDER = "/*COMPARISON*/"
PLAYED = {"h264": ("yuv420p", "yuvj420p"), "vp8": ("yuv420p",), "vp9": ("yuv420p",), "av1": ("yuv420p",)}
"""Codecs that browsers play, and how their pixels must be stored. OpenCV's mp4v is none of them."""
HEARD = ("aac", "mp3", "opus", "vorbis", "flac")
LENGTHS_APART = 0.5
"""Seconds by which videos of the same audio may differ in length."""


def comparison_page(videos: Mapping[str, Path], original: Path | None = None, instruction: str | None = None) -> str:
    """A page that plays videos side by side in an order that each viewer's browser draws, asks, and saves the answers.

    Everything is inside it: it can be sent around and opened from disk.

    Args:
        videos: mp4s of the same audio by the name of what made them; viewers see letters instead.
        original: what the videos are edits or imitations of, shown first and as such.
        instruction: what was asked for, shown above.

    Raises:
        NTalkerError: there are fewer than two videos, or they are not of the same length.
    """
    if len(videos) < 2:
        raise NTalkerError("A comparison needs at least two videos.")
    _check_lengths([*videos.values(), *([original] if original else [])])
    contents = {name: playable(path) for name, path in videos.items()}
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents.values()))
    comparison = {
        "id": digest.hexdigest()[:12],
        "instruction": instruction,
        "questions": [{"key": key, "text": text} for key, (_, text) in QUESTIONS.items()],
        "candidates": [{"name": name, "video": _data_uri(content)} for name, content in contents.items()],
        "original": _data_uri(playable(original)) if original else None,
    }
    # "</" may not occur inside a script element; in JSON text the slash can be escaped.
    return TEMPLATE.read_text("utf8").replace(PLACEHOLDER, json.dumps(comparison).replace("</", "<\\/"))


def playable(path: Path) -> bytes:
    """A video's file as it is where browsers play it; otherwise its pictures and sound, encoded anew as H.264."""
    if _is_played(path):
        return path.read_bytes()
    from ntalker_ns.capture.video import probe_video, read_frames
    from ntalker_ns.evaluation.footage import video_sound, write_pictures

    frames = track(read_frames(path), f"Encoding {path.name}", total=probe_video(path).frames)
    with tempfile.TemporaryDirectory(prefix="ntalker-") as folder:
        encoded = Path(folder) / "video.mp4"
        write_pictures(encoded, frames, video_sound(path))
        return encoded.read_bytes()


def _is_played(path: Path) -> bool:
    with open_media(path, "video") as container:
        if (stream := picture_stream(container)) is None:
            return False
        codecs = [sound.codec_context.name for sound in container.streams.audio]
        picture = stream.codec_context
        return picture.pix_fmt in PLAYED.get(picture.name, ()) and all(codec in HEARD for codec in codecs)


def _check_lengths(paths: Iterable[Path]) -> None:
    from ntalker_ns.capture.video import FPS, probe_video

    seconds = {path: probe_video(path).frames / FPS for path in paths}
    shortest, longest = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    if seconds[longest] - seconds[shortest] > LENGTHS_APART:
        raise NTalkerError(
            f"{shortest} lasts {seconds[shortest]:.1f} s and {longest} {seconds[longest]:.1f} s: "
            "compare videos of the same audio."
        )


def _data_uri(content: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(content).decode()


@dataclass(frozen=True)
class Tally:
    """What people chose."""

    votes: dict[str, dict[str, int]]
    """By candidate and question."""
    people: int
    """Answer files counted."""
    repeated: int
    """Files left out because the same viewing was saved before."""

    def share(self, candidate: str, question: str) -> float:
        """Per cent of the answers to a question."""
        total = sum(votes[question] for votes in self.votes.values())
        return 100.0 * self.votes[candidate][question] / total if total else 0.0


def tally(paths: Iterable[Path]) -> Tally:
    """Counts answers, those to several comparisons of the same candidates together.

    Where a viewer saved twice, the last time counts.

    Args:
        paths: files that the page saved.

    Raises:
        NTalkerError: there are none, one is no such file, or they are of other candidates.
    """
    records = [_read_answers(path) for path in paths]
    if not records:
        raise NTalkerError("There are no answers to count: give the files that the page saved.")
    candidates = sorted(records[0]["candidates"])
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for path, record in sorted(zip(paths, records, strict=True), key=lambda pair: pair[1]["saved"]):
        if sorted(record["candidates"]) != candidates:
            raise NTalkerError(
                f"{path} compares {', '.join(sorted(record['candidates']))}, others {', '.join(candidates)}: "
                "count comparisons of the same systems together."
            )
        latest[record["comparison"], record["session"]] = record
    votes = {name: dict.fromkeys(QUESTIONS, 0) for name in records[0]["candidates"]}
    for record in latest.values():
        for question, name in record["answers"].items():
            votes[name][question] += 1
    return Tally(votes, len(latest), len(records) - len(latest))


def _read_answers(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf8"))
        fits = record["format"] == FORMAT and record["format_version"] == FORMAT_VERSION
        fits &= set(record["answers"]) == set(QUESTIONS) and set(record["answers"].values()) <= set(
            record["candidates"]
        )
        fits &= all(isinstance(record[key], str) for key in ("comparison", "session", "saved"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NTalkerError(f"{path} holds no answers of a comparison page ({error!r}).") from error
    if not fits:
        raise NTalkerError(f"{path} holds no whole answers of a comparison page of this version.")
    return record
