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
        import numpy as np

        from ntalker_ns.driving.cameras import sequence_cameras
        from ntalker_ns.editing.given_frame import FrameDescription, frame_to_edit, write_frame
        from ntalker_ns.media.pixels import to_uint8
        from ntalker_ns.runs import load_run

        if self.output.suffix.lower() != ".png":
            raise NTalkerError(f"{self.output} does not end in .png: the frame's camera and time are stored in a PNG.")
        if self.size is not None and self.size < 16:
            raise NTalkerError(f"--size {self.size} is too small: give at least 16 px.")
        model: Any = load_run(self.load_config).model
        sequence = model.driving
        frame = frame_to_edit(sequence) if self.frame is None else self.frame
        if not 0 <= frame < len(sequence):
            raise NTalkerError(f"There is no frame {frame}: the clip has frames 0 to {len(sequence) - 1}.")
        camera = sequence_cameras(sequence, np.array([frame]), self.size, enlarge=True)
        outputs = model.get_outputs_for_camera(camera)
        # The editor works on the field's own picture, which the refinement of an edited head follows.
        picture = to_uint8(outputs.get("field_rgb", outputs["rgb"]))
        write_frame(self.output, picture, FrameDescription.of(sequence, frame, self.size))
        print(f"{self.output}: frame {frame} of {len(sequence)}, {picture.shape[1]} x {picture.shape[0]} px.")
