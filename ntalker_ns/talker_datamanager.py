"""The data manager: rays of a few frames per step, mostly on the head, and their pixels."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from torch import Tensor
from torch.nn import Parameter
from torch.profiler import record_function

from ntalker_ns.data import pixel_sampling
from ntalker_ns.data.images import scaled_boxes
from ntalker_ns.data.training_rays import ClipInputs, PixelWindow, SurroundingsPixels, TrainingRays
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_dataset import TalkerDataset
from ntalker_ns.training.transfers import to_device

PatchRegion = Literal["face", "lips", "any"]


@dataclass(frozen=True)
class Patches:
    """Square patches of rays."""

    size: int
    """Side in px."""
    region: PatchRegion = "face"
    """Where their centres lie."""


@dataclass
class TalkerDataManagerConfig(VanillaDataManagerConfig):
    """Rays of a talking head's frames."""

    _target: type = field(default_factory=lambda: TalkerDataManager)
    """Target class to instantiate."""
    data: Path | None = None
    """The data set; when a run is loaded also new audio for its head. None takes the data parser's."""
    dataparser: TalkerDataParserConfig = field(default_factory=TalkerDataParserConfig)
    """The data set, or the run's driving sequence and new audio."""
    rays_per_step: int = 8192
    """Rays of a training step, over all its frames; rounded down to a multiple of frames_per_step."""
    frames_per_step: int = 4
    """Frames of a training step."""
    head_fraction: float = 0.75
    """Fraction of a step's rays, 0 to 1, on the head and a band around it."""
    lip_fraction: float = 0.1
    """Fraction of a step's rays, 0 to 1, in the lip box; the remaining ones lie anywhere."""
    patch_size: int | None = None
    """Side in px of square patches, one per frame, as many as rays_per_step holds (at least one); None draws single
    pixels."""
    patch_region: PatchRegion = "face"
    """Where the centres of patches lie: in the face box, in the lip box, or anywhere."""
    whole_frames: bool = False
    """A training step takes all pixels of a single frame, instead of rays_per_step rays of several: heads of Gaussians
    need it."""
    surroundings_pixels: int = 2048
    """Pixels per training step, anywhere in the frames, for torso and background."""
    surroundings_interval: int = 2
    """Torso and background are trained on average every N steps, on N times as many pixels (launch cost dominates)."""
    surroundings_frames: int = 8
    """Frames that those pixels come from."""
    eval_num_rays_per_batch: int = 4096
    """Rays of an evaluation batch, all of one held-out frame."""
    seed: int = 0
    """Seed of the random choice of frames and pixels."""

    # Fields of nerfstudio without effect here; its commands write to them.
    train_num_rays_per_batch: tyro.conf.Suppress[int] = 0
    """Unused: see rays_per_step."""
    train_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    """Unused: all frames are at hand."""
    train_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    """Unused: all frames are at hand."""
    eval_num_images_to_sample_from: tyro.conf.Suppress[int] = -1
    """Unused: all frames are at hand."""
    eval_num_times_to_repeat_images: tyro.conf.Suppress[int] = -1
    """Unused: all frames are at hand."""
    eval_image_indices: tyro.conf.Suppress[tuple[int, ...] | None] = None
    """Unused: all held-out frames are evaluated."""
    camera_res_scale_factor: tyro.conf.Suppress[float] = 1.0
    """Unused: see the data parser's image_size."""
    pixel_sampler: tyro.conf.Suppress[PixelSamplerConfig] = field(default_factory=PixelSamplerConfig)
    """Unused: see head_fraction, lip_fraction and patch_size."""
    masks_on_gpu: tyro.conf.Suppress[bool] = False
    """Unused."""
    images_on_gpu: tyro.conf.Suppress[bool] = False
    """Unused."""

    def check(self) -> None:
        """
        Raises:
            NTalkerError: a number is out of range.
        """
        option = "--pipeline.datamanager."
        fractions = {"head-fraction": self.head_fraction, "lip-fraction": self.lip_fraction}
        fractions[f"head-fraction and {option}lip-fraction together"] = self.head_fraction + self.lip_fraction
        for name, value in fractions.items():
            if not 0 <= value <= 1 + 1e-9:
                raise NTalkerError(f"{option}{name} must be between 0 and 1, not {value:g}.")
        counts = {"rays-per-step": self.rays_per_step, "frames-per-step": self.frames_per_step}
        counts["surroundings-interval"] = self.surroundings_interval
        for name, value in (counts | {"patch-size": self.patch_size}).items():
            if value is not None and value < 1:
                raise NTalkerError(f"{option}{name} must be at least 1, not {value}.")

    @property
    def patches(self) -> Patches | None:
        """The configured patches; None: single pixels."""
        return None if self.patch_size is None else Patches(self.patch_size, self.patch_region)


