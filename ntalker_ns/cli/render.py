"""`ntalker render`: a trained head speaks new audio, as a video with sound."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.new_audio import sequence_for_audio
from ntalker_ns.errors import NTalkerError, in_words
from ntalker_ns.runs import load_run, set_refinement_weight

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from ntalker_ns.driving.sequence import DrivingSequence


@dataclass
class Render:
    """Let a trained head speak new audio and write it as a video with sound."""

    load_config: Path
    """The run's config.yml."""
    output: Path
    """What to write: a video (.mp4; .webm keeps transparency) or, without an ending, a folder of PNG pictures. It
    appears when it is complete."""
    audio: Path | None = None
    """What the head shall say: a sound or video file of any format and rate. Only a camera path does without: it then
    shows the clip that the head was trained on, in silence."""
    audio_features: Path | None = None
    """Features of --audio as a .npy file, for heads trained on features of one's own: (frames, 16, C) at 25 fps or
    (steps, C) at 50 Hz. By default the run's own extractor computes them."""
    size: int | None = None
    """Longest side of the video in px. By default the size of the training frames, or of the camera path."""
    camera_path: Path | None = None
    """A nerfstudio camera path (JSON) to move the camera along; by default the camera replays the clip's, back and
    forth. A path with render_time shows those places in the audio, and has sound where they pass at its pace; one
    without lasts as long as the audio."""
    outputs: tuple[str, ...] = ("rgb",)
    """What to show, side by side: rgb; head, torso, background, each alone; their opacities (head_opacity and so on);
    depth, audio_motion."""
    background: str = "plate"
    """What is behind the person: plate (the clip's own), transparent, a colour (a name or #rrggbb), or a picture
    file."""
    eyes: str = "replay"
    """How the eyes open: replay (as in the clip), blink (now and then, drawn from --seed), or 0 (closed) to 1."""
    pose: str = "replay"
    """How the head is held: replay (as in the clip, back and forth), still, sway (small motion of the person's own
    kind, drawn from --seed), or another data set (its folder or transforms.json), whose head motion is taken."""
    smooth: float = 0.0
    """Calms the head's motion: standard deviation, in frames, of a Gaussian over time; 0 leaves it as it is."""
    seed: int = 0
    """Draws blinks and sway: the same seed gives the same."""
    refinement_weight: float | None = None
    """For edited heads: how much of the refinement network is in the picture, 0 to 1. By default as it was trained."""

    def main(self) -> None:
        """Loads the run, renders frame by frame, writes the video."""
        from ntalker_ns.driving.controls import controlled
        from ntalker_ns.media.video_writer import write_frames
        from ntalker_ns.rendering.video_frames import rendered_frames, with_progress

        self._check()
        pipeline = load_run(self.load_config)
        model: Any = pipeline.model
        clip = sequence = model.driving
        if self.audio is not None:
            sequence = sequence_for_audio(clip, self.audio, self.audio_features)
        sequence = controlled(sequence, clip, self.eyes, self.pose, self.smooth, self.seed)
        model.set_driving(sequence)
        model.portrait.set_background(self.background)
        if self.refinement_weight is not None:
            set_refinement_weight(model, self.refinement_weight)
        size = self.size or pipeline.config.datamanager.dataparser.image_size
        if self.camera_path is None:
            shot = Shot(sequence_cameras(sequence, size=size, enlarge=True), sequence.fps, speaks=True)
        else:
            shot = path_shot(self.camera_path, sequence, self.size)
        if self.audio is not None and not shot.speaks:
            print("The camera path does not pass through the audio at its pace: the video is silent.")
        frames = rendered_frames(model, shot.cameras, self.outputs, self._is_transparent())
        frames = with_progress(frames, len(shot.cameras))
        count = write_frames(self.output, frames, shot.fps, self.audio if shot.speaks else None)
        print(f"{self.output}: {count} frames, {count / shot.fps:.2f} s.")

    def _check(self) -> None:
        """What can be said before the run is loaded."""
        from ntalker_ns.audio.io import read_audio
        from ntalker_ns.driving.controls import check_controls
        from ntalker_ns.media.video_writer import check_output
        from ntalker_ns.rendering.background import Background

        if self.audio is None and self.camera_path is None:
            raise NTalkerError("Give --audio with what the head shall say, or --camera-path to look around in silence.")
        if self.audio is None and self.audio_features is not None:
            raise NTalkerError("--audio-features needs the sound that belongs to them: give --audio too.")
        Background.parse(self.background)
        check_controls(self.eyes, self.pose, self.smooth, self.seed)
        if not self.outputs:
            raise NTalkerError("--outputs names nothing to show: give rgb, or several outputs.")
        if self.refinement_weight is not None and not 0.0 <= self.refinement_weight <= 1.0:
            raise NTalkerError(f"--refinement-weight {self.refinement_weight:g} is not between 0 and 1.")
        if self.size is not None and self.size < 16:
            raise NTalkerError(f"--size {self.size} is too small: give at least 16 px.")
        given = (self.audio, self.audio_features, self.camera_path)
        for path in given:
            if path is not None and not path.is_file():
                raise NTalkerError(f"There is no file at '{path}'.")
        check_output(self.output, self._is_transparent(), given)
        if self.audio is not None:
            # Read again when it is used: to load a run takes much longer.
            read_audio(self.audio)

    def _is_transparent(self) -> bool:
        return self.background == "transparent"


@dataclass(frozen=True)
class Shot:
    """Cameras with times, and how fast they pass."""

    cameras: "Cameras"
    """One a frame."""
    fps: float
    """Frames per second."""
    speaks: bool
    """Whether the frames pass through the audio from its start at its own pace, so that its sound fits them."""


def path_shot(path: Path, sequence: "DrivingSequence", size: int | None = None) -> Shot:
    """A nerfstudio camera path along a driving sequence.

    Where its cameras have a `render_time`, each frame shows that place in the audio. Where they have none, the frames
    pass at the audio's pace until it ends; a path that ends earlier holds its last camera.

    Args:
        path: the JSON file that the viewer saves.
        sequence: what drives the head.
        size: longest side of the pictures in px; None for the path's own.

    Raises:
        NTalkerError: the file is no camera path.
    """
    import torch
    from nerfstudio.cameras.camera_paths import get_path_from_json

    try:
        description = json.loads(path.read_text())
        if not description["camera_path"]:
            raise ValueError("it has no cameras")
        cameras = get_path_from_json(description)
        fps = float(description.get("fps", sequence.fps))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise NTalkerError(f"'{path}' is not a nerfstudio camera path ({in_words(error)}).") from error
    sides = torch.cat([cameras.width, cameras.height])
    if sides.min() < 1 or not 0.0 < fps < float("inf"):
        raise NTalkerError(f"'{path}' needs a render_width, a render_height and an fps above 0: save the path again.")
    if size is not None:
        cameras.rescale_output_resolution(size / int(sides.max()))
    last = max(len(sequence) - 1, 1)
    if cameras.times is None:
        count = max(1, round(len(sequence) / sequence.fps * fps))
        cameras = cameras[torch.arange(count).clamp(max=len(cameras) - 1)]
        places = torch.arange(count) / fps * sequence.fps
        cameras.times = (places / last).clamp(max=1.0)[:, None]
        return Shot(cameras, fps, speaks=True)
    places = cameras.times.flatten() * last
    pace = torch.arange(len(places)) / fps * sequence.fps
    return Shot(cameras, fps, speaks=bool((places - pace).abs().max() <= 1.0))
