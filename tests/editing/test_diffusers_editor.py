"""diffusers pipelines: the mapping of s and t, and two real ones with tiny random weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_diffusion import save_kontext, save_sdxl_ip2p

from ntalker_ns.editing.diffusers_editor import (
    DiffusersEditor,
    DiffusersEditorConfig,
    call_parameters,
    describe_mapping,
    guidance_factor,
    mapped_strength,
    takes_batches,
)
from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError

INSTRUCTION = "make her a bronze statue"
STRENGTH = Strength(guidance=5.0, steps=15, full_steps=20)


class Kontextlike:
    """Two guidance scales, true_cfg_scale off."""

    def __call__(self, image: Any, prompt: str, num_inference_steps=28, guidance_scale=3.5, true_cfg_scale=1.0): ...


class Qwenlike:
    """Two guidance scales, true_cfg_scale on."""

    def __call__(self, image: Any, prompt: str, num_inference_steps=50, guidance_scale=None, true_cfg_scale=4.0): ...


class Strengthlike:
    """Can run the last part of the schedule."""

    def __call__(self, image: Any, prompt: str, num_inference_steps=50, strength=0.8): ...


def test_guidance_and_steps_are_mapped_to_the_arguments_of_each_pipeline():
    config = DiffusersEditorConfig()
    kontext, qwen, part = (call_parameters(kind()) for kind in (Kontextlike, Qwenlike, Strengthlike))
    assert mapped_strength(kontext, STRENGTH, config, 0.5) == {"num_inference_steps": 15, "guidance_scale": 2.5}
    assert mapped_strength(qwen, STRENGTH, config, 0.5) == {
        "num_inference_steps": 15,
        "true_cfg_scale": 2.5,
        "negative_prompt": " ",
    }
    assert mapped_strength(part, STRENGTH, config, 0.5) == {"num_inference_steps": 20, "strength": 0.75}
    assert describe_mapping(kontext, 0.5).startswith("0.5 s is its guidance_scale; t steps are run from pure")
    assert describe_mapping(qwen, 1.0).startswith("s is its true_cfg_scale")
    assert "s changes nothing; of t_u steps the last t" in describe_mapping(part, 0.5)


def test_the_guidance_factor_follows_the_model():
    """Each model's own guidance is reached where s ends, at 6."""
    import diffusers

    kontext = object.__new__(diffusers.FluxKontextPipeline)  # type: ignore[attr-defined]
    for pipeline, own in ((kontext, 2.5), (Qwenlike(), 4.0), (Strengthlike(), 6.0)):
        assert 6.0 * guidance_factor(pipeline, DiffusersEditorConfig()) == pytest.approx(own)
        assert guidance_factor(pipeline, DiffusersEditorConfig(guidance_factor=0.7)) == 0.7


@pytest.mark.parametrize(("kind", "original"), [(Kontextlike, True), (Qwenlike, True), (Strengthlike, False)])
def test_pipelines_that_cannot_start_from_a_noised_picture_edit_the_original(kind: Any, original: bool):
    cases: tuple[tuple[Any, bool], ...] = (("auto", original), ("original", True), ("current", False))
    for condition, expected in cases:
        editor = DiffusersEditor(DiffusersEditorConfig(condition=condition))
        editor.pipeline = kind()
        assert editor.edits_original(torch.device("cpu")) is expected


class Referencing:
    """Treats a list of pictures as references for one result, as FLUX.2 does: here their mean."""

    def __call__(self, image: Any, prompt: str, generator: Any, num_inference_steps: int, output_type: str) -> Any:
        pictures = image if isinstance(image, list) else [image]
        mean = np.mean([np.asarray(picture) for picture in pictures], axis=0) / 255
        return SimpleNamespace(images=torch.from_numpy(mean).permute(2, 0, 1)[None])


def test_frames_do_not_leak_into_each_other():
    editor = DiffusersEditor(DiffusersEditorConfig(size=None, batch_size=2))
    editor.pipeline = Referencing()
    frames = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(editor.edit(frames, INSTRUCTION, STRENGTH, [0, 0]), frames, rtol=0, atol=0.002)


def test_only_pipelines_known_to_keep_frames_apart_get_batches():
    import diffusers

    batching = (
        *("StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline", "FluxKontextPipeline"),
        *("StableDiffusionXLImg2ImgPipeline", "FluxImg2ImgPipeline", "QwenImageImg2ImgPipeline"),
    )
    single = ("Flux2Pipeline", "Flux2KleinPipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline")
    for name in batching + single:
        if (kind := getattr(diffusers, name, None)) is not None:  # Older releases have not got all of them.
            assert takes_batches(object.__new__(kind)) == (name in batching), name


@pytest.mark.parametrize("name", ["StableDiffusionImg2ImgPipeline", "FluxImg2ImgPipeline"])
def test_exactly_the_last_steps_of_a_schedule_are_run(name: str):
    """One pipeline rounds down the steps it runs, the other those it skips."""
    import diffusers

    kind = getattr(diffusers, name)
    for full in range(1, 51):
        shell = SimpleNamespace(scheduler=SimpleNamespace(timesteps=torch.arange(full), order=1))
        for steps in range(1, full + 1):
            given = mapped_strength({"strength": 0.8}, Strength(3.0, steps, full), DiffusersEditorConfig(), 1.0)
            timesteps, count = kind.get_timesteps(shell, given["num_inference_steps"], given["strength"], "cpu")
            assert (len(timesteps), count) == (steps, steps), (steps, full)


def test_sdxl_instruct_pix2pix_edits(tmp_path: Path, capsys: pytest.CaptureFixture):
    config = DiffusersEditorConfig(model=str(save_sdxl_ip2p(tmp_path / "sdxl")), size=None, precision="fp32")
    check_editing(config, batch=2)
    assert "s is its guidance_scale; t steps are run from pure noise" in capsys.readouterr().out


def test_flux_kontext_edits(tmp_path: Path):
    check_editing(DiffusersEditorConfig(model=str(save_kontext(tmp_path / "flux")), size=None, precision="fp32"))


def check_editing(config: DiffusersEditorConfig, batch: int = 1) -> None:
    """Pictures of any size are edited, depending on the seed."""
    editor = DiffusersEditor(config)
    frames = torch.rand(batch, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    strength, seeds = Strength(4.0, 2, 4), list(range(batch))
    first = editor.edit(frames, INSTRUCTION, strength, seeds)
    assert first.shape == frames.shape
    assert 0.0 <= first.min() <= first.max() <= 1.0
    torch.testing.assert_close(editor.edit(frames, INSTRUCTION, strength, seeds), first)
    other = editor.edit(frames, INSTRUCTION, strength, [seed + 9 for seed in seeds])
    assert (other - first).abs().mean() > 1e-3
    shown = editor.edit(frames, INSTRUCTION, strength, seeds, conditions=1 - frames)
    assert (shown - first).abs().mean() > 1e-6  # Random weights look at the picture only a little.
    editor.unload()
    assert editor.pipeline is None


def test_a_pipeline_that_cannot_edit_is_an_error(tmp_path: Path):
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel  # type: ignore[attr-defined]

    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path / "ddim")
    editor = DiffusersEditor(DiffusersEditorConfig(model=str(tmp_path / "ddim"), precision="fp32"))
    with pytest.raises(NTalkerError, match="takes no image, prompt, so it cannot edit"):
        editor.edit(torch.rand(1, 3, 16, 16), INSTRUCTION, STRENGTH, [0])
    with pytest.raises(NTalkerError, match="There is no instruction"):
        editor.config.check("")
