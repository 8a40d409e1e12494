"""Frames in which no face was found: short gaps are bridged, long ones are an error that names the frames."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.frame_indices import runs
from ntalker_ns.media.video_reader import FPS

LONGEST = 10
"""Frames that may be bridged in one go: 0.4 s, in which a head does not get far."""


def find_gaps(seen: Bool[np.ndarray, "n"]) -> list[tuple[int, int]]:
    """First and last frame of every run of frames without a face."""
    return [(first, end - 1) for first, end in runs(~seen)]


def check_gaps(seen: Bool[np.ndarray, "n"], clip: str) -> list[tuple[int, int]]:
    """Refuses a clip in which the face is gone for too long.

    Args:
        seen: frames in which the face was found.
        clip: the clip's name, for the message.

    Returns:
        The gaps that are to be bridged.

    Raises:
        NTalkerError: no face at all, or a gap longer than `LONGEST`.
    """
    if not seen.any():
        raise NTalkerError(f"No face was found in {clip}; film one person from the front, head and shoulders.")
    gaps = find_gaps(seen)
    long = [gap for gap in gaps if gap[1] - gap[0] >= LONGEST]
    if long:
        raise NTalkerError(
            f"{clip} shows no face in {describe_gaps(long)}; "
            f"gaps of up to {LONGEST} frames are bridged, so cut the clip before or after."
        )
    return gaps


def describe_gaps(gaps: Sequence[tuple[int, int]], most: int = 6) -> str:
    """Names gaps by frame and time, as in 'frames 120-140 (4.8-5.6 s)'."""
    names = [
        f"frame {a} ({a / FPS:.1f} s)" if a == b else f"frames {a}-{b} ({a / FPS:.1f}-{b / FPS:.1f} s)"
        for a, b in gaps[:most]
    ]
    return ", ".join(names) + (f" and {len(gaps) - most} more places" if len(gaps) > most else "")
