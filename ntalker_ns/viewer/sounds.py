"""The sounds that the viewer's panel offers: the clip's own, files of known folders, and uploads."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import SAMPLE_RATE, Sound, read_sound
from ntalker_ns.media.upload import LARGEST, decoded

OWN = "the clip's own words"
"""What the clip's own sound is called."""
ENDINGS = frozenset((".wav", ".mp3", ".m4a", ".ogg", ".opus", ".flac", ".aac", ".mp4", ".mov", ".webm", ".mkv"))
"""Of files that are offered."""
CLIP_SOUND = "audio.wav"
"""The clip's sound, in its data set."""


@dataclass(frozen=True, eq=False)
class Speech:
    """A sound, and the head that speaks it."""

    waveform: Float32[np.ndarray, " samples"] | None
    """Mono, 16 kHz; None where the clip's own sound is not there any more."""
    sequence: DrivingSequence


class Sounds:
    """The sounds that can be chosen, by name."""

    def __init__(self, clip: DrivingSequence, folder: Path | None) -> None:
        """
        Args:
            clip: the head's own driving sequence.
            folder: more sounds.
        """
        self._clip = clip
        data = Path(clip.source) if clip.source else None
        folders = [each for each in (data, data and data.parent, folder) if each is not None and each.is_dir()]
        files = [path for each in folders for path in sorted(each.iterdir()) if path.suffix.lower() in ENDINGS]
        own = None if data is None else data / CLIP_SOUND
        self._own = own if own is not None and own.is_file() else None
        self._files = {path.name: path for path in files if path != own and path.is_file()}
        self._uploads: dict[str, Float32[np.ndarray, " samples"]] = {}
        self._last: tuple[str, Speech] | None = None

    @property
    def names(self) -> list[str]:
        """In the order of the list."""
        return [OWN, *self._uploads, *(name for name in self._files if name not in self._uploads)]

    def upload(self, name: str, content: bytes) -> str:
        """Adds a file that somebody sent; returns the name by which it is offered.

        Raises:
            NTalkerError: it is too large, or no sound that can be decoded.
        """
        if len(content) > LARGEST:
            raise NTalkerError(f"The file is larger than {LARGEST >> 20} MiB.")
        waveform = asyncio.run(decoded(content))
        shown = "".join(sign for sign in Path(name).name if sign.isprintable())[:60] or "upload"
        self._uploads[shown] = waveform
        self._last = None
        return shown

    def speech(self, name: str) -> Speech:
        """The head speaking one of them; the features of the last one are kept.

        Raises:
            NTalkerError: it cannot be read, or the features cannot be computed.
        """
        if self._last is None or self._last[0] != name:
            self._last = (name, self._speech(name))
        return self._last[1]

    def _speech(self, name: str) -> Speech:
        if name in self._uploads:
            waveform = self._uploads[name]
        elif name in self._files:
            waveform = read_sound(self._files[name]).waveform(SAMPLE_RATE)
        else:
            return Speech(None if self._own is None else read_sound(self._own).waveform(SAMPLE_RATE), self._clip)
        return Speech(waveform, sequence_for_audio(self._clip, Sound.of_waveform(waveform)))
