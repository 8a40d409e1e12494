"""Options of an edit: its base, errors in input, presets, and typed options of a resumed edit."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import tiny_edit
from support.tiny_run import start, tiny_config

from ntalker_ns.edit_trainer import EditTrainer, EditTrainerConfig, with_typed_options
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.instruct_pix2pix import InstructPix2PixConfig
from ntalker_ns.errors import NTalkerError
from ntalker_ns.method_configs import SMALL_EDIT
from ntalker_ns.runs import method_config
from ntalker_ns.talker_trainer import TalkerTrainer


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
        start(tiny_edit(tmp_path / "outputs", **options))
    assert not list((tmp_path / "outputs").rglob("*"))


def test_without_a_base_the_error_says_how_to_train_one(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"there is none: train one with ns-train ntalker-splat.*--base"):
        start(tiny_edit(tmp_path / "outputs"))
    shutil.copytree(tmp_path, tmp_path / "outputs")
    broken = tmp_path / "outputs" / "bob" / "ntalker-base" / "2020-01-01_000000"
    broken.mkdir(parents=True)
    (broken / "config.yml").write_text("!!python/object:nowhere.Gone {}")
    with pytest.raises(NTalkerError, match="the 1 there are unfinished or broken"):
        start(tiny_edit(tmp_path / "outputs"))


def test_other_data_and_other_edits_are_refused(base: TalkerTrainer, edit: EditTrainer, tmp_path: Path):
    other = write_tiny_clip(tmp_path / "other", size=32)
    config = tiny_edit(tmp_path / "outputs", base=base.base_dir)
    config.pipeline.datamanager.data = other
    with pytest.raises(NTalkerError, match=r"other is not the data set that .* was trained on"):
        config.set_timestamp()
    with pytest.raises(NTalkerError, match="none can be resumed from it: name it with --base"):
        start(tiny_edit(tmp_path / "outputs", load_dir=base.checkpoint_dir))
    with pytest.raises(NTalkerError, match="edited with instruction Make it a sepia picture, this one has cold"):
        start(tiny_edit(tmp_path / "outputs", load_dir=edit.checkpoint_dir, instruction="cold", max_num_iterations=30))
    assert not list((tmp_path / "outputs").rglob("config.yml"))


def typed(monkeypatch: Any, *arguments: str) -> EditTrainerConfig:
    """The configuration of an ns-train command line before the first step."""
    monkeypatch.setattr(sys, "argv", ["ns-train", *arguments])
    config: Any = tyro.cli(AnnotatedBaseConfigUnion)  # type: ignore[arg-type]
    config.machine.device_type = "cpu"
    config.set_timestamp()
    return config


def test_a_resumed_edit_takes_its_request_from_the_interrupted_one(edit: EditTrainer, tmp_path: Path, monkeypatch: Any):
    resume = ("ntalker-edit-small", "--output-dir", str(tmp_path), "--load-dir", str(edit.checkpoint_dir))
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
    config = method_config("ntalker-edit-small", output_dir=tmp_path, load_dir=edit.checkpoint_dir)
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
