"""`ntalker frame`: one frame of a head as an image, to be edited and used as the target of an edit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntalker_ns.errors import NTalkerError


@dataclass
class WriteFrame:
    """Write one frame of a head as a picture. Edit it with any program, then train the head on it:
    ns-train ntalker-edit-small --base RUN editor:picture --editor.picture FILE."""

    load_config: Path
    """The run's config.yml."""
    output: Path
    """Output image (.png). Its metadata hold frame, camera, time and face; where a program drops them, give
    --editor.frame."""
    frame: int | None = None
    """Frame of the clip. By default one from the front, with open eyes and a slightly open mouth."""
    size: int | None = None
    """Longest side in px. By default the clip's."""

    def main(self) -> None:
        """Loads the run, renders the frame, writes it."""
        from ntalker_ns.editing.given_frame import FrameDescription, rendered_frame, write_frame
        from ntalker_ns.runs import load_run

        if self.output.suffix.lower() != ".png":
            raise NTalkerError(f"{self.output} does not end in .png: the frame's camera and time are stored in a PNG.")
        model: Any = load_run(self.load_config).model
        frame, picture = rendered_frame(model, self.frame, self.size)
        write_frame(self.output, picture, FrameDescription.of(model.driving, frame, self.size))
        print(f"{self.output}: frame {frame} of {len(model.driving)}, {picture.shape[1]} x {picture.shape[0]} px.")
