"""Whole tiny edits: inputs, results, training, and resuming after an interruption."""

import dataclasses
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
import yaml
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from support.tiny_clip import write_tiny_clip
from support.tiny_diffusion import save_ip2p
from support.tiny_edit import FRAMES, frames_of, render, start, tiny_edit, train_base, train_edit
from support.tiny_run import tiny_config

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.edit_model import EditModel
from ntalker_ns.edit_trainer import EditTrainer, EditTrainerConfig, with_typed_options
from ntalker_ns.editing.filters import FilterEditor, FilterEditorConfig
from ntalker_ns.editing.instruct_pix2pix import InstructPix2Pix, InstructPix2PixConfig
from ntalker_ns.editing.plan import Strength
from ntalker_ns.errors import NTalkerError
from ntalker_ns.method_configs import SMALL_EDIT
from ntalker_ns.runs import load_run, method_config
from ntalker_ns.talker_trainer import TalkerTrainer


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def base(outputs: Path) -> TalkerTrainer:
    return train_base(write_tiny_clip(outputs.parent / "anna"), outputs)


@pytest.fixture(scope="module")
def edit(outputs: Path, base: TalkerTrainer) -> EditTrainer:
    return train_edit(tiny_edit(outputs))


def weights(trainer: TalkerTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.pipeline.model.state_dict().items()}


def models_of(trainer: TalkerTrainer) -> Path:
    return trainer.checkpoint_dir


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
    expected = editor.edit(before, edit.config.instruction, Strength(6.0, 20, 20), [0] * FRAMES)
    found = torch.from_numpy(frames_of(edit, "edited", 10)).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(found, expected, rtol=0, atol=0.5 / 255 + 1e-6)
    assert (edit.dataset_update.indices[0], edit.dataset_update.indices[-1]) == (0, 21)
    assert {path.name for path in (store.folder / "sheets").iterdir()} == {"update-1.png", "update-2.png", "final.png"}
    assert json.loads((store.folder / "edit.json").read_text())["instruction"] == "Make it a sepia picture"


def test_the_head_comes_nearer_to_the_edited_frames(edit: EditTrainer):
    edited, unedited = (frames_of(edit, kind, step).astype(float) for kind, step in (("edited", 10), ("base", 0)))
    rendered = np.stack([render(edit, place)["field_rgb"].numpy() * 255 for place in range(FRAMES)])
    assert np.square(rendered - edited).mean() < 0.7 * np.square(unedited - edited).mean()


def test_lip_model_and_poses_stay_and_the_rest_is_trained(edit: EditTrainer, base: TalkerTrainer):
    own, theirs = weights(edit), weights(base)
    still = ("lip_model", "pose_refinement", "appearance")
    for name, value in theirs.items():
        if name.startswith(still):
            assert torch.equal(own[name], value), name
    for part in ("field.space_grid", "field.color_net", "portrait.learned", "refinement"):
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
    model.refinement_weight.value = 0.0
    outputs = model.get_outputs_for_camera(edit.dataset_update.cameras[1:2])
    assert torch.equal(outputs["rgb"], outputs["field_rgb"])


class Killed(Exception):
    """Stands for a kill."""


def kill_after(trainer: EditTrainer, edits: int, monkeypatch: Any) -> None:
    """Lets an edit die after it has written so many edited frames."""
    put, written = trainer.dataset_update.store.put.__func__, []  # type: ignore[attr-defined]

    def counting(store: Any, kind: str, *arguments: Any) -> None:
        if kind == "edited":
            if len(written) == edits:
                raise Killed
            written.append(kind)
        put(store, kind, *arguments)

    monkeypatch.setattr(type(trainer.dataset_update.store), "put", counting)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.setattr(type(trainer.dataset_update.store), "put", put)


@pytest.mark.parametrize(
    ("strategy", "edits"), [("progressive", 2), ("progressive", FRAMES + 1), ("iterative", FRAMES + 1)]
)
def test_killed_in_an_update_and_resumed_it_ends_the_same(
    edit: EditTrainer, base: TalkerTrainer, tmp_path: Path, monkeypatch: Any, strategy: str, edits: int
):
    options = {"strategy": strategy, "interval": 3}
    if strategy == "progressive":
        whole, options["interval"] = edit, edit.config.edit.interval
    else:
        whole = train_edit(tiny_edit(tmp_path / "whole", options, base=base.base_dir))
    broken = start(tiny_edit(tmp_path / "broken", options, base=base.base_dir, steps_per_save=4))
    kill_after(broken, edits, monkeypatch)
    calls = []
    edit_frames = FilterEditor.edit
    monkeypatch.setattr(FilterEditor, "edit", lambda *a, **k: calls.append(len(a[1])) or edit_frames(*a, **k))
    resumed = train_edit(tiny_edit(tmp_path / "resumed", options, load_dir=models_of(broken), steps_per_save=4))
    if strategy == "progressive":
        # What the broken run had edited of its last update is not edited again.
        assert sum(calls) == 2 * FRAMES - edits
    check_same_end(resumed, whole)


