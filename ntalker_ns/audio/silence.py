"""What a head does while nobody speaks: a clip of seconds may not show it, and new speech has pauses."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntalker_ns.audio.features import silence_of
from ntalker_ns.driving.sequence import DrivingSequence

LOUDER = (0.0, 0.3, 0.6)
"""Pauses are so much louder than silence, in units of the features (14 dB for mel)."""

CLOSED = 5.0
"""Per cent of the frames whose mouth counts as closed."""


def pauses(
    sequence: DrivingSequence, frames: Int[np.ndarray, " frames"]
) -> tuple[Float[Tensor, "pauses 16 channels"], Float[Tensor, "pauses lip_dim"]]:
    """Windows without speech and the lips that go with them; none where the features' silence is not known.

    Args:
        sequence: of the clip.
        frames: whose mouths may be looked at.
    """
    silence, openings = silence_of(sequence.feature_info), sequence.mouth_opening[frames]
    known = np.isfinite(openings)
    count = 0 if silence is None or not known.any() else len(LOUDER)
    windows = (silence or 0.0) + np.multiply.outer(LOUDER[:count], np.ones_like(sequence.features[0]))
    shapes = np.zeros((count, sequence.lip_shapes.shape[-1]))
    if count:
        shapes += sequence.lip_shapes[frames[openings <= np.percentile(openings[known], CLOSED)]].mean(axis=0)
    return torch.from_numpy(windows).float(), torch.from_numpy(shapes).float()
