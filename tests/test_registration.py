"""The entry points exist, and importing them imports no heavy library that nerfstudio does not need."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from nerfstudio.plugins.types import MethodSpecification

HEAVY = {
    "mediapipe",
    "librosa",
    "transformers",
    "diffusers",
    "accelerate",
    "numba",
    "llvmlite",
    "triton",
    "av",
    "torchmetrics",
    "skimage",
    "sklearn",
    "soundfile",
}
"""Libraries that are imported where they are used; nerfstudio's own imports do not count."""

REPORT = """
import importlib.metadata, json, sys
import nerfstudio.plugins.registry as registry
registry.entry_points = lambda **_: importlib.metadata.EntryPoints()
import nerfstudio.configs.method_configs
before = set(sys.modules)
import ntalker_ns.method_configs
print(json.dumps({"before": sorted(before), "added": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.slow
def test_registration_imports_nothing_heavy():
    run = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout.splitlines()[-1])
    assert not [name for name in report["before"] if name.startswith("ntalker_ns")]
    assert "ntalker_ns.method_configs" in report["added"]
    assert {name.partition(".")[0] for name in report["added"]} & HEAVY == set()


@pytest.mark.parametrize("name", ["ntalker-base", "ntalker-base-small", "ntalker-edit", "ntalker-edit-small"])
def test_methods_are_registered_under_their_names(name: str):
    (point,) = entry_points(group="nerfstudio.method_configs", name=name)
    method = point.load()
    assert isinstance(method, MethodSpecification)
    assert method.config.method_name == name
    assert method.description


def test_the_command_is_there():
    (point,) = entry_points(group="console_scripts", name="ntalker")
    assert point.value.startswith("ntalker_ns.")
    assert callable(point.load())