def test_killed_in_training_and_resumed_it_ends_the_same(edit: EditTrainer, base: TalkerTrainer, tmp_path: Path):
    broken = start(tiny_edit(tmp_path / "broken", base=base.base_dir, steps_per_save=4))
    iteration = broken.train_iteration

    def dies(step: int) -> Any:
        if step == 15:
            raise Killed
        return iteration(step)

    broken.train_iteration = dies
    with pytest.raises(Killed):
        broken.train()
    check_same_end(train_edit(tiny_edit(tmp_path / "resumed", load_dir=models_of(broken), steps_per_save=4)), edit)


def check_same_end(resumed: EditTrainer, whole: EditTrainer) -> None:
    """Both have the same edited frames and weights."""
    newest = whole.dataset_update.store.newest_of_all("edited", 99)
    assert resumed.dataset_update.store.newest_of_all("edited", 99) == newest
    for frame, step in newest.items():
        ours, theirs = (one.dataset_update.store.get("edited", frame, step) for one in (resumed, whole))
        np.testing.assert_array_equal(ours, theirs)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_pictures_that_are_not_finite_end_an_edit_that_can_be_resumed(
    edit: EditTrainer, base: TalkerTrainer, tmp_path: Path, monkeypatch: Any
):
    edit_frames, calls = FilterEditor.edit, []

    def overflowing(*arguments: Any, **options: Any) -> Any:
        calls.append(edit_frames(*arguments, **options))
        return calls[-1] if len(calls) < FRAMES + 2 else calls[-1] / torch.zeros(())

    broken = start(tiny_edit(tmp_path / "broken", base=base.base_dir))
    with monkeypatch.context() as patch:
        patch.setattr(FilterEditor, "edit", overflowing)
        with pytest.raises(
            NTalkerError, match=r"--editor\.precision bf16 or fp32, and resume with --load-dir (\S+),"
        ) as said:
            broken.train()
    named = Path(str(said.value).split("--load-dir ")[1].split(",")[0])
    check_same_end(train_edit(tiny_edit(tmp_path / "resumed", load_dir=named)), edit)


