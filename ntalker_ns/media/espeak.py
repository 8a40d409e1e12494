"""Synthetic speech by eSpeak NG, from the library that the `espeakng-loader` wheel carries."""

import ctypes
import functools
import itertools
import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from ntalker_ns.errors import NTalkerError

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: samples go to the callback, not to a sound card
_UTF8 = 1  # espeakCHARS_UTF8
_PHONEME_EVENTS = 1 | 2  # espeakINITIALIZE_PHONEME_EVENTS, espeakINITIALIZE_PHONEME_IPA
_PHONEME = 7  # espeakEVENT_PHONEME
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Phoneme:
    """A phoneme that eSpeak NG spoke."""

    ipa: str
    """Empty for a pause."""
    start: float
    """Seconds."""


class _Id(ctypes.Union):
    _fields_: ClassVar = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


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
    return synthesize_phonemes(text, voice, words_per_minute)[:2]


def synthesize_phonemes(
    text: str, voice: str = "en-us+f3", words_per_minute: int = 155
) -> tuple[Float32[np.ndarray, "samples"], int, list[Phoneme]]:
    """Speaks a text and says when which phoneme begins; arguments and errors are those of `synthesize`.

    Returns:
        The mono waveform in [-1, 1], its sample rate in Hz, and the phonemes in order.
    """
    with _ONE_AT_A_TIME:
        return _synthesized(text, voice, words_per_minute)


def _synthesized(
    text: str, voice: str, words_per_minute: int
) -> tuple[Float32[np.ndarray, "samples"], int, list[Phoneme]]:
    library, sample_rate = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise NTalkerError(f"eSpeak NG has no voice named {voice!r}; use one like 'en-us' or 'de'.")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, 45, 0)
    library.espeak_SetParameter(_RANGE, 60, 0)
    chunks: list[np.ndarray] = []
    phonemes: list[Phoneme] = []

    @_CALLBACK
    def keep(samples, count: int, events) -> int:
        for event in itertools.takewhile(lambda each: each.type != 0, (events[place] for place in itertools.count())):
            if event.type == _PHONEME:
                phonemes.append(Phoneme(event.id.string.decode(errors="ignore"), event.sample / sample_rate))
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(keep)
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    if status != 0 or not chunks:
        raise NTalkerError(f"eSpeak NG could not speak the text that begins with {text[:40]!r}.")
    return np.concatenate(chunks).astype(np.float32) / 32768.0, sample_rate, phonemes


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
    sample_rate = library.espeak_Initialize(_RETRIEVAL, 0, data_path.encode(), _PHONEME_EVENTS)
    if sample_rate <= 0:
        raise NTalkerError(f"eSpeak NG could not read its data in {data_path}; reinstall espeakng-loader.")
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return library, sample_rate
