"""Times the hash grid's backends beside nerfstudio's torch encoding, in one run on this machine.

Example: python scripts/benchmark_encodings.py --points 65536 --json encodings.json
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from ntalker_ns.cli.run import run_command
from ntalker_ns.encodings.hash_grid import Backend, HashGrid

PEER = "nerfstudio torch"
PASSES = ("forward", "forward + backward to table", "... to table and coordinates")


@dataclass
class BenchmarkEncodings:
    """Time the hash grid's backends beside nerfstudio's torch encoding."""

    points: int = 65_536
    """Points encoded at once."""
    levels: int = 16
    """Levels of the grid, of 2 features each."""
    max_resolution: int = 2048
    """Cells along an edge of the finest level."""
    log2_hashmap_size: int = 16
    """Binary logarithm of the most entries a level may have."""
    repeats: int = 10
    """Rounds in which each encoding is run once; the fastest counts, since other programs only slow a run down."""
    json: Path | None = None
    """File to write the figures to, in milliseconds."""

    def main(self) -> None:
        """Times every encoding, prints the table, writes the figures."""
        milliseconds = self._fastest(self._cases())
        _show(milliseconds, f"{self.points:,} points, {self.levels} levels x 2 features")
        if self.json:
            settings = {key: str(value) for key, value in dataclasses.asdict(self).items() if key != "json"}
            settings |= {"threads": str(torch.get_num_threads()), "torch": torch.__version__}
            self.json.write_text(json.dumps({"settings": settings, "milliseconds": milliseconds}, indent=2) + "\n")

    def _cases(self) -> dict[str, dict[str, Callable[[], object]]]:
        from nerfstudio.field_components.encodings import HashEncoding

        peer = HashEncoding(
            num_levels=self.levels,
            max_res=self.max_resolution,
            log2_hashmap_size=self.log2_hashmap_size,
            implementation="torch",
        )
        points = torch.rand(self.points, 3)
        return {
            PEER: _passes(peer, points),
            "torch 3D": _passes(self._grid(3, "torch"), points),
            "numba 3D": _passes(self._grid(3, "numba"), points),
            "numba 2D": _passes(self._grid(2, "numba"), points[:, :2].contiguous()),
        }

    def _grid(self, dims: int, backend: Backend) -> HashGrid:
        return HashGrid(
            dims,
            num_levels=self.levels,
            max_resolution=self.max_resolution,
            log2_hashmap_size=self.log2_hashmap_size,
            backend=backend,
        )

    def _fastest(self, cases: dict[str, dict[str, Callable[[], object]]]) -> dict[str, dict[str, float]]:
        """Milliseconds of each pass: one warm-up, then rounds over all of them, so that noise meets all alike."""
        best = {name: dict.fromkeys(passes, float("inf")) for name, passes in cases.items()}
        for repeat in range(self.repeats + 1):
            for name, passes in cases.items():
                for title, run in passes.items():
                    begin = time.perf_counter()
                    run()
                    if repeat:
                        best[name][title] = min(best[name][title], 1e3 * (time.perf_counter() - begin))
        return best


def _passes(encoding: nn.Module, points: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed of an encoding, by title."""
    moving = points.clone().requires_grad_()
    upstream = torch.randn_like(encoding(points).detach())

    def backward(inputs: Tensor) -> None:
        encoding.zero_grad()
        moving.grad = None
        encoding(inputs).backward(upstream)

    forward = torch.no_grad()(lambda: encoding(points))
    return dict(zip(PASSES, (forward, lambda: backward(points), lambda: backward(moving)), strict=True))


def _show(milliseconds: dict[str, dict[str, float]], title: str) -> None:
    """Prints milliseconds, and in brackets how many times as fast as the peer."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}: milliseconds (times the speed of {PEER})")
    table.add_column("encoding")
    for column in PASSES:
        table.add_column(column, justify="right")
    for name, figures in milliseconds.items():
        table.add_row(name, *(f"{figures[key]:.1f} ({milliseconds[PEER][key] / figures[key]:.1f}x)" for key in PASSES))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(BenchmarkEncodings)))
