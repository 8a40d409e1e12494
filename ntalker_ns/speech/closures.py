"""Lips that meet on [p b m], and the lower lip at the teeth on [f v].

A regression's prediction is a mean, and leaves lips apart where it is not sure when they met. When they do is heard
well: a linear readout of Whisper features says how likely they are closed (`weights/closures.md`;
`python -m ntalker_ns.speech.training closures` makes it). In proportion to that the predicted opening is brought to the
person's own with closed lips.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr
from torch import Tensor, nn

from ntalker_ns.audio.clock import FPS
from ntalker_ns.face.mesh_indices import IBUG, IBUG_LIP_PAIRS, LOWER_INNER_LIP, MESH, UPPER_INNER_LIP
from ntalker_ns.media.espeak import Phoneme
from ntalker_ns.speech.prior import window_inputs

WEIGHTS = Path(__file__).parent / "weights" / "closures.safetensors"

CLOSED = 5.0
"""Percentile of a person's openings at which lips count as closed."""

LABIODENTAL_GAP = 0.25
"""Gap between the lips on [f v], above closed lips and over the openings' standard deviation. Of 95 found in clips the
median is 0.12, the mean 0.39."""

SHARPNESS, MIDDLE = 2.0, -0.5
"""Lips are brought to closed by sigmoid(SHARPNESS (logit - MIDDLE)) of the way. Chosen on 46 clips, each speaker left
out of the prior: between -1 and 0 the openings' correlation changes by 0.001."""

STREAM_BIAS = 0.75
"""Added to the logit of a stream's features, in which closures are less clear. Chosen likewise, at 60 ms of look-ahead:
the correlation is 0.697 without closed lips, and 0.704, 0.706, 0.707, 0.706, 0.701 with 0, 0.5, 0.75, 1, 1.5 added;
lips meet in 57%, and in 70, 80, 84, 86, 94%, of the closures that are heard in the whole sound. Readouts learned from
streams' features gain no more."""

BILABIALS, LABIODENTALS = tuple("pbm"), tuple("fvʋɱ")  # noqa: RUF001
"""First letters, in IPA."""

P_CLOSURE, LEAD, B_PART = 0.055, 0.01, 0.6
"""eSpeak NG's time of [p] is that of its burst: seconds for which the lips were closed before. Others begin a little
before their time. The part of [b] that is over when it bursts."""

SHORTEST = 0.08
"""Seconds that a closure takes at least: two frames."""

SPREAD = 0.02
"""Standard deviation, in seconds, of the time over which a closure begins and ends."""


@dataclass(frozen=True)
class ClosureReadout:
    """Logistic regression: from windows of Whisper features to whether lips are closed, and lip and teeth."""

    weights: Float[Tensor, "inputs 2"]
    bias: Float[Tensor, "2"]

    def __call__(self, windows: Float[Tensor, "frames 16 channels"]) -> Float[Tensor, "frames 2"]:
        """How likely each frame shows lips that meet ([p b m]) and the lower lip at the teeth ([f v])."""
        inputs = window_inputs(windows)
        return torch.sigmoid(inputs @ self.weights.to(inputs) + self.bias.to(inputs))


@lru_cache(maxsize=2)
def load_readout(of_stream: bool = False) -> ClosureReadout:
    """The readout that comes with the package.

    Args:
        of_stream: whether windows come from a stream.
    """
    from safetensors.torch import load_file

    tensors = load_file(WEIGHTS)
    return ClosureReadout(tensors["weights"].float(), tensors["bias"].float() + STREAM_BIAS * of_stream)


