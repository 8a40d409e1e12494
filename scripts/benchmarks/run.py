"""Benchmarks of everything that takes time, each beside its peer in nerfstudio.

Examples:
    python -m scripts.benchmarks.run --sections encodings
    python -m scripts.benchmarks.run --data data/anna --load-config outputs/anna/ntalker-base-small/TIME/config.yml
    python -m scripts.benchmarks.run --sections precision --load-config outputs/anna/ntalker-base-small/TIME/config.yml
    python -m scripts.benchmarks.run --sections kernels encodings curve step frames --data data/anna \\
        --method ntalker-base
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import tyro

from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError
from scripts.benchmarks.curve import CurveSizes
from scripts.benchmarks.diffusion import DiffusionSizes
from scripts.benchmarks.edits import EditSizes
from scripts.benchmarks.encodings import EncodingSizes
from scripts.benchmarks.frames import FrameSizes
from scripts.benchmarks.gaussians import GaussianSizes
from scripts.benchmarks.kernels import KernelSizes
from scripts.benchmarks.precision import PrecisionSizes
from scripts.benchmarks.steps import StepSizes

if TYPE_CHECKING:
    from scripts.benchmarks.training import Training

Section = Literal["encodings", "kernels", "curve", "step", "frames", "precision", "editor", "edit", "gaussians"]


@dataclass
class Benchmark:
    """Measure speed and memory against nerfstudio's nerfacto and its hash encoding: tables, and a JSON file."""

    sections: tuple[Section, ...] = ("encodings", "step", "frames")
    """Sections, in this order. encodings: the hash grids' backends. kernels: every Triton kernel, first
    checked against its reference (CUDA). curve: held-out PSNR over training time. step: a training step, the breakdown
    of its time, its memory. frames: rendering. precision: loss of quality in half precision. The last three take the
    head that curve trained, where it comes before. editor: the paper's diffusion model with random weights. edit: a
    whole edit of the run of --load-config. gaussians: rasterisation of made-up heads."""
    data: Path | None = None
    """Data set; needed by curve, and by step, frames and precision where no run is loaded."""
    load_config: Path | None = None
    """A run's config.yml: step, frames and precision take its head."""
    method: str = "ntalker-base-small"
    """Method that is trained where no run is loaded."""
    max_num_iterations: int | None = None
    """Length of its schedules in steps; by default the method's. Curves of fewer seconds need fewer."""
    train_steps: int = 300
    """Training steps before step, frames and precision: the occupancy grid has to find empty space first."""
    encodings: EncodingSizes = field(default_factory=EncodingSizes)
    """Sizes of the section encodings."""
    kernels: KernelSizes = field(default_factory=KernelSizes)
    """Sizes of the section kernels."""
    curve: CurveSizes = field(default_factory=CurveSizes)
    """Sizes of the section curve."""
    step: StepSizes = field(default_factory=StepSizes)
    """Sizes of the section step."""
    frames: FrameSizes = field(default_factory=FrameSizes)
    """Sizes of the section frames."""
    precision: PrecisionSizes = field(default_factory=PrecisionSizes)
    """Sizes of the section precision."""
    editor: DiffusionSizes = field(default_factory=DiffusionSizes)
    """Sizes of the section editor."""
    edit: EditSizes = field(default_factory=EditSizes)
    """Sizes of the section edit."""
    gaussians: GaussianSizes = field(default_factory=GaussianSizes)
    """Sizes of the section gaussians."""
    keep: Path | None = None
    """Folder to keep the trained run in; by default none is kept."""
    repeats: int = 10
    """Rounds of encodings and kernels, in which each case is run once; the fastest counts, since other programs only
    slow a run down."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; auto takes CUDA where available."""
    json: Path | None = None
    """File to write the figures to."""

    def main(self) -> None:
        """Measures the sections one after another, prints their tables, writes the figures."""
        from rich.console import Console

        from scripts.benchmarks.timing import machine

        self._check()
        device = chosen_device(self.device)
        found: dict[str, object] = {}
        with tempfile.TemporaryDirectory(prefix="ntalker-benchmark-") as folder:
            bench = Bench(self, device, Path(folder))
            for section in self.sections:
                result = bench.measure(section)
                found[section] = result.to_dict()
                Console().print(result.table())
                if self.json:
                    # After each section: a machine that is rented for minutes may end before the last one does.
                    settings = {name: str(value) for name, value in dataclasses.asdict(self).items() if name != "json"}
                    write_json(self.json, {"machine": machine(device), "settings": settings, "sections": found})
        bench.require_agreement()

    def _check(self) -> None:
        """Checks the options before anything is measured."""
        if self.data is None and "curve" in self.sections:
            raise NTalkerError("The section curve trains: give --data with the folder that ntalker process wrote.")
        if self.load_config is None and "edit" in self.sections:
            raise NTalkerError("The section edit edits a trained head: give --load-config with its config.yml.")
        heads = [section for section in self.sections if section in ("step", "frames", "precision")]
        if self.data is None and self.load_config is None and heads:
            raise NTalkerError(f"A head is needed for {', '.join(heads)}: give --load-config, or --data to train one.")


