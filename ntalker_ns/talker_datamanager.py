"""The data manager: rays of a few frames a step, mostly on the head, with what lies under each of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from torch import Tensor
from torch.nn import Parameter
from torch.profiler import record_function

from ntalker_ns.data import pixel_sampling
from ntalker_ns.data.images import scaled_boxes
from ntalker_ns.data.pixel_sampling import SurroundingsPixels
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.talker_dataset import TalkerDataset
from ntalker_ns.training.transfers import to_device

PatchRegion = Literal["face", "lips", "any"]


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
    """Frames that the rays of a step come from."""
    head_fraction: float = 0.75
    """Part of a step's rays, 0 to 1, that lies on the head and a band around it."""
    lip_fraction: float = 0.1
    """Part of a step's rays, 0 to 1, that lies in the lip box; what neither takes lies anywhere."""
    patch_size: int | None = None
    """Side in px of square patches, one a frame, as many as rays_per_step holds (at least one); None draws single
    pixels."""
    patch_region: PatchRegion = "face"
    """Where the centres of patches lie: in the face box, in the lip box, or anywhere."""
    surroundings_pixels: int = 2048
    """Pixels a training step, anywhere in the frames, from which torso and background learn."""
    surroundings_interval: int = 2
    """They learn in one step of so many, drawn at random, from so many steps' pixels at once: to begin costs as much as
    thousands of pixels."""
    surroundings_frames: int = 8
    """Frames that those pixels come from."""
    eval_num_rays_per_batch: int = 4096
    """Rays of an evaluation batch, all of one held-out frame."""
    seed: int = 0
    """Seed of the random choice of frames and pixels."""

    # Stock fields that mean nothing here: stock commands write them, users need not see them.
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


OPTION = "--pipeline.datamanager."
"""What the names of the configuration's fields begin with on a command line."""


def check_config(config: TalkerDataManagerConfig) -> None:
    """Checks the numbers that a step is made of.

    Raises:
        NTalkerError: one of them cannot be.
    """
    fractions = {"head-fraction": config.head_fraction, "lip-fraction": config.lip_fraction}
    fractions[f"head-fraction and {OPTION}lip-fraction together"] = config.head_fraction + config.lip_fraction
    for name, value in fractions.items():
        if not 0 <= value <= 1 + 1e-9:
            raise NTalkerError(f"{OPTION}{name} must be between 0 and 1, not {value:g}.")
    counts = {"rays-per-step": config.rays_per_step, "frames-per-step": config.frames_per_step}
    counts["surroundings-interval"] = config.surroundings_interval
    for name, value in (counts | {"patch-size": config.patch_size}).items():
        if value is not None and value < 1:
            raise NTalkerError(f"{OPTION}{name} must be at least 1, not {value}.")


class FrameDataloader(FixedIndicesEvalDataloader):
    """All held-out frames in turn; says so in a sentence when they are not there."""

    def __iter__(self) -> "FrameDataloader":
        dataset = self.input_dataset
        assert isinstance(dataset, TalkerDataset)
        dataset.require_clip()
        self.count = 0
        return self


