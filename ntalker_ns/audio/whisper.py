"""Whisper features: the convolutions and first two layers of OpenAI's Whisper tiny.en encoder, which come with the
package (MIT licence, `weights/whisper_tiny_en.md`), reduced to their principal components.

Mouth shapes are a nearly linear function of these features, the same for all speakers; of log-mel energies they are
not. Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", section 2.2.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.audio.mel import QUIETEST, speech_level
from ntalker_ns.audio.windows import FEATURE_RATE, HOP, WINDOW, windows_of_track

WEIGHTS = Path(__file__).parent / "weights" / "whisper_tiny_en.safetensors"

WIDTH, HEADS, LAYERS, MEL_BANDS = 384, 6, 2, 80
"""Of Whisper tiny; it has four layers, of which two are used."""

MAX_STEPS = 1500
"""Steps of 20 ms that Whisper has positions for: 30 s."""

CHUNK, CONTEXT = 500, 200
"""Steps kept of each run over a long sound, and computed beside them on either side: 10 s and 4 s."""

FRAME, MEL_HOP = 400, 160
"""Samples under a window of the spectrogram, and from one to the next."""

BLOCK = 1000
"""Windows whose spectra are computed at a time."""

RANGE = 8.0
"""Log10 of the energies that Whisper tells apart, below the loudest of the sound."""

LEVEL = -20.0
"""dBFS that speech is brought to: Whisper's log-mel energies depend on the recording's level."""


class WhisperEncoder(nn.Module):
    """The beginning of Whisper's encoder. The names of its parameters are those of `transformers`."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS, layers: int = LAYERS) -> None:
        """
        Args:
            width: channels of a step.
            heads: of the attention.
            layers: transformer blocks.
        """
        super().__init__()
        self.conv1 = nn.Conv1d(MEL_BANDS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))
        self.register_buffer("positions", sinusoids(MAX_STEPS, width), persistent=False)

    def forward(self, mel: Float[Tensor, "80 mel_steps"]) -> Float[Tensor, "steps width"]:
        """Encodes log-mel energies.

        Args:
            mel: of `log_mel`, at 100 Hz; at most 30 s.

        Returns:
            Activations of the last layer at 50 Hz, without Whisper's final normalisation.
        """
        hidden = self.convolved(mel)
        hidden = hidden + self.get_buffer("positions")[: len(hidden)]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    def convolved(self, mel: Float[Tensor, "80 mel_steps"], padding: int = 1) -> Float[Tensor, "steps width"]:
        """The two convolutions.

        Args:
            mel: at 100 Hz.
            padding: zeros before and after the steps; 0 gives only what depends on none.
        """
        hidden = F.gelu(F.conv1d(mel[None], self.conv1.weight, self.conv1.bias, padding=padding))
        return F.gelu(F.conv1d(hidden, self.conv2.weight, self.conv2.bias, stride=2, padding=padding))[0].T


class EncoderLayer(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        """
        Args:
            width: channels of a step.
            heads: of the attention.
        """
        super().__init__()
        self.heads = heads
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = nn.ModuleDict(
            {
                # Keys have no bias in Whisper.
                "q_proj": nn.Linear(width, width),
                "k_proj": nn.Linear(width, width, bias=False),
                "v_proj": nn.Linear(width, width),
                "out_proj": nn.Linear(width, width),
            }
        )
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, hidden: Float[Tensor, "steps width"]) -> Float[Tensor, "steps width"]:
        """Attention over all steps, then a network on each."""
        return self.attend(hidden, *self.projections(hidden))

    def projections(self, hidden: Float[Tensor, "steps width"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of steps, each (heads, steps, width / heads)."""
        given = self.self_attn_layer_norm(hidden)
        query, key, value = (
            self.self_attn[name](given).unflatten(-1, (self.heads, -1)).transpose(0, 1)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        return query, key, value

    def attend(
        self,
        hidden: Float[Tensor, "steps width"],
        query: Float[Tensor, "heads steps channels"],
        key: Float[Tensor, "heads others channels"],
        value: Float[Tensor, "heads others channels"],
    ) -> Float[Tensor, "steps width"]:
        """The layer's output for steps that attend to others (themselves among them)."""
        attended = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.self_attn["out_proj"](attended.transpose(0, 1).flatten(1))
        return hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))


