"""When a run edits which frames, how strongly, and what it trains on in between."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from ntalker_ns.errors import NTalkerError

Strategy = Literal["progressive", "one-time", "iterative"]
EditRegion = Literal["head", "portrait", "frame"]

PAPER_GUIDANCE = (3.0, 6.0)
"""Bounds of the text guidance scale (paper, Appendix C)."""
PAPER_STEPS = (10, 20)
"""Bounds of the diffusion steps (paper, Appendix C)."""


@dataclass(frozen=True)
class Strength:
    """How much an editor is to change."""

    guidance: float
    """Text guidance scale s: 1 follows the picture alone, more follows the instruction more."""
    steps: int
    """Diffusion steps t that are run."""
    full_steps: int
    """Diffusion steps from pure noise to a picture: t of them start part of the way."""


def progressive_schedule(updates: int, guidance: tuple[float, float], steps: tuple[int, int]) -> list[Strength]:
    """The strength of each of K updates, rising evenly from the lower to the upper bounds (Eq. 3).

    Args:
        updates: K, at least 1. With K = 1 the only update is made at the upper bounds.
        guidance: s_l and s_u, lowest and highest text guidance scale.
        steps: t_l and t_u, fewest and most diffusion steps; what lies between is rounded down.

    Returns:
        K strengths; `full_steps` is t_u throughout.

    Raises:
        NTalkerError: there is no update, or bounds are inverted or out of range.
    """
    check_bounds(guidance, steps)
    if updates < 1:
        raise NTalkerError(f"An edit needs at least one dataset update, not {updates}: check --edit.updates.")
    if updates == 1:
        return [Strength(guidance[1], steps[1], steps[1])]
    last = updates - 1
    return [
        Strength(
            guidance=guidance[0] + i / last * (guidance[1] - guidance[0]),
            # Whole numbers throughout: i / last in floating point can fall just short of the next step.
            steps=steps[0] + i * (steps[1] - steps[0]) // last,
            full_steps=steps[1],
        )
        for i in range(updates)
    ]


def check_bounds(guidance: tuple[float, float], steps: tuple[int, int]) -> None:
    """Checks lower and upper bounds.

    Raises:
        NTalkerError: they are inverted, or no editor could use them.
    """
    if not 1 <= guidance[0] <= guidance[1]:
        raise NTalkerError(
            f"The text guidance must rise from at least 1, not from {guidance[0]:g} to {guidance[1]:g}: check "
            "--edit.guidance (lower bound, upper bound)."
        )
    if not 1 <= steps[0] <= steps[1]:
        raise NTalkerError(
            f"The diffusion steps must rise from at least 1, not from {steps[0]} to {steps[1]}: check --edit.steps "
            "(lower bound, upper bound)."
        )


@dataclass
class EditConfig:
    """The dataset updates and the training between them; the defaults are the paper's."""

    strategy: Strategy = "progressive"
    """progressive: all frames are rendered anew and edited, `updates` times, stronger every time. one-time: all frames
    once, at the upper bounds. iterative: one frame every few steps, at the upper guidance and random steps, with the
    unedited picture as the condition, as Instruct-NeRF2NeRF does."""
    num_frames: int = 200
    """N, frames that are edited and trained on, evenly spaced over what drives the head."""
    updates: int = 3
    """K, dataset updates."""
    guidance: tuple[float, float] | None = None
    """Lower and upper bound of the text guidance scale s; None is the preset's, or 3 and 6."""
    steps: tuple[int, int] | None = None
    """Lower and upper bound of the diffusion steps t; None is the preset's, or 10 and 20."""
    epochs: int = 300
    """Epochs on large patches, in all; they are divided evenly over the updates. An epoch is a patch of each frame."""
    lip_epochs: int = 100
    """Epochs on lip patches with the lip-edge loss, after the last update's."""
    patch_size: int = 256
    """Side of the large patches in px; at most the frame's."""
    lip_patch_size: int = 64
    """Side of the lip patches in px."""
    interval: int = 10
    """Steps between two edits of the iterative strategy."""
    noise: Literal["run", "frame"] = "run"
    """Whether all frames start from one noise, which flickers less, or each from its own."""
    seed: int = 0
    """Of the editor's noise and of the choice of patches."""


@dataclass(frozen=True)
class Edit:
    """Frames that are edited before a training step."""

    number: int
    """1 for the first."""
    frames: tuple[int, ...]
    """Which of the N."""
    strength: Strength
    original_condition: bool = False
    """Whether the unedited picture is the editor's condition, and not the present render."""


