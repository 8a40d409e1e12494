"""Whole tiny edits: what they take from their base, and what they change."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.tiny_edit import FRAMES, frames_of, render, tiny_edit
from support.tiny_run import start, train, weights

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_model import EditModel
from ntalker_ns.edit_trainer import EditTrainer
from ntalker_ns.editing.filters import FilterEditor
from ntalker_ns.editing.outline import within_outline
from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError
from ntalker_ns.runs import load_run
from ntalker_ns.talker_trainer import TalkerTrainer


def test_an_edit_takes_the_newest_base_and_then_stands_alone(edit: EditTrainer, base: TalkerTrainer):
    saved = yaml.load((edit.base_dir / "config.yml").read_text(), Loader=yaml.Loader)
    assert saved.base == (base.checkpoint_dir / "step-000000007.ckpt").absolute()
    assert saved.experiment_name == "anna"
    assert saved.max_num_iterations == 25
    assert saved.edit.guidance == (3.0, 6.0)
    assert saved.pipeline.datamanager.dataparser.driving == edit.base_dir / "driving"
    assert saved.pipeline.model.field == base.config.pipeline.model.field
    own, theirs = (DrivingSequence.load(run.base_dir / "driving") for run in (edit, base))
    np.testing.assert_array_equal(own.track.features, theirs.track.features)
    assert [path.name for path in edit.checkpoint_dir.iterdir()] == ["step-000000024.ckpt"]


def test_the_updates_follow_the_schedule_and_are_stored(edit: EditTrainer):
    editor, store = FilterEditor(edit.config.editor), edit.dataset_update.store  # type: ignore[arg-type]
    # Pictures of the first update go with the checkpoint that asked for them.
    assert store.newest_of_all("edited", 99) == dict.fromkeys(map(int, edit.dataset_update.indices), 10)
    before = torch.from_numpy(frames_of(edit, "before", 10)).permute(0, 3, 1, 2).float() / 255
    made = editor.edit(before, edit.config.instruction, Strength(6.0, 20, 20), [0] * FRAMES).permute(0, 2, 3, 1).numpy()
    scene = {"unedited": "base", "head": "head", "torso": "torso", "behind": "behind"}
    known = {name: (frames_of(edit, kind, 0) / 255).astype(np.float32) for name, kind in scene.items()}
    known |= {name: known[name][..., None] for name in ("head", "torso")}
    of_frames = [{name: each[i] for name, each in known.items()} for i in range(FRAMES)]
    expected = [within_outline(picture, **frame) for picture, frame in zip(made, of_frames, strict=True)]
    np.testing.assert_allclose(frames_of(edit, "edited", 10) / 255, expected, rtol=0, atol=0.5 / 255 + 1e-6)
    assert (edit.dataset_update.indices[0], edit.dataset_update.indices[-1]) == (0, 21)
    assert {path.name for path in (store.folder / "sheets").iterdir()} == {"update-1.png", "update-2.png", "final.png"}
    assert json.loads((store.folder / "edit.json").read_text())["instruction"] == "Make it a sepia picture"


def test_the_head_comes_nearer_to_the_edited_frames(edit: EditTrainer):
    edited, unedited = (frames_of(edit, kind, step).astype(float) for kind, step in (("edited", 10), ("base", 0)))
    rendered = np.stack([render(edit, place)["field_rgb"].numpy() * 255 for place in range(FRAMES)])
    assert np.square(rendered - edited).mean() < 0.7 * np.square(unedited - edited).mean()


def test_lip_model_and_poses_stay_and_the_rest_is_trained(edit: EditTrainer, base: TalkerTrainer):
    own, theirs = weights(edit), weights(base)
    still = ("lip_model", "pose_refinement", "head.appearance")
    for name, value in theirs.items():
        if name.startswith(still):
            assert torch.equal(own[name], value), name
    for part in ("head.field.space_grid", "head.field.color_net", "portrait.learned", "refinement"):
        moved = [
            name
            for name in own
            if name.startswith(part) and not torch.equal(own[name], theirs.get(name, own[name] + 1))
        ]
        assert moved, part
    assert not any("vgg" in name for name in own)


def test_an_edit_loads_where_neither_base_nor_data_are(edit: EditTrainer, tmp_path: Path):
    run = tmp_path / "anna" / "ntalker-edit-small" / edit.base_dir.name
    shutil.copytree(edit.base_dir, run)
    saved = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    saved.base = Path("/gone")
    (run / "config.yml").write_text(yaml.dump(saved))
    model = load_run(run / "config.yml").model
    assert isinstance(model, EditModel)
    picture = model.get_outputs_for_camera(edit.dataset_update.cameras[1:2])["rgb"]
    torch.testing.assert_close(picture, render(edit, 1)["rgb"])
    assert (model.get_outputs_for_camera(edit.dataset_update.cameras[1:2])["field_rgb"] - picture).abs().max() > 1e-4
    model.refinement_weight = 0.0
    outputs = model.get_outputs_for_camera(edit.dataset_update.cameras[1:2])
    assert torch.equal(outputs["rgb"], outputs["field_rgb"])


def test_an_edit_of_an_edit_goes_on_from_it(edit: EditTrainer, tmp_path: Path):
    config = tiny_edit(tmp_path, {"updates": 1, "epochs": 1, "lip_epochs": 0}, base=edit.base_dir, instruction="cold")
    second = start(config)
    first = weights(edit)
    for name, value in weights(second).items():
        assert torch.equal(value, first[name]) or name.startswith(("discriminator.", "small_refinement.")), name
    assert first["small_refinement.last.weight"].any() and not weights(second)["small_refinement.last.weight"].any()
    second.train()
    assert second.config.experiment_name == "anna"
    np.testing.assert_allclose(
        frames_of(second, "base", 0) / 255,
        torch.stack([render(edit, i)["field_rgb"] for i in range(FRAMES)]),
        atol=0.003,
    )


def test_new_audio_can_drive_the_edit(base: TalkerTrainer, tmp_path: Path):
    track = np.random.default_rng(0).normal(size=(9, 16, 6)).astype(np.float32)
    np.save(tmp_path / "speech.npy", track)
    config = tiny_edit(tmp_path, {"num_frames": 9}, base=base.base_dir, audio=tmp_path / "speech.npy")
    trainer = train(config)
    assert trainer.dataset_update.indices.tolist() == list(range(9))
    np.testing.assert_array_equal(trainer.dataset_update.driving.track.features, track)
    assert len(DrivingSequence.load(trainer.base_dir / "driving")) == 22
    with pytest.raises(NTalkerError, match="more than the 9 frames"):
        tiny_edit(tmp_path, {"num_frames": 10}, base=base.base_dir, audio=tmp_path / "speech.npy").set_timestamp()


@pytest.mark.parametrize("region", ["head", "portrait"])
def test_colours_outside_of_the_edited_region_stay(base: TalkerTrainer, tmp_path: Path, region: Any):
    options = {"updates": 1, "epochs": 1, "lip_epochs": 0}
    trainer = train(tiny_edit(tmp_path, options, base=base.base_dir, edit_region=region, instruction="cold"))
    edited, unedited = (frames_of(trainer, kind, 0).astype(int) for kind in ("edited", "base"))
    head, torso = (frames_of(trainer, kind, 0).astype(float) for kind in ("head", "torso"))
    inside = head if region == "head" else head + (1 - head / 255) * torso
    everywhere = train(tiny_edit(tmp_path, options, base=base.base_dir, instruction="cold"))
    full = frames_of(everywhere, "edited", 0).astype(int)
    mixed = unedited + inside[..., None] / 255 * (full - unedited)
    assert np.abs(mixed - edited).max() <= 1.01
    assert np.abs(edited - full).max() > 20


def test_one_time_edits_once(base: TalkerTrainer, tmp_path: Path):
    trainer = train(tiny_edit(tmp_path, {"strategy": "one-time"}, base=base.base_dir))
    assert set(trainer.dataset_update.store.newest_of_all("edited", 99).values()) == {0}
    assert trainer.config.max_num_iterations == 25
