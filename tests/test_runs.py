"""Runs are found and loaded, and those of earlier versions are refused in one sentence, by stock commands too."""

import sys
from pathlib import Path

import pytest
import yaml
from nerfstudio.utils.eval_utils import eval_setup
from support.tiny_run import tiny_config

from ntalker_ns import __version__
from ntalker_ns.errors import NTalkerError
from ntalker_ns.run_folder import find_run, read_config
from ntalker_ns.runs import load_run, method_config

OLD = """\
!!python/object:ntalker_ns.talker_trainer.TalkerTrainerConfig
_target: !!python/name:ntalker_ns.talker_trainer.TalkerTrainer ''
method_name: ntalker-base
pipeline: !!python/object:ntalker_ns.talker_pipeline.TalkerPipelineConfig
  lips: !!python/object:ntalker_ns.lips_phase.LipsPhaseConfig
    share: 0.25
"""
EDIT = OLD.replace("talker_trainer.TalkerTrainerConfig", "edit_config_of_old.EditTrainerConfig")


def run_folder(folder: Path, text: str) -> Path:
    """A run folder with a configuration and an empty checkpoint; returns its config.yml."""
    (folder / "nerfstudio_models").mkdir(parents=True)
    (folder / "nerfstudio_models" / "step-000000007.ckpt").touch()
    (folder / "config.yml").write_text(text)
    return folder / "config.yml"


@pytest.mark.parametrize("text", [OLD, EDIT], ids=["base", "edit"])
def test_a_run_that_names_modules_that_are_gone_is_refused_in_one_sentence(text: str, tmp_path: Path):
    config = run_folder(tmp_path / "run", text)
    for read in (read_config, load_run, lambda path: find_run(path, tmp_path)):
        with pytest.raises(NTalkerError) as error:
            read(config)
        assert str(error.value) == (
            f"{config} was written by ntalker_ns before 0.2, whose runs ntalker_ns {__version__} cannot read: "
            "train it again with ns-train, or install that version."
        )


def test_a_run_that_records_another_version_is_named_by_it(tmp_path: Path):
    config = run_folder(tmp_path / "run", OLD + "version: 7.8.9\n")
    with pytest.raises(NTalkerError, match=r"was written by ntalker_ns 7\.8\.9, whose runs"):
        read_config(config)


def test_a_run_without_a_version_is_refused(tmp_path: Path):
    text = yaml.dump(tiny_config(Path(), tmp_path))
    assert f"\nversion: {__version__}\n" in text
    assert read_config(run_folder(tmp_path / "new", text)).version == __version__
    unversioned = run_folder(tmp_path / "old", text.replace(f"\nversion: {__version__}\n", "\n"))
    with pytest.raises(NTalkerError, match=r"was written by ntalker_ns before 0\.2"):
        read_config(unversioned)
    with pytest.raises(NTalkerError, match=r"This run was written by ntalker_ns before 0\.2"):
        eval_setup(unversioned)


def test_stock_commands_end_in_the_same_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(yaml.YAMLError) as error:
        eval_setup(run_folder(tmp_path / "run", OLD))
    sys.excepthook(type(error.value), error.value, error.tb)
    message = capsys.readouterr().err
    assert message.startswith("Error: This run was written by ntalker_ns before 0.2, ")
    assert len(message.splitlines()) == 1


def test_other_broken_configurations_of_stock_commands_keep_their_traceback(tmp_path: Path, capsys):
    with pytest.raises(yaml.YAMLError) as error:
        eval_setup(run_folder(tmp_path / "run", "!!python/object:absent_plugin.Config {}"))
    sys.excepthook(type(error.value), error.value, error.tb)
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_method_is_named():
    with pytest.raises(NTalkerError, match="no method 'nerfacto': choose from ntalker-base, "):
        method_config("nerfacto")
