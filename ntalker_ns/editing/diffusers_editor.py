"""Current editors: any diffusers pipeline that takes a picture and an instruction.

InstructPix2Pix is weak on faces (paper, Appendix D). SDXL-InstructPix2Pix, FLUX.1 Kontext, Qwen-Image-Edit and their
successors are loaded by the class that their own files name; guidance and steps are mapped to the arguments that their
call takes.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from ntalker_ns.editing.plan import PAPER_GUIDANCE, Strength
from ntalker_ns.editing.pretrained import (
    Precision,
    PretrainedEditor,
    PretrainedEditorConfig,
    load_pipeline,
    resized,
    working_size,
)
from ntalker_ns.errors import NTalkerError

OWN_GUIDANCE = {"FluxKontextPipeline": 2.5, "FluxKontextInpaintPipeline": 2.5}
"""Guidance scales that models recommend, by pipeline, where their code does not say."""
MULTIPLE = 16
"""Sides of the pictures are multiples of it, as the latent patches of current models require."""


@dataclass
class DiffusersEditorConfig(PretrainedEditorConfig):
    """A diffusers pipeline that edits pictures by instruction."""

    _target: type = field(default_factory=lambda: DiffusersEditor)
    model: str = "black-forest-labs/FLUX.1-Kontext-dev"
    """Folder or hub id of an editing pipeline, such as FLUX.1 Kontext, Qwen-Image-Edit or SDXL-InstructPix2Pix."""
    batch_size: int = 1
    """Frames edited at a time, by pipelines known to edit each by itself (FLUX.1 Kontext, InstructPix2Pix, image to
    image); others always get one."""
    guidance_factor: float | None = None
    """The pipeline's guidance scale is s times this. None: by the model, whose own guidance is reached where s is 6:
    0.42 for FLUX.1 Kontext (2.5), 0.67 for Qwen-Image-Edit (4); 1 for others."""
    condition: Literal["auto", "original", "current"] = "auto"
    """The picture that the pipeline edits: the head before the edit, or as it is now. auto: the original for pipelines
    that cannot start from a noised picture, as K edits on top of each other would go too far."""
    size: int | None = 1024
    """Longest side in px to which frames are resized for the editor, and back afterwards; None: no resizing."""
    precision: Precision = "bf16"
    """Floating-point type of the weights; auto: fp16 on a GPU, fp32 on a CPU."""

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`; the use of s and t depends on the pipeline and is printed when it is loaded."""
        return f"{self.model}, through diffusers; its use of s and t is printed when it is loaded."


class DiffusersEditor(PretrainedEditor[DiffusersEditorConfig]):
    """Passes frames to a pipeline and maps s and t to its arguments."""

    @torch.no_grad()
    def edit(
        self,
        frames: Float[Tensor, "n 3 h w"],
        instruction: str,
        strength: Strength,
        seeds: Sequence[int],
        conditions: Float[Tensor, "n 3 h w"] | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """See `Editor.edit`; these models take a single picture: the condition if one is given, else the frame."""
        pipeline = self.loaded(frames.device)
        shown = frames if conditions is None else conditions
        height, width = working_size(shown.shape[-2:], self.config.size, MULTIPLE)
        pictures = [_to_pil(picture) for picture in resized(shown.float(), (height, width))]
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        parameters = call_parameters(pipeline)
        arguments = mapped_strength(parameters, strength, self.config, guidance_factor(pipeline, self.config))
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

    def edits_original(self, device: torch.device) -> bool:
        """See `Editor.edits_original`."""
        if self.config.condition != "auto":
            return self.config.condition == "original"
        return "strength" not in call_parameters(self.loaded(device))

    def load(self, device: torch.device) -> Any:
        """See `PretrainedEditor.load`."""
        from diffusers import DiffusionPipeline  # type: ignore[attr-defined]

        device = self.config.device_for(device)
        pipeline = load_pipeline(DiffusionPipeline, self.config.model, self.config.dtype_on(device))
        parameters = call_parameters(pipeline)
        missing = {"image", "prompt", "num_inference_steps"} - parameters.keys()
        if missing:
            raise NTalkerError(
                f"The pipeline '{self.config.model}' ({type(pipeline).__name__}) takes no "
                f"{', '.join(sorted(missing))}, so it cannot edit by instruction: check --editor.model."
            )
        factor = guidance_factor(pipeline, self.config)
        CONSOLE.out(f"{type(pipeline).__name__}: {describe_mapping(parameters, factor)}.")
        if self.config.save_memory and device.type == "cuda":
            pipeline.enable_model_cpu_offload(device=device)
            return pipeline
        return pipeline.to(device)


def call_parameters(pipeline: Any) -> dict[str, Any]:
    """The arguments of a pipeline's call, with their defaults."""
    return {name: one.default for name, one in inspect.signature(type(pipeline).__call__).parameters.items()}


def takes_batches(pipeline: Any) -> bool:
    """Whether a pipeline is known to edit each picture of a list by itself.

    Others may treat a list as several references for one result (FLUX.2, Qwen-Image-Edit-Plus), which would mix frames.
    """
    # A strength argument means image to image, an image guidance scale means InstructPix2Pix of some size.
    by_arguments = call_parameters(pipeline).keys() & {"strength", "image_guidance_scale"}
    return bool(by_arguments) or type(pipeline).__name__ == "FluxKontextPipeline"


def guidance_factor(pipeline: Any, config: DiffusersEditorConfig) -> float:
    """The configured factor of the guidance scale, or the one that suits the model.

    Args:
        pipeline: of diffusers.
        config: of the editor.
    """
    if config.guidance_factor is not None:
        return config.guidance_factor
    own = OWN_GUIDANCE.get(type(pipeline).__name__, PAPER_GUIDANCE[1])
    if _guidance_name(parameters := call_parameters(pipeline)) == "true_cfg_scale":
        own = parameters["true_cfg_scale"]
    return own / PAPER_GUIDANCE[1]


def mapped_strength(
    parameters: Mapping[str, Any], strength: Strength, config: DiffusersEditorConfig, factor: float
) -> dict[str, Any]:
    """s and t as arguments of a pipeline's call.

    Guidance: `true_cfg_scale` if it is on by default (Qwen-Image-Edit), with an empty negative prompt; else
    `guidance_scale` (FLUX.1 Kontext's true_cfg_scale is off). Steps: with `strength`, of t_u steps the last t are run
    from the noised picture; else t steps are run from pure noise.

    Args:
        parameters: of `call_parameters`.
        strength: s, t and t_u.
        config: image guidance.
        factor: of the guidance scale.
    """
    arguments: dict[str, Any] = {"num_inference_steps": strength.steps}
    scale = _guidance_name(parameters)
    if scale is not None:
        arguments[scale] = strength.guidance * factor
    if scale == "true_cfg_scale":
        arguments["negative_prompt"] = " "
    if "image_guidance_scale" in parameters:
        arguments["image_guidance_scale"] = config.image_guidance
    if "strength" in parameters:
        # A fraction: some pipelines round down the steps they run, others those they skip, and for some pairs (15 of
        # 29) a float is wrong for one of the two.
        part = Fraction(min(strength.steps, strength.full_steps), strength.full_steps)
        arguments.update(num_inference_steps=strength.full_steps, strength=part)
    return arguments


def describe_mapping(parameters: Mapping[str, Any], factor: float) -> str:
    """`mapped_strength` for a pipeline, in words."""
    scale = _guidance_name(parameters)
    scaled = "s" if factor == 1.0 else f"{factor:.2g} s"
    guidance = f"{scaled} is its {scale}" if scale else "it has no guidance scale, so s changes nothing"
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
