"""The sound of a clip and the audio features made of it: checked before the long work, written after it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from ntalker_ns.audio import features as audio
from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.mel import QUIETEST, speech_level
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound, write_wav
from ntalker_ns.media.sound import read_sound as decode_sound
from ntalker_ns.speech.offset import SyncCurve, shifted, sync_curve

MISSING = 0.1
"""Seconds by which the sound may end before the picture without a note: recorders stop the two at different times."""

NOTABLE_LAG = 0.5
"""Frames out of step that are worth a note."""


@dataclass(frozen=True)
class ClipSound:
    """A clip's sound, and where its features come from."""

    clip: Path
    waveform: Float32[np.ndarray, " samples"]
    """Mono, 16 kHz."""
    source: audio.AudioFeatureExtractor | Path
    """An extractor, or a feature file of one's own."""
    track: int = 1
    """Of the clip's sound tracks, from 1."""
    tracks: int = 1
    """How many it has."""

    def fit(self, frames: int) -> list[str]:
        """Compares sound and features with the picture.

        Args:
            frames: of the clip.

        Returns:
            Notes for the user, as sentences.

        Raises:
            NTalkerError: the feature file is of another length.
        """
        if isinstance(self.source, Path):
            audio.load_features(self.source, frames)
        notes = []
        if self.tracks > 1:
            notes.append(
                f"{self.clip.name} has {self.tracks} sound tracks: track {self.track} is used; --audio-track chooses "
                "another."
            )
        missing = frames / FPS - len(self.waveform) / SAMPLE_RATE
        if missing <= MISSING:
            return notes
        return [
            *notes,
            f"The sound of {self.clip.name} ends {missing:.1f} s before the picture: the rest is taken as silence.",
        ]

    def compare(self, openings: Float[np.ndarray, " frames"]) -> SyncCurve:
        """By how much sound and picture are out of step.

        Args:
            openings: of the mouth in each frame, NaN where it is not known.
        """
        return sync_curve(self.waveform, openings)

    def notes(self, sync: SyncCurve) -> list[str]:
        """What was done about sound and picture that are out of step.

        Args:
            sync: of `compare`.
        """
        if not sync.is_confident:
            return [
                "By how much sound and picture are out of step cannot be estimated from this clip "
                f"(correlation {sync.peak:.2f}): they are taken as they are."
            ]
        if abs(sync.lag) < NOTABLE_LAG:
            return []
        side = "later" if sync.lag > 0 else "earlier"
        remedy = "the feature file is used as it is" if isinstance(self.source, Path) else "features are moved by that"
        return [f"The mouth moves {abs(sync.lag) * 1000 / FPS:.0f} ms {side} than the sound: {remedy}."]

    def write(self, folder: Path, frames: int, sync: SyncCurve) -> str:
        """Writes the sound as it is, and features of it in step with the picture: new audio then drives lips in step.

        Args:
            folder: the data set's.
            frames: of the clip.
            sync: of `compare`; a feature file of one's own is not moved.

        Returns:
            The features' name.
        """
        write_wav(folder / "audio.wav", self.waveform)
        if isinstance(self.source, Path):
            windows, stem = audio.load_features(self.source, frames), self.source.stem
            # Whether such a file was made with the extractor it is named after is unknown.
            name = f"{stem}-file" if stem in audio.EXTRACTORS else stem
            info = audio.FeatureInfo(name, None, windows.shape[-1])
        else:
            in_step = shifted(self.waveform, sync.lag) if sync.is_confident else self.waveform
            windows, info = self.source(in_step, frames), self.source.info
        audio.save_features(folder / "audio_features", windows, info)
        return info.extractor


def read_sound(clip: Path, features: str, model: str | None, track: int | None = None) -> ClipSound:
    """Reads a clip's sound and prepares its feature extractor.

    Args:
        clip: the video.
        features: an extractor's name or a .npy file.
        model: hub id or folder of the extractor's weights; None takes the usual ones.
        track: of the clip's sound tracks, from 1; None: see `ntalker_ns.media.sound.read_sound`.

    Raises:
        NTalkerError: the clip has no sound or no such track or is silent, or there are no such features or weights.
    """
    own = Path(features)
    if model is not None and (own.suffix == ".npy" or features in ("mel", "whisper")):
        raise NTalkerError(
            f"--feature-model {model} is not used by --features {features}; leave it out, or choose wav2vec2 or hubert."
        )
    if own.suffix == ".npy":
        audio.load_features(own)
        return _clip_sound(clip, decode_sound(clip, track), own)
    sound = decode_sound(clip, track)
    waveform = sound.waveform()
    if speech_level(waveform) <= QUIETEST:
        raise NTalkerError(f"{clip} is silent throughout; give a clip with the speaker's voice.")
    return _clip_sound(clip, sound, audio.create_extractor(features, model))


def _clip_sound(clip: Path, sound: Sound, source: audio.AudioFeatureExtractor | Path) -> ClipSound:
    return ClipSound(clip, sound.waveform(), source, sound.track, sound.tracks)
