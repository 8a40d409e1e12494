"""Annotations become checks while tests run: types and shapes of arguments, results and dataclass fields."""

import re
from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype

CHECKER = "support.annotations.check"
"""The checker's name, as jaxtyping's import hook wants it."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype that takes an int where a float is annotated, as PEP 484 and pyright do."""

COMPILED = re.compile(r"^(from|import) (numba|triton|ntalker_ns\.kernels\.(numba|triton))\b", re.MULTILINE)
"""Imports of modules with compiled functions, which are left out: numba and Triton compile a function's source, and a
wrapper would hide it."""


UNCHECKED = {
    # A type variable over torch's tensors, which are imported for the type checker only.
    "ntalker_ns.media.pixels",
}
"""Modules that are left out."""


def checked_modules() -> list[str]:
    """The package's modules whose annotations are checked: those that hold no compiled functions."""
    spec = find_spec("ntalker_ns")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    sources = sorted(path for path in root.rglob("*.py") if path.name != "__init__.py")
    plain = [path.relative_to(root).with_suffix("") for path in sources if not COMPILED.search(path.read_text())]
    return [name for parts in plain if (name := ".".join((root.name, *parts.parts))) not in UNCHECKED]
