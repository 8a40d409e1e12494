"""Pipeline of an edit: training steps on patches of edited frames instead of the data set's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_model import DISCRIMINATOR, FRESH, EditModel, EditModelConfig
from ntalker_ns.editing.frames import EditFrames
from ntalker_ns.editing.plan import EditPlan
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import check_tensors
from ntalker_ns.talker_pipeline import TalkerPipeline, TalkerPipelineConfig, model_name
from ntalker_ns.training import distributed


@dataclass
class EditPipelineConfig(TalkerPipelineConfig):
    """Data manager and edited head."""

    _target: type = field(default_factory=lambda: EditPipeline)
    model: EditModelConfig = field(default_factory=EditModelConfig)
    """Model configuration."""


class EditPipeline(TalkerPipeline):
    """Trains a head on patches of edited frames; renders, views and evaluates as every pipeline of a head."""

    config: EditPipelineConfig

    def __init__(self, config: EditPipelineConfig, device: str, **kwargs: Any) -> None:
        """Builds data manager and model.

        Args:
            config: what to build.
            device: where the model lives.
            kwargs: what nerfstudio's pipeline takes.
        """
        super().__init__(config, device, **kwargs)
        self.frames: EditFrames | None = None
        self.plan: EditPlan | None = None

    def _head(self) -> EditModel:
        """The model, as what it is."""
        model = self.model
        assert isinstance(model, EditModel)
        return model

    def load_features(self) -> None:
        """Loads the network of the perceptual and the style loss.

        Raises:
            NTalkerError: it cannot be had.
        """
        self._head().load_feature_network()

    def drive(self, sequence: DrivingSequence) -> None:
        """Lets a sequence drive the head while it is edited."""
        self._head().set_driving(sequence)

    def driving(self) -> DrivingSequence:
        """What drives the head now."""
        return self._head().driving

    def plate(self, camera: Cameras) -> Float32[np.ndarray, "h w 3"]:
        """The background without the person, as a camera sees it that stands where the clip's does."""
        host = torch.device("cpu")
        return self._head().portrait.image_plane.plate(camera.to(host).flatten(), host).numpy()

    def supervise(self, frames: EditFrames, plan: EditPlan) -> None:
        """From now on, training steps are on patches of these frames.

        Args:
            frames: edited.
            plan: says which frame and which kind of patch a step takes.
        """
        self.frames, self.plan = frames, plan

    def load_base(self, state: Mapping[str, Any]) -> None:
        """Starts from a base's weights; what a base run has not got stays as it is initialised.

        Args:
            state: the base checkpoint's `pipeline` entry.

        Raises:
            NTalkerError: other audio features, or tensors that do not fit.
        """
        if "_extra_state" in state:
            self.set_extra_state(state["_extra_state"])
        tensors = {model_name(name): value for name, value in state.items() if name != "_extra_state"}
        # A discriminator judges one edit; the refinement of a base that is an edit itself goes on learning.
        found = {name: value for name, value in tensors.items() if not name.startswith(DISCRIMINATOR)}
        own = self.model.state_dict()
        fresh = {name: value for name, value in own.items() if name.startswith(FRESH) and name not in found}
        check_tensors(found | fresh, own, "The base")
        self.model.load_state_dict(found | fresh)

    @torch.no_grad()
    def render(self, camera: Cameras) -> dict[str, Float[Tensor, "h w c"]]:
        """A whole picture of the head as it is now, as it is rendered and not as it is trained.

        Args:
            camera: one, with a time.
        """
        training = self.training
        self.eval()
        try:
            return self.model.get_outputs_for_camera(camera)
        finally:
            self.train(training)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """One patch of an edited frame through the model.

        Args:
            step: training step.

        Returns:
            Model outputs, losses and metrics by name.
        """
        if self.frames is None or self.plan is None:
            raise NTalkerError("An edit trains on edited frames, and there are none yet: start it with ns-train.")
        plan, rank = self.plan, distributed.rank()
        on_lips = plan.on_lips(step)
        side = plan.config.lip_patch_size if on_lips else plan.config.patch_size
        frame = plan.frame_of(step, rank)
        bundle, batch = self.frames.patch(plan.patch_rng(step, rank), frame, side, on_lips, self.device)
        return self.take_step(bundle, batch)

    def updates_occupancy(self, step: int) -> bool:
        """Not on lip patches: cells that no ray meets would count as invisible and be closed.

        Args:
            step: training step.
        """
        return self.plan is None or not self.plan.on_lips(step)
