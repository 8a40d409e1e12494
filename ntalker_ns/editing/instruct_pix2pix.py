"""The paper's editor: InstructPix2Pix (Brooks et al. 2023), through diffusers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ntalker_ns.editing.editor import EditorConfig, check_instruction
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.pretrained import Precision, check_model, load_pipeline, precision_of
from ntalker_ns.errors import NTalkerError


@dataclass
class InstructPix2PixConfig(EditorConfig):
    """InstructPix2Pix."""

    _target: type = field(default_factory=lambda: InstructPix2Pix)
    model: str = "timbrooks/instruct-pix2pix"
    """A folder or hub id of a StableDiffusionInstructPix2PixPipeline."""
    batch_size: int = 4
    """Frames edited at a time; the network sees three pictures for each."""
    image_guidance: float = 1.5
    """Image guidance scale: more stays closer to the frame."""
    start: Literal["noised-render", "full-noise"] = "noised-render"
    """Where the diffusion starts. noised-render: of t_u scheduled steps the last t are run, from the frame noised to
    that level. full-noise: t steps from pure noise, as diffusers runs it."""
    size: int | None = 512
    """Longest side in px that frames are resized to for the editor (the model was trained at 512), and back; None
    keeps theirs."""
    precision: Precision = "auto"
    """Floating-point type of the weights; auto is fp16 on a GPU and fp32 on a CPU."""
    device: str | None = None
    """Where the editor runs, such as cuda:1; None is where the frames are."""
    save_memory: bool = False
    """Decode one picture at a time and compute attention in slices: slower, for small cards."""


class InstructPix2Pix:
    """Denoises frames under two guidances: towards the instruction, and towards the frame."""

    def __init__(self, config: InstructPix2PixConfig) -> None:
        """
        Args:
            config: which weights and how they are run; nothing is loaded yet.
        """
        self.config = config
        self._pipeline: Any = None

    def check(self, instruction: str) -> None:
        """Any instruction will do, as long as there is one; a folder has to hold a pipeline."""
        check_instruction(instruction)
        check_model(self.config.model)

    def describe(self, instruction: str) -> str:
        """See `Editor.describe`."""
        how = {
            "noised-render": "of t_u scheduled steps the last t are run, from the frame noised to that level",
            "full-noise": "t steps are run from pure noise",
        }[self.config.start]
        return f"InstructPix2Pix ({self.config.model}); s is its text guidance scale; {how}."

    def unload(self) -> None:
        """Frees the weights."""
        self._pipeline = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.no_grad()
    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """See `Editor.edit`; the image condition c_I is the frame itself unless conditions are given."""
        pipeline = self._loaded(frames.device)
        size = working_size(frames.shape[-2:], self.config.size, pipeline.vae_scale_factor)
        # 1. Frames and conditions as latents. The condition is not scaled: so it was in the model's training.
        start = self._encode(pipeline, frames, size)
        condition = start if conditions is None else self._encode(pipeline, conditions, size)
        # 2. The instruction, and nothing, as text.
        text = torch.cat([self._text(pipeline, words) for words in (instruction, "")])
        # 3. Steps to run, and where they start.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        timesteps = self._timesteps(pipeline, strength)
        noise = torch.cat([torch.randn(start[:1].shape, generator=one) for one in generators]).to(start)
        latents = self._noised(pipeline, start, noise, timesteps, strength)
        # 4. Denoise.
        for timestep in timesteps:
            predicted = self._predict(pipeline, latents, condition, text, timestep, strength.guidance)
            latents = self._step(pipeline, predicted, timestep, latents, generators)
        # 5. Back to pictures.
        pictures = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
        pictures = (pictures.float() * 0.5 + 0.5).clamp(0.0, 1.0)
        return resized(pictures, frames.shape[-2:]).to(frames)

    def _loaded(self, device: torch.device) -> Any:
        """The pipeline, loaded at the first edit."""
        if self._pipeline is None:
            from diffusers import StableDiffusionInstructPix2PixPipeline  # type: ignore[attr-defined]

            device = torch.device(self.config.device) if self.config.device else device
            pipeline = load_pipeline(
                StableDiffusionInstructPix2PixPipeline,
                self.config.model,
                precision_of(self.config.precision, device),
                safety_checker=None,
                requires_safety_checker=False,
            )
            if pipeline.unet.config.in_channels != 2 * pipeline.vae.config.latent_channels:
                raise NTalkerError(
                    f"The model '{self.config.model}' takes no picture beside its noise, so it is no InstructPix2Pix: "
                    "check --editor.model."
                )
            if self.config.save_memory:
                pipeline.vae.enable_slicing()
                pipeline.enable_attention_slicing()
            self._pipeline = pipeline.to(device)
        return self._pipeline

    def _encode(self, pipeline: Any, frames: Tensor, size: tuple[int, int]) -> Float[Tensor, "n c h_l w_l"]:
        """The frames' latents (the mode of their distribution), not scaled."""
        pictures = resized(frames.float(), size) * 2.0 - 1.0
        return pipeline.vae.encode(pictures.to(pipeline.device, pipeline.dtype)).latent_dist.mode()

    def _text(self, pipeline: Any, words: str) -> Float[Tensor, "1 tokens channels"]:
        tokenizer = pipeline.tokenizer
        check_length(tokenizer, words)
        tokens = tokenizer(
            words, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt", verbose=False
        )
        return pipeline.text_encoder(tokens.input_ids.to(pipeline.device))[0].to(pipeline.unet.dtype)

    def _timesteps(self, pipeline: Any, strength: Strength) -> Tensor:
        """The scheduler's times that are run, from the noisiest."""
        scheduler = pipeline.scheduler
        if self.config.start == "full-noise":
            scheduler.set_timesteps(strength.steps, device=pipeline.device)
            return scheduler.timesteps
        scheduler.set_timesteps(strength.full_steps, device=pipeline.device)
        first = max(strength.full_steps - strength.steps, 0) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        return scheduler.timesteps[first:]

    def _noised(
        self, pipeline: Any, start: Tensor, noise: Tensor, timesteps: Tensor, strength: Strength
    ) -> Float[Tensor, "n c h_l w_l"]:
        """What denoising begins with."""
        if self.config.start == "full-noise":
            return noise * pipeline.scheduler.init_noise_sigma
        scaled = start * pipeline.vae.config.scaling_factor
        return pipeline.scheduler.add_noise(scaled, noise, timesteps[:1].repeat(len(start)))

    def _predict(
        self, pipeline: Any, latents: Tensor, condition: Tensor, text: Tensor, timestep: Tensor, guidance: float
    ) -> Float[Tensor, "n c h_l w_l"]:
        """The noise in the latents, guided by text and picture (Brooks et al. 2023, Eq. 3)."""
        count = len(latents)
        scaled = pipeline.scheduler.scale_model_input(latents, timestep)
        nothing = torch.zeros_like(condition)
        pictures = torch.cat([scaled.repeat(3, 1, 1, 1), torch.cat([condition, condition, nothing])], dim=1)
        words = torch.cat([text[:1].expand(count, -1, -1), text[1:].expand(2 * count, -1, -1)])
        noise = pipeline.unet(pictures, timestep, encoder_hidden_states=words, return_dict=False)[0]
        with_both, with_picture, with_none = noise.chunk(3)
        return (
            with_none + guidance * (with_both - with_picture) + self.config.image_guidance * (with_picture - with_none)
        )

    @staticmethod
    def _step(
        pipeline: Any, predicted: Tensor, timestep: Tensor, latents: Tensor, generators: list[torch.Generator]
    ) -> Float[Tensor, "n c h_l w_l"]:
        """One step of the scheduler, each frame with its own noise where the scheduler adds any."""
        options = pipeline.prepare_extra_step_kwargs(generators, eta=0.0)
        return pipeline.scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]


