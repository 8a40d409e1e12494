"""Labels from a transformers model, here a tiny random one."""

from pathlib import Path

import numpy as np
import pytest
from support.drawn_person import landmarks

from ntalker_ns.capture.face_parsing import CLASSES, FaceParser
from ntalker_ns.data.head_removal import BACKGROUND, MOUTH_INTERIOR
from ntalker_ns.errors import NTalkerError


def save_model(folder: Path, names: dict[int, str]) -> Path:
    """A SegFormer of a few thousand parameters with the given classes."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=16,
        id2label=names, label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_a_saved_model_labels_a_frame(tmp_path: Path, named: bool):
    names = dict(enumerate(CLASSES)) if named else {k: f"LABEL_{k}" for k in range(19)}
    parser = FaceParser(str(save_model(tmp_path, names)))
    assert np.array_equal(parser.label_of_class, list(CLASSES.values()))
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    person = np.zeros((256, 256), bool)
    person[100:] = True
    labels = parser(image, person, landmarks())
    assert labels.shape == (256, 256) and labels.dtype == np.uint8 and labels.max() <= MOUTH_INTERIOR
    assert not (labels[person] == BACKGROUND).any()
    assert labels[138, 128] == MOUTH_INTERIOR
    assert np.array_equal(labels, parser(image, person, landmarks()))


def test_other_classes_and_a_missing_model_are_refused(tmp_path: Path):
    with pytest.raises(NTalkerError, match="'road'"):
        FaceParser(str(save_model(tmp_path, {0: "background", 1: "road"})))
    with pytest.raises(NTalkerError, match="cannot be loaded"):
        FaceParser(str(tmp_path / "nothing"))
