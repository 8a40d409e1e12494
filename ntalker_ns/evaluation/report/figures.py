"""Pictures of a report: takes side by side, the strongest flicker, the worst frames."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.evaluation.evaluate import Evaluation, Row
from ntalker_ns.evaluation.metrics.warping import Flow, pair_error
from ntalker_ns.media.contact_sheet import grid
from ntalker_ns.media.frame_indices import evenly_spaced

Picture = UInt8[np.ndarray, "h w 3"]

BAD = {"psnr_head": -1, "psnr_face": -1, "lip_distance": 1, "psnr": -1}
"""What decides which frames are worst, in order of preference; 1 where much is bad, -1 where little is."""
FULL_SCALE = 0.25
"""Difference of RGB in [0, 1] that is shown brightest."""
NOT_SEEN = (70, 70, 90)
"""Colour of pixels that are not seen in both frames."""


def strip(evaluation: Evaluation, columns: int = 6, height: int = 180) -> Picture:
    """Every take, at frames spread evenly over the shortest of them."""
    shortest = min(len(row.take) for row in evaluation.rows)
    places = evenly_spaced(columns, shortest)
    rows = [[row.take.frames[int(place)] for place in places] for row in evaluation.rows]
    labels = [f"frame {evaluation.reference.indices[place]}" for place in places]
    return grid(rows, [row.take.name for row in evaluation.rows], labels, height)


def flicker_maps(evaluation: Evaluation, flow: Flow, height: int = 220) -> Picture | None:
    """For every take the frame that differs most from the one before: both, and where; None for single frames."""
    rows, names = [], []
    for row in evaluation.rows:
        errors = row.scores.series.get("warping_short")
        if errors is None or not np.isfinite(errors).any():
            continue
        place = int(np.nanargmax(errors))
        before, frame = row.take.frames[place - 1], row.take.frames[place]
        error = pair_error(frame, before, flow)
        shown = heat(error.difference)
        shown[~error.visible] = NOT_SEEN
        rows.append([before, frame, shown])
        names.append(f"{row.take.name}, frame {evaluation.reference.indices[place]}")
    columns = ["the frame before", "the frame", "difference"]
    return grid(rows, names, columns, height) if rows else None


def decider_of(row: Row) -> str | None:
    """The metric that tells which frames of a take are worst; None where none does."""
    return next((name for name in BAD if np.isfinite(row.scores.series.get(name, np.array([np.nan]))).any()), None)


def worst_frames(evaluation: Evaluation, row: Row, decider: str, count: int = 4, height: int = 180) -> Picture:
    """The frames that a take is worst at by a metric: true, the take's, and their difference."""
    badness = BAD[decider] * row.scores.series[decider]
    order = np.argsort(-np.where(np.isfinite(badness), badness, -np.inf))
    places = [int(place) for place in order[:count] if np.isfinite(badness[place])]
    truth = [evaluation.reference.frames[place] for place in places]
    taken = [row.take.frames[place] for place in places]
    differences = [
        heat(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(axis=-1) / 255.0)
        for a, b in zip(taken, truth, strict=True)
    ]
    values = row.scores.series[decider]
    labels = [f"frame {evaluation.reference.indices[place]}: {values[place]:.1f}" for place in places]
    return grid([truth, taken, differences], ["true", row.take.name, "difference"], labels, height)


def heat(values: Float[np.ndarray, "h w"]) -> Picture:
    """Differences as colours from black over red to yellow, `FULL_SCALE` and more the brightest."""
    scaled = np.clip(values / FULL_SCALE * 255.0, 0.0, 255.0).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
