"""The edited head: a talking head trained on edited frames, with a refinement network."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from ntalker_ns.data.training_rays import EditInputs, TrainingRays
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.refinement.discriminator import PatchDiscriminator
from ntalker_ns.refinement.efficientnet import load_efficientnet
from ntalker_ns.refinement.losses import (
    EditLossWeights,
    FeatureNetwork,
    PatchOutputs,
    PatchTargets,
    adversarial_losses,
    edit_losses,
    lip_edge_loss,
)
from ntalker_ns.refinement.network import RefinementNetwork, refine
from ntalker_ns.refinement.small import SmallRefinement, distil
from ntalker_ns.refinement.vgg import load_vgg, vgg_is_here
from ntalker_ns.rendering.display import RUN_DISPLAY, DisplayOptions
from ntalker_ns.rendering.losses import STEP
from ntalker_ns.rendering.portrait import SurroundingsKind
from ntalker_ns.talker_model import TalkerModel, TalkerModelConfig, samples_per_ray
from ntalker_ns.training.transfers import to_device

DISCRIMINATOR = "discriminator."
SMALL = "small_refinement."
FRESH = ("refinement.", SMALL, DISCRIMINATOR)
"""Prefixes of the tensors that a base does not have."""


@dataclass
class EditModelConfig(EditLossWeights, TalkerModelConfig):
    """An edited head. All fields that a base has too are taken from its base."""

    _target: type = field(default_factory=lambda: EditModel)
    refinement_weight: float = 0.8
    """w, weight of the refinement network's picture, 0 to 1: in training, and in rendering unless it is changed (in the
    viewer, or with ntalker render --refinement-weight)."""
    discriminator_channels: tuple[int, ...] = (64, 128, 256)
    """Channels of the discriminator's convolutions, each of which halves the picture."""
    vgg_weights: Path | None = None
    """File of torchvision's VGG-16 weights (vgg16-397923af.pth); None: from torch's cache, or downloaded."""
    perceptual: Literal["vgg", "efficientnet"] | None = "vgg"
    """The network of the perceptual and the style loss. vgg: VGG-16, as in the paper. efficientnet: EfficientNet-Lite0,
    whose weights come with this package's dependencies. None: VGG-16 where its weights are to be had, or else
    EfficientNet-Lite0."""


