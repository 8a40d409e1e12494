"""The rim of the made-up head over backgrounds that were not filmed, against the head drawn over them.

The clip's generator knows each frame's head without what is behind it: the truth. Run after `ntalker demo` or
`ntalker process` on the demo's clip, with any number of heads trained on it:

    python -m scripts.benchmarks.fringe --load-config RUN/config.yml OTHER/config.yml --sheet fringe.png
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, Float32

from ntalker_ns.data.head_removal import TORSO, dilate
from ntalker_ns.demo.clip import draw_head
from ntalker_ns.demo.photograph import load_portrait
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.runs import load_run
from scripts.benchmarks.painted import Painted, Truth

BACKDROPS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "green": (0.1, 0.7, 0.2)}

Layer = Float32[np.ndarray, "h w 4"]
"""RGB multiplied by opacity, and opacity."""


@dataclass
class Fringe:
    """Measure the rim of heads over replaced backgrounds."""

    load_config: tuple[Path, ...]
    """Configs of runs on the demo's clip."""
    seconds: float = 12.0
    """Of the demo's clip."""
    clip_size: int = 256
    """Of the demo's clip, px."""
    size: int = 256
    """Of the compared pictures, px."""
    reach: int = 4
    """Pixels to either side of the head's outline that are compared."""
    sheet: Path | None = None
    """Write the first held-out frame's rims here: the truth in the first row, then each run."""

    def main(self) -> None:
        """Prints mean absolute differences in the rim, grey levels of 255; of the opacity, per cent."""
        names = ("as filmed", *BACKDROPS, "opacity")
        print("  ".join(f"{name:>9s}" for name in names))
        rows = []
        for config in self.load_config:
            figures, pictures = self.measure(config)
            print("  ".join(f"{figures[name]:9.2f}" for name in names), config)
            rows = [*(rows or [pictures[0]]), pictures[1]]
        if self.sheet is not None:
            cv2.imwrite(str(self.sheet), np.concatenate(rows)[..., ::-1])

    def measure(self, config: Path) -> tuple[dict[str, float], list[np.ndarray]]:
        """Figures of one run, and the first frame over all backdrops, true and rendered."""
        pipeline: Any = load_run(config)
        model, clip = pipeline.model, pipeline.datamanager.eval_dataset.require_clip()
        truth = Painted(config, seconds=self.seconds, clip_size=self.clip_size).truth(model.driving)
        errors: dict[str, list[float]] = {}
        pictures: list[np.ndarray] = []
        for index in map(int, np.nonzero(~model.driving.track.is_train)[0]):
            true = head_of(truth, index, self.size)
            labels = cv2.resize(clip.labels(index), (self.size, self.size), interpolation=cv2.INTER_NEAREST)
            rim = rim_of(true[..., 3] > 0.5, labels == TORSO, self.reach)
            camera = sequence_cameras(model.driving, np.array([index]), self.size, enlarge=True)
            outputs = {name: value.cpu().numpy() for name, value in model.get_outputs_for_camera(camera).items()}
            ours = np.concatenate([outputs["head"], outputs["head_opacity"]], axis=2)
            behind = {"as filmed": outputs["background"]} | {
                name: np.array(value, np.float32) for name, value in BACKDROPS.items()
            }
            over = {name: [composed(layer, colour) for layer in (true, ours)] for name, colour in behind.items()}
            for name, (goal, found) in over.items():
                errors.setdefault(name, []).append(255.0 * float(np.abs(goal - found)[rim].mean()))
            errors.setdefault("opacity", []).append(100.0 * float(np.abs(true - ours)[rim, 3].mean()))
            if not pictures:
                pictures = [to_uint8(np.concatenate([pair[k] for pair in over.values()], axis=1)) for k in (0, 1)]
        return {name: float(np.mean(values)) for name, values in errors.items()}, pictures


def head_of(truth: Truth, index: int, size: int) -> Layer:
    """The head of a frame as the data set shows it."""
    left, top, side = truth.crop
    drawn = from_uint8(to_uint8(draw_head(load_portrait(), truth.motion, index, truth.size)))
    way = cv2.INTER_CUBIC if size > side else cv2.INTER_AREA
    return np.clip(cv2.resize(drawn[top : top + side, left : left + side], (size, size), interpolation=way), 0.0, 1.0)


def rim_of(head: Bool[np.ndarray, "h w"], torso: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    """Pixels within `reach` of a head's outline, away from the torso."""
    return dilate(head, reach) & dilate(~head, reach) & ~dilate(torso, 2 * reach)


def composed(layer: Layer, behind: Float[np.ndarray, "*size 3"]) -> Float[np.ndarray, "h w 3"]:
    """A layer over a background."""
    return np.clip(layer[..., :3] + (1.0 - layer[..., 3:]) * behind, 0.0, 1.0)


if __name__ == "__main__":
    tyro.cli(Fringe).main()
