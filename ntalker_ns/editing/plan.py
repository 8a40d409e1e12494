"""The schedule of an edit: which frames are edited when and how strongly, and the patch of each training step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Int64

from ntalker_ns.errors import NTalkerError

Strategy = Literal["progressive", "one-time", "iterative"]
EditRegion = Literal["head", "portrait", "frame"]
EditOutline = Literal["keep", "free"]

PAPER_GUIDANCE = (3.0, 6.0)
"""Bounds of the text guidance scale (paper, Appendix C)."""
PAPER_STEPS = (10, 20)
"""Bounds of the diffusion steps (paper, Appendix C)."""


@dataclass(frozen=True)
class Strength:
    """The strength of an edit."""

    guidance: float
    """Text guidance scale s, at least 1: higher values follow the instruction more closely."""
    steps: int
    """Diffusion steps t that are run."""
    full_steps: int
    """Diffusion steps t_u from pure noise to a picture; fewer steps start from a partly noised picture."""


def progressive_schedule(updates: int, guidance: tuple[float, float], steps: tuple[int, int]) -> list[Strength]:
    """The strength of each of K updates, rising evenly from the lower to the upper bounds (Eq. 3).

    Args:
        updates: K, at least 1. With K = 1 the only update has the upper bounds.
        guidance: s_l and s_u, bounds of the text guidance scale.
        steps: t_l and t_u, bounds of the diffusion steps; values between are rounded down.

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
        NTalkerError: they are inverted or below 1.
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
    """progressive: all frames are rendered and edited K times, more strongly each time. one-time: once, at the upper
    bounds. iterative: one frame every few steps, at the upper guidance and random steps, with the unedited frame as
    image condition, as in Instruct-NeRF2NeRF."""
    num_frames: int | None = None
    """N, frames that are edited and trained on, evenly spaced over the driving sequence. None: 200 (24 in
    ntalker-edit-small), or all there are."""
    updates: int = 3
    """K, dataset updates."""
    guidance: tuple[float, float] | None = None
    """Lower and upper bound of the text guidance scale s; None: the preset's, or 3 and 6."""
    steps: tuple[int, int] | None = None
    """Lower and upper bound of the diffusion steps t; None: the preset's, or 10 and 20."""
    epochs: int = 300
    """Epochs on large patches, divided evenly over the updates. An epoch has one patch of each frame."""
    lip_epochs: int = 100
    """Epochs on lip patches with the lip-edge loss, after all others."""
    patch_size: int = 256
    """Side of the large patches in px; at most the frame's."""
    lip_patch_size: int = 64
    """Side of the lip patches in px."""
    interval: int = 10
    """Training steps between two edits of the iterative strategy."""
    noise: Literal["run", "frame"] = "run"
    """run: all frames start from the same noise, which flickers less; frame: each starts from its own."""
    seed: int = 0
    """Seed of the editor's noise and of the patches."""
    hold_out: bool = False
    """Leave out frames that the base was not trained on, to evaluate the edit on them."""
    most_frames: Annotated[int, tyro.conf.Suppress] = 200
    """N where num_frames is not given and there are as many."""
    scaled_steps: Annotated[int | None, tyro.conf.Suppress] = None
    """Training steps that the epochs are scaled to (--max-num-iterations of the edit's start); None: not scaled."""

    @property
    def frames(self) -> int:
        """N."""
        return self.most_frames if self.num_frames is None else self.num_frames

    def fitted(self, available: int) -> "EditConfig":
        """The configuration with its number of frames.

        Args:
            available: frames that there are.

        Raises:
            NTalkerError: more are requested.
        """
        if self.num_frames is not None and self.num_frames > available:
            raise NTalkerError(
                f"--edit.num-frames {self.num_frames} is more than the {available} frames that drive the head: give "
                f"{available} or less, or longer audio."
            )
        return replace(self, num_frames=min(self.frames, available))


@dataclass(frozen=True)
class Update:
    """An edit of some frames before a training step."""

    number: int
    """1 for the first."""
    step: int
    """The training step before which it is made."""
    frames: tuple[int, ...]
    """Indices among the N frames."""
    strength: Strength
    is_whole: bool = True
    """Whether it is of all N frames, as in the paper. The iterative strategy edits one frame at a time, and the
    editor's image condition is then the unedited frame instead of the current render."""