def test_an_editor_that_does_not_fit_into_memory_is_an_error(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, {"strategy": "iterative", "interval": 3}, base=base.base_dir))
    edit_frames, calls = FilterEditor.edit, []

    def too_large(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise torch.OutOfMemoryError
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", too_large)
    with pytest.raises(NTalkerError, match=r"does not fit into the GPU's memory: .* --load-dir"):
        trainer.train()


@pytest.fixture
def base_without_data(base: TalkerTrainer) -> Iterator[TalkerTrainer]:
    data = base.config.pipeline.datamanager.data
    assert data is not None
    elsewhere = data.rename(data.with_name("elsewhere"))
    yield base
    elsewhere.rename(data)


def test_instruct_pix2pix_killed_in_an_update_ends_the_same(
    base_without_data: TalkerTrainer, tmp_path: Path, monkeypatch: Any
):
    """The paper's editor through diffusers, its weights random; an edit needs no data set."""
    editor = InstructPix2PixConfig(model=str(save_ip2p(tmp_path / "model")), size=None, batch_size=2)
    options = {"updates": 3, "epochs": 3, "lip_epochs": 0, "steps": (2, 4)}

    def config(place: str, **fields: Any) -> EditTrainerConfig:
        return tiny_edit(tmp_path / place, options, instruction="Make him old", editor=editor, **fields)

    whole = train_edit(config("whole", base=base_without_data.base_dir))
    first, last = (frames_of(whole, kind, step).astype(float) for kind, step in (("base", 0), ("edited", 10)))
    assert np.abs(last - first).mean() > 1
    broken = start(config("broken", base=base_without_data.base_dir))
    kill_after(broken, 2 * FRAMES + 2, monkeypatch)
    other = config("other", load_dir=models_of(broken))
    other.editor = dataclasses.replace(editor, size=64)
    with pytest.raises(NTalkerError, match=r"was edited with editor\.size None, this one has 64"):
        failing(other)
    # Three frames are left, in batches of two.
    batches = []
    edit_frames = InstructPix2Pix.edit
    monkeypatch.setattr(InstructPix2Pix, "edit", lambda *a, **k: batches.append(len(a[1])) or edit_frames(*a, **k))
    resumed = train_edit(config("resumed", load_dir=models_of(broken)))
    assert batches == [2, 1]
    check_same_end(resumed, whole)


def test_an_edit_of_an_edit_goes_on_from_it(edit: EditTrainer, tmp_path: Path):
    config = tiny_edit(tmp_path, {"updates": 1, "epochs": 1, "lip_epochs": 0}, base=edit.base_dir, instruction="cold")
    second = start(config)
    first = weights(edit)
    for name, value in weights(second).items():
        assert torch.equal(value, first[name]) or name.startswith("discriminator."), name
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
    trainer = train_edit(config)
    assert trainer.dataset_update.indices.tolist() == list(range(9))
    np.testing.assert_array_equal(trainer.dataset_update.driving.track.features, track)
    assert len(DrivingSequence.load(trainer.base_dir / "driving")) == 22
    with pytest.raises(NTalkerError, match="more than the 9 frames"):
        tiny_edit(tmp_path, {"num_frames": 10}, base=base.base_dir, audio=tmp_path / "speech.npy").set_timestamp()


@pytest.mark.parametrize("region", ["head", "portrait"])
def test_colours_outside_of_the_edited_region_stay(base: TalkerTrainer, tmp_path: Path, region: Any):
    options = {"updates": 1, "epochs": 1, "lip_epochs": 0}
    trainer = train_edit(tiny_edit(tmp_path, options, base=base.base_dir, edit_region=region, instruction="cold"))
    edited, unedited = (frames_of(trainer, kind, 0).astype(int) for kind in ("edited", "base"))
    head, torso = (frames_of(trainer, kind, 0).astype(float) for kind in ("head", "torso"))
    inside = head if region == "head" else head + (1 - head / 255) * torso
    everywhere = train_edit(tiny_edit(tmp_path, options, base=base.base_dir, instruction="cold"))
    full = frames_of(everywhere, "edited", 0).astype(int)
    mixed = unedited + inside[..., None] / 255 * (full - unedited)
    assert np.abs(mixed - edited).max() <= 1.01
    assert np.abs(edited - full).max() > 20


def test_one_time_edits_once(base: TalkerTrainer, tmp_path: Path):
    trainer = train_edit(tiny_edit(tmp_path, {"strategy": "one-time"}, base=base.base_dir))
    assert set(trainer.dataset_update.store.newest_of_all("edited", 99).values()) == {0}
    assert trainer.config.max_num_iterations == 25


def test_a_base_is_named_in_three_ways(base: TalkerTrainer, tmp_path: Path):
    checkpoint = base.checkpoint_dir / "step-000000007.ckpt"
    for named in (base.base_dir, base.base_dir / "config.yml", checkpoint):
        config = tiny_edit(tmp_path, base=named)
        config.set_timestamp()
        assert config.base == checkpoint.absolute()


def test_the_newest_completed_base_is_taken(base: TalkerTrainer, tmp_path: Path):
    for stamp, steps in (("2020-01-01_000000", 8), ("2021-01-01_000000", 8), ("2022-01-01_000000", 9)):
        run = tmp_path / "bob" / "ntalker-base" / stamp
        shutil.copytree(base.base_dir, run)
        config = dataclasses.replace(base.config, max_num_iterations=steps)
        (run / "config.yml").write_text(yaml.dump(config))
    shutil.copytree(base.base_dir, tmp_path / "bob" / "ntalker-edit" / "2023-01-01_000000")
    config = tiny_edit(tmp_path)
    config.set_timestamp()
    assert config.base is not None
    assert config.base.parent.parent.name == "2021-01-01_000000"


def failing(config: Any) -> Any:
    config.set_timestamp()
    config.save_config()
    return config.setup(local_rank=0, world_size=1).setup()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"instruction": " "}, "There is no instruction"),
        ({"instruction": "Make him old"}, "knows no style named in"),
        ({"preset": "nobody"}, "There is no preset 'nobody'"),
        ({"base": Path("nowhere")}, r"There is no run at .*nowhere"),
        ({"base": Path("nowhere.ckpt")}, r"There is no checkpoint .*nowhere\.ckpt"),
        ({"audio": Path("nowhere.wav")}, r"no file at .*nowhere\.wav"),
        ({"editor": InstructPix2PixConfig(model="/")}, "is not a diffusers pipeline"),
        ({"edit": {"updates": 0}}, "updates must be at least 1"),
        ({"edit": {"guidance": (6.0, 3.0)}}, "from 6 to 3"),
        ({"edit": {"strategy": "iterative", "epochs": 0}}, "strategy iterative .* give --edit.epochs at least 1"),
        ({"edit": {"num_frames": 23}}, "more than the 22 frames"),
    ],
)
def test_bad_input_is_an_error_and_leaves_nothing(base: TalkerTrainer, tmp_path: Path, options: dict, said: str):
    options = {"base": base.base_dir, **options}
    with pytest.raises(NTalkerError, match=said):
        failing(tiny_edit(tmp_path / "outputs", **options))
    assert not list((tmp_path / "outputs").rglob("*"))


