"""Synthetic speech by eSpeak NG, from the library that the `espeakng-loader` wheel carries."""

import ctypes
import functools
import threading

import numpy as np
from jaxtyping import Float32

from ntalker_ns.errors import NTalkerError

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: samples go to the callback, not to a sound card
_UTF8 = 1  # espeakCHARS_UTF8
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_ONE_AT_A_TIME = threading.Lock()
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
    with _ONE_AT_A_TIME:
        return _synthesized(text, voice, words_per_minute)


def _synthesized(text: str, voice: str, words_per_minute: int) -> tuple[Float32[np.ndarray, "samples"], int]:
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
