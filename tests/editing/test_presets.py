"""Presets: those of the package, and files of one's own."""

import zipfile
from pathlib import Path

import pytest
from support.paths import REPOSITORY

from ntalker_ns.editing.presets import EditPreset, load_preset, preset_names
from ntalker_ns.editing.style_networks import PAINTERS
from ntalker_ns.errors import NTalkerError

OWN = """
instruction: "Make her a queen "
caption_before: a woman
caption_after: a queen
"""


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_of_the_package_can_be_used(name: str):
    preset = load_preset(name)
    assert preset.caption_before != preset.caption_after
    assert preset.instruction


def test_the_papers_examples_are_there():
    assert {"old-man", "young-man", "cartoon", "edvard-munch", "van-gogh", "modigliani", "bronze-statue"} <= set(
        preset_names()
    )


def test_a_users_own_file(tmp_path: Path):
    path = tmp_path / "queen.yaml"
    path.write_text(OWN)
    assert load_preset(str(path)) == EditPreset("Make her a queen", "a woman", "a queen")
    path.write_text(OWN + "guidance: [2, 4.5]\nsteps: [5, 9]\n")
    assert load_preset(str(path)).guidance == (2.0, 4.5)
    assert load_preset(str(path)).steps == (5, 9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instruction: x\ncaption_before: y\n", "lacks caption_after"),
        (OWN + "seed: 3\n", "has unknown seed"),
        (OWN + "guidance: [6, 3]\n", r"own\.yaml needs two numbers for guidance, .* not \[6, 3\]"),
        (OWN + "guidance: [0, 5]\n", r"own\.yaml needs two numbers for guidance, a lower bound of at least 1"),
        (OWN + "guidance: [true, 5]\n", r"two numbers for guidance, .* not \[True, 5\]"),
        (OWN + "guidance: [1, .inf]\n", "two numbers for guidance"),
        (OWN + "steps: 20\n", "needs two whole numbers for steps"),
        (OWN + "steps: [10.9, 20.9]\n", r"two whole numbers for steps, .* not \[10\.9, 20\.9\]"),
        (OWN.replace("Make her a queen ", " "), r"own\.yaml needs a text for instruction, not ' '"),
        (OWN.replace('"Make her a queen "', ""), r"own\.yaml needs a text for instruction, not None"),
        (OWN.replace('"Make her a queen "', "[make, her, bronze]"), "needs a text for instruction, not .'make', 'her'"),
        (OWN.replace("a woman", ""), "needs a text for caption_before, not None"),
        (OWN.replace("a queen\n", "1848\n"), "needs a text for caption_after, not 1848"),
        ("- a\n- list\n", "has no fields"),
        ("instruction: [", "cannot be read"),
    ],
)
def test_an_invalid_file_is_an_error(text: str, said: str, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(NTalkerError, match=said):
        load_preset(str(path))


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(NTalkerError, match=r"no preset 'nobody'.*bronze-statue.*van-gogh"):
        load_preset("nobody")
    with pytest.raises(NTalkerError, match=r"nobody\.yaml cannot be read"):
        load_preset(str(tmp_path / "nobody.yaml"))


@pytest.mark.slow
def test_a_wheel_carries_presets_and_weights(tmp_path: Path):
    import shutil
    import subprocess
    import sys

    root = REPOSITORY
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    for name in ("configs", "ntalker_ns"):
        shutil.copytree(root / name, source / name, symlinks=True)
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source)
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"ntalker_ns/configs/instructions/{name}.yaml" for name in preset_names()} <= names
    for weights in ("audio/weights/whisper_tiny_en", "speech/weights/lip_prior"):
        assert {f"ntalker_ns/{weights}.safetensors", f"ntalker_ns/{weights}.md"} <= names
    assert "ntalker_ns/audio/weights/whisper_tiny_en.LICENSE" in names
    for painter in PAINTERS.values():
        if isinstance(painter.style, Path):
            assert f"ntalker_ns/editing/paintings/{painter.style.name}" in names
    for name in ("styles_26", "style_of_picture", "style_applied"):
        assert f"ntalker_ns/editing/weights/{name}.onnx" in names
    assert {"ntalker_ns/editing/weights/styles.LICENSE", "ntalker_ns/editing/paintings/paintings.md"} <= names
