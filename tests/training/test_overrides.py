"""Fields of nested configurations by dotted path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ntalker_ns.errors import NTalkerError
from ntalker_ns.runs import method_config
from ntalker_ns.training.overrides import changed


@dataclass
class Inner:
    weight: float = 1.0
    file: Path | None = None
    sizes: tuple[int, ...] = (1,)
    bounds: tuple[float, float] | None = None
    kind: Literal["soft", "hard"] = "soft"
    count: int = 1
    whole: bool = False
    other: dict[str, int] = field(default_factory=dict)


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


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("kind", "sofd", "'inner.kind' cannot be 'sofd': give soft, hard."),
        ("kind", None, "cannot be None: give soft, hard."),
        ("count", "9", "cannot be '9': give a whole number."),
        ("count", 1.5, "cannot be 1.5: give a whole number."),
        ("count", True, "cannot be True: give a whole number."),
        ("weight", "1e-3", "cannot be '1e-3': give a number."),
        ("weight", False, "cannot be False: give a number."),
        ("whole", "no", "cannot be 'no': give true or false."),
        ("file", 3, "cannot be 3: give a path or nothing."),
        ("sizes", [1, 2.5], r"cannot be \[1, 2.5\]: give a list of a whole number."),
        ("bounds", [1, 2, 3], r"cannot be \[1, 2, 3\]: give a list of a number, a number or nothing."),
    ],
)
def test_a_value_that_a_field_cannot_have_is_refused(name: str, value: Any, sentence: str):
    with pytest.raises(NTalkerError, match=sentence):
        changed(Outer(), {f"inner.{name}": value})


def test_whole_numbers_are_numbers_and_other_types_are_left_alone():
    result = changed(Outer(), {"inner.weight": 2, "inner.bounds": [1, 2.5], "inner.other": {"a": 1}})
    assert (result.inner.weight, result.inner.bounds, result.inner.other) == (2, (1, 2.5), {"a": 1})
    assert changed(result, {"inner.bounds": None}).inner.bounds is None


def test_a_methods_configuration_is_changed():
    config = changed(
        method_config(),
        {"max_num_iterations": 7, "pipeline.datamanager.dataparser.image_size": 64, "data": "data/anna"},
    )
    assert config.max_num_iterations == 7
    assert config.pipeline.datamanager.dataparser.image_size == 64
    assert config.data == Path("data/anna")
    assert method_config().max_num_iterations != 7
