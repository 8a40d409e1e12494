"""Fields of a nested configuration, changed by dotted path."""

import copy
import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError


def changed(config: Any, fields: Mapping[str, Any]) -> Any:
    """A copy of a configuration with some fields set.

    Args:
        config: nested dataclasses and dictionaries, as nerfstudio's are.
        fields: values by dotted path ("pipeline.model.step_size"). Text becomes a path where the field is one, lists
            become tuples where it takes tuples.

    Raises:
        NTalkerError: a path names no field.
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
    else:
        setattr(config, last, _fitting(value, typing.get_type_hints(type(config)).get(last)))


def _step(config: Any, name: str, path: str) -> Any:
    known = list(config) if isinstance(config, dict) else _field_names(config)
    if name not in known:
        raise NTalkerError(f"'{path}': there is no field '{name}'; there are {', '.join(known) or 'none'}.")
    return config[name] if isinstance(config, dict) else getattr(config, name)


def _field_names(config: Any) -> list[str]:
    return [one.name for one in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []


def _fitting(value: Any, hint: Any) -> Any:
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    options = typing.get_args(hint) if union else (hint,)
    if isinstance(value, str) and Path in options and str not in options:
        return Path(value)
    if isinstance(value, list) and any(option is tuple or typing.get_origin(option) is tuple for option in options):
        return tuple(value)
    return value
