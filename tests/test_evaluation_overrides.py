"""Fields of nested configurations by dotted path."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.overrides import changed
from ntalker_ns.evaluation.runs import method_config


@dataclass
class Inner:
    weight: float = 1.0
    file: Path | None = None
    sizes: tuple[int, ...] = (1,)


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    groups: dict[str, Inner] = field(default_factory=lambda: {"poses": Inner()})


def test_fields_are_set_at_any_depth_in_a_copy():
    original = Outer()
    result = changed(original, {"inner.weight": 0.4, "groups.poses.weight": 2.0})
    assert (result.inner.weight, result.groups["poses"].weight) == (0.4, 2.0)
    assert (original.inner.weight, original.groups["poses"].weight) == (1.0, 1.0)


def test_text_becomes_a_path_and_lists_become_tuples():
    result = changed(Outer(), {"inner.file": "a/b.pt", "inner.sizes": [3, 4]})
    assert result.inner == Inner(1.0, Path("a/b.pt"), (3, 4))


@pytest.mark.parametrize("path", ["weight", "inner.wait", "groups.pose.weight", "inner.weight.more"])
def test_a_field_that_is_not_there_is_named(path: str):
    with pytest.raises(NTalkerError, match=f"'{path}': there is no field"):
        changed(Outer(), {path: 1})


def test_a_methods_configuration_is_changed():
    config = changed(
        method_config(),
        {"max_num_iterations": 7, "pipeline.datamanager.dataparser.image_size": 64, "data": "data/anna"},
    )
    assert config.max_num_iterations == 7
    assert config.pipeline.datamanager.dataparser.image_size == 64
    assert config.data == Path("data/anna")
    assert method_config().max_num_iterations != 7
