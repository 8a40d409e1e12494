"""Options of the evaluation. The command line imports this module: it must stay light."""

from dataclasses import dataclass
from typing import Literal

FlowName = Literal["dis", "raft"]
Which = Literal["held-out", "all"]
Surroundings = Literal["learned", "clip"]
Range = Literal["auto", "scaled", "levels"]

CLIP_MODEL = "openai/clip-vit-base-patch32"
"""Hub id of the CLIP that Gal et al. take for their direction."""


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of a run are compared, and how they are rendered."""

    frames: Which = "held-out"
    """Frames of the run's clip: those held out from training, or all."""
    image_size: int | None = None
    """Longest side of the compared pictures in px, at most the data set's; by default the size of the training."""
    surroundings: Surroundings = "learned"
    """Layers behind the head: learned, the learned torso and background, as in rendered videos; or clip, the
    clip's true ones, as under the heads of --baselines, so that only the head is judged."""


@dataclass(frozen=True)
class MetricOptions:
    """Weights and options of the metrics."""

    captions: tuple[str, str] | None = None
    """Captions of the pictures before and after the edit, for CLIP direction, such as "A photograph of a man" and "A
    photograph of a young man"; they apply to everything that is scored. By default each edit has its own."""
    syncnet: str | None = None
    """SyncNet's published weights, syncnet_v2.model, for sync confidence and distance: a path, or
    OWNER/REPOSITORY/FILE on the hub."""
    clip: str = CLIP_MODEL
    """CLIP, for CLIP direction: a hub id or a folder."""
    arcface: str | None = None
    """A face network for the identity distance: an .onnx file (a path, or OWNER/REPOSITORY/FILE on the hub), or a
    transformers model by folder or hub id."""
    arcface_takes: Range = "auto"
    """Input range of an .onnx file of --arcface: levels (0 to 255) or scaled (-1 to 1); auto: read from its graph."""
    flow: FlowName = "dis"
    """Optical flow of the warping error: OpenCV's DIS, which needs no weights, or torchvision's RAFT."""
