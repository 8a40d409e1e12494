"""Measures how fast this machine is at everything that takes time, each part beside its peer in nerfstudio.

Example: python scripts/benchmark.py --sections encodings --json benchmark.json
"""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import tyro

from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.speed.encodings import EncodingSizes

Section = Literal["encodings"]


@dataclass
class Benchmark:
    """Measure speed and memory beside nerfstudio's nerfacto and its hash encoding: tables, and a JSON file."""

    sections: tuple[Section, ...] = ("encodings",)
    """What is measured. encodings: the hash grids' backends, forward and backward."""
    encodings: EncodingSizes = field(default_factory=EncodingSizes)
    """Sizes of the section encodings."""
    repeats: int = 10
    """Rounds in which each case is run once; the fastest counts, since other programs only slow a run down."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is measured; auto takes CUDA where it is there."""
    json: Path | None = None
    """File to write the figures to."""

    def main(self) -> None:
        """Measures the sections one after another, prints their tables, writes the figures."""
        from rich.console import Console

        from ntalker_ns.evaluation.speed.timing import machine

        device = chosen_device(self.device)
        found: dict[str, object] = {}
        for section in self.sections:
            result = {"encodings": self._encodings}[section](device)
            found[section] = result.to_dict()
            Console().print(result.table())
        if self.json:
            settings = {name: str(value) for name, value in dataclasses.asdict(self).items() if name != "json"}
            write_json(self.json, {"machine": machine(device), "settings": settings, "sections": found})

    def _encodings(self, device: torch.device):
        from ntalker_ns.evaluation.speed.encodings import measure_encodings

        return measure_encodings(self.encodings, device, self.repeats)


def chosen_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to measure.

    Raises:
        NTalkerError: it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise NTalkerError("There is no CUDA device here; leave --device out to measure the CPU.")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if name == "auto" else name)


def write_json(path: Path, values: dict[str, object]) -> None:
    """Writes a JSON file in one piece."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_text(json.dumps(values, indent=2) + "\n", "utf8")
    os.replace(scratch, path)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Benchmark)))
