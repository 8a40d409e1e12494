"""The rays of a training step, with what the model needs to know of them beside nerfstudio's fields."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int, UInt8
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from ntalker_ns.training.step_budget import StepSizes


@dataclass
class SurroundingsPixels:
    """Pixels anywhere in some frames, for torso and background; grouped by frame, equally many each."""

    place: Float[Tensor, "pixels 2"]
    """x and y in the clip camera's picture, 0 to 1."""
    plate: Float[Tensor, "pixels 3"]
    """The plate's colours there, in [0, 1]."""
    image: Float[Tensor, "pixels 3"]
    """The frames' colours."""
    headless: Float[Tensor, "pixels 3"]
    """The colours of the frames without their heads."""
    labels: UInt8[Tensor, "pixels"]
    frames: Int[Tensor, "frames"]
    """Indices in the driving sequence."""

    @property
    def counts(self) -> list[int]:
        """Pixels of each frame."""
        return [len(self.place) // len(self.frames)] * len(self.frames)


@dataclass
class PixelWindow:
    """A rectangle of a frame's picture, whose pixels are a step's rays of that frame, row by row."""

    camera_to_world: Float[Tensor, "3 4"]
    """The tracker's pose, OpenGL, on the model's device."""
    focal: tuple[float, float]
    """fl_x, fl_y in px."""
    centre: tuple[float, float]
    """Principal point in px from the rectangle's left and upper edge."""
    size: tuple[int, int]
    """Width and height in px."""

    @classmethod
    def of_pixels(
        cls,
        camera_to_world: Float[Tensor, "3 4"],
        intrinsics: tuple[float, float, float, float],
        corner: tuple[int, int],
        size: tuple[int, int],
    ) -> "PixelWindow":
        """A rectangle by its corner.

        Args:
            camera_to_world: of the frame.
            intrinsics: fl_x, fl_y, cx, cy of the whole picture, px.
            corner: x and y of the left upper pixel.
            size: width and height in px.
        """
        fl_x, fl_y, cx, cy = intrinsics
        return cls(camera_to_world, (fl_x, fl_y), (cx - corner[0], cy - corner[1]), size)


@dataclass
class StepInputs:
    """Per-frame and per-ray inputs of a step; the rays are grouped by frame, equally many each."""

    frames: Int[Tensor, "frames"]
    """Indices in the driving sequence; on the model's device in training, on the host in evaluation."""
    place: Float[Tensor, "rays 2"]
    """x and y of the pixel centres in the clip camera's picture, 0 to 1."""
    plate: Float[Tensor, "rays 3"]
    """The plate's colours there, in [0, 1]."""
    sizes: StepSizes = field(default=StepSizes(), kw_only=True)
    """Set by the pipeline, from its budget."""
    windows: list[PixelWindow] = field(default_factory=list, kw_only=True)
    """Of each frame, where its rays are all pixels of a rectangle; else empty."""
    keep_rgb: bool = field(default=False, kw_only=True)
    """Whether a recorded step returns the rendered colours, for losses outside of it; set by the pipeline."""


@dataclass
class ClipInputs(StepInputs):
    """Inputs of rays through frames of the clip."""

    headless: Float[Tensor, "rays 3"]
    """The colours of the frames without their heads, in [0, 1]: the head is composited over them."""
    surroundings: SurroundingsPixels | None = None
    """Other pixels, of other frames, for torso and background; in some steps."""


@dataclass
class EditInputs(StepInputs):
    """Inputs of rays through a square patch of one edited frame, row by row."""

    edited: Float[Tensor, "rays 3"]
    """The edited frame's colours, in [0, 1]."""
    covered: Float[Tensor, "rays 1"]
    """1 where the head is to cover torso and background, which do not learn what is there; else 0."""


@dataclass
class TrainingRays(RayBundle):
    """nerfstudio's rays and the inputs of a step. They travel inside of the bundle because nerfstudio's interfaces
    (`DataManager.next_train`, `Model.forward`) pass nothing else."""

    step: StepInputs = field(kw_only=True)

    @property
    def counts(self) -> list[int]:
        """Rays of each frame."""
        return [len(self) // len(self.step.frames)] * len(self.step.frames)