def check_length(tokenizer: Any, words: str) -> None:
    """Checks that a text encoder would read an instruction to its end.

    Args:
        tokenizer: of the text encoder.
        words: the instruction.

    Raises:
        NTalkerError: it is too long; the message says what would not be read.
    """
    tokens, room = tokenizer(words, verbose=False).input_ids, tokenizer.model_max_length
    if len(tokens) > room:
        # The last of them stands for the end.
        unread = tokenizer.decode(tokens[room - 1 : -1])
        raise NTalkerError(
            f"The instruction has {len(tokens)} tokens and InstructPix2Pix reads {room}, so that '{unread}' would be "
            "left out: shorten --instruction."
        )


def working_size(size: Sequence[int], longest: int | None, multiple: int) -> tuple[int, int]:
    """Height and width for an editor that wants whole multiples of a number of px.

    Args:
        size: height and width of the frames.
        longest: longest side wanted; None keeps the frames'.
        multiple: both sides are multiples of it.
    """
    scale = 1.0 if longest is None else longest / max(size)
    height, width = (max(round(side * scale / multiple), 1) * multiple for side in size)
    return height, width


def resized(frames: Float[Tensor, "n 3 h w"], size: Sequence[int]) -> Float[Tensor, "n 3 new_h new_w"]:
    """Frames at another height and width, filtered where they shrink; in [0, 1] as they were."""
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    scaled = functional.interpolate(frames, size=tuple(size), mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0.0, 1.0)
