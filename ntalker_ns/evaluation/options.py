"""What a user chooses about the metrics. The command line imports this module: it stays light."""

from dataclasses import dataclass
from typing import Literal

FlowName = Literal["dis", "raft"]
Which = Literal["held-out", "all"]
Surroundings = Literal["learned", "clip"]

CLIP_MODEL = "openai/clip-vit-base-patch32"
"""Hub id of the CLIP that Gal et al. take for their direction."""


@dataclass(frozen=True)
class FrameOptions:
    """Which of a run's frames are compared, and how they are shown."""

    frames: Which = "held-out"
    """Which frames of a run's clip: those kept from training, or all."""
    image_size: int | None = None
    """Longest side of the pictures that are compared, px, at most the data set's; by default that of the training."""
    surroundings: Surroundings = "learned"
    """What is around a rendered head: the learned torso and background, which is what a user sees; or the true
    frame's, as around the heads of --baselines, so that only the head is judged."""


@dataclass(frozen=True)
class MetricOptions:
    """What the metrics need beside the pictures."""

    captions: tuple[str, str] | None = None
    """What is seen before and after, for CLIP direction, such as "A photograph of a man" and "A photograph of a young
    man"; of everything that is scored. By default each edit has its own."""
    syncnet: str | None = None
    """SyncNet's published weights, syncnet_v2.model, for sync confidence and distance: a path, or
    OWNER/REPOSITORY/FILE on the hub."""
    clip: str = CLIP_MODEL
    """CLIP, for CLIP direction: a hub id or a folder."""
    arcface: str | None = None
    """A face network for the identity distance: an .onnx file (a path, or OWNER/REPOSITORY/FILE on the hub), or a
    transformers model by folder or hub id."""
    flow: FlowName = "dis"
    """Optical flow of the warping error: OpenCV's DIS, which needs no weights, or torchvision's RAFT."""
