"""The edited head: a talking head whose fields follow edited frames, with a refinement network on top."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.viewer_elements import ViewerSlider
from torch import Tensor, nn

from ntalker_ns.data.training_rays import EditInputs, TrainingRays
from ntalker_ns.errors import NTalkerError
from ntalker_ns.field.talker_field import FrameConditions
from ntalker_ns.refinement.discriminator import PatchDiscriminator
from ntalker_ns.refinement.losses import (
    adversarial_losses,
    lip_edge_loss,
    perceptual_loss,
    reconstruction_loss,
    style_loss,
)
from ntalker_ns.refinement.network import RefinementNetwork, refine
from ntalker_ns.refinement.vgg import VGGFeatures, load_vgg
from ntalker_ns.rendering.losses import STEP, StepOutputs, occlusion_prior
from ntalker_ns.rendering.portrait import SurroundingsKind
from ntalker_ns.talker_model import TalkerModel, TalkerModelConfig
from ntalker_ns.training.transfers import to_device

DISCRIMINATOR = "discriminator."
FRESH = ("refinement.", DISCRIMINATOR)
"""Beginnings of the names of tensors that a base run has not got."""


@dataclass
class EditModelConfig(TalkerModelConfig):
    """An edited head. What it shares with its base is taken from the base's own configuration."""

    _target: type = field(default_factory=lambda: EditModel)
    refinement_weight: float = 0.8
    """w, how much of the refinement network is in the final picture, 0 to 1: in training, and in rendering until it is
    moved (in the viewer, or with ntalker render --refinement-weight)."""
    reconstruction_weight: float = 1.0
    """Weight of the squared difference between the field's picture and the edited frame."""
    perceptual_weight: float = 0.001
    """Weight of the difference of VGG features between the final picture and the edited frame."""
    style_weight: float = 10.0
    """Weight of the difference of their Gram matrices."""
    adversarial_weight: float = 0.01
    """Weight of what the discriminator says of the final picture."""
    opacity_weight: float = 1.0
    """Weight of the squared difference between the opacities of head and torso and those they had before the edit. The
    paper's loss (Eq. 9) has no such term, 0 leaves it out: an edited background is then learned as haze before it too,
    and cannot be replaced any more."""
    lip_edge_weight: float = 0.1
    """Weight of edges inside the lips that the unedited lips have not got (lip patches only). 0.1 is the paper's;
    ntalker-edit-small has 0.01, since in small pictures the line of the mouth is a steep edge, which 0.1 erases."""
    lip_edge_scale: float = 1.0
    """Factor in the exponent of the lip-edge loss. 1 is the paper's, under which true edges are hardly spared: colours
    are in [0, 1] and differences between pixels small. ntalker-edit-small has 30, which spares the line of the
    mouth."""
    discriminator_channels: tuple[int, ...] = (64, 128, 256)
    """Channels of the discriminator's layers; each halves the picture."""
    vgg_weights: Path | None = None
    """File of torchvision's VGG-16 weights (vgg16-397923af.pth); None takes them from torch's cache or downloads
    them."""
    vgg_optional: bool = False
    """Train without perceptual and style loss where VGG's weights cannot be had; otherwise that ends the run. The
    final picture is then held to the edited frame by their squared difference."""


