"""Pipeline: data manager and model; steps of constant cost; strict loading; evaluation."""

import math
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torchvision.utils
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ntalker_ns.audio.features import FeatureInfo, check_same_kind
from ntalker_ns.console import track
from ntalker_ns.data.training_rays import TrainingRays
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.backend import resolve_backend
from ntalker_ns.rendering.losses import STEP, LipPatchLoss
from ntalker_ns.run_folder import check_tensors
from ntalker_ns.talker_datamanager import Patches, TalkerDataManager, TalkerDataManagerConfig
from ntalker_ns.talker_model import TalkerModel, TalkerModelConfig
from ntalker_ns.training import distributed
from ntalker_ns.training.lip_patches import LipsPhaseConfig
from ntalker_ns.training.recorded_steps import RecordedSteps, StepResult
from ntalker_ns.training.step_budget import BudgetConfig, StepBudget
from ntalker_ns.viewer.start import TalkingHeadControl

STRIDE = 0.08
"""Relative change of the number of rays below which recorded steps keep it."""
CLOSING = "lip_model.closing."
OF_FIELDS = ("field.", "occupancy.", "appearance.")
"""Tensors of radiance fields in checkpoints from when there was no other kind of head."""
_EXTRA_STATE = "_extra_state"
"""torch's name of `get_extra_state` in a state dict."""


@dataclass
class TalkerPipelineConfig(BudgetConfig, VanillaPipelineConfig):
    """Data manager, model, and the size of a training step."""

    _target: type = field(default_factory=lambda: TalkerPipeline)
    """Target class to instantiate."""
    datamanager: TalkerDataManagerConfig = field(default_factory=TalkerDataManagerConfig)
    """Data manager configuration."""
    model: TalkerModelConfig = field(default_factory=TalkerModelConfig)
    """Model configuration."""
    record_steps: bool = False
    """On CUDA, in a single process: record steps of equal sizes once and let the GPU replay them (CUDA graphs), which
    saves launch cost. The number of rays then changes in strides."""
    lips: LipsPhaseConfig = field(default_factory=LipsPhaseConfig)
    """The phase at the end of training that refines the lips."""
    sounds: Path | None = None
    """Folder of sound files that the viewer offers, beside those in the data set's folder and the one above it."""