@dataclass(frozen=True)
class EditPlan:
    """The schedule of a whole edit. It is a function of the training step alone, so that edits can be resumed."""

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
        """First training step of each round on large patches, and of the lip patches."""
        count = max(self.config.updates, 1) if self.config.strategy != "one-time" else 1
        return [self._scaled(self.config.epochs * i // count * self.config.frames) for i in range(count + 1)]

    @property
    def lip_start(self) -> int:
        """First training step on lip patches."""
        return self.rounds[-1]

    @property
    def total_steps(self) -> int:
        """Training steps in all."""
        return self._scaled(self._unscaled_steps)

    @property
    def dropped(self) -> list[int]:
        """Numbers of the updates that are not made, because a stronger one falls on the same step."""
        starts = self.rounds[:-1]
        return [number + 1 for number, start in enumerate(starts[:-1]) if start == starts[number + 1]]

    @property
    def _unscaled_steps(self) -> int:
        return (self.config.epochs + self.config.lip_epochs) * self.config.frames

    def _scaled(self, step: int) -> int:
        """A step of the plan of whole epochs, in the plan that is scaled to another number of steps."""
        wanted = self.config.scaled_steps
        return step if wanted is None else step * wanted // self._unscaled_steps

    def on_lips(self, step: int) -> bool:
        """Whether a step trains a lip patch, with the lip-edge loss."""
        return step >= self.lip_start

    def updates(self, start: int, end: int) -> Iterator[Update]:
        """The updates that are due from training step `start` on and before `end`, in order."""
        for step in range(start, end):
            if update := self.update_before(step):
                yield update

    def update_before(self, step: int) -> Update | None:
        """The update that is due before a training step, if any."""
        if self.config.strategy == "iterative":
            return self._single_update(step)
        # With fewer epochs than updates, several fall on one step: the strongest counts.
        numbers = [number for number, first in enumerate(self.rounds[:-1]) if first == step]
        if not numbers:
            return None
        return Update(numbers[-1] + 1, step, tuple(range(self.config.frames)), self.schedule[numbers[-1]])

    def _single_update(self, step: int) -> Update | None:
        """The iterative strategy: frames in random order, all equally often."""
        if step % self.config.interval or self.on_lips(step):
            return None
        number = step // self.config.interval
        frame = self._shuffled(number // self.config.frames, "edits")[number % self.config.frames]
        guidance, (min_steps, max_steps) = self.bounds
        steps = int(np.random.default_rng([self.config.seed, 2, step]).integers(min_steps, max_steps + 1))
        return Update(number + 1, step, (int(frame),), Strength(guidance[1], steps, max_steps), is_whole=False)

    def frame_of(self, step: int, rank: int) -> int:
        """The frame whose patch a process trains on: each epoch takes every frame once, in random order."""
        epoch, position = divmod(step, self.config.frames)
        return int(self._shuffled(epoch, "patches", rank)[position])

    def _shuffled(self, epoch: int, of: Literal["patches", "edits"], rank: int = 0) -> Int64[np.ndarray, " n"]:
        rng = np.random.default_rng([self.config.seed, ("patches", "edits").index(of), rank, epoch])
        return rng.permutation(self.config.frames)

    def patch_rng(self, step: int, rank: int) -> np.random.Generator:
        """Generator of the position of a step's patch."""
        return np.random.default_rng([self.config.seed, 3, rank, step])

    def seeds(self, frames: tuple[int, ...]) -> list[int]:
        """Seeds of the editor's noise, one for each frame of the driving sequence."""
        if self.config.noise == "run":
            return [self.config.seed] * len(frames)
        return [int(np.random.SeedSequence([self.config.seed, 4, frame]).generate_state(1)[0]) for frame in frames]


def make_plan(
    config: EditConfig,
    preset_guidance: tuple[float, float] | None = None,
    preset_steps: tuple[int, int] | None = None,
) -> EditPlan:
    """Checks a configuration and fills in bounds that it leaves to the preset or the paper.

    Args:
        config: the user's options.
        preset_guidance: bounds of the preset, if any.
        preset_steps: bounds of the preset, if any.

    Raises:
        NTalkerError: a number is out of range.
    """
    minimum = {"num-frames": 1, "updates": 1, "epochs": 0, "lip-epochs": 0, "interval": 1, "seed": 0}
    minimum |= {"patch-size": 16, "lip-patch-size": 16}
    for name, bound in minimum.items():
        value = getattr(config, name.replace("-", "_"))
        if value is not None and value < bound:
            raise NTalkerError(f"--edit.{name} must be at least {bound}, not {value}.")
    if config.epochs + config.lip_epochs == 0:
        raise NTalkerError("There is nothing to train: give --edit.epochs or --edit.lip-epochs.")
    guidance = config.guidance or preset_guidance or PAPER_GUIDANCE
    steps = config.steps or preset_steps or PAPER_STEPS
    plan = EditPlan(config, (tuple(guidance), tuple(steps)))  # type: ignore[arg-type]
    plan.schedule  # noqa: B018 (checks the bounds)
    return plan
