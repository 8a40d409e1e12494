"""Annotations become checks while tests run: types and shapes of arguments, results and dataclass fields."""

import re
from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype

CHECKER = "support.annotations.check"
"""The checker's name, as jaxtyping's import hook wants it."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype that takes an int where a float is annotated, as PEP 484 and pyright do."""

COMPILED = re.compile(r"^(from|import) (numba|triton)\b", re.MULTILINE)
"""numba and Triton compile a function's source, which a wrapper around it hides: such modules stay as they are."""


ROOMS = ("face", "capture", "demo", "media", "audio")
"""The rooms whose annotations are checked so far."""


UNCHECKED = {"ntalker_ns.media.pixels"}
"""Modules left out: a type variable over torch's tensors, which are imported for the type checker only."""


def checked_modules() -> list[str]:
    """The modules of `ROOMS`, without those that hold compiled functions."""
    spec = find_spec("ntalker_ns")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    sources = [path for room in ROOMS for path in sorted((root / room).rglob("*.py")) if path.name != "__init__.py"]
    plain = [path.relative_to(root).with_suffix("") for path in sources if not COMPILED.search(path.read_text())]
    return [name for parts in plain if (name := ".".join((root.name, *parts.parts))) not in UNCHECKED]
