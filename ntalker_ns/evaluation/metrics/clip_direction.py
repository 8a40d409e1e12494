"""CLIP direction: agreement of the pictures' change with the captions' change.

The cosine between two changes in CLIP's space, that from the picture before to the one after and that from the caption
before to the one after (Gal et al., "StyleGAN-NADA", 2021; the paper's Appendix C).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ntalker_ns.evaluation.metrics.weights import transformers_model
from ntalker_ns.evaluation.options import CLIP_MODEL

BATCH = 16
SMALLEST_CHANGE = 1e-6
"""Length of a change, of 2 at most, below which it has no direction."""


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP."""

    network: Any
    """A transformers CLIPModel."""
    processor: Any
    """Its CLIPProcessor: tokenizer and picture processor."""

    @torch.inference_mode()
    def pictures(self, pictures: list[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "n width"]:
        """Unit embeddings of RGB pictures."""
        inputs = self.processor.image_processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
        values = self.network.vision_model(pixel_values=inputs["pixel_values"].to(self.network.device))
        return _unit(self.network.visual_projection(values.pooler_output).float().cpu())

    @torch.inference_mode()
    def captions(self, captions: list[str]) -> Float[Tensor, "n width"]:
        """Unit embeddings of sentences."""
        inputs = self.processor.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
        tokens = {name: inputs[name].to(self.network.device) for name in ("input_ids", "attention_mask")}
        values = self.network.text_model(**tokens)
        return _unit(self.network.text_projection(values.pooler_output).float().cpu())


def load_clip(model: str = CLIP_MODEL) -> Clip:
    """CLIP with its weights, in evaluation mode.

    Args:
        model: a hub id or a folder.

    Raises:
        Unavailable: the weights are neither here nor to be had.
    """
    from transformers import CLIPModel, CLIPProcessor

    network = transformers_model(CLIPModel, model, "--clip")
    processor = transformers_model(CLIPProcessor, model, "--clip")
    return Clip(network.eval().to("cuda" if torch.cuda.is_available() else "cpu"), processor)


def clip_directions(
    clip: Clip,
    before: Iterable[UInt8[np.ndarray, "h w 3"]],
    after: Iterable[UInt8[np.ndarray, "h w 3"]],
    captions: tuple[str, str],
) -> Float[np.ndarray, " n"]:
    """The CLIP direction of each frame.

    Args:
        clip: of `load_clip`.
        before: RGB pictures of the frames as they were.
        after: the same frames, edited.
        captions: what the pictures show before and after ("A photograph of a man", "A photograph of a young man").

    Returns:
        Cosines in [-1, 1]; 0 where a picture did not change.
    """
    sentences = clip.captions(list(captions))
    change = sentences[1] - sentences[0]
    rows = []
    for pairs in _batches(zip(before, after, strict=True)):
        old, new = (clip.pictures([pair[k] for pair in pairs]) for k in (0, 1))
        rows.append(direction_cosines(new - old, change))
    return torch.cat(rows).numpy().astype(np.float64) if rows else np.zeros(0)


def direction_cosines(changes: Float[Tensor, "n width"], wanted: Float[Tensor, " width"]) -> Float[Tensor, " n"]:
    """The cosine between each change and the wanted one, 0 where either has no length."""
    lengths = changes.norm(dim=-1) * wanted.norm()
    tiny = (changes.norm(dim=-1) < SMALLEST_CHANGE) | (wanted.norm() < SMALLEST_CHANGE)
    return torch.where(tiny, torch.zeros_like(lengths), changes @ wanted / lengths.clamp_min(1e-12))


def _unit(values: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
    return torch.nn.functional.normalize(values, dim=-1)


def _batches(items: Iterable[Any]) -> Iterable[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
