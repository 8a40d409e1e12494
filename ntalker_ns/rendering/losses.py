"""Losses of the radiance field, the portrait and the poses: weights, formulas and inputs.

To add one: a weight, a function and its line in `field_losses` or `portrait_losses`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn.functional import mse_loss

from ntalker_ns.data.head_removal import HEAD, TORSO
from ntalker_ns.data.training_rays import SurroundingsPixels
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.ragged import Subset
from ntalker_ns.rendering.depth_prior import OPAQUE
from ntalker_ns.rendering.head_renderer import RayOutputs, Samples
from ntalker_ns.rendering.portrait import CompositeRays, Surroundings
from ntalker_ns.training.lip_patches import LipsPhaseConfig

THINNESS = 0.01
"""Weight, in the occlusion prior, of the missing density's logarithm beside the squared error of the colour."""

UNCHANGED = 8.0 / 255.0
"""A pixel counts as uncovered by the head where removing the head changes its colour by less than this."""


@dataclass
class LossWeights:
    """Weights of the losses beside the colour's, which weighs 1; 0 disables a term."""

    mask_weight: float = 0.1
    """Weight of the squared difference between accumulated opacity and the head mask."""
    entropy_weight: float = 1e-3
    """Weight of the entropy of accumulated opacity, which favours pixels that are either head or not."""
    thickness_weight: float = 0.0
    """Weight of the variance of depth along a ray, in world units squared: thin surfaces need fewer samples."""
    surface_weight: float = 0.03
    """Weight of the squared distance between samples and the tracked face's surface, in units of the distance between
    the eyes: the pictures alone leave depth open where the head hardly turns."""
    occlusion_weight: float = 0.1
    """Weight of the occlusion prior: unseen points just behind the surface are pulled to full opacity and the surface's
    colour, so that novel side views show no holes. 0 disables it."""
    pose_weight: float = 1e-2
    """Weight of the mean square of the pose corrections, which pulls them towards the tracked poses."""
    composite_weight: float = 0.1
    """Weight of the squared error of head, torso and background composited, by which they meet without a seam."""
    inner_weight: float = 0.1
    """Weight of pixels behind the head, whose target for torso and background is inpainted; other pixels weigh 1. It
    closes the gap that opens there when the head turns away."""
    torso_opacity_weight: float = 0.1
    """Weight of the squared difference between the torso's opacity and its mask."""
    torso_code_weight: float = 1e-3
    """Weight of the mean square of the torso's per-frame codes: what the head pose explains is left to the pose."""


@dataclass
class OcclusionPoints:
    """The field at points behind the surface."""

    density: Float[Tensor, "points 1"]
    """Per world unit."""
    rgb: Float[Tensor, "points 3"]
    target: Float[Tensor, "points 3"]
    """The surface's colours before them, in [0, 1]."""
    subset: Subset
    """Which of the drawn points count."""


STEP = "step"
"""Key of the `StepOutputs` among a model's outputs, a dictionary by nerfstudio's interface; the pipeline takes it out
before nerfstudio sees them."""


@dataclass
class StepOutputs(RayOutputs):
    """Outputs of the base model for the rays of a step."""

    rgb: Float[Tensor, "rays 3"] = field(kw_only=True)
    """The head over the colours behind it, in [0, 1]."""
    occlusion: OcclusionPoints | None = None
    composite: CompositeRays | None = None
    surroundings: tuple[Surroundings, SurroundingsPixels] | None = None
    """Predicted layers at pixels, and the pixels."""

    def tensors(self) -> dict[str, Tensor]:
        """The outputs by nerfstudio's names."""
        outputs = {"rgb": self.rgb, "head": self.head, "depth": self.depth, "accumulation": self.opacity}
        if self.samples_per_ray is not None:
            outputs["samples_per_ray"] = self.samples_per_ray
        return outputs if self.max_frame_samples is None else outputs | {"max_frame_samples": self.max_frame_samples}


@dataclass
class FaceSurface:
    """The tracked face's surface as a depth map along y."""

    depth: Float[Tensor, "columns columns"]
    """World y over x and z in [-1, 1]."""
    unit: float
    """Distance between the eyes, world units."""
    ops: Ops
    """Compute distances from it."""


