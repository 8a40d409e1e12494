"""What a user chooses about the metrics. The command line imports this module: it stays light."""

from dataclasses import dataclass
from typing import Literal

FlowName = Literal["dis", "raft"]

CLIP_MODEL = "openai/clip-vit-base-patch32"
"""Hub id of the CLIP that Gal et al. take for their direction."""


@dataclass(frozen=True)
class MetricOptions:
    """What the metrics need beside the pictures."""

    captions: tuple[str, str] | None = None
    """What is seen before and after an edit, for CLIP direction, such as "A photograph of a man" and "A photograph of a
    young man"."""
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
