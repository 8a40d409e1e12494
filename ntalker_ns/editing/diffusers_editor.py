"""Current editors: any diffusers pipeline that takes a picture and an instruction.

InstructPix2Pix is weak on faces (paper, Appendix D). SDXL-InstructPix2Pix, FLUX.1 Kontext, Qwen-Image-Edit and what
comes after them are loaded by the class that their own files name; what they have to steer with is read from the
arguments that they take.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ntalker_ns.editing.editor import EditorConfig, check_instruction
from ntalker_ns.editing.instruct_pix2pix import resized, working_size
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.pretrained import Precision, check_model, load_pipeline, precision_of
from ntalker_ns.errors import NTalkerError

MULTIPLE = 16
"""Sides of the pictures handed over are multiples of it: what the latent patches of current models need."""


@dataclass
class DiffusersEditorConfig(EditorConfig):
    """A diffusers pipeline that edits pictures by instruction."""

    _target: type = field(default_factory=lambda: DiffusersEditor)
    model: str = "black-forest-labs/FLUX.1-Kontext-dev"
    """A folder or hub id of an editing pipeline, such as FLUX.1 Kontext, Qwen-Image-Edit or SDXL-InstructPix2Pix."""
    batch_size: int = 1
    """Frames edited at a time, by pipelines that are known to edit each by itself (FLUX.1 Kontext, InstructPix2Pix,
    image to image); others get one frame after the other."""
    guidance_factor: float = 1.0
    """The pipeline's guidance scale over s: distilled models expect less than InstructPix2Pix (FLUX.1 Kontext 2.5,
    where s ends at 6: 0.4)."""
    image_guidance: float = 1.5
    """Image guidance scale, for pipelines that have one."""
    size: int | None = 1024
    """Longest side in px that frames are resized to for the editor, and back; None keeps theirs."""
    precision: Precision = "bf16"
    """Floating-point type of the weights; auto is fp16 on a GPU and fp32 on a CPU."""
    device: str | None = None
    """Where the editor runs, such as cuda:1; None is where the frames are."""
    save_memory: bool = False
    """Keep only the part that works on the card (accelerate's model offload): slower, for small cards."""


class DiffusersEditor:
    """Hands frames to a pipeline and maps s and t onto what it takes."""

    def __init__(self, config: DiffusersEditorConfig) -> None:
        """
        Args:
            config: which pipeline and how it is run; nothing is loaded yet.
        """
        self.config = config
        self._pipeline: Any = None

    def check(self, instruction: str) -> None:
        """Any instruction will do, as long as there is one; a folder has to hold a pipeline."""
        check_instruction(instruction)
        check_model(self.config.model)

    def describe(self, instruction: str) -> str:
        """See `Editor.describe`; how s and t are used is known once the pipeline is loaded, and said then."""
        return f"{self.config.model}, through diffusers; how it uses s and t is said when it is loaded."

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
        """See `Editor.edit`; these models take one picture, so the conditions, where given, take the frames' place."""
        pipeline = self._loaded(frames.device)
        shown = frames if conditions is None else conditions
        height, width = working_size(shown.shape[-2:], self.config.size, MULTIPLE)
        pictures = [_to_pil(picture) for picture in resized(shown.float(), (height, width))]
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        parameters = call_parameters(pipeline)
        arguments = mapped_strength(parameters, strength, self.config)
        size = {"height": height, "width": width, "max_area": height * width, "_auto_resize": False}
        arguments.update({name: value for name, value in size.items() if name in parameters})
        if takes_batches(pipeline):
            arguments.update(image=pictures, prompt=[instruction] * len(pictures), generator=generators)
            edited = pipeline(**arguments, output_type="pt").images
        else:
            arguments.update(prompt=instruction, output_type="pt")
            alone = zip(pictures, generators, strict=True)
            edited = torch.cat([pipeline(**arguments, image=one, generator=own).images for one, own in alone])
        return resized(edited.float().clamp(0.0, 1.0), frames.shape[-2:]).to(frames)

    def _loaded(self, device: torch.device) -> Any:
        """The pipeline, loaded at the first edit."""
        if self._pipeline is None:
            from diffusers import DiffusionPipeline  # type: ignore[attr-defined]

            device = torch.device(self.config.device) if self.config.device else device
            dtype = precision_of(self.config.precision, device)
            pipeline = load_pipeline(DiffusionPipeline, self.config.model, dtype)
            parameters = call_parameters(pipeline)
            missing = {"image", "prompt", "num_inference_steps"} - parameters.keys()
            if missing:
                raise NTalkerError(
                    f"The pipeline '{self.config.model}' ({type(pipeline).__name__}) takes no "
                    f"{', '.join(sorted(missing))}, so it cannot edit by instruction: check --editor.model."
                )
            print(f"{type(pipeline).__name__}: {describe_mapping(parameters, self.config)}.")
            if self.config.save_memory and device.type == "cuda":
                pipeline.enable_model_cpu_offload(device=device)
            else:
                pipeline = pipeline.to(device)
            self._pipeline = pipeline
        return self._pipeline


def call_parameters(pipeline: Any) -> dict[str, Any]:
    """The arguments that a pipeline's call takes, and their defaults."""
    return {name: one.default for name, one in inspect.signature(type(pipeline).__call__).parameters.items()}


def takes_batches(pipeline: Any) -> bool:
    """Whether a pipeline is known to edit each picture of a list by itself.

    Others may take a list for references of one picture (FLUX.2, Qwen-Image-Edit-Plus), so that frames would leak into
    each other.
    """
    # What has a strength is image to image; what has an image guidance scale is InstructPix2Pix, of any size.
    by_arguments = call_parameters(pipeline).keys() & {"strength", "image_guidance_scale"}
    return bool(by_arguments) or type(pipeline).__name__ == "FluxKontextPipeline"


def mapped_strength(parameters: Mapping[str, Any], strength: Strength, config: DiffusersEditorConfig) -> dict[str, Any]:
    """s and t as a pipeline's own arguments.

    Guidance: where `true_cfg_scale` is on by default (Qwen-Image-Edit) it is the text guidance, with an empty negative
    prompt to guide away from; else `guidance_scale` is (FLUX.1 Kontext's true_cfg_scale is off). Steps: where there is
    `strength`, of t_u steps the last t are run from the noised picture; else t steps are run from pure noise.

    Args:
        parameters: what the pipeline takes, with defaults.
        strength: s, t and t_u.
        config: factors.
    """
    arguments: dict[str, Any] = {"num_inference_steps": strength.steps}
    scale = _guidance_name(parameters)
    if scale is not None:
        arguments[scale] = strength.guidance * config.guidance_factor
    if scale == "true_cfg_scale":
        arguments["negative_prompt"] = " "
    if "image_guidance_scale" in parameters:
        arguments["image_guidance_scale"] = config.image_guidance
    if "strength" in parameters:
        # A fraction: some pipelines round the steps that they run down and others those that they skip, and for some
        # pairs (15 of 29) a float falls to the wrong side of one of the two.
        part = Fraction(min(strength.steps, strength.full_steps), strength.full_steps)
        arguments.update(num_inference_steps=strength.full_steps, strength=part)
    return arguments


def describe_mapping(parameters: Mapping[str, Any], config: DiffusersEditorConfig) -> str:
    """What `mapped_strength` does for a pipeline, in words."""
    scale = _guidance_name(parameters)
    factor = "s" if config.guidance_factor == 1.0 else f"{config.guidance_factor:g} s"
    guidance = f"{factor} is its {scale}" if scale else "it has no guidance scale, so s changes nothing"
    if "strength" in parameters:
        return f"{guidance}; of t_u steps the last t are run, from the noised frame (strength t / t_u)"
    return f"{guidance}; t steps are run from pure noise"


def _guidance_name(parameters: Mapping[str, Any]) -> str | None:
    if isinstance(default := parameters.get("true_cfg_scale"), float) and default > 1.0:
        return "true_cfg_scale"
    return "guidance_scale" if "guidance_scale" in parameters else None


def _to_pil(picture: Float[Tensor, "3 h w"]) -> Any:
    from PIL import Image

    return Image.fromarray((picture * 255.0).round().byte().permute(1, 2, 0).cpu().numpy())
