"""The interface of heads: pictures, training steps, parameters.

`FieldHead` is a radiance field, `SplatHead` a set of Gaussians. `ntalker_ns.talker_model` builds one of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn
from torch.optim import Optimizer

from ntalker_ns.data.outline_view import OutlineView
from ntalker_ns.data.training_rays import TrainingRays
from ntalker_ns.face.rig import Rig
from ntalker_ns.face.shell import FaceShell
from ntalker_ns.field.pose_refinement import PoseRefinement
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.kernels.types import FaceState, Gate
from ntalker_ns.rendering.losses import StepOutputs
from ntalker_ns.splats.start import round_surface


@dataclass
class FaceInputs:
    """What drives a head in some frames."""

    lip_shapes: Float[Tensor, "frames lip_dim"]
    """Shape of lips and jaw, measured or predicted."""
    brow_shapes: Float[Tensor, "frames brow_dim"]
    eye_openness: Float[Tensor, "frames 1"]
    """In [0, 1]."""
    seen_from: Int[Tensor, "frames"] | Float[Tensor, "frames 3 4"]
    """Training frames of the clip, on the model's device, or else poses of cameras (OpenGL), on the host."""
    windows: Float[Tensor, "frames neighbours 16 channels"] | None = None
    """Audio features around each frame, for heads with `Head.needs_windows`."""


class Head(nn.Module, ABC):
    """A head without torso and background. All colours are premultiplied by opacity."""

    ops: Ops
    """Computes it."""
    rig: Rig
    """Of the person."""
    shell: FaceShell | None = None
    """Around the tracked face; None: unknown."""
    reach: ClassVar[float] = 1.0
    """World units along each axis from the origin within which there can be matter."""

    @property
    def interval(self) -> int:
        """Training steps between two calls of `adapt`."""
        return 1

    @property
    def step_kind(self) -> Hashable:
        """All that a step depends on beside its rays, see `training.recorded_steps`."""
        return None

    @property
    def needs_windows(self) -> bool:
        """Whether audio features drive the head directly, instead of lip shapes."""
        return False

    def fit_speech(
        self,
        windows: Float[Tensor, "frames 16 channels"],
        lip_shapes: Float[Tensor, "frames lip_dim"],
        trained: Int[Tensor, "trained"],
    ) -> None:
        """Pretrains a head with `needs_windows` on the predicted lip shapes, before the first step.

        Args:
            windows: audio features of all frames.
            lip_shapes: predicted from them.
            trained: training frames, on the host.
        """
        raise NotImplementedError

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether `fit_to_clip` was called, in this run or in the one that was loaded."""

    @abstractmethod
    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate."""

    @abstractmethod
    def conditions(self, face: FaceInputs, poses: PoseRefinement) -> Any:
        """What `step` and `picture` take of some frames.

        Args:
            face: of the frames.
            poses: the clip's, with the frames that are trained on.
        """

    @abstractmethod
    def step(
        self,
        rays: TrainingRays,
        conditions: Any,
        corrections: Float[Tensor, "frames 6"] | None,
        behind: Float[Tensor, "rays 3"],
    ) -> StepOutputs:
        """Renders the rays of a step.

        Args:
            rays: frame after frame.
            conditions: of the frames.
            corrections: of the frames' poses; None: none.
            behind: colours behind the head.
        """

    @abstractmethod
    def picture(
        self, camera: Cameras, conditions: Any, correction: Float[Tensor, "1 6"] | None
    ) -> dict[str, Float[Tensor, "height width channels"]]:
        """A whole picture, without gradients.

        Args:
            camera: one flat camera, on the host.
            conditions: of one frame.
            correction: of its pose, on the host; None: none.

        Returns:
            head (3 channels), accumulation (its opacity), depth in world units, and what else it has to show.
        """

    @abstractmethod
    def face(self, conditions: Any) -> tuple[Gate, FaceState]:
        """Where speech acts, and how the faces of frames depart from the mean face, see `Ops.inverse_warp`.

        Args:
            conditions: of the frames.
        """

    @abstractmethod
    def empty_depth(self, camera: Cameras) -> Float[Tensor, "height width 1"]:
        """What `picture` gives as depth where there is no head.

        Args:
            camera: one flat camera, on the host.
        """

    def seen(
        self, camera: Cameras, conditions: Any, correction: Float[Tensor, "1 6"] | None
    ) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
        """Colour and opacity of `picture` alone."""
        outputs = self.picture(camera, conditions, correction)
        return outputs["head"], outputs["accumulation"].squeeze(-1)

    @abstractmethod
    def losses(self, step: StepOutputs, batch: dict[str, Any]) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses of the head itself.

        Args:
            step: of `step`.
            batch: `image` (rays, 3) and `coverage` (rays,) in [0, 1], `labels` (rays,), `lip_boxes` (frames, 4) in px.
        """

    @abstractmethod
    def regularizers(self, step: StepOutputs) -> dict[str, Float[Tensor, ""]]:
        """The weighted losses that need no true colours, in training and in edits alike."""

    @abstractmethod
    def set_face(self, shell: FaceShell | None) -> None:
        """Sets bounds of the head's depth, for training.

        Args:
            shell: around the tracked face, with `shell_resolution` columns; None: unknown.
        """

    @abstractmethod
    def fit_to_clip(self, dataset: Any) -> None:
        """Prepares an untrained head by the training frames.

        Args:
            dataset: the training frames.
        """

    @abstractmethod
    def extend_outline(self, views: Sequence[OutlineView]) -> None:
        """Extends the space of the head to the outlines of edited frames.

        Args:
            views: frames that an edit has changed.
        """

    def depth_surface(self) -> Float[np.ndarray, "columns columns"]:
        """World y of the head's surface over x and z in [-1, 1]: of the tracked face, or else of a ball."""
        return round_surface(self.rig.keypoints, 128) if self.shell is None else self.shell.surface

    def before_step(self, progress: float) -> None:
        """Called before each training step.

        Args:
            progress: of the training, 0 to 1.
        """

    def note_step(self, step: StepOutputs) -> None:
        """Called with the outputs of each training step."""

    @abstractmethod
    def adapt(self, conditions: Any, optimizers: Mapping[str, Optimizer]) -> None:
        """Called every `interval` steps of training.

        Args:
            conditions: of a random training frame.
            optimizers: by group of `param_groups`.
        """