class EditModel(TalkerModel):
    """A talking head trained on whole patches of edited frames.

    Its conditions in training are those of rendering, predicted lips and the appearance of the pose: an edited frame is
    an edited rendering, so it shows the predicted lips.
    """

    config: EditModelConfig
    edited = True

    def populate_modules(self) -> None:
        """Adds the refinement network, its small copy and the discriminator to the head."""
        super().populate_modules()
        self.refinement = RefinementNetwork()
        self.small_refinement = SmallRefinement()
        self.discriminator = PatchDiscriminator(self.config.discriminator_channels)
        # Outside of the module tree: its weights do not belong in checkpoints.
        self._outside: dict[str, FeatureNetwork] = {}
        self.refinement_weight = self.config.refinement_weight

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """The base's, refinement and discriminator; frame codes, pose corrections and the motion of Gaussians are not
        trained: they would explain what differs between edited frames."""
        groups = super().get_param_groups()
        return {name: group for name, group in groups.items() if name not in ("codes", "poses", "motion")} | {
            "refinement": list(self.refinement.parameters()),
            "discriminator": list(self.discriminator.parameters()),
        }

    def load_feature_network(self) -> None:
        """Loads the network of the perceptual and the style loss, unless their weights are 0.

        Raises:
            NTalkerError: it cannot be loaded.
        """
        if self.config.perceptual_weight == 0.0 and self.config.style_weight == 0.0:
            return
        wanted = self.config.perceptual
        if wanted is None:
            wanted = "vgg" if vgg_is_here(self.config.vgg_weights) else "efficientnet"
            CONSOLE.print(f"Perceptual and style loss by {'VGG-16' if wanted == 'vgg' else 'EfficientNet-Lite0'}.")
        network = load_vgg(self.config.vgg_weights) if wanted == "vgg" else load_efficientnet()
        self._outside["features"] = network.to(self.device)

    def _trained_frames(self) -> Int[Tensor, "trained"]:
        """All frames of the driving sequence."""
        return torch.arange(len(self.driving))

    def conditions(
        self,
        frames: Int[Tensor, "frames"],
        poses: Float[Tensor, "frames 3 4"] | None = None,
        from_clip: bool | None = None,
    ) -> Any:
        """The conditions of rendering, in training too."""
        return super().conditions(frames, poses, from_clip=False)

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Renders, refines and classifies a square patch of one frame.

        All trained modules are used here, as DistributedDataParallel requires.

        Args:
            ray_bundle: `TrainingRays` with the `EditInputs` of one patch; others are rendered as by the base.

        Returns:
            The fields of `PatchOutputs`, and what the base's step returns.
        """
        if not isinstance(ray_bundle, TrainingRays) or not isinstance(inputs := ray_bundle.step, EditInputs):
            return super().get_outputs(ray_bundle)
        around = self.portrait.at(inputs.place, inputs.plate, inputs.frames, ray_bundle.counts)
        pose = torch.from_numpy(self.driving.track.camera_to_worlds[int(inputs.frames)])
        corrections = to_device(self.pose_refinement.of_pose(pose), self.device)
        behind = torch.lerp(around.colour, around.colour.detach(), inputs.covered)
        step = self._render(ray_bundle, self.conditions(inputs.frames), corrections, behind)
        rendered = as_picture(step.rgb)
        # In full precision: sums over a patch overflow half precision.
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
        """PSNR of rendered and refined picture against the edited patch; on lip patches the edge energy of the lips."""
        if "final" not in outputs:
            return super().get_metrics_dict(outputs, batch)
        edited = batch["edited"]
        errors = {name: (outputs[name].detach() - edited).square().mean() for name in ("rendered", "final")}
        metrics = {f"{name}_psnr": -10.0 * torch.log10(error) for name, error in errors.items()}
        if "lip_mask" in batch:
            plain = torch.zeros_like(edited)
            metrics["lip_edges"] = lip_edge_loss(outputs["rendered"].detach(), plain, batch["lip_mask"])
        return metrics | samples_per_ray(outputs)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms of the loss, see `edit_losses`, and the head's regularizers.

        Args:
            outputs: of `get_outputs`.
            batch: the fields of `PatchTargets`.
            metrics_dict: not used.
        """
        if "final" not in outputs:
            return super().get_loss_dict(outputs, batch, metrics_dict)
        patch = PatchOutputs(**{one.name: outputs[one.name] for one in fields(PatchOutputs)})
        losses = edit_losses(self.config, patch, PatchTargets(**batch), self._outside.get("features"))
        return losses | self.head.regularizers(outputs[STEP])

    @torch.no_grad()
    def get_outputs_for_camera(
        self,
        camera: Cameras,
        obb_box: OrientedBox | None = None,
        surroundings: SurroundingsKind = "learned",
        display: DisplayOptions = RUN_DISPLAY,
    ) -> dict[str, Tensor]:
        """Renders a whole picture.

        Args:
            camera: see `TalkerModel.get_outputs_for_camera`.
            obb_box: not used.
            surroundings: what is around the head.
            display: background and refinement weight to show instead of the run's own.

        Returns:
            As of the base, but rgb is refined with the current refinement weight (backgrounds other than the plate are
            not refined), by the small copy of the network where there is one; the unrefined picture is field_rgb
            (H, W, 3).
        """
        outputs = super().get_outputs_for_camera(camera, obb_box, surroundings, display)
        rgb = outputs["rgb"].float()
        planes = rgb.permute(2, 0, 1)[None]
        final = refine(self.shown_refinement(), planes, self._shown_weight(display))
        outputs["field_rgb"] = outputs["rgb"]
        if final is planes:
            return outputs
        refined = final[0].permute(1, 2, 0).clamp(0.0, 1.0)
        if (display.background or self.portrait.choice).kind != "plate" and surroundings == "learned":
            # A background chosen by the user is not part of the edit.
            around = (1.0 - outputs["head_opacity"]) * (1.0 - outputs["torso_opacity"])
            refined = torch.lerp(refined, rgb, around)
        return outputs | {"rgb": refined}

    @torch.no_grad()
    def distil_refinement(self, cameras: Cameras) -> float:
        """Trains the small copy of the refinement network on rendered pictures; see `distil`.

        Args:
            cameras: of the pictures.

        Returns:
            PSNR between the copy's and the network's held-out pictures, dB.
        """
        unrefined = DisplayOptions(refinement_weight=0.0)
        pictures = [
            self.get_outputs_for_camera(cameras[i : i + 1], display=unrefined)["rgb"] for i in range(len(cameras))
        ]
        return distil(self.refinement, self.small_refinement, torch.stack(pictures).float().permute(0, 3, 1, 2))

    @torch.no_grad()
    def video_frame(
        self, camera: Cameras, display: DisplayOptions = RUN_DISPLAY
    ) -> UInt8[np.ndarray, "height width 3"]:
        """See `TalkerModel.video_frame`; refined, unless the weight is 0."""
        weight = self._shown_weight(display)
        if weight == 0.0:
            return super().video_frame(camera, display)
        if (display.background or self.portrait.choice).kind != "plate":
            return to_uint8(self.get_outputs_for_camera(camera, display=display)["rgb"])
        rendered = from_uint8(torch.from_numpy(super().video_frame(camera, display)).to(self.device))
        return to_uint8(refine(self.shown_refinement(), rendered.permute(2, 0, 1)[None], weight)[0].permute(1, 2, 0))

    def shown_refinement(self) -> nn.Module:
        """What refines rendered pictures: the small copy of the refinement network, once it is ready."""
        return self.small_refinement if self.small_refinement.ready else self.refinement

    def _shown_weight(self, display: DisplayOptions) -> float:
        return self.refinement_weight if display.refinement_weight is None else display.refinement_weight


def as_picture(values: Float[Tensor, "rays channels"]) -> Float[Tensor, "1 channels side side"]:
    """The values of a square patch, row by row, as a picture."""
    side = round(len(values) ** 0.5)
    return values.view(side, side, -1).permute(2, 0, 1)[None]