def sinusoids(steps: int, width: int) -> Float[Tensor, "steps width"]:
    """Whisper's position encodings: sines, then cosines, of wavelengths from 2 pi to 20,000 pi steps."""
    rates = torch.exp(-np.log(10000.0) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(steps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def log_mel(waveform: Float32[np.ndarray, " samples"]) -> Float[Tensor, "80 mel_steps"]:
    """Whisper's log-mel energies at 100 Hz, two steps for each of the features.

    Args:
        waveform: mono, 16 kHz, at least 13 ms.
    """
    padded = np.pad(np.pad(waveform, (0, -len(waveform) % HOP)), FRAME // 2, mode="reflect")
    frames = torch.from_numpy(padded).unfold(0, FRAME, MEL_HOP)[:-1]
    # In blocks: the spectra of an hour would take a gigabyte.
    energies = torch.cat([mel_energies(torch.fft.rfft(each * _window()).T) for each in frames.split(BLOCK)], dim=1)
    return normalised(energies, float(energies.max()) - RANGE)


def mel_energies(
    spectrum: Complex[Tensor, "201 mel_steps"], gain: Tensor | float = 0.0
) -> Float[Tensor, "80 mel_steps"]:
    """Logarithms to base 10 of the energies of Whisper's mel bands, at least -10.

    Args:
        spectrum: of windows of `FRAME` samples.
        gain: what is added, one number or one for each window.
    """
    return ((_filters() @ spectrum.abs().square()).clamp(min=1e-20).log10() + gain).clamp(min=-10.0)


def normalised(energies: Float[Tensor, "80 mel_steps"], floor: float) -> Float[Tensor, "80 mel_steps"]:
    """What Whisper takes for log-mel energies, those below a floor raised to it."""
    return (energies.clamp(min=floor) + 4.0) / 4.0


@lru_cache(maxsize=1)
def _window() -> Float[Tensor, "400"]:
    return torch.hann_window(FRAME)


@lru_cache(maxsize=1)
def _filters() -> Float[Tensor, "80 bins"]:
    from librosa.filters import mel

    return torch.from_numpy(mel(sr=SAMPLE_RATE, n_fft=400, n_mels=MEL_BANDS))


class WhisperFeatures:
    """Waveform in, principal components of Whisper's activations out."""

    def __init__(
        self,
        encoder: WhisperEncoder,
        mean: Float[Tensor, "width"],
        projection: Float[Tensor, "width channels"],
    ) -> None:
        """
        Args:
            encoder: in evaluation mode.
            mean: activations of average speech.
            projection: to components of unit variance on speech.
        """
        self._encoder, self._mean, self._projection = encoder, mean, projection

    @property
    def encoder(self) -> WhisperEncoder:
        """The network before the projection."""
        return self._encoder

    @property
    def channels(self) -> int:
        """Features of a step."""
        return self._projection.shape[1]

    def windows(
        self, waveform: Float32[np.ndarray, " samples"], num_frames: int
    ) -> Float32[np.ndarray, "num_frames 16 channels"]:
        """The feature window around each video frame; silence before the start and after the end.

        Args:
            waveform: mono, 16 kHz.
            num_frames: number of frames at 25 fps.
        """
        before = WINDOW // 2 * HOP
        after = max(0, (FEATURE_RATE // FPS * num_frames + WINDOW // 2) * HOP - len(waveform))
        track = self.track(np.pad(waveform, (before, after)))
        return windows_of_track(track, num_frames + WINDOW // 2 * FPS // FEATURE_RATE)[-num_frames:]

    @torch.inference_mode()
    def track(
        self, waveform: Float32[np.ndarray, " samples"], chunk: int = CHUNK, context: int = CONTEXT
    ) -> Float32[np.ndarray, "steps channels"]:
        """Features at 50 Hz, computed in overlapping chunks.

        Args:
            waveform: mono, 16 kHz.
            chunk: steps kept of each run of the network.
            context: steps computed beside them on either side.

        Returns:
            ceil(samples / 320) steps.
        """
        mel = log_mel(at_level(waveform))
        steps = mel.shape[1] // 2
        kept = []
        for start in range(0, steps, chunk):
            stop = min(steps, start + chunk)
            first, last = max(0, start - context), min(steps, stop + context)
            activations = self._encoder(mel[:, 2 * first : 2 * last])[start - first : stop - first]
            kept.append(self.project(activations))
        return torch.cat(kept).numpy()

    def project(self, activations: Float[Tensor, "steps width"]) -> Float[Tensor, "steps channels"]:
        """The principal components of activations."""
        return (activations - self._mean) @ self._projection


def at_level(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """The waveform with its speech at `LEVEL`; silence, which has none, stays as it is."""
    level = speech_level(waveform)
    return waveform if level <= QUIETEST else waveform * np.float32(10.0 ** ((LEVEL - level) / 20.0))


@lru_cache(maxsize=1)
def load_whisper() -> WhisperFeatures:
    """The features that come with the package, on the CPU: 20 s of sound take 0.2 s on one core."""
    from safetensors.torch import load_file

    tensors = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    mean, projection = tensors.pop("projection.mean"), tensors.pop("projection.weight")
    encoder = WhisperEncoder()
    encoder.load_state_dict(tensors)
    return WhisperFeatures(encoder.eval().requires_grad_(False), mean, projection)
