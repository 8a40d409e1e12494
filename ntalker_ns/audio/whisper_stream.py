"""Whisper features of a stream: sound in pieces of any length, windows of finished frames out.

Whisper's attention looks at all steps before and after one. Here each frame is computed from the sound received when it
is due: the steps of its window attend to each other and to keys and values of earlier steps, which are cached. A cache
numbers its positions from its own beginning and serves for six seconds, until the next one
has received enough: at high positions the features differ from those that the prior was learned with.

One linear map for each look-ahead, learned from speech (`weights/whisper_stream.md`), estimates the part of a window
that is not received yet, and corrects the other part for the missing future.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.audio.clock import FPS, frame_count
from ntalker_ns.audio.mel import QUIETEST
from ntalker_ns.audio.running_level import RunningLevel
from ntalker_ns.audio.whisper import (
    FRAME,
    LEVEL,
    MEL_HOP,
    WIDTH,
    EncoderLayer,
    WhisperEncoder,
    load_whisper,
    mel_energies,
    normalised,
)
from ntalker_ns.audio.windows import FEATURE_RATE, HOP, WINDOW
from ntalker_ns.errors import NTalkerError

WEIGHTS = Path(__file__).parent / "weights" / "whisper_stream.safetensors"

STEPS_AHEAD = {40: 1, 60: 2, 100: 4, 160: 7}
"""By look-ahead, the milliseconds of sound after a frame's time that it may wait for: the steps of its window, from its
time on, that are received. The sound that the last of them depends on ends with the look-ahead."""

FLOOR = -6.5
"""Lowest log10 of mel energies, at `LEVEL`. Whisper's own is 8 below the loudest of the whole sound, which in speech at
this level lies between 1.0 and 1.8."""

PER_FRAME = FEATURE_RATE // FPS
BEFORE = WINDOW // 2
"""Steps of a window before its frame's time."""

CONTEXT, RENEWAL = 200, 300
"""Steps that a cache must have received before it is used, 4 s, and steps between the beginnings of two, 6 s."""

REACH = 520
"""Samples that a step depends on, before and after its first one: two convolutions over the spectra of 400 samples."""

LATER = 120
"""Samples, 7.5 ms, by which a stream's steps lie later than those of a whole sound, so that all of the look-ahead is
used. At 60 ms it raises the lips' correlation on left-out speakers from 0.685 to 0.694."""

LIMIT = 3.0
"""Features are clamped to plus and minus this before what is not received is estimated from them."""