class Bench:
    """The sections, and the head that they share."""

    def __init__(self, options: Benchmark, device: torch.device, folder: Path) -> None:
        self._options, self._device, self._folder = options, device, folder
        self._trained: Training | None = None
        self._agreements: list[Callable[[], None]] = []

    def measure(self, section: Section) -> Any:
        """Measures a section; gives something with a `table` and a `to_dict`."""
        sections = {
            "encodings": self._encodings,
            "kernels": self._kernels,
            "curve": self._curve,
            "step": self._step,
            "frames": self._frames,
            "precision": self._precision,
            "editor": self._editor,
            "edit": self._edit,
            "gaussians": self._gaussians,
        }
        return sections[section]()

    def require_agreement(self) -> None:
        """Ends with an error where a kernel was found to differ from its reference."""
        for agreement in self._agreements:
            agreement()

    def _encodings(self) -> Any:
        from scripts.benchmarks.encodings import measure_encodings

        return measure_encodings(self._options.encodings, self._device, self._options.repeats)

    def _kernels(self) -> Any:
        from scripts.benchmarks.kernels import measure_kernels

        results = measure_kernels(self._options.kernels, self._device, self._options.repeats)
        self._agreements.append(results.require_agreement)
        return results

    def _curve(self) -> Any:
        from scripts.benchmarks.curve import measure_curves

        training = self._start()
        curves = measure_curves(training, self._options.curve)
        self._trained = training
        if self._options.keep is not None:
            training.trainer.save_checkpoint(training.steps - 1)
        return curves

    def _step(self) -> Any:
        from scripts.benchmarks.steps import measure_steps

        return measure_steps(self._head(), self._options.step)

    def _frames(self) -> Any:
        from scripts.benchmarks.frames import measure_frames

        return measure_frames(self._head(), self._options.frames)

    def _precision(self) -> Any:
        from scripts.benchmarks.precision import measure_precision

        return measure_precision(self._head(), self._options.precision)

    def _editor(self) -> Any:
        from scripts.benchmarks.diffusion import measure_diffusion

        return measure_diffusion(self._options.editor, self._device, self._folder)

    def _edit(self) -> Any:
        from scripts.benchmarks.edits import measure_edits

        assert self._options.load_config is not None
        return measure_edits(self._options.load_config, self._folder, self._device, self._options.edit)

    def _gaussians(self) -> Any:
        from scripts.benchmarks.gaussians import measure_gaussians

        return measure_gaussians(self._options.gaussians, self._device, self._options.repeats)

    def _start(self) -> "Training":
        from scripts.benchmarks.training import start_ours

        options = self._options
        assert options.data is not None
        changes = {} if options.max_num_iterations is None else {"max_num_iterations": options.max_num_iterations}
        return start_ours(options.method, options.data, options.keep or self._folder, self._device, **changes)

    def _head(self) -> "Training":
        """The run that is loaded, the head that curve trained, or one that is trained now."""
        from scripts.benchmarks.training import resume_ours

        if self._trained is None:
            if self._options.load_config is not None:
                self._trained = resume_ours(self._options.load_config, self._folder, self._device)
            else:
                self._trained = self._start()
                self._trained.run(self._options.train_steps, "Training ours")
        return self._trained


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
