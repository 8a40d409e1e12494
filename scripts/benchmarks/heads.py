"""Time of frames of several heads, which take turns in one process, so that other programs slow all of them alike.

NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m scripts.benchmarks.heads --load-config RUN/config.yml OTHER/config.yml
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from ntalker_ns.cli.run import run_command
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.runs import load_run


@dataclass
class Heads:
    """Time frames of heads in turns: the head alone, and the whole portrait to a video's frame."""

    load_config: tuple[Path, ...]
    """Configs of the runs."""
    sizes: tuple[int, ...] = (256, 512)
    """Longest sides of the pictures, px."""
    frames: int = 20
    """Frames of each head and size, after one to warm up; the head moves from each to the next."""

    def main(self) -> None:
        """Prints medians."""
        models = [load_run(path).eval().model for path in self.load_config]
        table = Table("px", "what", "head", "processor, ms", "clock, ms", "over the last head's", title="A frame")
        for size in self.sizes:
            for what, render in (("head", head_alone), ("portrait", portrait)):
                times = self.measure(models, size, render)
                last = statistics.median(times[-1].processor)
                for path, each in zip(self.load_config, times, strict=True):
                    processor, clock = statistics.median(each.processor), statistics.median(each.clock)
                    row = (f"{processor:.1f}", f"{clock:.1f}", f"{processor / last:.4f}")
                    table.add_row(str(size), what, path.parent.parent.name, *row)
        Console().print(table)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"Peak memory of this process, all heads in it: {peak:.0f} MiB")

    def measure(self, models: list[Any], size: int, render: Callable[[Any, Any], object]) -> list["Times"]:
        """Seconds of each head's frames, the heads taking turns."""
        times = [Times() for _ in models]
        for number in range(self.frames + 1):
            for model, found in zip(models, times, strict=True):
                index = number % len(model.driving)
                camera = sequence_cameras(model.driving, size=size, enlarge=True)[index : index + 1]
                clock, processor = time.perf_counter(), time.process_time()
                render(model, camera)
                if number:
                    found.processor.append(1e3 * (time.process_time() - processor))
                    found.clock.append(1e3 * (time.perf_counter() - clock))
        return times


@dataclass
class Times:
    """Milliseconds of a head's frames."""

    processor: list[float] = field(default_factory=list)
    """All threads together."""
    clock: list[float] = field(default_factory=list)


def head_alone(model: Any, camera: Any) -> object:
    """Colour and opacity of the head."""
    camera = camera.to("cpu").flatten()
    return model.head.seen(camera, *model._shown(model._frame_of(camera), camera))


def portrait(model: Any, camera: Any) -> object:
    """A frame of a video."""
    return model.video_frame(camera)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(Heads)))
