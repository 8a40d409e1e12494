"""Training examples of silence: a clip of seconds may not show any, and new speech has pauses."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.audio.features import FeatureInfo, silence_of

LOUDNESSES = (0.0, 0.3, 0.6)
"""Loudness of the examples above silence, in units of the features (14 dB for mel)."""

CLOSED = 5.0
"""Percentile of the mouth openings up to which a mouth counts as closed."""


def pauses(
    info: FeatureInfo, lip_shapes: Float[np.ndarray, "frames lip_dim"], openings: Float[np.ndarray, " frames"]
) -> tuple[Float[Tensor, "pauses window channels"], Float[Tensor, "pauses lip_dim"]]:
    """Feature windows without speech, and the lip shape of closed mouths for each.

    Args:
        info: of the features.
        lip_shapes: of the training frames.
        openings: of the mouth in those frames, NaN where unknown.

    Returns:
        One example per loudness; none where the features' value in silence or all openings are unknown.
    """
    silence, known = silence_of(info), np.isfinite(openings)
    if silence is None or not known.any():
        return torch.zeros(0, info.window, info.channels), torch.zeros(0, lip_shapes.shape[1])
    levels = torch.from_numpy(silence + np.array(LOUDNESSES)).float()
    closed = lip_shapes[openings <= np.percentile(openings[known], CLOSED)].mean(axis=0)
    windows = levels[:, None, None].expand(-1, info.window, info.channels)
    return windows, torch.from_numpy(closed).float().expand(len(levels), -1)
