"""Diffusion pipelines of tiny random parts, saved in the real format: the code that runs them is the real one."""

import json
from pathlib import Path
from typing import Any

import torch


def clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single letters."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    entries = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def text_encoder(kind: Any, width: int = 16) -> Any:
    """A CLIP text encoder of one layer."""
    from transformers import CLIPTextConfig

    return kind(
        CLIPTextConfig(
            vocab_size=256,
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=188,
            eos_token_id=189,
            pad_token_id=189,
        )
    )


def vae(**options: Any) -> Any:
    """An autoencoder that halves pictures."""
    from diffusers import AutoencoderKL  # type: ignore[attr-defined]

    parts: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return AutoencoderKL(**parts, **options)


def unet(width: int = 16, in_channels: int = 8, **options: Any) -> Any:
    """A denoiser that takes noise and a picture."""
    from diffusers import UNet2DConditionModel  # type: ignore[attr-defined]

    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=4,
        **options,
    )


def save_ip2p(folder: Path, scheduler: str = "EulerAncestralDiscreteScheduler", in_channels: int = 8) -> Path:
    """An InstructPix2Pix of random weights, in the format of timbrooks/instruct-pix2pix.

    Args:
        folder: where to.
        scheduler: name of diffusers' class; the default is the published model's.
        in_channels: of the denoiser; 4 makes it one that takes no picture.
    """
    import diffusers
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(  # type: ignore[attr-defined]
        vae=vae(),
        text_encoder=text_encoder(CLIPTextModel),
        tokenizer=clip_tokenizer(folder / "words"),
        unet=unet(in_channels=in_channels),
        scheduler=getattr(diffusers, scheduler)(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl_ip2p(folder: Path) -> Path:
    """An SDXL-InstructPix2Pix of random weights."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionXLInstructPix2PixPipeline(  # type: ignore[attr-defined]
        vae=vae(),
        text_encoder=text_encoder(CLIPTextModel),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(folder / "words"),
        tokenizer_2=clip_tokenizer(folder / "words"),
        unet=unet(
            width=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),  # type: ignore[attr-defined]
    )
    pipeline.save_pretrained(folder)
    return folder


def save_kontext(folder: Path) -> Path:
    """A FLUX.1 Kontext of random weights."""
    import diffusers
    from tokenizers import Tokenizer, models
    from transformers import CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(0)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((chr(code), -1.0) for code in range(32, 127))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    t5 = T5Config(vocab_size=128, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    pipeline = diffusers.FluxKontextPipeline(  # type: ignore[attr-defined]
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),  # type: ignore[attr-defined]
        vae=vae(shift_factor=0.1),
        text_encoder=text_encoder(CLIPTextModel),
        tokenizer=clip_tokenizer(folder / "words"),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=words,
        transformer=diffusers.FluxTransformer2DModel(  # type: ignore[attr-defined]
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    )
    pipeline.save_pretrained(folder)
    return folder