class LipClosing(nn.Module):
    """Brings predicted lip shapes to closed lips, in one person; before it is fitted it changes nothing."""

    directions: Tensor
    targets: Tensor
    opening: Tensor

    def __init__(self, lip_basis: Float[Tensor, "lip_dim points 2"]) -> None:
        """
        Args:
            lip_basis: displacements of the person's landmarks for a lip shape of 1 (x and z, world units).
        """
        super().__init__()
        lips = lip_basis[:, list(_inner_lips(lip_basis.shape[1])), 1].T.double()
        self.heights: Float[Tensor, "2 lip_dim"] = lips
        self.register_buffer("opening", (lips[0] - lips[1]).float(), persistent=False)
        self.register_buffer("directions", torch.zeros(2, len(lip_basis)))
        self.register_buffer("targets", torch.zeros(2))

    @torch.no_grad()
    def fit(self, shapes: Float[Tensor, "frames lip_dim"]) -> None:
        """Learns how this person closes: lips together as their lips do with all that goes with it, and the lower lip
        to the teeth with the upper one still, both as the shapes' covariance has it.

        Args:
            shapes: of the clip.
        """
        shapes = shapes.double().cpu()
        openings = shapes @ (self.heights[0] - self.heights[1])
        if len(shapes) < 2 or float(openings.std()) == 0.0:
            return
        covariance = torch.cov(shapes.T)
        covariance += 1e-4 * covariance.trace() / len(covariance) * torch.eye(len(covariance))
        opens = (self.heights[0] - self.heights[1])[None]
        lips = _regression(covariance, opens) @ torch.tensor([-1.0], dtype=torch.float64)
        teeth = _regression(covariance, self.heights) @ torch.tensor([0.0, 1.0], dtype=torch.float64)
        closed = float(np.percentile(openings.numpy(), CLOSED))
        self.directions.copy_(torch.stack([lips, teeth]))
        self.targets.copy_(torch.tensor([closed, closed + LABIODENTAL_GAP * float(openings.std())]))

    def forward(
        self, shapes: Float[Tensor, "frames lip_dim"], closed: Float[Tensor, "frames 2"] | None
    ) -> Float[Tensor, "frames lip_dim"]:
        """Shapes with lips closed, and in no frame more than closed: lips that meet stop each other.

        Args:
            shapes: predicted.
            closed: how likely lips meet, and lip and teeth, 0 to 1; None: nothing is known.
        """
        shapes = shapes + (shapes @ self.opening - self.targets[0]).clamp(max=0.0)[:, None] * self.directions[0]
        if closed is None:
            return shapes
        parts = torch.sigmoid(SHARPNESS * (torch.logit(closed.to(shapes), eps=1e-6) - MIDDLE))
        for kind in (1, 0):
            excess = (shapes @ self.opening - self.targets[kind]).clamp(min=0.0)
            shapes = shapes + (parts[:, kind] * excess)[:, None] * self.directions[kind]
        return shapes


def _inner_lips(points: int) -> tuple[int, int]:
    """Where the middles of the upper and the lower inner lip are among the landmarks of lips and jaw."""
    if points == len(MESH.lips):
        return MESH.lips.index(UPPER_INNER_LIP), MESH.lips.index(LOWER_INNER_LIP)
    upper, lower = IBUG_LIP_PAIRS[1]
    return IBUG.lips.index(upper), IBUG.lips.index(lower)


def _regression(
    covariance: Float[Tensor, "lip_dim lip_dim"], rows: Float[Tensor, "rows lip_dim"]
) -> Float[Tensor, "lip_dim rows"]:
    """The shape that is expected when `rows @ shape` is 1, one row at a time and the others 0."""
    return covariance @ rows.T @ torch.linalg.inv(rows @ covariance @ rows.T)


@dataclass(frozen=True)
class Closure:
    """A time at which lips meet, or lip and teeth."""

    start: float
    """Seconds."""
    end: float
    is_labiodental: bool


def closures_of(phonemes: list[Phoneme], duration: float) -> list[Closure]:
    """When phonemes that eSpeak NG spoke close the lips.

    Args:
        phonemes: with their beginnings, in order.
        duration: of the speech, in seconds.
    """
    found = []
    for phoneme, following in zip(phonemes, [*phonemes[1:], Phoneme("", duration)], strict=True):
        if not phoneme.ipa.startswith(BILABIALS + LABIODENTALS):
            continue
        start, end = phoneme.start - LEAD, following.start - LEAD
        if phoneme.ipa[0] == "p":
            start, end = phoneme.start - P_CLOSURE, phoneme.start
        elif phoneme.ipa[0] == "b":
            end = start + B_PART * (end - start)
        short = max(0.0, SHORTEST - (end - start)) / 2.0
        found.append(Closure(start - short, end + short, phoneme.ipa.startswith(LABIODENTALS)))
    return found


def closed_frames(closures: list[Closure], frames: int) -> Float[np.ndarray, "frames 2"]:
    """How closed the lips are, and lip and teeth, in each frame: 0 to 1, as `ClosureReadout` gives it."""
    times, closed = np.arange(frames) / FPS, np.zeros((frames, 2))
    for closure in closures:
        since, until = ((times - time) / SPREAD for time in (closure.start, closure.end))
        closed[:, int(closure.is_labiodental)] += ndtr(since) - ndtr(until)
    return closed.clip(0.0, 1.0)
