"""`ntalker render`: a trained head speaks new audio, as a video with sound."""

from dataclasses import dataclass
from pathlib import Path

# torch, nerfstudio and PyAV are imported where they are used: `ntalker --help` answers at once.


@dataclass
class Render:
    """Let a trained head speak new audio and write it as a video with sound."""

    load_config: Path
    """The run's config.yml."""
    output: Path
    """A video (.mp4; .webm keeps transparency) or, without an ending, a folder of PNG pictures. It appears when it is
    complete."""
    audio: Path | None = None
    """Speech: a sound or video file of any format and rate. May be left out with --camera-path: the head then replays
    its own clip, in silence."""
    text: str | None = None
    """Text to synthesise by eSpeak NG instead of --audio (a robotic voice). For better voices give --audio from
    any speech program."""
    voice: str = "en-us+f3"
    """eSpeak NG's voice for --text: a language such as de, fr, es or cmn, with a variant after "+" (m1 to m7, f1 to
    f4)."""
    audio_features: Path | None = None
    """Features of --audio as a .npy file, for heads trained on your own features: (frames, 16, C) at 25 fps or
    (steps, C) at 50 Hz. By default the run's own extractor computes them."""
    size: int | None = None
    """Longest side of the video in px. By default the size of the training frames, or of the camera path."""
    camera_path: Path | None = None
    """A nerfstudio camera path (JSON). By default the camera replays the clip's, back and forth. A path with
    render_time shows those times of the audio, with sound where they advance at its pace; one without lasts as long as
    the audio."""
    outputs: tuple[str, ...] = ("rgb",)
    """Pictures to show side by side: rgb; the layers head, torso and background; their opacities (head_opacity and so
    on); depth, audio_motion."""
    background: str = "plate"
    """Background: plate (the clip's own), transparent, a colour (a name or #rrggbb), or a picture file."""
    eyes: str = "replay"
    """Eyes: replay (as in the clip), blink (at random intervals drawn from --seed), or an openness from 0 (closed) to
    1."""
    pose: str = "replay"
    """Head pose: replay (the clip's, back and forth), still, sway (small random motion with the statistics of the
    clip's own, drawn from --seed), or another data set (its folder or transforms.json) whose head motion is used."""
    smooth: float = 0.0
    """Smoothing of the head motion: standard deviation, in frames, of a Gaussian over time. 0 disables it."""
    seed: int = 0
    """Seed of blinks and sway."""
    refinement_weight: float | None = None
    """Weight of the refinement network of an edited head, 0 to 1. By default that of its training."""

    def main(self) -> None:
        """Loads the run, renders frame by frame, writes the video."""
        from ntalker_ns.media.video_writer import check_output
        from ntalker_ns.runs import Head

        options = {name: value for name, value in vars(self).items() if name not in ("load_config", "output")}
        check_output(self.output, self.background == "transparent", (self.audio, self.audio_features, self.camera_path))
        speech = Head(self.load_config).say(**options)
        if speech.sound is not None and not speech.shot.in_time:
            print("The times of the camera path do not advance at the pace of the audio: the video is silent.")
        count = speech.save(self.output)
        print(f"{self.output}: {count} frames, {count / speech.shot.fps:.2f} s.")
