"""Pipeline of an edit: training steps on patches of edited frames instead of the data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_model import DISCRIMINATOR, FRESH, SMALL, EditModel, EditModelConfig
from ntalker_ns.editing.frames import NoSupervision, Supervision
from ntalker_ns.run_folder import check_tensors
from ntalker_ns.splats.gaussians import with_spare
from ntalker_ns.talker_pipeline import TalkerPipeline, TalkerPipelineConfig, model_tensors
from ntalker_ns.training import distributed


@dataclass
class EditPipelineConfig(TalkerPipelineConfig):
    """Data manager and edited head."""

    _target: type = field(default_factory=lambda: EditPipeline)
    model: EditModelConfig = field(default_factory=EditModelConfig)
    """Model configuration."""


class EditPipeline(TalkerPipeline):
    """Trains a head on patches of edited frames; renders, views and evaluates like any `TalkerPipeline`."""

    config: EditPipelineConfig

    def __init__(self, config: EditPipelineConfig, device: str | torch.device, **kwargs: Any) -> None:
        """Builds data manager and model.

        Args:
            config: of both.
            device: of the model.
            kwargs: of nerfstudio's pipeline.
        """
        super().__init__(config, device, **kwargs)
        self.supervision: Supervision | NoSupervision = NoSupervision()

    def _talker(self) -> EditModel:
        """The model, typed."""
        model = self.model
        assert isinstance(model, EditModel)
        return model

    def load_features(self) -> None:
        """Loads the network of the perceptual and the style loss; see `EditModel.load_feature_network`."""
        self._talker().load_feature_network()

    def drive(self, sequence: DrivingSequence) -> None:
        """Drives the head by another sequence while it is edited."""
        self._talker().set_driving(sequence)

    @torch.no_grad()
    def lip_shapes(self, frames: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n lip_dim"]:
        """The lip shapes that the head shows at frames of its driving sequence, predicted from the audio."""
        return self._talker().predicted_lips(torch.from_numpy(frames)).cpu().numpy()

    def plate(self, camera: Cameras) -> Float32[np.ndarray, "h w 3"]:
        """The background without the person, as seen by a camera at the position of the clip's."""
        host = torch.device("cpu")
        return self._talker().portrait.image_plane.plate(camera.to(host).flatten(), host).numpy()

    def load_base(self, state: Mapping[str, Any]) -> None:
        """Loads a base's weights; modules that a base does not have keep their initialisation.

        Args:
            state: the base checkpoint's `pipeline` entry.

        Raises:
            NTalkerError: the audio features differ, or tensors do not fit.
        """
        if "_extra_state" in state:
            self.set_extra_state(state["_extra_state"])
        own = self.model.state_dict()
        tensors = model_tensors(state, own)
        # Of a base that is itself an edit, the refinement is trained further; discriminator and small copy start anew.
        found = {name: value for name, value in tensors.items() if not name.startswith((DISCRIMINATOR, SMALL))}
        found |= with_spare(found, own)
        fresh = {name: value for name, value in own.items() if name.startswith(FRESH) and name not in found}
        check_tensors(found | fresh, own, "The base")
        self.model.load_state_dict(found | fresh)

    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """See `Head.extend_outline`."""
        self._talker().head.extend_outline(views)

    @torch.no_grad()
    def render(self, camera: Cameras) -> dict[str, Float[Tensor, "h w c"]]:
        """A whole picture of the head as it is now, in evaluation mode.

        Args:
            camera: one, with a time.
        """
        training = self.training
        self.eval()
        try:
            return self.model.get_outputs_for_camera(camera)
        finally:
            self.train(training)

    def reset_small_refinement(self) -> None:
        """Renders with the refinement network itself until `distil_refinement`: training changes it."""
        self._talker().small_refinement.reset()

    def distil_refinement(self, cameras: Cameras) -> float:
        """See `EditModel.distil_refinement`; in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return self._talker().distil_refinement(cameras)
        finally:
            self.train(training)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """One patch of an edited frame through the model.

        Args:
            step: training step.

        Returns:
            Model outputs, losses and metrics by name.
        """
        bundle, batch = self.supervision.patch(step, distributed.rank(), self.device)
        return self.take_step(bundle, batch)

    def adapts_head(self, step: int) -> bool:
        """Not on lip patches: cells that their rays do not reach would be marked invisible and closed.

        Args:
            step: training step.
        """
        return not self.supervision.on_lips(step)
