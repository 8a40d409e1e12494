"""InstructPix2Pix: our denoising against diffusers' own, on a tiny random pipeline in the real format."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_diffusion import save_ip2p

from ntalker_ns.editing.instruct_pix2pix import InstructPix2Pix, InstructPix2PixConfig
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.pretrained import resized, working_size
from ntalker_ns.errors import NTalkerError

INSTRUCTION = "make him a bronze statue"
SCHEDULERS = ("EulerAncestralDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One pipeline for each scheduler; the weights are the same."""
    return {name: save_ip2p(tmp_path_factory.mktemp("models") / name, name) for name in SCHEDULERS}


@pytest.fixture(scope="module")
def model(models: dict[str, Path]) -> Path:
    return models[SCHEDULERS[0]]


def frames(count: int = 2, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3))


def editor(model: Path, **options: Any) -> InstructPix2Pix:
    return InstructPix2Pix(InstructPix2PixConfig(model=str(model), size=None, **options))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("guidance", [3.0, 7.5])
def test_full_noise_equals_diffusers_own_pipeline(models: dict[str, Path], scheduler: str, guidance: float):
    from diffusers import StableDiffusionInstructPix2PixPipeline  # type: ignore[attr-defined]

    theirs = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        models[scheduler], safety_checker=None, requires_safety_checker=False
    )
    theirs.set_progress_bar_config(disable=True)
    result: Any = theirs(
        [INSTRUCTION] * 2,
        image=frames(),
        num_inference_steps=5,
        guidance_scale=guidance,
        image_guidance_scale=1.5,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in (7, 8)],
        output_type="pt",
    )
    ours = editor(models[scheduler], start="full-noise")
    found = ours.edit(frames(), INSTRUCTION, Strength(guidance, 5, 9), (7, 8))
    assert found.shape == frames().shape
    assert found.std() > 0.01
    torch.testing.assert_close(found, result.images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_noised_start_equals_image_to_image_with_two_guidances(models: dict[str, Path], scheduler: str):
    """The last steps of a schedule from the noised frame, written out with the scheduler alone."""
    ours = editor(models[scheduler])
    found = ours.edit(frames(1), INSTRUCTION, Strength(4.0, 2, 6), (5,))
    pipeline = ours.pipeline
    scheduler_, generator = pipeline.scheduler, torch.Generator().manual_seed(5)
    with torch.no_grad():
        condition = pipeline.vae.encode(2 * frames(1) - 1).latent_dist.mean
        text = [
            pipeline.text_encoder(pipeline.tokenizer(w, padding="max_length", return_tensors="pt").input_ids)[0]
            for w in (INSTRUCTION, "")
        ]
        scheduler_.set_timesteps(6)
        if scheduler != "DDIMScheduler":  # It has no memory of where it is.
            scheduler_.set_begin_index(4)
        times = scheduler_.timesteps[4:]
        noise = torch.randn(condition.shape, generator=generator)
        latents = scheduler_.add_noise(condition * pipeline.vae.config.scaling_factor, noise, times[:1])
        for time in times:
            scaled = scheduler_.scale_model_input(latents, time)
            both, picture, none = (
                pipeline.unet(torch.cat([scaled, image], 1), time, encoder_hidden_states=words).sample
                for image, words in ((condition, text[0]), (condition, text[1]), (0 * condition, text[1]))
            )
            guided = none + 4.0 * (both - picture) + 1.5 * (picture - none)
            extra = {} if "DDIM" in scheduler else {"generator": generator}
            latents = scheduler_.step(guided, time, latents, **extra).prev_sample
        expected = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(found, expected.clamp(0, 1), rtol=0, atol=1e-4)


def test_frames_do_not_depend_on_their_batch(model: Path):
    ours, strength = editor(model), Strength(4.0, 3, 4)
    together = ours.edit(frames(3), INSTRUCTION, strength, (1, 2, 3))
    alone = torch.cat([ours.edit(frames(3)[i : i + 1], INSTRUCTION, strength, (i + 1,)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_noise_and_others_do_not(model: Path):
    ours, strength = editor(model), Strength(4.0, 3, 4)
    same = frames(1).repeat(3, 1, 1, 1)
    first, second, third = ours.edit(same, INSTRUCTION, strength, (1, 1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert (first - third).abs().max() > 1e-3


def test_more_steps_and_more_guidance_change_more(model: Path):
    ours = editor(model)
    picture = frames(1)

    def change(strength: Strength) -> float:
        unedited = ours.edit(picture, INSTRUCTION, Strength(strength.guidance, 1, 12), (1,))
        return float((ours.edit(picture, INSTRUCTION, strength, (1,)) - unedited).abs().mean())

    assert change(Strength(4.0, 5, 12)) < change(Strength(4.0, 12, 12))
    one, other = (ours.edit(picture, INSTRUCTION, Strength(s, 4, 4), (1,)) for s in (1.0, 9.0))
    assert (one - other).abs().mean() > 1e-3
    elsewhere = [ours.edit(picture, words, Strength(9.0, 4, 4), (1,)) for words in (INSTRUCTION, "look old")]
    assert (elsewhere[0] - elsewhere[1]).abs().mean() > 1e-4


def test_the_condition_can_be_another_picture(model: Path):
    ours, strength = editor(model), Strength(4.0, 3, 4)
    own = ours.edit(frames(1), INSTRUCTION, strength, (1,))
    torch.testing.assert_close(ours.edit(frames(1), INSTRUCTION, strength, (1,), frames(1)), own)
    assert (ours.edit(frames(1), INSTRUCTION, strength, (1,), 1 - frames(1)) - own).abs().mean() > 1e-3


def test_any_size_goes_in_and_comes_out(model: Path):
    odd = frames(1, 37, 51)
    for size in (None, 64):
        ours = InstructPix2Pix(InstructPix2PixConfig(model=str(model), size=size))
        assert ours.edit(odd, INSTRUCTION, Strength(4.0, 1, 2), (1,)).shape == odd.shape


def test_memory_savers_do_not_change_the_result(model: Path):
    strength = Strength(4.0, 2, 3)
    plain = editor(model).edit(frames(), INSTRUCTION, strength, (1, 2))
    saved = editor(model, save_memory=True).edit(frames(), INSTRUCTION, strength, (1, 2))
    torch.testing.assert_close(saved, plain, rtol=0, atol=1e-4)


def test_half_precision_is_near(model: Path):
    strength = Strength(3.0, 2, 3)
    half = editor(model, precision="bf16").edit(frames(), INSTRUCTION, strength, (1, 2))
    assert half.dtype == torch.float32
    assert (half - editor(model).edit(frames(), INSTRUCTION, strength, (1, 2))).abs().mean() < 0.05


def test_nothing_is_loaded_before_the_first_edit_and_after_unloading(model: Path):
    ours = editor(model)
    ours.config.check(INSTRUCTION)
    assert "t are run" in ours.config.describe(INSTRUCTION)
    assert ours.pipeline is None
    ours.edit(frames(1), INSTRUCTION, Strength(4.0, 1, 2), (1,))
    assert ours.pipeline is not None
    ours.unload()
    assert ours.pipeline is None


def test_unusable_models_are_errors(tmp_path: Path, monkeypatch: Any):
    with pytest.raises(NTalkerError, match=r"is not a diffusers pipeline"):
        editor(tmp_path).edit(frames(1), INSTRUCTION, Strength(4.0, 1, 2), (1,))
    plain = save_ip2p(tmp_path / "plain", in_channels=4)
    with pytest.raises(NTalkerError, match="is not InstructPix2Pix"):
        editor(plain).edit(frames(1), INSTRUCTION, Strength(4.0, 1, 2), (1,))
    (plain / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(NTalkerError, match=r"cannot be loaded .*editor:filter"):
        editor(plain).edit(frames(1), INSTRUCTION, Strength(4.0, 1, 2), (1,))
    with pytest.raises(NTalkerError, match="There is no instruction"):
        editor(tmp_path).config.check("  ")


def test_result_settings_leave_out_execution_options():
    config = InstructPix2PixConfig(batch_size=3, precision="fp32", device="cuda:1", save_memory=True)
    assert config.result_settings() == {
        "model": "timbrooks/instruct-pix2pix",
        "image_guidance": 1.5,
        "start": "noised-render",
        "size": 512,
    }


def test_an_instruction_too_long_for_the_text_encoder_is_an_error(model: Path):
    """The tokenizer has a token for each letter, and reads 77 with those of beginning and end."""
    ours, strength = editor(model), Strength(4.0, 1, 2)
    ours.edit(frames(1), "x" * 75, strength, (1,))
    with pytest.raises(NTalkerError, match=r"has 81 tokens and .* reads 77: 'lder' .* --instruction"):
        ours.edit(frames(1), "x" * 74 + "older", strength, (1,))


def test_sizes_are_whole_multiples():
    assert working_size((480, 640), 512, 8) == (384, 512)
    assert working_size((128, 128), None, 8) == (128, 128)
    assert working_size((37, 51), None, 2) == (36, 52) or working_size((37, 51), None, 2) == (38, 52)
    assert working_size((3, 4), None, 8) == (8, 8)
    picture = frames(1)
    assert resized(picture, (32, 48)) is picture
    assert resized(picture, (64, 96)).shape == (1, 3, 64, 96)
