"""Options of a live session, and the head poses and eye openness that they choose, as frames of one sequence."""

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from ntalker_ns.audio.clock import frame_times
from ntalker_ns.driving.controls import blinks, rest_frame, sway, usual_openness, with_motion
from ntalker_ns.driving.sequence import DrivingSequence, Track
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.frame_indices import longest_run

Pose = Literal["sway", "clip", "still"]
Eyes = Literal["blink", "clip", "open"]

SWAY_SECONDS, BLINK_SECONDS = 60, 600
"""Length of the motion and of the blinks that are played again and again, s."""

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class LiveOptions:
    """Options of a session: head motion, eyes, background, refinement."""

    pose: Pose = "sway"
    """Small motion like the person's own, the clip's back and forth, or none."""
    eyes: Eyes = "blink"
    """Blinks at random, the clip's, or open."""
    background: str = "plate"
    """The clip's, or a colour as #rrggbb."""
    refinement: float | None = None
    """Weight of an edited head's refinement network, 0 to 1; None: as it was trained."""
    wipe: float = 0.0
    """Part of the width, from the left, in which an edited head is shown as it was before the edit, 0 to 1."""

    def changed(self, wanted: Any, edited: bool) -> "LiveOptions":
        """The options with some changed by an untrusted client.

        Args:
            wanted: values by name.
            edited: whether the head is an edited one.

        Raises:
            NTalkerError: there is no such field, or it cannot have the value.
        """
        names = {field.name for field in fields(self)}
        if not isinstance(wanted, dict) or not wanted.keys() <= names:
            raise NTalkerError(f"The options are {', '.join(sorted(names))}.")
        given = vars(self) | wanted
        for name, choices in (("pose", get_args(Pose)), ("eyes", get_args(Eyes))):
            if given[name] not in choices:
                raise NTalkerError(f"{name} is one of {', '.join(choices)}.")
        background, weight = given["background"], given["refinement"]
        if not isinstance(background, str) or not (background == "plate" or COLOUR.fullmatch(background)):
            raise NTalkerError("background is plate or a colour as #rrggbb.")
        if weight is not None and not edited:
            raise NTalkerError("refinement is for edited heads, and this is none.")
        for name, value in (("refinement", 0.0 if weight is None else weight), ("wipe", given["wipe"])):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
                raise NTalkerError(f"{name} is a number from 0 to 1.")
        return replace(self, **wanted)


class Stage:
    """Head poses by options and time, as frames of one driving sequence, which a model gets once."""

    def __init__(self, clip: DrivingSequence, seed: int = 0) -> None:
        """
        Args:
            clip: the head's own sequence.
            seed: of sway and blinks.
        """
        start, length = longest_run(clip.track.is_train)
        rest = rest_frame(clip)
        swaying = clip.take(np.full(round(SWAY_SECONDS * clip.fps), rest))
        swaying = with_motion(swaying, clip, sway(clip, len(swaying), seed))
        parts: dict[Pose, Track] = {
            "clip": clip.track.take(np.arange(start, start + length)),
            "sway": swaying.track,
            "still": clip.track.take(np.array([rest])),
        }
        self.sequence = replace(clip, track=_joined(list(parts.values())))
        """What the model is driven by."""
        lengths = [len(part) for part in parts.values()]
        firsts = np.cumsum([0, *lengths])
        self._spans = {pose: (int(firsts[i]), lengths[i]) for i, pose in enumerate(parts)}
        openness = usual_openness(clip)
        self._eyes: dict[Eyes, Float[np.ndarray, " n"]] = {
            "clip": parts["clip"].eye_openness,
            "blink": blinks(round(BLINK_SECONDS * clip.fps), clip.fps, openness, seed),
            "open": np.array([openness], np.float32),
        }

    def frame(self, look: LiveOptions, tick: int) -> int:
        """The frame of `sequence` that is shown at a frame of time, counted from 0."""
        first, length = self._spans[look.pose]
        return first + mirrored(tick, length)

    def openness(self, look: LiveOptions, tick: int) -> float:
        """How open the eyes are, 0 to 1."""
        eyes = self._eyes[look.eyes]
        return float(eyes[mirrored(tick, len(eyes))])


def mirrored(tick: int, length: int) -> int:
    """One number of `ntalker_ns.audio.clock.mirrored_replay`: the frame that a replay back and forth shows."""
    phase = tick % max(1, 2 * (length - 1))
    return min(phase, 2 * (length - 1) - phase)


def _joined(tracks: list[Track]) -> Track:
    """Tracks one after the other. Their audio is left out: a live head has its own."""
    arrays = {
        field.name: np.concatenate([getattr(track, field.name) for track in tracks])
        for field in fields(Track)
        if field.name not in ("features", "times")
    }
    count = sum(len(track) for track in tracks)
    features = np.zeros((count, *tracks[0].features.shape[1:]), np.float32)
    return Track(**arrays, times=frame_times(count), features=features)
