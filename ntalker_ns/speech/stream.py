"""Lip shapes of sound that arrives in pieces: a microphone, a call, an answer that is still being spoken."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.audio.whisper_stream import WhisperStream
from ntalker_ns.errors import NTalkerError
from ntalker_ns.speech.closures import load_readout
from ntalker_ns.speech.lip_model import LipModel


class LipStream:
    """Sound in, the lip shapes of finished frames out, 25 a second.

    A frame's shape comes out `look_ahead` after its time. Shapes do not depend on the lengths of the pieces: the whole
    sound in one piece, then `flush`, gives the same.

    Example:
        >>> from ntalker_ns.speech.adaptation import AdaptedPrior
        >>> from ntalker_ns.speech.prior import load_prior
        >>> lip_model = AdaptedPrior(64, load_prior().basis[:6])  # that of a head: `pipeline.model.lip_model`
        >>> stream = LipStream(lip_model, FeatureInfo("whisper", None, 64))
        >>> begun, ended = stream.push(np.zeros(16000, np.float32)), stream.flush()
        >>> torch.cat([begun, ended]).shape
        torch.Size([25, 6])
    """

    def __init__(self, lip_model: LipModel, info: FeatureInfo, look_ahead: int = 60) -> None:
        """
        Args:
            lip_model: of a head.
            info: of the features that the head was trained with.
            look_ahead: milliseconds of sound after a frame's time that it waits for: 40, 60, 100 or 160.

        Raises:
            NTalkerError: another look-ahead, or features that a stream cannot compute.
        """
        if info.extractor != "whisper":
            raise NTalkerError(
                f"A stream needs a head trained with whisper features, not {info.extractor}: process its clip with "
                "--features whisper and train it again."
            )
        self._lip_model, self._features = lip_model, WhisperStream(look_ahead)
        self._readout = load_readout(of_stream=True)

    def push(self, samples: Float32[np.ndarray, "..."]) -> Float[Tensor, "frames lip_dim"]:
        """The lip shapes of the frames that a piece completes.

        Args:
            samples: mono, 16 kHz, in [-1, 1]; any number of them.

        Raises:
            NTalkerError: more than one channel, or values that are not finite.
        """
        return self._shapes(self._features.push(samples))

    def flush(self) -> Float[Tensor, "frames lip_dim"]:
        """The lip shapes of the frames that are left when the sound has ended; the next piece begins another."""
        return self._shapes(self._features.flush())

    def clear(self) -> None:
        """Discards the sound, unfinished frames included: the next piece begins another."""
        self._features.clear()

    def _shapes(self, windows: Float32[np.ndarray, "frames 16 channels"]) -> Float[Tensor, "frames lip_dim"]:
        device, features = next(self._lip_model.buffers()).device, torch.from_numpy(windows)
        return self._lip_model.lip_shapes(features.to(device), self._readout(features).to(device))