class TalkerDataManager(VanillaDataManager[TalkerDataset]):
    """Gives rays and pixels of a talking head's frames.

    `next_train` gives a `RayBundle` of R rays, those of one frame contiguous and equally many for each, with unit
    directions, times (R, 1), camera_indices (R, 1) in the train split, and in metadata underlay (R, 3) in [0, 1],
    frames, a list of the F frames in the driving sequence, place (R, 2), x and y of pixel centres over the picture's
    width and height, and plate (R, 3), the plate's colours there.
    The batch has image (R, 3) in [0, 1], labels (R,), indices (R, 3) as camera, row, column, and per frame face_boxes
    and lip_boxes (F, 4) in px at training size and frames (F,), its index in the driving sequence. Some batches of
    training have other pixels of other frames in rest: place (R, 2), plate, image and underlay (R, 3), labels (R,),
    frames (F,).
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
        check_config(config)
        self.rays_per_step = config.rays_per_step
        self._train_rng = np.random.default_rng([config.seed, 0, local_rank])
        self._eval_rng = np.random.default_rng([config.seed, 1, local_rank])
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)

    def setup_train(self) -> None:
        """Nothing yet: frames are cached by the first training step, so that loading a run reads none."""

    def setup_eval(self) -> None:
        """Sets up the loaders of whole held-out frames, which stock commands look for."""
        self.fixed_indices_eval_dataloader = FrameDataloader(self.eval_dataset, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)

    @record_function("next_train")
    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Rays and pixels of some training frames, as the class says.

        Raises:
            NTalkerError: the data set's frames are not there.
        """
        self.train_count += 1
        count = self.get_train_rays_per_batch()
        num_frames = self._frames_per_step()
        chosen = self._train_rng.choice(
            len(self.train_dataset), num_frames, replace=False, p=self._frame_chances(self.train_dataset)
        )
        bundle, batch = self._sample(self.train_dataset, self._train_rng, chosen, count // num_frames)
        # Where the model is, which then asks the host for nothing.
        bundle.metadata["frames"] = batch["frames"]
        if self._train_rng.random() * self.config.surroundings_interval >= 1.0:
            return bundle, batch
        # With the rays too, since all that learns is asked in the model's forward: torch's DistributedDataParallel
        # must see it there.
        surroundings: Any = self._sample_surroundings()
        bundle.metadata["surroundings"] = surroundings
        return bundle, batch | {"surroundings": surroundings}

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Tensor]]:
        """The same of one held-out frame; camera_indices are then those of the held-out split."""
        self.eval_count += 1
        chosen = self._eval_rng.integers(len(self.eval_dataset), size=1)
        return self._sample(self.eval_dataset, self._eval_rng, chosen, self.get_eval_rays_per_batch())

    def next_eval_image(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """A whole held-out frame, at random: its camera and its item of the dataset."""
        self.eval_dataset.require_clip()
        index = int(self._eval_rng.integers(len(self.eval_dataset)))
        return self.fixed_indices_eval_dataloader.get_camera(index)

    def set_rays_per_step(self, rays: int) -> None:
        """From the next step on, a training step has about this many rays."""
        self.rays_per_step = max(1, int(rays))

    def set_patches(self, patch_size: int | None, region: PatchRegion = "face") -> None:
        """From the next step on, training rays form patches of this side in px; None draws single pixels."""
        self.config.patch_size, self.config.patch_region = patch_size, region

    def get_train_rays_per_batch(self) -> int:
        """Rays of the next training step."""
        frames = self._frames_per_step()
        if self.config.patch_size is not None:
            return frames * self.config.patch_size**2
        return max(1, self.rays_per_step // frames) * frames

    def get_eval_rays_per_batch(self) -> int:
        """Rays of an evaluation batch."""
        patch_size = self.config.patch_size
        return self.config.eval_num_rays_per_batch if patch_size is None else patch_size**2

    def get_datapath(self) -> Path:
        """Where the viewer keeps camera paths: the data set, or the run's folder where that is not used."""
        dataset = self.train_dataset
        if dataset.clip is not None:
            return dataset.clip.folder
        return dataset.driving.folder.parent if dataset.driving.folder else Path()

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """None: nothing here is trained."""
        return {}

    def sampler_state(self) -> dict[str, str]:
        """The state of the random choices, in plain values."""
        generators = {"train": self._train_rng, "eval": self._eval_rng}
        return {name: json.dumps(rng.bit_generator.state) for name, rng in generators.items()}

    def load_sampler_state(self, state: dict[str, str]) -> None:
        """Continues where `sampler_state` was called."""
        self._train_rng.bit_generator.state = json.loads(state["train"])
        self._eval_rng.bit_generator.state = json.loads(state["eval"])

    @staticmethod
    def _frame_chances(dataset: TalkerDataset) -> Float[np.ndarray, "n"]:
        return pixel_sampling.frame_chances(dataset.driving.track.eye_openness[dataset.frame_indices])

    def _frames_per_step(self) -> int:
        frames = self.config.frames_per_step
        if self.config.patch_size is not None:
            frames = max(1, self.rays_per_step // self.config.patch_size**2)
        return max(1, min(frames, len(self.train_dataset)))

    def _sample(
        self, dataset: TalkerDataset, rng: np.random.Generator, chosen: Int[np.ndarray, "frames"], rays_per_frame: int
    ) -> tuple[RayBundle, dict[str, Tensor]]:
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
            x[rays], y[rays] = self._pixels(rng, rays_per_frame, spans, face_boxes[i], lip_boxes[i], dataset.size)
        columns = Columns(len(x), SEEN | RAYS | {"times": 1})
        labels = self._look(dataset, chosen, x, y, columns)
        self._cast(dataset, driving_indices, x, y, columns)
        columns.host["times"][:, 0] = np.repeat(dataset.driving.track.times[driving_indices], rays_per_frame)
        found = columns.on(self.device)
        indices = self._tensor(np.stack([np.repeat(chosen, rays_per_frame), y, x], axis=1))
        bundle = RayBundle(
            origins=found["origins"],
            directions=found["directions"],
            pixel_area=found["areas"],
            camera_indices=indices[:, :1],
            times=found["times"],
            metadata={name: found[name] for name in ("underlay", "place", "plate")}
            | {"frames": driving_indices.tolist()},
        )
        batch = {
            "image": found["image"],
            "labels": self._tensor(labels),
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
        labels = self._look(dataset, chosen, x, y, columns)
        frames = self._tensor(dataset.frame_indices[chosen])
        return SurroundingsPixels(**columns.on(self.device), labels=self._tensor(labels), frames=frames)

    @staticmethod
    def _look(
        dataset: TalkerDataset,
        chosen: Int[np.ndarray, " f"],
        x: Int[np.ndarray, " r"],
        y: Int[np.ndarray, " r"],
        columns: "Columns",
    ) -> UInt8[np.ndarray, " r"]:
        """Writes what chosen frames show at pixels into columns, and gives the labels."""
        from ntalker_ns.kernels.numba.pixels import Looks, look

        store, labels = dataset.store(), np.empty(len(x), np.uint8)
        found = Looks(**{name: columns.host[name] for name in SEEN}, labels=labels)
        look(store.pixels, dataset.plate(), chosen, x, y, found)
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
        """Writes the rays through pixels of frames of the driving sequence into columns."""
        from ntalker_ns.kernels.numba.pixels import Rays, cast

        poses, camera = dataset.driving.track.camera_to_worlds[frames], dataset.driving.camera.resized(dataset.size)
        cast(poses, camera.intrinsics, x, y, Rays(**{name: columns.host[name] for name in RAYS}))

    def _pixels(
        self,
        rng: np.random.Generator,
        count: int,
        head_spans: np.ndarray,
        face_box: np.ndarray,
        lip_box: np.ndarray,
        size: tuple[int, int],
    ) -> pixel_sampling.Pixels:
        patch_size = self.config.patch_size
        if patch_size is not None:
            if patch_size > min(size):
                raise NTalkerError(f"patch-size {patch_size} is larger than the frames ({size[0]}x{size[1]} px).")
            box = {"face": face_box, "lips": lip_box, "any": None}[self.config.patch_region]
            return pixel_sampling.patch(rng, patch_size, box, size)
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


SEEN = {"image": 3, "underlay": 3, "plate": 3, "place": 2}
"""Float columns of what is seen at a pixel."""

RAYS = {"origins": 3, "directions": 3, "areas": 1}
"""Those of the ray through it."""


class Columns:
    """Float columns that lie in one piece of memory, so that they are brought to a device at once."""

    def __init__(self, rows: int, widths: dict[str, int]) -> None:
        """
        Args:
            rows: of every column.
            widths: numbers in a row of each, by name.
        """
        self._sizes = {name: rows * width for name, width in widths.items()}
        self._flat = np.empty(sum(self._sizes.values()), np.float32)
        parts = np.split(self._flat, np.cumsum(list(self._sizes.values()))[:-1])
        self.host = {name: part.reshape(rows, widths[name]) for name, part in zip(widths, parts, strict=True)}
        """Each (rows, width), to be written."""

    def on(self, device: torch.device | str) -> dict[str, Float[Tensor, "rows width"]]:
        """All columns on a device."""
        parts = to_device(torch.from_numpy(self._flat), device).split(list(self._sizes.values()))
        return {name: part.view(self.host[name].shape) for name, part in zip(self._sizes, parts, strict=True)}
