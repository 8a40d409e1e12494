"""The metrics: names, units, directions and definitions."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "one", "zero", ""]
"""Which values are good; empty where the number only describes."""


@dataclass(frozen=True)
class Metric:
    """One row of the report."""

    key: str
    """Its name in report.json."""
    title: str
    unit: str
    better: Better
    digits: int
    """Digits after the decimal point."""
    definition: str
    """What it is and where that comes from."""

    def text(self, value: float | None) -> str:
        """The value as the tables show it."""
        return "-" if value is None else f"{value:.{self.digits}f}"


SYNC = (
    Metric(
        "sync_confidence",
        "Sync confidence (LSE-C)",
        "",
        "higher",
        2,
        "SyncNet's confidence, the paper's Sync score (Chung and Zisserman, 2016): median less least distance of "
        "picture and sound over offsets of 15 frames to either side. The face's box is mediapipe's, not that of the "
        "detector S3FD, which the published pipeline takes.",
    ),
    Metric("sync_distance", "Sync distance (LSE-D)", "", "lower", 2, "SyncNet's least distance over the offsets."),
    Metric("sync_offset", "Sync offset", "frames", "zero", 0, "Where it lies; positive: the sound is early."),
    Metric(
        "sync_padded",
        "  windows against padding",
        "%",
        "",
        0,
        "Of all comparisons of a window of picture with one of sound, how many are with the zeros that the sound is "
        "padded with: in a short clip they decide the figures above.",
    ),
)
SPOKEN = (
    Metric(
        "spoken_peak",
        "Lips and their sound, correlation",
        "",
        "higher",
        2,
        "Pearson correlation of the measured mouth opening with the one that the prior over speakers predicts from the "
        "sound, at the offset where it is highest within 320 ms. Needs no weights but the package's own.",
    ),
    Metric(
        "spoken_offset",
        "  where it is highest",
        "ms",
        "zero",
        0,
        "That offset, relative to people who are in step; positive: the mouth is late. None where no peak stands out.",
    ),
)
DIRECTION = (
    Metric(
        "clip_direction",
        "CLIP direction",
        "",
        "higher",
        4,
        "Cosine of the change between pictures and the change between captions in CLIP's space (Gal et al., 2021; the "
        "paper's Appendix C), mean over frames.",
    ),
)
IDENTITY = (
    Metric(
        "identity_cosine",
        "Identity (ArcFace), cosine distance",
        "",
        "lower",
        3,
        "1 - cosine of ArcFace's embeddings (Deng et al., 2019) of the faces before and after, mean over frames. The "
        "paper's ArcFace column goes up to 2.86, which is no cosine distance: not comparable.",
    ),
    Metric(
        "identity_squared_l2",
        "Identity (ArcFace), squared L2",
        "",
        "lower",
        3,
        "Squared Euclidean distance of the unit embeddings. The paper does not say what its column is: not comparable.",
    ),
)
IDENTITY_DLIB = (
    Metric(
        "identity_dlib",
        "Identity (dlib), distance",
        "",
        "lower",
        3,
        "Euclidean distance of the descriptors of the faces before and after by dlib's face network (King, 2017), mean "
        "over frames: below 0.6 for one person. Not the paper's network, so not comparable with its column. Needs no "
        "weights but the package's own.",
    ),
)
WARPING = (
    Metric(
        "warping_error",
        "Warping error E_w",
        "",
        "lower",
        4,
        "The paper's Eq. 11 (Lei et al., 2023): against the frame before and the first one, warped by optical flow, "
        "over pixels seen in both and away from motion boundaries; "
        "mean absolute difference of RGB in [0, 1], mean over frames. The paper's flow "
        "is PWC-Net's, here it is that of OpenCV's DIS or torchvision's RAFT (--flow): not comparable with the paper's "
        "numbers.",
    ),
    Metric("warping_short", "  against the frame before", "", "lower", 4, "Its short-term part."),
    Metric("warping_long", "  against the first frame", "", "lower", 4, "Its long-term part."),
)
PSNR = (
    Metric("psnr", "PSNR", "dB", "higher", 2, "Peak signal-to-noise ratio of the whole picture, mean over frames."),
    Metric("psnr_head", "PSNR, head", "dB", "higher", 2, "Over the pixels labelled head, lips or mouth."),
    Metric("psnr_face", "PSNR, face", "dB", "higher", 2, "Inside the face's outline."),
    Metric("psnr_lips", "PSNR, lips", "dB", "higher", 2, "Over the lips and what is between them."),
)
FIDELITY = (
    *PSNR,
    Metric("ssim", "SSIM", "", "higher", 4, "Structural similarity (Wang et al., 2004), mean over frames."),
    Metric(
        "lpips",
        "LPIPS",
        "",
        "lower",
        4,
        "Learned perceptual similarity with AlexNet (Zhang et al., 2018), mean over frames.",
    ),
    Metric(
        "perceptual_efficientnet",
        "Perceptual distance (EfficientNet-Lite0)",
        "",
        "lower",
        4,
        "Squared distance of EfficientNet-Lite0's features, of unit length at each place, summed over four stages, "
        "mean over places and frames. Made like LPIPS, but it is not LPIPS: other features, and no learned weights.",
    ),
)
LIPS = (
    Metric(
        "lip_distance",
        "Lip landmarks off by",
        "px at 512",
        "lower",
        2,
        "Mean distance of the lips' landmarks from the true frame's, in a picture whose longest side is 512 px.",
    ),
    Metric(
        "opening_correlation",
        "Mouth opening, correlation",
        "",
        "higher",
        2,
        "Pearson correlation of the gap between the inner lips with the true one, over frames. Needs no weights.",
    ),
    Metric(
        "opening_chance",
        "  best of 20 shifted courses",
        "",
        "",
        2,
        "The highest correlation after a circular shift: what chance reaches.",
    ),
    Metric(
        "opening_amplitude", "Mouth opening, amplitude", "", "one", 2, "Its standard deviation over the true one's."
    ),
    Metric(
        "opening_lag", "Mouth opening, lag", "frames", "zero", 0, "The delay at which it fits best; positive: late."
    ),
)
HEAD = (
    Metric(
        "head_jitter",
        "Head-pose jitter",
        "deg/frame^2",
        "lower",
        3,
        "Mean norm of the second difference of the head's rotation, measured on the pictures.",
    ),
)
FACES = (Metric("faces", "Frames with a face", "%", "higher", 0, "In how many pictures mediapipe finds one."),)
SPEED = (
    Metric("fps", "Rendering", "frames/s", "higher", 2, "Pictures a second, without the first."),
    Metric("peak_memory", "Peak memory, rendering", "GiB", "lower", 2, "GPU memory, or the process's without a GPU."),
)

METRICS: tuple[Metric, ...] = (
    SYNC + SPOKEN + DIRECTION + IDENTITY + IDENTITY_DLIB + WARPING + FIDELITY + LIPS + HEAD + FACES + SPEED
)
"""In the order of the tables."""
BY_KEY = {metric.key: metric for metric in METRICS}
