"""CLIP direction on a tiny random CLIP, and on embeddings that follow the captions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from ntalker_ns.evaluation.metrics.clip_direction import Clip, clip_directions, direction_cosines, load_clip
from ntalker_ns.evaluation.metrics.weights import Unavailable

CAPTIONS = ("a man", "an old man")
RNG = np.random.default_rng(0)


def write_tiny_clip(folder: Path) -> Path:
    """A CLIP of random weights, saved as the published ones are."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": len(vocabulary), "eos_token_id": vocabulary["<|endoftext|>"]},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return load_clip(str(write_tiny_clip(tmp_path_factory.mktemp("clip"))))


def pictures(count: int) -> list[np.ndarray]:
    return list(RNG.integers(0, 256, (count, 40, 36, 3), np.uint8))


def test_identical_pictures_have_no_direction(clip: Clip):
    frames = pictures(3)
    np.testing.assert_array_equal(clip_directions(clip, frames, frames, CAPTIONS), np.zeros(3))


def test_directions_are_the_cosines_of_the_models_own_embeddings(clip: Clip):
    before, after = pictures(20), pictures(20)
    found = clip_directions(clip, before, after, CAPTIONS)
    with torch.inference_mode():
        inputs = clip.processor(text=list(CAPTIONS), images=[before[17], after[17]], return_tensors="pt", padding=True)
        output = clip.network(**inputs)
    seen, said = output.image_embeds.double().numpy(), output.text_embeds.double().numpy()
    first, second = seen[1] - seen[0], said[1] - said[0]
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found[17] == pytest.approx(expected, abs=1e-4)
    assert len(found) == 20 and np.abs(found).max() <= 1.0 + 1e-6


def test_what_changes_like_the_captions_has_direction_one(clip: Clip, monkeypatch: pytest.MonkeyPatch):
    sentences = clip.captions(list(CAPTIONS))
    monkeypatch.setattr(Clip, "pictures", lambda self, frames: sentences[[int(frame[0, 0, 0]) for frame in frames]])
    before, after = [np.zeros((2, 2, 3), np.uint8)] * 2, [np.ones((2, 2, 3), np.uint8)] * 2
    np.testing.assert_allclose(clip_directions(clip, before, after, CAPTIONS), 1.0, atol=1e-6)
    np.testing.assert_allclose(clip_directions(clip, after, before, CAPTIONS), -1.0, atol=1e-6)


def test_length_does_not_matter_and_none_is_zero():
    wanted = torch.tensor([3.0, 4.0])
    changes = torch.tensor([[0.3, 0.4], [-30.0, -40.0], [4.0, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(direction_cosines(changes, wanted), torch.tensor([1.0, -1.0, 0.0, 0.0]))
    torch.testing.assert_close(direction_cosines(changes, torch.zeros(2)), torch.zeros(4))


def test_embeddings_have_unit_length(clip: Clip):
    torch.testing.assert_close(clip.pictures(pictures(2)).norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(clip.captions(list(CAPTIONS)).norm(dim=-1), torch.ones(2))


def test_an_empty_folder_is_unavailable_by_name(tmp_path: Path):
    with pytest.raises(Unavailable, match=f"--clip: the folder '{tmp_path}' holds no CLIPModel"):
        load_clip(str(tmp_path))


def test_a_hub_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)
    with pytest.raises(Unavailable, match="nobody/no-such-clip' is not on this machine and the hub does not answer"):
        load_clip("nobody/no-such-clip")