@dataclass(frozen=True)
class EditPlan:
    """A whole edit in training steps. Nothing in it is drawn twice: every step can be asked for by itself."""

    config: EditConfig
    bounds: tuple[tuple[float, float], tuple[int, int]]
    """Of guidance and steps."""

    @property
    def schedule(self) -> list[Strength]:
        """Strength of each update."""
        updates = self.config.updates if self.config.strategy == "progressive" else 1
        return progressive_schedule(updates, *self.bounds)

    @property
    def rounds(self) -> list[int]:
        """First steps of the rounds of training, and the step after the last of them, where lip patches begin."""
        count = max(self.config.updates, 1) if self.config.strategy != "one-time" else 1
        return [self.config.epochs * i // count * self.config.num_frames for i in range(count + 1)]

    @property
    def total_steps(self) -> int:
        """Training steps in all."""
        return self.rounds[-1] + self.config.lip_epochs * self.config.num_frames

    def on_lips(self, step: int) -> bool:
        """Whether a step trains lip patches, with the lip-edge loss."""
        return step >= self.rounds[-1]

    def edit_before(self, step: int) -> Edit | None:
        """The edit that a training step waits for, if any."""
        if self.config.strategy == "iterative":
            return self._single_edit(step)
        # Several updates fall together where there are fewer epochs than updates: the strongest counts.
        numbers = [number for number, first in enumerate(self.rounds[:-1]) if first == step]
        if not numbers:
            return None
        return Edit(numbers[-1] + 1, tuple(range(self.config.num_frames)), self.schedule[numbers[-1]])

    def _single_edit(self, step: int) -> Edit | None:
        """The iterative strategy's: frames in random order, each as often as the others."""
        if step % self.config.interval or self.on_lips(step):
            return None
        number = step // self.config.interval
        frame = self._shuffled(number // self.config.num_frames, "edits")[number % self.config.num_frames]
        guidance, (fewest, most) = self.bounds
        steps = int(np.random.default_rng([self.config.seed, 2, step]).integers(fewest, most + 1))
        return Edit(number + 1, (int(frame),), Strength(guidance[1], steps, most), original_condition=True)

    def frame_of(self, step: int, rank: int) -> int:
        """Which of the N frames a step's patch is of: every epoch shows each frame once, in an order of its own."""
        epoch, place = divmod(step, self.config.num_frames)
        return int(self._shuffled(epoch, "patches", rank)[place])

    def _shuffled(self, epoch: int, of: Literal["patches", "edits"], rank: int = 0) -> Int64[np.ndarray, " n"]:
        rng = np.random.default_rng([self.config.seed, ("patches", "edits").index(of), rank, epoch])
        return rng.permutation(self.config.num_frames)

    def patch_rng(self, step: int, rank: int) -> np.random.Generator:
        """Draws the place of a step's patch."""
        return np.random.default_rng([self.config.seed, 3, rank, step])

    def seeds(self, frames: tuple[int, ...]) -> list[int]:
        """Of the editor's noise, one a frame."""
        if self.config.noise == "run":
            return [self.config.seed] * len(frames)
        return [int(np.random.SeedSequence([self.config.seed, 4, frame]).generate_state(1)[0]) for frame in frames]


def make_plan(
    config: EditConfig,
    preset_guidance: tuple[float, float] | None = None,
    preset_steps: tuple[int, int] | None = None,
) -> EditPlan:
    """Checks a configuration and fills in the bounds that it leaves to the preset or the paper.

    Args:
        config: what the user asks for.
        preset_guidance: the preset's bounds, if there is one and it has any.
        preset_steps: likewise.

    Raises:
        NTalkerError: a number cannot be.
    """
    least = {"num-frames": 1, "updates": 1, "epochs": 0, "lip-epochs": 0, "interval": 1, "seed": 0}
    least |= {"patch-size": 16, "lip-patch-size": 16}
    for name, bound in least.items():
        value = getattr(config, name.replace("-", "_"))
        if value < bound:
            raise NTalkerError(f"--edit.{name} must be at least {bound}, not {value}.")
    if config.epochs + config.lip_epochs == 0:
        raise NTalkerError("There is nothing to train: give --edit.epochs or --edit.lip-epochs.")
    guidance = config.guidance or preset_guidance or PAPER_GUIDANCE
    steps = config.steps or preset_steps or PAPER_STEPS
    plan = EditPlan(config, (tuple(guidance), tuple(steps)))  # type: ignore[arg-type]
    plan.schedule  # noqa: B018 (checks the bounds)
    return plan
