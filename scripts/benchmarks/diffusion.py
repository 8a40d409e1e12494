"""Speed of the paper's editor at its full size. Its weights are random: they change the pictures, not the time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from ntalker_ns.console import track
from ntalker_ns.editing.instruct_pix2pix import InstructPix2Pix, InstructPix2PixConfig
from ntalker_ns.editing.plan import EditConfig, Strength, progressive_schedule
from scripts.benchmarks.timing import timed

WIDTHS = (320, 640, 1280, 1280)
"""Channels of the denoiser's levels (Stable Diffusion 1.5)."""


@dataclass(frozen=True)
class DiffusionSizes:
    """What is edited."""

    batches: tuple[int, ...] = (1, 4, 16)
    """Frames edited at a time."""
    side: int = 512
    """Of the frames, px."""
    steps: int = 20
    """Diffusion steps of an edit."""
    repeats: int = 2
    """Timed edits of each batch, after one to warm up."""
    width_fraction: float = 1.0
    """Of the network's channels; below 1 it is not the published network."""


@dataclass(frozen=True)
class DiffusionSpeed:
    """One batch size."""

    frame_seconds: float
    """Per frame and edit."""
    gib: float
    """Peak GPU memory, GiB; NaN on a CPU."""


@dataclass(frozen=True)
class DiffusionSpeeds:
    """By batch size."""

    speeds: dict[int, DiffusionSpeed]
    sizes: DiffusionSizes

    @property
    def update_seconds(self) -> float:
        """All updates of the paper's edit (N frames, K strengths) by the fastest batch, if steps take all the time."""
        plan = EditConfig()
        steps = sum(each.steps for each in progressive_schedule(plan.updates, (3.0, 6.0), (10, 20)))
        fastest = min(each.frame_seconds for each in self.speeds.values())
        return plan.frames * steps * fastest / self.sizes.steps

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {
            "batches": {n: vars(each) for n, each in self.speeds.items()},
            "paper_updates_seconds": self.update_seconds,
        }

    def table(self) -> Table:
        """A row for each batch size."""
        table = Table(title=f"InstructPix2Pix, random weights: {self.sizes.steps} steps at {self.sizes.side} px")
        for column in ("frames at a time", "ms a frame", "frames/s", "GiB"):
            table.add_column(column, justify="right")
        for count, each in self.speeds.items():
            table.add_row(
                str(count), f"{1e3 * each.frame_seconds:.0f}", f"{1 / each.frame_seconds:.2f}", f"{each.gib:.1f}"
            )
        table.caption = f"The paper's three updates of 200 frames: {self.update_seconds:.0f} s."
        return table


def measure_diffusion(sizes: DiffusionSizes, device: torch.device, folder: Path) -> DiffusionSpeeds:
    """Edits random pictures in batches.

    Args:
        sizes: what is edited.
        device: where; on CUDA the network computes in float16.
        folder: for files of the tokenizer.
    """
    editor = InstructPix2Pix(InstructPix2PixConfig(size=sizes.side))
    editor.pipeline = random_pipeline(device, editor.config.dtype_on(device), folder, sizes.width_fraction)
    speeds = {}
    for count in track(sizes.batches, "Editing"):
        frames = torch.rand(count, 3, sizes.side, sizes.side, device=device)
        strength = Strength(6.0, sizes.steps, sizes.steps)

        def edit(frames: torch.Tensor = frames, strength: Strength = strength) -> None:
            editor.edit(frames, "make it bronze", strength, range(len(frames)))

        edit()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(edit, device, sizes.repeats)
        gib = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
        speeds[count] = DiffusionSpeed(seconds / count, gib)
    return DiffusionSpeeds(speeds, sizes)


def random_pipeline(device: torch.device, dtype: torch.dtype, folder: Path, width_fraction: float = 1.0) -> Any:
    """InstructPix2Pix as published (Brooks et al. 2023: Stable Diffusion 1.5 with eight input channels), untrained.

    Args:
        device: where.
        dtype: of its weights.
        folder: for files of the tokenizer.
        width_fraction: of its channels.
    """
    import diffusers as library
    from transformers import CLIPTextConfig, CLIPTextModel

    def scaled(*widths: int) -> tuple[int, ...]:
        # Norms are over groups of 32 channels.
        return tuple(max(round(width * width_fraction / 32), 1) * 32 for width in widths)

    diffusers: Any = library
    down, up = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    # Built on the device: drawing a billion random numbers takes a CPU a minute.
    with device:
        unet = diffusers.UNet2DConditionModel(
            sample_size=64,
            in_channels=8,
            out_channels=4,
            block_out_channels=scaled(*WIDTHS),
            down_block_types=(down, down, down, "DownBlock2D"),
            up_block_types=("UpBlock2D", up, up, up),
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=scaled(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=_letters(folder),
        unet=unet,
        scheduler=diffusers.EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device, dtype)


def _letters(folder: Path) -> Any:
    """A tokenizer of single letters; the published vocabulary is not part of the network."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    entries = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}), "utf8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
