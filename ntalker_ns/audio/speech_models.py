"""Features from speech transformers: logits of wav2vec 2.0 and hidden states of HuBERT."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from ntalker_ns.audio.chunks import run_in_chunks
from ntalker_ns.audio.windows import windows_of_track
from ntalker_ns.errors import NTalkerError

CHUNK, CONTEXT = 500, 200
"""Steps of 20 ms kept of each run (10 s), and further steps computed on each side of them (4 s)."""

MARGIN = 40
"""A step depends on 400 samples, 320 of them its own: 40 more on each side."""


@dataclass(frozen=True)
class SpeechModel:
    """A loaded speech transformer: waveform in, one feature vector per 20 ms out."""

    network: Any
    """A transformers model whose output has `output_name`."""
    output_name: str
    """'logits' or 'last_hidden_state'."""
    channels: int
    """Width of that output."""
    normalize: bool
    """Whether the model expects a waveform of zero mean and unit variance."""

    def windows(
        self, waveform: Float32[np.ndarray, " samples"], num_frames: int
    ) -> Float32[np.ndarray, "num_frames 16 channels"]:
        """The feature window around each video frame; features before the start and after the end are 0.

        Args:
            waveform: mono, 16 kHz.
            num_frames: number of frames at 25 fps.
        """
        return windows_of_track(self.track(waveform), num_frames)

    def track(
        self, waveform: Float32[np.ndarray, " samples"], chunk: int = CHUNK, context: int = CONTEXT
    ) -> Float32[np.ndarray, "steps channels"]:
        """Features at 50 Hz, computed in overlapping chunks.

        Args:
            waveform: mono, 16 kHz.
            chunk: steps kept of each run of the network.
            context: steps computed on each side of a chunk.
        """
        if self.normalize:
            # Over the whole waveform: normalised by chunk, features would change at chunk borders.
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        return run_in_chunks(waveform.astype(np.float32), self._run, MARGIN, chunk, context)

    def _run(self, samples: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            values = torch.from_numpy(samples)[None].to(self.network.device)
            return getattr(self.network(values), self.output_name)[0].float().cpu().numpy()


def load_speech_model(name: str, model: str) -> SpeechModel:
    """A wav2vec 2.0 or a HuBERT.

    Args:
        name: wav2vec2: the logits of a classifier of letters are the features (44 for RAD-NeRF's Esperanto model);
            hubert: the last hidden states (1024 for the large model).
        model: a hub id or a folder.

    Raises:
        NTalkerError: the weights are neither in that folder nor in the hub's cache, and cannot be downloaded.
    """
    import torch
    from transformers import HubertModel, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    kind, output, width = {
        "wav2vec2": (Wav2Vec2ForCTC, "logits", "vocab_size"),
        "hubert": (HubertModel, "last_hidden_state", "hidden_size"),
    }[name]
    try:
        network = _from_cache_or_hub(kind, model)
    except (OSError, ValueError) as error:
        raise NTalkerError(
            f"The weights '{model}' of the '{name}' audio features cannot be loaded: use --features mel, "
            f"which needs none, or name a folder that holds them."
        ) from error
    try:
        normalize = bool(_from_cache_or_hub(Wav2Vec2FeatureExtractor, model).do_normalize)
    except (OSError, ValueError):
        normalize = True
    network = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return SpeechModel(network, output, int(getattr(network.config, width)), normalize)


def _from_cache_or_hub(kind: Any, model: str) -> Any:
    """Loads from disk if possible, and from the hub only if it responds: its client retries for half a minute."""
    try:
        return kind.from_pretrained(model, local_files_only=True)
    except OSError:
        if Path(model).is_dir() or not _hub_answers():
            raise
        return kind.from_pretrained(model)


def _hub_answers() -> bool:
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:  # Which errors these are depends on the hub client's version (requests or httpx).
        return False
    return True
