"""The paper's editor: InstructPix2Pix (Brooks et al. 2023), through diffusers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.pretrained import (
    PretrainedEditor,
    PretrainedEditorConfig,
    load_pipeline,
    resized,
    working_size,
)
from ntalker_ns.errors import NTalkerError


@dataclass
class InstructPix2PixConfig(PretrainedEditorConfig):
    """InstructPix2Pix, the paper's editor."""

    _target: type = field(default_factory=lambda: InstructPix2Pix)
    model: str = "timbrooks/instruct-pix2pix"
    """Folder or hub id of a StableDiffusionInstructPix2PixPipeline."""
    batch_size: int = 4
    """Frames edited at a time; the network's batch is three times as large."""
    start: Literal["noised-render", "full-noise"] = "noised-render"
    """noised-render: of t_u scheduled steps the last t are run, from the frame noised to that level. full-noise: t
    steps are run from pure noise, as in diffusers."""
    size: int | None = 512
    """Longest side in px to which frames are resized for the editor (the model was trained at 512), and back
    afterwards; None: no resizing."""

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        how = {
            "noised-render": "of t_u scheduled steps the last t are run, from the frame noised to that level",
            "full-noise": "t steps are run from pure noise",
        }[self.start]
        return f"InstructPix2Pix ({self.model}); s is its text guidance scale; {how}."


class InstructPix2Pix(PretrainedEditor[InstructPix2PixConfig]):
    """Denoises frames with two guidance scales, for the instruction and for the frame."""

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
        pipeline = self.loaded(frames.device)
        size = working_size(frames.shape[-2:], self.config.size, pipeline.vae_scale_factor)
        # 1. Encode frames and conditions. The condition is not scaled, as in the model's training.
        start = self._encode(pipeline, frames, size)
        condition = start if conditions is None else self._encode(pipeline, conditions, size)
        # 2. Encode the instruction and the empty text.
        text = torch.cat([self._text(pipeline, words) for words in (instruction, "")])
        # 3. Choose the steps to run and noise the latents they start from.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        timesteps = self._timesteps(pipeline, strength)
        noise = torch.cat([torch.randn(start[:1].shape, generator=one) for one in generators]).to(start)
        latents = self._noised(pipeline, start, noise, timesteps, strength)
        # 4. Denoise.
        for timestep in timesteps:
            predicted = self._predict(pipeline, latents, condition, text, timestep, strength.guidance)
            latents = self._step(pipeline, predicted, timestep, latents, generators)
        # 5. Decode.
        pictures = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
        pictures = (pictures.float() * 0.5 + 0.5).clamp(0.0, 1.0)
        return resized(pictures, frames.shape[-2:]).to(frames)

    def load(self, device: torch.device) -> Any:
        """See `PretrainedEditor.load`."""
        from diffusers import StableDiffusionInstructPix2PixPipeline  # type: ignore[attr-defined]

        device = self.config.device_for(device)
        pipeline = load_pipeline(
            StableDiffusionInstructPix2PixPipeline,
            self.config.model,
            self.config.dtype_on(device),
            safety_checker=None,
            requires_safety_checker=False,
        )
        if pipeline.unet.config.in_channels != 2 * pipeline.vae.config.latent_channels:
            raise NTalkerError(
                f"The model '{self.config.model}' has no input for an image condition, so it is not InstructPix2Pix: "
                "check --editor.model."
            )
        if self.config.save_memory:
            pipeline.vae.enable_slicing()
            pipeline.enable_attention_slicing()
        return pipeline.to(device)

    def _encode(self, pipeline: Any, frames: Tensor, size: tuple[int, int]) -> Float[Tensor, "n c h_l w_l"]:
        """Latents of frames (the mode of their distribution), not scaled."""
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
        """The timesteps to run, noisiest first."""
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
        """The latents that denoising starts from."""
        if self.config.start == "full-noise":
            return noise * pipeline.scheduler.init_noise_sigma
        scaled = start * pipeline.vae.config.scaling_factor
        return pipeline.scheduler.add_noise(scaled, noise, timesteps[:1].repeat(len(start)))

    def _predict(
        self, pipeline: Any, latents: Tensor, condition: Tensor, text: Tensor, timestep: Tensor, guidance: float
    ) -> Float[Tensor, "n c h_l w_l"]:
        """The predicted noise, guided by text and picture (Brooks et al. 2023, Eq. 3)."""
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
        """One scheduler step; schedulers that add noise take each frame's from its own generator."""
        options = pipeline.prepare_extra_step_kwargs(generators, eta=0.0)
        return pipeline.scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]


def check_length(tokenizer: Any, words: str) -> None:
    """Checks that an instruction fits into the text encoder.

    Raises:
        NTalkerError: it is too long; the message quotes what would be cut off.
    """
    tokens, limit = tokenizer(words, verbose=False).input_ids, tokenizer.model_max_length
    if len(tokens) > limit:
        cut_off = tokenizer.decode(tokens[limit - 1 : -1])  # Without the end token.
        raise NTalkerError(
            f"The instruction has {len(tokens)} tokens and InstructPix2Pix reads {limit}: '{cut_off}' would be cut "
            "off. Shorten --instruction."
        )