class TalkerPipeline(VanillaPipeline):
    """nerfstudio's pipeline with strict checkpoints and steps of constant cost."""

    config: TalkerPipelineConfig
    datamanager: TalkerDataManager

    def __init__(self, config: TalkerPipelineConfig, device: str | torch.device, **kwargs: Any) -> None:
        """Builds data manager and model.

        Args:
            config: what to build.
            device: where the model lives.
            kwargs: of nerfstudio's pipeline (test_mode, world_size, local_rank, grad_scaler).

        Raises:
            NTalkerError: data or options cannot be used, or a backend does not run on this device.
        """
        config.lips.check()
        # Before the first step, which would otherwise fail and leave a run folder behind.
        resolve_backend(config.model.backend, torch.device(device).type)
        processes = kwargs.get("world_size", 1)
        # nerfstudio's wrapper for several processes needs CUDA.
        on_cpus = processes > 1 and torch.device(device).type == "cpu"
        super().__init__(config, str(device), **{**kwargs, "world_size": 1} if on_cpus else kwargs)
        if on_cpus:
            self.world_size = processes
            self._model = DistributedDataParallel(self._model, find_unused_parameters=True)  # type: ignore[assignment]
            distributed.wait_for_all()
        self.budget = StepBudget(config, config.datamanager.rays_per_step)
        self._steps: RecordedSteps | None = None
        self.record_steps(config.record_steps and processes == 1)
        self._lip_loss = LipPatchLoss(config.lips)
        self._num_steps: int | None = None
        self.talking_head = TalkingHeadControl(self._driving, config.sounds)

    def train(self, mode: bool = True) -> "TalkerPipeline":
        """Sets all modules to training or evaluation; returns at once if they are: nerfstudio calls this every step.

        Args:
            mode: training.
        """
        return self if self.training == self.model.training == mode else super().train(mode)

    def record_steps(self, wanted: bool) -> None:
        """Records and replays steps from now on, or stops doing so.

        Args:
            wanted: whether to record them; on CUDA only.
        """
        wanted = wanted and self.device.type == "cuda"
        self._steps = RecordedSteps(self.model, self.recordable_step) if wanted else None
        self.budget.stride = STRIDE if wanted else 0.0

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """One training batch through the model.

        Args:
            step: training step.

        Returns:
            Model outputs, losses and metrics by name.
        """
        lips = self.config.lips
        on_lips = self._num_steps is not None and lips.takes(step, self._num_steps)
        patches = Patches(lips.patch_size, "lips") if on_lips else self.config.datamanager.patches
        rays, batch = self.datamanager.training_rays(self.budget.rays, patches)
        outputs, losses, metrics = self.take_step(rays, batch, on_lips)
        if on_lips:
            losses["lip_patches"] = self._lip_loss(outputs["rgb"], batch["image"].to(self.device))
        elif "samples_per_ray" in metrics:
            # Lip patches do not count: they have more samples per ray and would leave the usual steps fewer rays.
            self.budget.note_samples(metrics["samples_per_ray"])
        metrics["rays_per_step"] = torch.tensor(float(len(rays)))
        return outputs, losses, metrics

    def take_step(self, rays: TrainingRays, batch: dict[str, Any], keep_rgb: bool = False) -> StepResult:
        """The model's outputs, losses and metrics of training rays; updates budget and head.

        Args:
            rays: to render; their sizes are set here.
            batch: their pixels.
            keep_rgb: whether recorded steps return the outputs' rgb.
        """
        model, each = self._talker().config, rays.counts[0]
        interval = model.occlusion_interval if model.occlusion_weight else None
        rays.step.sizes = self.budget.sizes(each, model.max_samples, interval)
        rays.step.keep_rgb = keep_rgb
        if self._steps is None:
            result = self.eager_step(rays, batch)
        else:
            result = self._steps(rays, batch, (rays.step.sizes, self._talker().head.step_kind, keep_rgb))
        self.budget.note_capacity(each, result[0].get("max_frame_samples"))
        return result

    def eager_step(self, rays: TrainingRays, batch: dict[str, Any]) -> StepResult:
        """Outputs, losses and metrics of training rays whose sizes are set; updates visibility in the occupancy grid.

        Args:
            rays: to render.
            batch: their pixels.
        """
        outputs = self._model(rays)
        metrics = self.model.get_metrics_dict(outputs, batch)
        losses = self.model.get_loss_dict(outputs, batch, metrics)
        self._talker().head.note_step(outputs.pop(STEP))
        return outputs, losses, metrics

    def recordable_step(self, rays: TrainingRays, batch: dict[str, Any]) -> StepResult:
        """`eager_step` with the outputs that `get_train_loss_dict` uses: others would be differentiated in vain.

        Args:
            rays: to render.
            batch: their pixels.
        """
        outputs, losses, metrics = self.eager_step(rays, batch)
        used = ("rgb", "max_frame_samples") if rays.step.keep_rgb else ("max_frame_samples",)
        return {name: outputs[name] for name in used if name in outputs}, losses, metrics

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The model's callbacks, and adaptations of the head.

        Args:
            training_callback_attributes: the trainer, for the number of steps.

        Raises:
            NTalkerError: recorded steps are to accumulate gradients.
        """
        trainer, optimizers = training_callback_attributes.trainer, training_callback_attributes.optimizers
        assert trainer is not None
        self._num_steps = trainer.config.max_num_iterations
        accumulated = trainer.config.gradient_accumulation_steps.values()
        if self._steps is not None and any(steps > 1 for steps in accumulated):
            # They write their gradients where those of the step before are.
            raise NTalkerError("Recorded steps do not accumulate gradients: leave --pipeline.record-steps away.")
        update = TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION],
            self._adapt_head,
            args=[{} if optimizers is None else optimizers.optimizers],
            update_every_num_iters=self._talker().head.interval,
        )
        return [*super().get_training_callbacks(training_callback_attributes), update]

    def _adapt_head(self, optimizers: Mapping[str, Optimizer], step: int) -> None:
        if self.adapts_head(step):
            self._talker().adapt_head(optimizers)

    def adapts_head(self, step: int) -> bool:
        """Whether the head may adapt after a step that is due for it, see `Head.adapt`.

        Args:
            step: training step.
        """
        return True

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Losses of one batch of held-out rays, without a graph.

        Args:
            step: training step.

        Returns:
            Model outputs, losses and metrics by name.
        """
        outputs, losses, metrics = super().get_eval_loss_dict(step)
        outputs.pop(STEP)
        return outputs, losses, metrics

    @torch.no_grad()
    def get_eval_image_metrics_and_images(self, step: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Metrics and pictures of one held-out frame.

        Args:
            step: training step.

        Returns:
            Metrics and pictures by name.
        """
        return super().get_eval_image_metrics_and_images(step)

    @torch.no_grad()
    def get_average_image_metrics(
        self,
        data_loader: Iterable[tuple[Cameras, dict[str, Any]]],
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, float]:
        """Renders every frame of a split and averages its metrics.

        Each metric is averaged over the frames with a finite value; one that no frame has is left out. (nerfstudio
        fails where a frame lacks a key of the first one, such as lips out of view.)

        Args:
            data_loader: camera and batch of each frame.
            image_prefix: of the pictures' file names.
            step: training step; unused.
            output_path: folder for the pictures, or None for none.
            get_std: whether to add standard deviations over frames, as `NAME_std`.

        Returns:
            Means by name, num_rays_per_sec and fps of rendering alone among them.

        Raises:
            NTalkerError: there are no true frames to compare with.
        """
        self.datamanager.eval_dataset.require_clip()
        self.eval()
        rows = []
        for index, (camera, batch) in enumerate(track(data_loader, "Evaluating frames")):
            outputs, seconds = self._timed_render(camera)
            metrics, images = self.model.get_image_metrics_and_images(outputs, batch)
            rays = int(camera.height.item()) * int(camera.width.item())
            rows.append({**metrics, "num_rays_per_sec": rays / seconds, "fps": 1.0 / seconds})
            if output_path is not None:
                save_images(images, output_path, f"{image_prefix}_{{}}_{index:04d}.png")
        self.train()
        return average_rows(rows, get_std)

    def _timed_render(self, camera: Cameras) -> tuple[dict[str, Tensor], float]:
        """Outputs of one camera and the seconds they took."""
        start = time.perf_counter()
        outputs = self.model.get_outputs_for_camera(camera)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return outputs, max(time.perf_counter() - start, 1e-9)

    def training_state(self) -> dict[str, Any]:
        """State of a resumed run beside weights and optimisers, as tensors and plain Python.

        Returns:
            The sampler's state and the running mean of samples per ray.
        """
        return {"sampler": self.datamanager.sampler_state(), "samples_per_ray": self.budget.samples_per_ray}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restores `training_state`.

        Args:
            state: of `training_state`.
        """
        self.datamanager.load_sampler_state(state["sampler"])
        self.budget.resume(state["samples_per_ray"])

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tensors of the model and the description of its audio features.

        Without the data manager's: it is rebuilt from the data set or the run folder, and its buffers depend on the
        frames' number and size.
        """
        state = super().state_dict(*args, **kwargs)
        for name in [name for name in state if name.startswith("datamanager.")]:
            del state[name]
        return state

    def get_extra_state(self) -> dict[str, Any]:
        """The state dict's part beside tensors: the description of the audio features."""
        return {"features": self._driving().feature_info.to_dict()}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Checks a checkpoint's audio features against the data's.

        Args:
            state: of `get_extra_state`, in the checkpoint.

        Raises:
            NTalkerError: the features are of another kind or width.
        """
        check_same_kind(FeatureInfo.from_dict(state["features"]), self._driving().feature_info)

    def _talker(self) -> TalkerModel:
        return self.model  # type: ignore[return-value]

    def _driving(self) -> DrivingSequence:
        """The sequence that drives the head now."""
        return self.datamanager.train_dataparser_outputs.metadata["driving"]

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads exactly the tensors of a checkpoint; nerfstudio leaves random weights where names differ.

        Args:
            loaded_state: the checkpoint's `pipeline` entry.
            step: training step it was written at.

        Raises:
            NTalkerError: other audio features, or a tensor missing, unknown or of another shape.
        """
        origin = f"The checkpoint of step {step}"
        if _EXTRA_STATE not in loaded_state:
            raise NTalkerError(f"{origin} names no audio features: it is not of an ntalker run.")
        self.set_extra_state(loaded_state[_EXTRA_STATE])
        own = self.model.state_dict()
        found = model_tensors(loaded_state, own)
        check_tensors(found, own, origin)
        self.model.update_to_step(step)
        self.model.load_state_dict(found)


def model_tensors(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under the model's names.

    Runs from before lips were closed on [p b m f v] do not know how theirs close: zeros, which change nothing.

    Args:
        state: the checkpoint's `pipeline` entry.
        own: the model's tensors.
    """
    found = {model_name(name): value for name, value in state.items() if name != _EXTRA_STATE}
    closing = {name: torch.zeros_like(value) for name, value in own.items() if name.startswith(CLOSING)}
    return closing | found


def model_name(name: str) -> str:
    """A tensor's name in the model, without the prefixes of pipeline and distributed training."""
    name = name.removeprefix("_model.").removeprefix("module.")
    return f"head.{name}" if name.startswith(OF_FIELDS) else name


def save_images(images: Mapping[str, Tensor], folder: Path, pattern: str) -> None:
    """Writes pictures as PNG files.

    Args:
        images: (H, W, C) in [0, 1], by name.
        folder: made if it is not there.
        pattern: file name with `{}` for the picture's name.
    """
    folder.mkdir(exist_ok=True, parents=True)
    for name, image in images.items():
        torchvision.utils.save_image(image.permute(2, 0, 1).cpu(), folder / pattern.format(name))


def average_rows(rows: list[dict[str, Any]], get_std: bool) -> dict[str, float]:
    """Means over frames of each metric.

    Args:
        rows: metrics by name of each frame, numbers or tensors of one element.
        get_std: also the standard deviation, as `NAME_std` (0 for a single value).

    Returns:
        Mean over the finite values of each name; a name without any is left out, and said.
    """
    averages = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [value for row in rows if math.isfinite(value := float(row.get(name, math.nan)))]
        if len(values) < len(rows):
            CONSOLE.print(f"[yellow]{name} is known for {len(values)} of {len(rows)} frames.")
        if not values:
            continue
        averages[name] = statistics.fmean(values)
        if get_std:
            averages[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return averages
