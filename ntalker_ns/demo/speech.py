"""Synthetic speech by eSpeak NG, from the library that the `espeakng-loader` wheel carries."""

import ctypes
import functools
import wave
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ntalker_ns.errors import NTalkerError

TRAINING_TEXT = (
    "Good evening, and welcome to the observatory. Tonight we look at the moon, "
    "and at the bright planets around it. Our mirror is as wide as a house, and we open the roof after dark. "
    "Mars shows a warm amber colour, while far above it a pale blue star appears. "
    "Wait a moment. Now you may come closer and watch. "
    "Each of these lights left home before anybody here was born; how odd that is! "
    "My father built the first of our cameras, out of paper and glass, in a barn by the sea."
)
"""What the demo's head is trained on: every English vowel, several pauses, about 27 s."""

NEW_TEXT = (
    "Hello there. I have never spoken these words before. "
    "A voice you record today may drive my mouth tomorrow. "
    "Are you all right with that? Let us have a walk, and talk about apples, boats and far away islands."
)
"""What the demo's head says after training, about 11 s; no sentence of it is in `TRAINING_TEXT`."""

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: samples go to the callback, not to a sound card
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesize(
    text: str, voice: str = "en-us+f3", words_per_minute: int = 155
) -> tuple[Float32[np.ndarray, "samples"], int]:
    """Speaks a text.

    Args:
        text: what to say, in the voice's language.
        voice: an eSpeak NG voice, with a variant after "+".
        words_per_minute: the tempo, 80 to 450.

    Returns:
        The mono waveform in [-1, 1] and its sample rate in Hz.

    Raises:
        NTalkerError: when the speech library cannot be loaded or does not know the voice.
    """
    library, sample_rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise NTalkerError(f"eSpeak NG has no voice named {voice!r}; use one like 'en-us' or 'de'.")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, 45, 0)
    library.espeak_SetParameter(_RANGE, 60, 0)
    chunks: list[np.ndarray] = []

    @_CALLBACK
    def keep(samples, count: int, _events) -> int:
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(keep)
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    if status != 0 or not chunks:
        raise NTalkerError(f"eSpeak NG could not speak the text that begins with {text[:40]!r}.")
    return np.concatenate(chunks).astype(np.float32) / 32768.0, sample_rate


def speech_of_length(text: str, seconds: float) -> tuple[Float32[np.ndarray, "samples"], int]:
    """Speaks a text, again from the start where it ends, for an exact duration, with a short fade at the end.

    Args:
        text: what to say.
        seconds: the duration wanted, s.

    Returns:
        The mono waveform in [-1, 1] and its sample rate in Hz.
    """
    spoken, sample_rate = synthesize(text)
    wanted = round(seconds * sample_rate)
    waveform = np.resize(spoken, wanted)
    fade = min(wanted, sample_rate // 20)
    waveform[wanted - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return waveform, sample_rate


def write_speech(path: Path, text: str, seconds: float | None = None) -> Path:
    """Speaks a text into a wav file.

    Args:
        path: the file to write.
        text: what to say.
        seconds: an exact duration in s, or None for as long as the text takes.
    """
    waveform, sample_rate = synthesize(text) if seconds is None else speech_of_length(text, seconds)
    return save_wav(path, waveform, sample_rate)


def save_wav(path: Path, waveform: Float32[np.ndarray, "samples"], sample_rate: int) -> Path:
    """Writes mono sound in [-1, 1] as 16-bit PCM.

    Args:
        path: the file to write.
        waveform: the sound.
        sample_rate: its rate, Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
    return path


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The initialised library and its sample rate in Hz; eSpeak NG is one per process."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data_path = espeakng_loader.get_data_path()
    except (ImportError, OSError) as error:
        raise NTalkerError(
            f"Speech synthesis needs the espeakng-loader package ({error}); run scripts/setup.sh."
        ) from error
    sample_rate = library.espeak_Initialize(_RETRIEVAL, 0, data_path.encode(), 0)
    if sample_rate <= 0:
        raise NTalkerError(f"eSpeak NG could not read its data in {data_path}; reinstall espeakng-loader.")
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return library, sample_rate
