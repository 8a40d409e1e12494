"""A trainer that writes a first picture of the head early in training."""

from pathlib import Path
from typing import Any

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from ntalker_ns.media.contact_sheet import write_picture
from ntalker_ns.media.pixels import to_uint8
from ntalker_ns.talker_trainer import TalkerTrainer

FIRST_STEPS = 100
"""Training steps before the picture."""


class FirstPictureTrainer(TalkerTrainer):
    """Writes one held-out frame, the true one on the left and the head's on the right, after `FIRST_STEPS` steps."""

    def __init__(self, config: Any, path: Path, **kwargs: Any) -> None:
        """
        Args:
            config: of the run.
            path: the picture to write.
            kwargs: further arguments of `TalkerTrainer`.
        """
        super().__init__(config, **kwargs)
        self.path = path

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Builds everything, with the picture among the callbacks."""
        super().setup(*args, **kwargs)
        step = min(FIRST_STEPS, self.config.max_num_iterations) - 1
        after = [TrainingCallbackLocation.AFTER_TRAIN_ITERATION]
        self.callbacks.append(TrainingCallback(after, self.write_first_picture, iters=(step,)))

    def write_first_picture(self, step: int) -> None:
        """Renders and writes the picture.

        Args:
            step: training step that was done last.
        """
        picture = self.pipeline.get_eval_image_metrics_and_images(step)[1]["img"]
        write_picture(self.path, to_uint8(picture))
        print(f"A first picture of the head, after {step + 1} steps (left: the film): {self.path}", flush=True)