class EditModel(TalkerModel):
    """A talking head that learns whole patches of edited frames.

    In training it is told what it is told in rendering: the lips that are heard and an appearance that follows from the
    pose. An edited frame is an edited rendering, so its lips are the heard ones.
    """

    config: EditModelConfig

    def populate_modules(self) -> None:
        """Adds refinement network and discriminator to the head."""
        super().populate_modules()
        self.refinement = RefinementNetwork()
        self.discriminator = PatchDiscriminator(self.config.discriminator_channels)
        # Outside the module tree: VGG's weights belong in no checkpoint.
        self._outside: dict[str, VGGFeatures] = {}
        self.refinement_weight = ViewerSlider("Refinement weight", self.config.refinement_weight, 0.0, 1.0, 0.01)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Fields, refinement and discriminator at rates of their own; codes and the tracked poses rest."""
        groups = super().get_param_groups()
        learning = {name: groups[name] for name in ("grids", "networks", "torso", "background")}
        return learning | {
            "refinement": list(self.refinement.parameters()),
            "discriminator": list(self.discriminator.parameters()),
        }

    def load_feature_network(self) -> None:
        """Loads VGG for the perceptual and the style loss, before any work is done.

        Raises:
            NTalkerError: it cannot be had, and training without it was not asked for.
        """
        if self.config.perceptual_weight == 0.0 and self.config.style_weight == 0.0:
            return
        try:
            self._outside["vgg"] = load_vgg(self.config.vgg_weights).to(self.device)
        except NTalkerError as error:
            if not self.config.vgg_optional:
                raise
            CONSOLE.print(
                "Training without perceptual and style loss; the squared difference to the edited frame holds the "
                f"final picture instead. {error}",
                style="yellow",
                markup=False,
            )

    def _trained_frames(self) -> Int[Tensor, "trained"]:
        """All frames of what drives the head: it is trained on what it says itself."""
        return torch.arange(len(self.driving))

    def _conditions(
        self,
        frames: Int[Tensor, "frames"],
        poses: Float[Tensor, "frames 3 4"] | None = None,
        from_clip: bool | None = None,
    ) -> FrameConditions:
        """The conditions of rendering, in training too."""
        return super()._conditions(frames, poses, from_clip=False)

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Renders one square patch of one frame as a whole portrait, refines it, and asks the discriminator.

        All that learns is used in here, so that torch's DistributedDataParallel sees it.

        Args:
            ray_bundle: `TrainingRays` with the `EditInputs` of one patch; with others they are rendered as by the base.

        Returns:
            rendered and final (1, 3, side, side): I_r and I_f; the discriminator's two losses, generator and critic;
            opacities (rays, 2), of head and torso; and what the base's step returns.
        """
        if not isinstance(ray_bundle, TrainingRays) or not isinstance(inputs := ray_bundle.step, EditInputs):
            return super().get_outputs(ray_bundle)
        around = self.portrait.at(inputs.place, inputs.plate, inputs.frames, ray_bundle.counts)
        pose = torch.from_numpy(self.driving.track.camera_to_worlds[int(inputs.frames)])
        corrections = to_device(self.pose_refinement.of_pose(pose), self.device)
        step = self._render(ray_bundle, self._conditions(inputs.frames), corrections, around.colour)
        rendered = as_picture(step.rgb)
        # Adversarial and feature losses are not for half precision: sums over a patch overflow.
        with torch.autocast(rendered.device.type, enabled=False):
            final = refine(self.refinement, rendered.float(), self.config.refinement_weight)
            edited = as_picture(inputs.edited)
            generator, critic = adversarial_losses(self.discriminator, final, edited)
        return step.tensors() | {
            STEP: step,
            "rendered": rendered,
            "final": final,
            "generator": generator,
            "critic": critic,
            "opacities": torch.cat([step.opacity, around.torso_opacity], dim=-1),
        }

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of field and final picture against the edited patch; on lip patches their edge energy."""
        if "final" not in outputs:
            return super().get_metrics_dict(outputs, batch)
        edited = batch["edited"]
        errors = {name: (outputs[name].detach() - edited).square().mean() for name in ("rendered", "final")}
        metrics = {f"{name}_psnr": -10.0 * torch.log10(error) for name, error in errors.items()}
        if "lip_mask" in batch:
            plain = torch.zeros_like(edited)
            metrics["lip_edges"] = lip_edge_loss(outputs["rendered"].detach(), plain, batch["lip_mask"])
        return metrics | {"samples_per_ray": outputs["samples_per_ray"]}

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Equations 9 and 10, each term weighted, the discriminator's own loss, and what holds the layers apart.

        A background that is edited too would be learned by a haze of head and torso before it as well as by itself, and
        could not be replaced any more. So both keep the opacity that they had before the edit.

        Args:
            outputs: of `get_outputs`.
            batch: `edited` (1, 3, side, side) and `opacities` (rays, 2), those before the edit; on lip patches also
                `unedited`, as edited, and `lip_mask` (1, 1, side, side).
            metrics_dict: not used.
        """
        if "final" not in outputs:
            return super().get_loss_dict(outputs, batch, metrics_dict)
        config, edited = self.config, batch["edited"]
        moved = outputs["opacities"] - batch["opacities"]
        losses = {
            "reconstruction": config.reconstruction_weight * reconstruction_loss(outputs["rendered"], edited),
            "adversarial": config.adversarial_weight * outputs["generator"],
            "discriminator": outputs["critic"],
            "opacity": config.opacity_weight * moved.square().mean(),
        }
        step: StepOutputs = outputs[STEP]
        if step.occlusion is not None:
            prior = occlusion_prior(step.occlusion, config.step_size, len(step.rgb))
            losses["occlusion"] = config.occlusion_weight * prior
        if "vgg" in self._outside:
            losses |= self._feature_losses(outputs["final"], edited)
        elif config.perceptual_weight or config.style_weight:
            losses["final"] = config.reconstruction_weight * reconstruction_loss(outputs["final"], edited)
        if "lip_mask" in batch:
            edges = lip_edge_loss(outputs["rendered"], batch["unedited"], batch["lip_mask"], config.lip_edge_scale)
            losses["lip_edge"] = config.lip_edge_weight * edges
        return losses

    def _feature_losses(self, final: Tensor, edited: Tensor) -> dict[str, Tensor]:
        network = self._outside["vgg"]
        with torch.autocast(final.device.type, enabled=False):
            features = network(final)
            with torch.no_grad():
                targets = network(edited)
            return {
                "perceptual": self.config.perceptual_weight * perceptual_loss(features, targets),
                "style": self.config.style_weight * style_loss(features, targets),
            }

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None, surroundings: SurroundingsKind = "learned"
    ) -> dict[str, Tensor]:
        """Renders a whole picture.

        Args:
            camera: see `TalkerModel.get_outputs_for_camera`.
            obb_box: not used.
            surroundings: what is around the head.

        Returns:
            What the base gives, but rgb is the final picture, refined by the present refinement weight; what head,
            torso and background compose to is in field_rgb (H, W, 3). A background other than the plate is left as it
            is.
        """
        outputs = super().get_outputs_for_camera(camera, obb_box, surroundings)
        rgb = outputs["rgb"].float()
        planes = rgb.permute(2, 0, 1)[None]
        final = refine(self.refinement, planes, float(self.refinement_weight.value))
        outputs["field_rgb"] = outputs["rgb"]
        if final is planes:
            return outputs
        refined = final[0].permute(1, 2, 0).clamp(0.0, 1.0)
        if self.portrait.choice.kind != "plate" and surroundings == "learned":
            # What a user puts behind the person is no part of the edit.
            around = (1.0 - outputs["head_opacity"]) * (1.0 - outputs["torso_opacity"])
            refined = torch.lerp(refined, rgb, around)
        return outputs | {"rgb": refined}


def as_picture(values: Float[Tensor, "rays channels"]) -> Float[Tensor, "1 channels side side"]:
    """The values of a square patch, row by row, as a picture."""
    side = round(len(values) ** 0.5)
    return values.view(side, side, -1).permute(2, 0, 1)[None]
