"""Learns what whole windows of Whisper features are, from the part that a stream has received."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.whisper import WhisperFeatures, at_level
from ntalker_ns.audio.whisper_stream import STEPS_AHEAD, PartialWindows, completion_inputs
from ntalker_ns.console import track
from ntalker_ns.speech.prior import window_inputs
from ntalker_ns.speech.silence import room_sounds
from ntalker_ns.speech.training.bank import BankClip

RIDGE = 0.02
"""Regularisation a frame, over the mean square of inputs. Between 0.005 and 0.1 the lips' correlation on left-out
speakers changes by 0.002."""


SPOKEN, PAUSE = 1.5, 2.0
"""Seconds of speech before a pause, and of the pause."""


def completions(clips: list[BankClip], features: WhisperFeatures) -> dict[str, Tensor]:
    """The map of each look-ahead, under the names that `load_completion` reads."""
    tensors = {}
    for look_ahead, ahead in STEPS_AHEAD.items():
        examples = [
            example
            for place, clip in enumerate(track(clips, f"Look-ahead {look_ahead} ms"))
            for example in (partial_and_whole(clip.waveform, features, ahead), pause(clip, place, features, ahead))
        ]
        received, whole = (torch.cat(part) for part in zip(*examples, strict=True))
        weight, bias = fit_completion(received, whole)
        tensors |= {f"{look_ahead}.weight": weight.half().contiguous(), f"{look_ahead}.bias": bias.half().contiguous()}
    return tensors


def partial_and_whole(
    waveform: Float32[np.ndarray, " samples"], features: WhisperFeatures, ahead: int
) -> tuple[Float[Tensor, "frames inputs"], Float[Tensor, "frames bins"]]:
    """The part that a stream receives of each frame's window, and the window with the whole sound known."""
    stream = PartialWindows(ahead)
    received = completion_inputs(torch.cat([stream.push(waveform), stream.flush()])).double()
    whole = window_inputs(torch.from_numpy(features.windows(waveform, len(received))).double())
    return received, whole


def pause(
    clip: BankClip, place: int, features: WhisperFeatures, ahead: int
) -> tuple[Float[Tensor, "frames inputs"], Float[Tensor, "frames bins"]]:
    """The same in a pause after the end of a clip, in one of `room_sounds`: clips hold few, and without them a mouth
    opens in silence, because speech is expected."""
    spoken = at_level(clip.waveform)[-round(SPOKEN * SAMPLE_RATE) :]
    rooms = room_sounds(SPOKEN + PAUSE)
    sound = rooms[place % len(rooms)].copy()
    sound[: len(spoken)] += spoken
    received, whole = partial_and_whole(sound, features, ahead)
    first = len(spoken) * FPS // SAMPLE_RATE
    return received[first:], whole[first:]


def fit_completion(
    received: Float[Tensor, "frames inputs"], whole: Float[Tensor, "frames bins"]
) -> tuple[Float[Tensor, "inputs bins"], Float[Tensor, "bins"]]:
    """Ridge regression with a constant that is not regularised."""
    mean, constant = received.mean(dim=0), whole.mean(dim=0)
    centred = received - mean
    precision = centred.T @ centred + RIDGE * len(received) * torch.eye(received.shape[1], dtype=received.dtype)
    weight = torch.linalg.solve(precision, centred.T @ (whole - constant))
    return weight, constant - mean @ weight