def test_without_a_base_the_error_says_how_to_train_one(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"there is none: train one with ns-train ntalker-base.*--base"):
        failing(tiny_edit(tmp_path / "outputs"))
    shutil.copytree(tmp_path, tmp_path / "outputs")
    broken = tmp_path / "outputs" / "bob" / "ntalker-base" / "2020-01-01_000000"
    broken.mkdir(parents=True)
    (broken / "config.yml").write_text("!!python/object:nowhere.Gone {}")
    with pytest.raises(NTalkerError, match="the 1 there are unfinished or broken"):
        failing(tiny_edit(tmp_path / "outputs"))


def test_other_data_and_other_edits_are_refused(base: TalkerTrainer, edit: EditTrainer, tmp_path: Path):
    other = write_tiny_clip(tmp_path / "other", size=32)
    config = tiny_edit(tmp_path / "outputs", base=base.base_dir)
    config.pipeline.datamanager.data = other
    with pytest.raises(NTalkerError, match=r"other is not the data set that .* was trained on"):
        config.set_timestamp()
    with pytest.raises(NTalkerError, match="none can be resumed from it: name it with --base"):
        failing(tiny_edit(tmp_path / "outputs", load_dir=base.checkpoint_dir))
    with pytest.raises(NTalkerError, match="edited with instruction Make it a sepia picture, this one has cold"):
        failing(
            tiny_edit(tmp_path / "outputs", load_dir=edit.checkpoint_dir, instruction="cold", max_num_iterations=30)
        )
    assert not list((tmp_path / "outputs").rglob("config.yml"))


def typed(monkeypatch: Any, *arguments: str) -> EditTrainerConfig:
    """The configuration of an ns-train command line before the first step."""
    monkeypatch.setattr(sys, "argv", ["ns-train", *arguments])
    config: Any = tyro.cli(AnnotatedBaseConfigUnion)  # type: ignore[arg-type]
    config.machine.device_type = "cpu"
    config.set_timestamp()
    return config


def test_a_resumed_edit_takes_its_request_from_the_interrupted_one(edit: EditTrainer, tmp_path: Path, monkeypatch: Any):
    resume = ("ntalker-edit-small", "--output-dir", str(tmp_path), "--load-dir", str(models_of(edit)))
    plain = typed(monkeypatch, *resume)
    for name in ("instruction", "captions", "audio", "edit_region", "edit", "editor", "max_num_iterations"):
        assert getattr(plain, name) == getattr(edit.config, name), name
    assert plain.pipeline.model == edit.config.pipeline.model
    # Each typed option counts, even with the method's default value.
    usual = SMALL_EDIT.lip_epochs
    assert usual != edit.config.edit.lip_epochs
    given = typed(monkeypatch, *resume, "--edit.lip-epochs", str(usual), "editor:filter", "--editor.batch-size", "3")
    assert given.edit == dataclasses.replace(edit.config.edit, lip_epochs=usual)
    assert given.editor == FilterEditorConfig(batch_size=3)
    given = typed(monkeypatch, *resume, "--pipeline.model.style-weight", "10.0")
    assert edit.config.pipeline.model.style_weight == 0
    assert given.pipeline.model == dataclasses.replace(edit.config.pipeline.model, style_weight=10.0)
    assert typed(monkeypatch, *resume, "--preset", "bronze-statue").instruction == "Make them look like a bronze statue"


def test_a_resumed_edit_configured_in_python_is_taken_as_it_is(edit: EditTrainer, tmp_path: Path):
    config = method_config("ntalker-edit-small", output_dir=tmp_path, load_dir=models_of(edit))
    config.edit = dataclasses.replace(edit.config.edit, lip_epochs=2)
    config.set_timestamp()
    assert config.instruction == edit.config.instruction
    assert config.edit == dataclasses.replace(edit.config.edit, lip_epochs=2)