class WhisperStream:
    """Feature windows of sound that arrives in pieces; their values do not depend on the pieces' lengths."""

    def __init__(self, look_ahead: int = 60) -> None:
        """
        Args:
            look_ahead: milliseconds of sound after a frame's time that it waits for: 40, 60, 100 or 160.

        Raises:
            NTalkerError: another look-ahead.
        """
        self._ahead = steps_ahead(look_ahead)
        self._weight, self._bias = load_completion(look_ahead)
        self._partial = PartialWindows(self._ahead)

    def push(self, samples: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "frames 16 channels"]:
        """The windows of the frames that this piece completes.

        Args:
            samples: mono, 16 kHz, any number of them.

        Raises:
            NTalkerError: more than one channel, or values that are not finite.
        """
        if samples.ndim != 1:
            raise NTalkerError(f"A stream takes mono sound, not an array of shape {samples.shape}.")
        if not np.isfinite(samples).all():
            raise NTalkerError("The sound holds values that are not numbers.")
        return self._completed(self._partial.push(samples))

    def flush(self) -> Float32[np.ndarray, "frames 16 channels"]:
        """The windows of the frames that are left; the sound has ended, and the next piece begins another."""
        windows = self._completed(self._partial.flush())
        self.clear()
        return windows

    def clear(self) -> None:
        """Forgets the sound, frames that are not finished included: the next piece begins another."""
        self._partial = PartialWindows(self._ahead)

    def _completed(
        self, received: Float[Tensor, "frames received channels"]
    ) -> Float32[np.ndarray, "frames 16 channels"]:
        bins = (completion_inputs(received) @ self._weight + self._bias).unflatten(1, (WINDOW // PER_FRAME, -1))
        return bins.repeat_interleave(PER_FRAME, dim=1).numpy()


def steps_ahead(look_ahead: int) -> int:
    """The steps that are received of a window from its frame's time on.

    Raises:
        NTalkerError: no such look-ahead.
    """
    if look_ahead not in STEPS_AHEAD:
        known = ", ".join(str(each) for each in STEPS_AHEAD)
        raise NTalkerError(f"A stream can look {known} ms ahead, not {look_ahead}.")
    return STEPS_AHEAD[look_ahead]


def completion_inputs(received: Float[Tensor, "frames received channels"]) -> Float[Tensor, "frames inputs"]:
    """What whole windows are estimated from: features averaged over 40 ms, the last one alone if there is one."""
    pairs = received[:, : received.shape[1] // PER_FRAME * PER_FRAME].unflatten(1, (-1, PER_FRAME)).mean(dim=2)
    return torch.cat([pairs, received[:, PER_FRAME * pairs.shape[1] :]], dim=1).clamp(-LIMIT, LIMIT).flatten(1)


@lru_cache(maxsize=len(STEPS_AHEAD))
def load_completion(look_ahead: int) -> tuple[Float[Tensor, "inputs bins"], Float[Tensor, "bins"]]:
    """The map from `completion_inputs` to windows averaged over 40 ms, and its constant."""
    from safetensors.torch import load_file

    tensors = load_file(WEIGHTS)
    return tensors[f"{look_ahead}.weight"].float(), tensors[f"{look_ahead}.bias"].float()


class PartialWindows:
    """The features of each frame's window as far as they are received when the frame is due."""

    def __init__(self, ahead: int) -> None:
        """
        Args:
            ahead: steps of the window from the frame's time on.
        """
        self._features, self._ahead = load_whisper(), ahead
        # Silence precedes the sound: that in the first window, and what its first step reaches back to.
        self._sound = np.zeros(REACH + BEFORE * HOP - LATER, np.float32)
        self._level, self._levels = RunningLevel(LEVEL), [LEVEL] * (BEFORE + 2)
        self._samples, self._steps, self._frames = 0, 0, 0
        self._caches = [_AttentionCache(self._features.encoder)]

    def push(self, samples: Float32[np.ndarray, " samples"]) -> Float[Tensor, "frames received channels"]:
        """The windows that a piece of sound completes."""
        self._samples += len(samples)
        return self._advance(samples)

    def flush(self) -> Float[Tensor, "frames received channels"]:
        """The windows of the frames that are left, with silence after the sound."""
        left = (frame_count(self._samples) if self._samples else 0) - self._frames
        silence = np.zeros((left + BEFORE) * PER_FRAME * HOP, np.float32)
        return self._advance(silence)[:left]

    @torch.inference_mode()
    def _advance(self, samples: Float32[np.ndarray, " samples"]) -> Float[Tensor, "frames received channels"]:
        self._sound = np.concatenate([self._sound, samples])
        windows, read = [], 0
        while True:
            # The first window is all new; each other has the steps of a frame more than the one before.
            new = PER_FRAME if self._frames else BEFORE + self._ahead
            reach = (new - 1) * HOP + 2 * REACH
            if len(self._sound) - read < reach:
                break
            windows.append(self._window(self._sound[read : read + reach], new))
            read += new * HOP
        self._sound = self._sound[read:].copy()
        received, channels = BEFORE + self._ahead, self._features.channels
        return torch.stack(windows) if windows else torch.zeros(0, received, channels)

    def _window(self, sound: Float32[np.ndarray, " reach"], new: int) -> Float[Tensor, "received channels"]:
        """The next frame's window, from the sound of its new steps."""
        first = self._frames * PER_FRAME
        if self._steps // RENEWAL < (self._steps + new) // RENEWAL:
            self._caches.append(_AttentionCache(self._features.encoder, self._steps))
        hidden = self._convolved(sound, new)
        self._steps += new
        for cache in self._caches:
            cache.append(hidden)
        if len(self._caches) > 1 and first - self._caches[1].begin >= CONTEXT:
            del self._caches[0]
        window = self._caches[0].last_layer()
        for cache in self._caches:
            cache.settle(first + PER_FRAME)
        self._frames += 1
        return self._features.project(window)

    def _convolved(self, sound: Float32[np.ndarray, " reach"], new: int) -> Float[Tensor, "new width"]:
        """The two convolutions of new steps, at the level of speech of each."""
        steps = sound[REACH : REACH + new * HOP].reshape(new, HOP)
        silent = max(0, BEFORE - self._steps)
        levels = [LEVEL] * min(new, silent) + [self._level.update(step) for step in steps[silent:]]
        self._levels = self._levels[-2:] + levels  # of the steps from two before the first new one
        # A spectrum, of which there are two a step, takes the level after the step before its own.
        gain = torch.tensor([LEVEL - level if level > QUIETEST else 0.0 for level in self._levels]).float()
        spectra = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::MEL_HOP].copy())
        spectra = torch.fft.rfft(spectra * torch.hann_window(FRAME)).T
        energies = mel_energies(spectra, 0.1 * gain.repeat_interleave(2)[: spectra.shape[1]])
        return self._features.encoder.convolved(normalised(energies, FLOOR), padding=0)


class _AttentionCache:
    """What attention needs of the steps received since some step."""

    def __init__(self, encoder: WhisperEncoder, begin: int = 0) -> None:
        """
        Args:
            encoder: of two layers.
            begin: the step that it begins with.
        """
        self._first, self._second = (layer for layer in encoder.layers if isinstance(layer, EncoderLayer))
        self.begin = begin
        room = CONTEXT + RENEWAL + 2 * WINDOW
        self._positions = encoder.get_buffer("positions")[:room]
        self._hidden = torch.zeros(room, WIDTH)
        shape = (5, self._first.heads, room, WIDTH // self._first.heads)
        self._query, self._key, self._value, self._second_key, self._second_value = torch.zeros(shape)
        self._steps, self._settled, self._computed = 0, 0, 0

    def append(self, hidden: Float[Tensor, "new width"]) -> None:
        """Takes new steps."""
        place = slice(self._steps, self._steps + len(hidden))
        self._steps, self._computed = place.stop, self._settled
        self._hidden[place] = hidden + self._positions[place]
        self._query[:, place], self._key[:, place], self._value[:, place] = self._first.projections(self._hidden[place])

    def last_layer(self) -> Float[Tensor, "unsettled width"]:
        """Activations of the steps that are not settled, which attend to all."""
        hidden, query = self._compute(self._steps)
        seen = slice(0, self._steps)
        return self._second.attend(hidden, query, self._second_key[:, seen], self._second_value[:, seen])

    def settle(self, step: int) -> None:
        """Keeps what steps before one are to those after them now: later steps change them no more."""
        until = max(self._settled, step - self.begin)
        if until > self._computed:
            self._compute(until)
        self._settled = until

    def _compute(self, until: int) -> tuple[Float[Tensor, "steps width"], Float[Tensor, "heads steps channels"]]:
        """The first layer and the second one's queries, keys and values of steps that are not settled."""
        place, seen = slice(self._settled, until), slice(0, self._steps)
        hidden = self._first.attend(
            self._hidden[place], self._query[:, place], self._key[:, seen], self._value[:, seen]
        )
        query, self._second_key[:, place], self._second_value[:, place] = self._second.projections(hidden)
        self._computed = until
        return hidden, query
