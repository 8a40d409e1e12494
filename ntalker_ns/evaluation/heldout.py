"""The held-out frames of a run: rendered, and scored by region."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from ntalker_ns.data.regions import region_errors, region_masks
from ntalker_ns.evaluation.options import Surroundings


def render(pipeline: Any, camera: Any, surroundings: Surroundings = "clip") -> Float32[np.ndarray, "h w 3"]:
    """The model's picture of one camera, RGB in [0, 1].

    Args:
        pipeline: a loaded `TalkerPipeline`.
        camera: one camera with a time.
        surroundings: what the head is composited over: "clip", the true frame's torso and background, which judges the
            head alone; or "learned", which judges the whole portrait.
    """
    pipeline.eval()
    outputs = pipeline.model.get_outputs_for_camera(camera.to(pipeline.device), surroundings=surroundings)
    return outputs["rgb"].clamp(0.0, 1.0).cpu().numpy().astype(np.float32)


def frame_errors(pipeline: Any, surroundings: Surroundings = "clip") -> Iterator[dict[str, tuple[float, int]]]:
    """Squared errors of each held-out frame by region (`region_errors`), with the weights that are loaded.

    Args:
        pipeline: a loaded `TalkerPipeline` whose data set is there.
        surroundings: what the head is composited over.

    Raises:
        NTalkerError: the data set's frames are not there.
    """
    held_out = pipeline.datamanager.eval_dataset
    held_out.require_clip()
    for index in range(len(held_out)):
        item = held_out[index]
        masks = region_masks(item["labels"].numpy(), item["face_mask"].numpy())
        picture = render(pipeline, held_out.cameras[index : index + 1], surroundings)
        yield region_errors(picture, item["image"].numpy(), masks)