def test_typed_options_override_any_default():
    saved = EditTrainerConfig(method_name="ntalker-edit", editor=InstructPix2PixConfig(image_guidance=2.0, size=256))
    assert with_typed_options(saved, ["train.py"]) is None
    unchanged = with_typed_options(saved, ["ntalker-edit"])
    assert unchanged is not None
    assert unchanged.editor == saved.editor
    given = with_typed_options(saved, ["ntalker-edit", "editor:ip2p", "--editor.size", "512"])
    assert given is not None
    assert given.editor == dataclasses.replace(saved.editor, size=512)
    other = with_typed_options(saved, ["ntalker-edit", "editor:filter"])
    assert other is not None
    assert other.editor == FilterEditorConfig()


@pytest.mark.parametrize("written", [0, 2])
def test_a_full_disk_before_the_first_edit_leaves_no_run(
    base: TalkerTrainer, tmp_path: Path, monkeypatch: Any, written: int
):
    trainer = start(tiny_edit(tmp_path / "outputs", base=base.base_dir))
    fill_disk_after(written, monkeypatch)
    with pytest.raises(NTalkerError, match=r"No space left on device\): make room\.$"):
        trainer.train()
    assert not list((tmp_path / "outputs").rglob("*.yml"))
    assert not list((tmp_path / "outputs").rglob("*.png"))


def test_a_full_disk_during_an_update_names_the_run_to_resume(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path / "outputs", base=base.base_dir))
    # Of each frame the picture, two opacities and the lips; then the first edited one.
    fill_disk_after(4 * FRAMES + 1, monkeypatch)
    with pytest.raises(NTalkerError, match=r"\): make room, and resume with --load-dir (\S+),") as said:
        trainer.train()
    named = Path(str(said.value).split("--load-dir ")[1].split(",")[0])
    assert list(named.glob("step-*.ckpt"))


def fill_disk_after(pictures: int, monkeypatch: Any) -> None:
    """Leaves room for so many pictures of an edit."""
    left = [pictures]

    def write(path: Path, content: bytes) -> int:
        if path.name.endswith(".part") and ".png" in path.name:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    write_bytes = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write)


def test_the_viewers_lock_is_free_while_frames_are_edited(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, base=base.base_dir))
    free = []
    edit_frames = FilterEditor.edit

    def looking(*arguments: Any, **options: Any) -> Any:
        free.append(trainer.train_lock.acquire(blocking=False))
        trainer.train_lock.release()
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", looking)
    trainer.train()
    assert free == [True] * (2 * FRAMES)


def test_a_stop_during_an_update_ends_it(base: TalkerTrainer, tmp_path: Path, monkeypatch: Any):
    trainer = start(tiny_edit(tmp_path, base=base.base_dir))
    edit_frames = FilterEditor.edit

    def stopping(*arguments: Any, **options: Any) -> Any:
        trainer.shutdown()
        return edit_frames(*arguments, **options)

    monkeypatch.setattr(FilterEditor, "edit", stopping)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert len(trainer.dataset_update.store.newest_of_all("edited", 0)) == 1


def test_presets_give_instruction_captions_and_bounds(base: TalkerTrainer, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("instruction: sepia\ncaption_before: a\ncaption_after: b\nguidance: [2, 4]\n")
    config = tiny_edit(tmp_path, base=base.base_dir, instruction="", preset=str(path))
    config.set_timestamp()
    assert (config.instruction, config.captions) == ("sepia", ("a", "b"))
    assert config.edit.guidance == (2.0, 4.0)
    assert config.edit.steps == (10, 20)
    # Captions of another instruction would be measured against.
    for given in (None, ("c", "d")):
        config = tiny_edit(tmp_path, base=base.base_dir, instruction="cold", preset=str(path), captions=given)
        config.set_timestamp()
        assert (config.instruction, config.captions, config.edit.guidance) == ("cold", given, (2.0, 4.0))


def test_brackets_in_an_instruction_are_printed_as_they_are(
    base: TalkerTrainer, tmp_path: Path, capsys: pytest.CaptureFixture
):
    tiny_edit(tmp_path, base=base.base_dir, instruction="A bronze [/old] man :smile:").set_timestamp()
    assert '"A bronze [/old] man :smile:"' in capsys.readouterr().out


def test_editing_does_not_change_base_configs():
    before = dataclasses.asdict(tiny_config(Path("x"), Path("y")).pipeline.model)
    assert before["coarse_fraction"] == 0