def field_losses(
    outputs: StepOutputs, batch: Mapping[str, Any], weights: LossWeights, surface: FaceSurface | None
) -> dict[str, Float[Tensor, ""]]:
    """The weighted losses of a radiance field in a step.

    Args:
        outputs: of the step.
        batch: `image` (rays, 3) in [0, 1] and `labels` (rays,) of its pixels.
        weights: of the terms.
        surface: of the tracked face; None: unknown.
    """
    device, rays = outputs.rgb.device, len(outputs.rgb)
    image, labels = batch["image"].to(device), batch["labels"].to(device)
    opacity = outputs.opacity.squeeze(-1)
    losses = {
        "rgb": mse_loss(outputs.rgb, image),
        "mask": weights.mask_weight * mse_loss(opacity, (labels >= HEAD).float()),
        "entropy": weights.entropy_weight * entropy(opacity),
    }
    if outputs.samples is not None and surface is not None:
        losses["surface_distance"] = weights.surface_weight * surface_loss(outputs.samples, surface, rays)
    if weights.thickness_weight and outputs.thickness is not None:
        losses["thickness"] = weights.thickness_weight * outputs.thickness.mean()
    return losses


def portrait_losses(
    outputs: StepOutputs,
    batch: Mapping[str, Any],
    weights: LossWeights,
    pose_corrections: Float[Tensor, "frames 6"] | None,
    torso_codes: Float[Tensor, "frames codes"],
) -> dict[str, Float[Tensor, ""]]:
    """The weighted losses of everything around the head, and of its poses.

    Args:
        outputs: of the step.
        batch: `image` (rays, 3) in [0, 1].
        weights: of the terms.
        pose_corrections: None: poses are not refined.
        torso_codes: of all frames.
    """
    losses = {}
    if outputs.composite is not None:
        image = batch["image"].to(outputs.rgb.device)
        losses["composite"] = weights.composite_weight * composite_loss(outputs.composite, image)
    if outputs.surroundings is not None:
        losses |= surroundings_losses(*outputs.surroundings, weights)
        losses["torso_codes"] = weights.torso_code_weight * torso_code_loss(torso_codes)
    if pose_corrections is not None:
        losses["poses"] = weights.pose_weight * pose_corrections.square().mean()
    return losses


def entropy(opacity: Float[Tensor, "rays"]) -> Float[Tensor, ""]:
    """Mean entropy of opacities in [0, 1]."""
    opacity = opacity.clamp(1e-4, 1.0 - 1e-4)
    return -(opacity * opacity.log() + (1.0 - opacity) * (1.0 - opacity).log()).mean()


def surface_loss(samples: Samples, surface: FaceSurface, rays: int) -> Float[Tensor, ""]:
    """Squared distance of samples from the face along y, weighted by their contribution; per ray."""
    squared = surface.ops.squared_distance(samples.positions, surface.depth)
    return torch.dot(samples.weights, squared) / (surface.unit**2 * rays)


def occlusion_prior(points: OcclusionPoints, step_size: float, rays: int) -> Float[Tensor, ""]:
    """The sum of `occlusion_loss` over the points that count, per ray of the step."""
    return points.subset.total(occlusion_loss(points.density, points.rgb, points.target, step_size)) / rays


def occlusion_loss(
    density: Float[Tensor, "points 1"], rgb: Float[Tensor, "points 3"], target: Float[Tensor, "points 3"], step: float
) -> Float[Tensor, "points"]:
    """Squared error of each point's colour, plus the logarithm by which its density falls short of opacity.

    Args:
        density: per world unit.
        rgb: in [0, 1].
        target: the surface's colours before the points, in [0, 1].
        step: length of a sample, world units; one of them is to be `OPAQUE`.
    """
    solid = -math.log1p(-OPAQUE) / step
    thin = torch.relu(math.log(solid) - density.clamp(min=1e-6).log()).squeeze(-1)
    return (rgb - target).square().mean(dim=-1) + THINNESS * thin