class FrameDataloader(FixedIndicesEvalDataloader):
    """All held-out frames in turn.

    Raises:
        NTalkerError: the data set's frames are missing.
    """

    def __iter__(self) -> "FrameDataloader":
        dataset = self.input_dataset
        assert isinstance(dataset, TalkerDataset)
        dataset.require_clip()
        self.count = 0
        return self


class TalkerDataManager(VanillaDataManager[TalkerDataset]):
    """Rays and pixels of a talking head's frames.

    Rays of one frame lie side by side, equally many for each of F frames, with unit directions, times (R, 1) and
    camera_indices (R, 1) in their split. The batch holds image (R, 3) and coverage (R,) in [0, 1], labels (R,), indices
    (R, 3) as camera, row, column, and per frame face_boxes and lip_boxes (F, 4) in px at training size and frames (F,),
    indices in the driving sequence.
    """

    config: TalkerDataManagerConfig
    train_dataset: TalkerDataset
    eval_dataset: TalkerDataset

    def __init__(
        self,
        config: TalkerDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ):
        config.check()
        self._num_rays = config.rays_per_step
        self._train_rng = np.random.default_rng([config.seed, 0, local_rank])
        self._eval_rng = np.random.default_rng([config.seed, 1, local_rank])
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)

    def setup_train(self) -> None:
        """Does nothing: the first training step caches the frames, so that loading a run reads none."""

    def setup_eval(self) -> None:
        """Sets up the loaders of whole held-out frames that nerfstudio's commands use."""
        self.fixed_indices_eval_dataloader = FrameDataloader(self.eval_dataset, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def next_train(self, step: int) -> tuple[TrainingRays, dict[str, Tensor]]:
        """Rays and pixels of some training frames, as configured.

        Raises:
            NTalkerError: the data set's frames are missing.
        """
        return self.training_rays(self.config.rays_per_step, self.config.patches)

    @record_function("next_train")
    def training_rays(self, rays: int, patches: Patches | None = None) -> tuple[TrainingRays, dict[str, Tensor]]:
        """Rays and pixels of some training frames.

        Args:
            rays: about how many.
            patches: their size and place; None draws single pixels.

        Raises:
            NTalkerError: the data set's frames are missing, or smaller than the patches.
        """
        self.train_count += 1
        dataset, rng = self.train_dataset, self._train_rng
        frames = self.config.frames_per_step if patches is None else max(1, rays // patches.size**2)
        whole = patches is None and self.config.whole_frames
        frames = 1 if whole else max(1, min(frames, len(dataset)))
        each = (
            dataset.size[0] * dataset.size[1]
            if whole
            else max(1, rays // frames)
            if patches is None
            else patches.size**2
        )
        chances = pixel_sampling.frame_chances(dataset.driving.track.eye_openness[dataset.frame_indices])
        chosen = rng.choice(len(dataset), frames, replace=False, p=chances)
        bundle, batch = self._sample(dataset, rng, chosen, each, patches)
        inputs = bundle.step
        assert isinstance(inputs, ClipInputs)
        # On the model's device, so that the step copies nothing from the host.
        inputs.frames = batch["frames"]
        if rng.random() * self.config.surroundings_interval < 1.0:
            inputs.surroundings = self._sample_surroundings()
        self._num_rays = len(bundle)
        return bundle, batch

    def next_eval(self, step: int) -> tuple[TrainingRays, dict[str, Tensor]]:
        """The same of one held-out frame; camera_indices are those of the held-out split."""
        self.eval_count += 1
        chosen = self._eval_rng.integers(len(self.eval_dataset), size=1)
        width, height = self.eval_dataset.size
        rays = width * height if self.config.whole_frames else self.get_eval_rays_per_batch()
        return self._sample(self.eval_dataset, self._eval_rng, chosen, rays, self.config.patches)

    def next_eval_image(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """A random whole held-out frame: its camera and its item of the dataset."""
        self.eval_dataset.require_clip()
        index = int(self._eval_rng.integers(len(self.eval_dataset)))
        return self.fixed_indices_eval_dataloader.get_camera(index)

    def get_train_rays_per_batch(self) -> int:
        """Rays of the last training step; before the first, about how many it will have."""
        return self._num_rays

    def get_eval_rays_per_batch(self) -> int:
        """Rays of an evaluation batch."""
        patches = self.config.patches
        return self.config.eval_num_rays_per_batch if patches is None else patches.size**2

    def get_datapath(self) -> Path:
        """Where the viewer keeps camera paths: the data set or, without one, the run's folder."""
        dataset = self.train_dataset
        if dataset.clip is not None:
            return dataset.clip.folder
        return dataset.driving.folder.parent if dataset.driving.folder else Path()

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """None: the data manager trains nothing."""
        return {}

    def sampler_state(self) -> dict[str, str]:
        """The states of the random generators, as text."""
        generators = {"train": self._train_rng, "eval": self._eval_rng}
        return {name: json.dumps(rng.bit_generator.state) for name, rng in generators.items()}

    def load_sampler_state(self, state: dict[str, str]) -> None:
        """Restores `sampler_state`."""
        self._train_rng.bit_generator.state = json.loads(state["train"])
        self._eval_rng.bit_generator.state = json.loads(state["eval"])

    def _sample(
        self,
        dataset: TalkerDataset,
        rng: np.random.Generator,
        chosen: Int[np.ndarray, "frames"],
        rays_per_frame: int,
        patches: Patches | None,
    ) -> tuple[TrainingRays, dict[str, Tensor]]:
        store = dataset.store()
        driving_indices = dataset.frame_indices[chosen]
        face_boxes, lip_boxes = (
            scaled_boxes(boxes[driving_indices], dataset.scale)
            for boxes in (dataset.driving.track.face_boxes, dataset.driving.track.lip_boxes)
        )
        x, y = (np.empty(len(chosen) * rays_per_frame, np.int64) for _ in range(2))
        for i, index in enumerate(chosen):
            rays = slice(i * rays_per_frame, (i + 1) * rays_per_frame)
            spans = store.head_spans[index]
            boxes = {"face": face_boxes[i], "lips": lip_boxes[i], "any": None}
            if patches is not None:
                x[rays], y[rays] = _patch(rng, patches, boxes[patches.region], dataset.size)
            elif self.config.whole_frames:
                y[rays], x[rays] = np.divmod(np.arange(rays_per_frame), dataset.size[0])
            else:
                x[rays], y[rays] = self._pixels(rng, rays_per_frame, spans, lip_boxes[i], dataset.size)
        columns = Columns(len(x), SEEN | RAYS | {"times": 1})
        labels = self._look(dataset, chosen, x, y, columns)
        self._cast(dataset, driving_indices, x, y, columns)
        columns.host["times"][:, 0] = np.repeat(dataset.driving.track.times[driving_indices], rays_per_frame)
        values = columns.on(self.device)
        indices = self._tensor(np.stack([np.repeat(chosen, rays_per_frame), y, x], axis=1))
        bundle = TrainingRays(
            origins=values["origins"],
            directions=values["directions"],
            pixel_area=values["areas"],
            camera_indices=indices[:, :1],
            times=values["times"],
            step=ClipInputs(
                frames=torch.from_numpy(driving_indices),
                place=values["place"],
                plate=values["plate"],
                headless=values["headless"],
                windows=self._windows(dataset, driving_indices, x, y, patches),
            ),
        )
        batch = {
            "image": values["image"],
            "labels": self._tensor(labels),
            "coverage": values["coverage"].squeeze(-1),
            "indices": indices,
            "face_boxes": self._tensor(face_boxes),
            "lip_boxes": self._tensor(lip_boxes),
            "frames": self._tensor(driving_indices),
        }
        return bundle, batch

    def _sample_surroundings(self) -> SurroundingsPixels:
        dataset, rng = self.train_dataset, self._train_rng
        num_frames = min(self.config.surroundings_frames, len(dataset))
        each = max(1, self.config.surroundings_pixels * self.config.surroundings_interval // num_frames)
        chosen = rng.choice(len(dataset), num_frames, replace=False)
        x, y = pixel_sampling.anywhere(rng, num_frames * each, dataset.size)
        columns = Columns(len(x), SEEN)
        labels = self._tensor(self._look(dataset, chosen, x, y, columns))
        values = columns.on(self.device)
        return SurroundingsPixels(
            place=values["place"],
            plate=values["plate"],
            image=values["image"],
            headless=values["headless"],
            labels=labels,
            frames=self._tensor(dataset.frame_indices[chosen]),
        )

    def _windows(
        self,
        dataset: TalkerDataset,
        frames: Int[np.ndarray, " f"],
        x: Int[np.ndarray, " r"],
        y: Int[np.ndarray, " r"],
        patches: Patches | None,
    ) -> list[PixelWindow]:
        """The rectangles of frames (of the driving sequence), where their rays are rectangles."""
        if patches is None and not self.config.whole_frames:
            return []
        size = dataset.size if patches is None else (patches.size, patches.size)
        intrinsics = dataset.driving.camera.resized(dataset.size).intrinsics
        poses = self._tensor(dataset.driving.track.camera_to_worlds[frames])
        firsts = range(0, len(x), size[0] * size[1])
        corners = [(int(x[first]), int(y[first])) for first in firsts]
        return [
            PixelWindow.of_pixels(pose, intrinsics, corner, size) for pose, corner in zip(poses, corners, strict=True)
        ]

    @staticmethod
    def _look(
        dataset: TalkerDataset,
        chosen: Int[np.ndarray, " f"],
        x: Int[np.ndarray, " r"],
        y: Int[np.ndarray, " r"],
        columns: "Columns",
    ) -> UInt8[np.ndarray, " r"]:
        """Writes the colours of frames at pixels into columns and returns the labels."""
        from ntalker_ns.kernels.numba.pixels import PixelBuffers, gather_pixels

        store, labels = dataset.store(), np.empty(len(x), np.uint8)
        found = PixelBuffers(**{name: columns.host[name] for name in SEEN}, labels=labels)
        gather_pixels(store.pixels, dataset.plate(), chosen, x, y, found)
        for index in chosen:
            store.release(int(index))
        return labels

    @staticmethod
    def _cast(
        dataset: TalkerDataset,
        frames: Int[np.ndarray, " f"],
        x: Int[np.ndarray, " r"],
        y: Int[np.ndarray, " r"],
        columns: "Columns",
    ) -> None:
        """Writes the rays through pixels of frames (of the driving sequence) into columns."""
        from ntalker_ns.kernels.numba.pixels import Rays, cast_rays

        poses, camera = dataset.driving.track.camera_to_worlds[frames], dataset.driving.camera.resized(dataset.size)
        cast_rays(poses, camera.intrinsics, x, y, Rays(**{name: columns.host[name] for name in RAYS}))

    def _pixels(
        self,
        rng: np.random.Generator,
        count: int,
        head_spans: Int[np.ndarray, "h 2"],
        lip_box: Float[np.ndarray, "4"],
        size: tuple[int, int],
    ) -> pixel_sampling.Pixels:
        """Single pixels of a frame: on the head, on the lips and anywhere."""
        on_head = round(count * self.config.head_fraction)
        on_lips = min(round(count * self.config.lip_fraction), count - on_head)
        parts = (
            pixel_sampling.in_spans(rng, on_head, head_spans, size),
            pixel_sampling.in_box(rng, on_lips, lip_box, size),
            pixel_sampling.anywhere(rng, count - on_head - on_lips, size),
        )
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _tensor(self, array: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(array), self.device)


def _patch(
    rng: np.random.Generator, patches: Patches, box: Float[np.ndarray, "4"] | None, size: tuple[int, int]
) -> pixel_sampling.Pixels:
    """The pixels of one patch whose centre lies in a box; None is the whole picture."""
    if patches.size > min(size):
        raise NTalkerError(f"patch-size {patches.size} is larger than the frames ({size[0]}x{size[1]} px).")
    return pixel_sampling.patch(rng, patches.size, box, size)


SEEN = {"image": 3, "headless": 3, "plate": 3, "place": 2, "coverage": 1}
"""Widths of the columns of a pixel."""

RAYS = {"origins": 3, "directions": 3, "areas": 1}
"""Widths of the columns of its ray."""


class Columns:
    """Float columns in one block of memory, so that they are copied to a device at once."""

    def __init__(self, rows: int, widths: dict[str, int]) -> None:
        """
        Args:
            rows: of all columns.
            widths: by name.
        """
        self._sizes = {name: rows * width for name, width in widths.items()}
        self._flat = np.empty(sum(self._sizes.values()), np.float32)
        parts = np.split(self._flat, np.cumsum(list(self._sizes.values()))[:-1])
        self.host = {name: part.reshape(rows, widths[name]) for name, part in zip(widths, parts, strict=True)}
        """(rows, width) each, to be written."""

    def on(self, device: torch.device | str) -> dict[str, Float[Tensor, "rows width"]]:
        """All columns on a device."""
        parts = to_device(torch.from_numpy(self._flat), device).split(list(self._sizes.values()))
        return {name: part.view(self.host[name].shape) for name, part in zip(self._sizes, parts, strict=True)}
