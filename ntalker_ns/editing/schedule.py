"""How strong each dataset update is (paper, Eq. 3)."""

from dataclasses import dataclass

from ntalker_ns.errors import NTalkerError


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
