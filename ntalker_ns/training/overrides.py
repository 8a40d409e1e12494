"""Fields of a nested configuration, changed by dotted path."""

import copy
import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError

NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "nothing",
}
"""Types that are checked, in words."""


def changed(config: Any, fields: Mapping[str, Any]) -> Any:
    """A copy of a configuration with some fields set.

    Args:
        config: nested dataclasses and dictionaries, as nerfstudio's are.
        fields: values by dotted path ("pipeline.model.step_size"). Text becomes a path where the field is one, lists
            become tuples where it takes tuples.

    Raises:
        NTalkerError: a path names no field, or the field cannot have the value.
    """
    result = copy.deepcopy(config)
    for path, value in fields.items():
        _set(result, path, value)
    return result


def _set(config: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        config = _step(config, name, path)
    _step(config, last, path)
    if isinstance(config, dict):
        config[last] = value
        return
    hint = typing.get_type_hints(type(config)).get(last, Any)
    if not fits(fitting(value, hint), hint):
        raise NTalkerError(f"'{path}' cannot be {value!r}: give {wanted(hint)}.")
    setattr(config, last, fitting(value, hint))


def _step(config: Any, name: str, path: str) -> Any:
    known = list(config) if isinstance(config, dict) else _field_names(config)
    if name not in known:
        raise NTalkerError(f"'{path}': there is no field '{name}'; there are {', '.join(known) or 'none'}.")
    return config[name] if isinstance(config, dict) else getattr(config, name)


def _field_names(config: Any) -> list[str]:
    return [one.name for one in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []


def fitting(value: Any, hint: Any) -> Any:
    """A value as a field of a type takes it: text as a path, a list as a tuple."""
    options = _options(hint)
    if isinstance(value, str) and Path in options and str not in options:
        return Path(value)
    if isinstance(value, list) and any(option is tuple or typing.get_origin(option) is tuple for option in options):
        return tuple(value)
    return value


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type that there is."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as a file can say it: words, numbers, lists. All else fits."""
    return any(_fits_one(value, option) for option in _options(hint))


def _fits_one(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and _fits_tuple(value, typing.get_args(kind))
    if kind in (int, float):
        # True is a number for Python only.
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind in NAMES:
        return isinstance(value, kind)
    return True


def _fits_tuple(values: tuple[Any, ...], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1:] == (...,):
        kinds = kinds[:1] * len(values)
    return len(values) == len(kinds) and all(map(fits, values, kinds))


def wanted(hint: Any) -> str:
    """What a field takes, in words."""
    return " or ".join(_wanted_one(option) for option in _options(hint))


def _wanted_one(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return "a list of " + ", ".join(wanted(one) for one in typing.get_args(kind) if one is not ...)
    return NAMES.get(kind, str(kind))