def composite_loss(composite: CompositeRays, image: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
    """Squared error of the composited rays; a mean over all drawn rays, opaque ones counted as 0."""
    image = image if composite.drawn is None else image[composite.drawn]
    squared = (composite.rgb - composite.subset.of(image)).square()
    return composite.subset.total(squared) / image.numel()


def surroundings_losses(
    layers: Surroundings, pixels: SurroundingsPixels, weights: LossWeights
) -> dict[str, Float[Tensor, ""]]:
    """Losses of torso and background at pixels anywhere in the frames."""
    visible = uncovered(pixels.image, pixels.headless, pixels.labels).float()
    target = torch.where(visible[:, None] > 0, pixels.image, pixels.headless)
    weight = visible + weights.inner_weight * (1.0 - visible)
    squared = (layers.colour - target).square().mean(dim=-1)
    wrong = (layers.torso_opacity.squeeze(-1) - (pixels.labels == TORSO).float()).square()
    return {
        "surroundings": (weight * squared).mean(),
        "torso_opacity": weights.torso_opacity_weight * (visible * wrong).mean(),
    }


def torso_code_loss(codes: Float[Tensor, "frames codes"]) -> Float[Tensor, ""]:
    """Mean square of the codes; 0 if there are none."""
    return codes.square().sum() / max(codes.numel(), 1)


def uncovered(
    image: Float[Tensor, "pixels 3"], headless: Float[Tensor, "pixels 3"], labels: UInt8[Tensor, "pixels"]
) -> Bool[Tensor, "pixels"]:
    """Where the head covers neither torso nor background."""
    return (labels < HEAD) & ((image - headless).abs().amax(dim=-1) < UNCHANGED)


LPIPS_WEIGHTS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Networks of LPIPS in order of preference, and torchvision's files of their weights."""

PatchFunction = Callable[[Tensor, Tensor], Tensor]
"""The error of rendered patches (n, 3, h, w) against true ones, in [0, 1]."""


class LipPatchLoss:
    """LPIPS of lip patches, or the difference of their gradients where no network's weights are on this machine."""

    def __init__(self, config: LipsPhaseConfig) -> None:
        self.config = config
        self._loss: tuple[float, PatchFunction] | None = None

    def __call__(self, rendered: Float[Tensor, "rays 3"], image: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
        """The weighted error of patches; the first call prints which error it is.

        Args:
            rendered: RGB, patch after patch and row by row.
            image: the frames' colours.
        """
        if self._loss is None:
            self._loss = self._choose(rendered.device)
        weight, loss = self._loss
        side = self.config.patch_size
        pictures = [colours.reshape(-1, side, side, 3).permute(0, 3, 1, 2) for colours in (rendered, image)]
        return weight * loss(*pictures)

    def _choose(self, device: torch.device) -> tuple[float, PatchFunction]:
        network = lpips_network()
        if network is not None:
            CONSOLE.print(f"The lip patches' loss is LPIPS with {network}.")
            return self.config.lpips_weight, load_lpips(network, device)
        files = ", ".join(LPIPS_WEIGHTS.values())
        CONSOLE.print(
            "The lip patches' loss is the difference of image gradients: LPIPS needs one of "
            f"{files} in {_weights_folder()}."
        )
        return self.config.gradient_weight, gradient_loss


def gradient_loss(rendered: Float[Tensor, "n 3 h w"], image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference of forward differences, to the right and downwards."""
    difference = rendered - image
    return (difference.diff(dim=3).abs().mean() + difference.diff(dim=2).abs().mean()) / 2.0


def lpips_network() -> str | None:
    """The first network of `LPIPS_WEIGHTS` whose weights are on this machine."""
    return next((name for name, file in LPIPS_WEIGHTS.items() if (_weights_folder() / file).is_file()), None)


def load_lpips(network: str, device: torch.device) -> PatchFunction:
    """Learned perceptual similarity (Zhang et al. 2018) by torchmetrics, from weights on this machine.

    Args:
        network: a name of `LPIPS_WEIGHTS` whose file is there.
        device: where to compute.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    # Held by a closure: as a submodule of the pipeline it would be in every checkpoint.
    net = LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True).net.to(device).requires_grad_(False)  # type: ignore[arg-type]

    def lpips(rendered: Tensor, image: Tensor) -> Tensor:
        return net(rendered.clamp(0.0, 1.0), image, normalize=True).mean()

    return lpips


def _weights_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
