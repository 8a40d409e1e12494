"""A field whose mouth is driven by RAD-NeRF's audio network instead of lip shapes."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.untrained_head import pipeline_config, untrained

from ntalker_ns.errors import NTalkerError
from ntalker_ns.method_configs import ntalker_splat_small


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = pipeline_config(tmp_path_factory.mktemp("clip"))
    config.model.speech = "network"
    return config


@pytest.fixture
def pipeline(config: Any) -> Any:
    return untrained(config)


def test_a_step_trains_the_network_and_nothing_uses_lip_shapes(pipeline: Any) -> None:
    model = pipeline.model
    model.fit_to_clip(pipeline.datamanager.train_dataset)
    pipeline.train()
    _, losses, _ = pipeline.get_train_loss_dict(0)
    torch.stack(list(losses.values())).sum().backward()
    networks = model.get_param_groups()["networks"]
    audio = list(model.head.field.speech_net.parameters())
    assert {id(p) for p in audio} <= {id(p) for p in networks}
    assert all(p.grad is not None for p in audio)
    assert sum(float(p.grad.abs().sum()) for p in audio) > 0
    assert not model.conditions(torch.arange(3)).lip_shapes.any()


def test_new_sound_moves_the_mouth_and_nothing_else(pipeline: Any) -> None:
    """With other features, pixels change where rays may meet the gate of speech."""
    pipeline.eval()
    model, camera = pipeline.model, pipeline.datamanager.eval_dataset.cameras[0:1]
    before = model.get_outputs_for_camera(camera)
    track = model.driving.track
    other = np.random.default_rng(0).standard_normal(track.features.shape).astype(np.float32)
    model.set_driving(replace(model.driving, track=replace(track, features=other)))
    after = model.get_outputs_for_camera(camera)
    changed = (after["head"] - before["head"]).abs().amax(dim=-1) > 1e-4
    moved = torch.maximum(before["audio_motion"], after["audio_motion"]).squeeze(-1) > 0
    assert changed.any() and not changed.all()
    assert not (changed & ~moved).any()


def test_a_checkpoint_holds_the_network(config: Any, pipeline: Any) -> None:
    model = pipeline.model
    model.fit_to_clip(pipeline.datamanager.train_dataset)
    other = untrained(config).model
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    for each in (model, other):
        each.eval()
    frames = torch.arange(4)
    assert torch.equal(model.conditions(frames).speech_code, other.conditions(frames).speech_code)


def test_what_it_cannot_do_is_said(config: Any, pipeline: Any) -> None:
    model = pipeline.model
    with pytest.raises(NTalkerError, match="does not speak in a stream"):
        model.show_face(torch.zeros(6), 1.0)
    splats = copy.deepcopy(ntalker_splat_small.config.pipeline)
    datamanager: Any = splats.datamanager
    datamanager.data = datamanager.dataparser.data = Path(config.datamanager.data)
    splats.model.speech = "network"  # type: ignore[attr-defined]
    with pytest.raises(NTalkerError, match="needs a radiance field"):
        splats.setup(device="cpu", test_mode="val")
