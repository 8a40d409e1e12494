"""`ntalker render`: a trained head speaks new audio, as a video with sound."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntalker_ns.errors import NTalkerError

# torch, nerfstudio and PyAV are imported where they are used: `ntalker --help` answers at once.
if TYPE_CHECKING:
    from ntalker_ns.media.sound import Sound
    from ntalker_ns.speech.closures import Closure


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
        from ntalker_ns.driving.cameras import Shot, path_shot, sequence_cameras
        from ntalker_ns.driving.controls import controlled
        from ntalker_ns.driving.new_audio import sequence_for_audio
        from ntalker_ns.media.video_writer import write_frames
        from ntalker_ns.rendering.video_frames import rendered_frames, with_progress
        from ntalker_ns.runs import check_refinement_weight, load_run

        sound, closures = self._check()
        pipeline = load_run(self.load_config)
        model: Any = pipeline.model
        clip = sequence = model.driving
        if sound is not None:
            sequence = sequence_for_audio(clip, sound, self.audio_features, closures)
        sequence = controlled(sequence, clip, self.eyes, self.pose, self.smooth, self.seed)
        model.set_driving(sequence)
        model.portrait.set_background(self.background)
        if self.refinement_weight is not None:
            check_refinement_weight(model, self.refinement_weight)
            model.refinement_weight = self.refinement_weight
        size = self.size or pipeline.config.datamanager.dataparser.image_size
        if self.camera_path is None:
            shot = Shot(sequence_cameras(sequence, size=size, enlarge=True), sequence.fps, in_time=True)
        else:
            shot = path_shot(self.camera_path, sequence, self.size)
        if sound is not None and not shot.in_time:
            print("The times of the camera path do not advance at the pace of the audio: the video is silent.")
        frames = rendered_frames(model, shot.cameras, self.outputs, self._is_transparent())
        frames = with_progress(frames, len(shot.cameras))
        count = write_frames(self.output, frames, shot.fps, sound if shot.in_time else None)
        print(f"{self.output}: {count} frames, {count / shot.fps:.2f} s.")

    def _check(self) -> "tuple[Sound | None, list[Closure] | None]":
        """Checks the options before the run is loaded, and decodes the audio; speaks the text, and says when it closes
        the lips."""
        from ntalker_ns.driving.controls import check_controls
        from ntalker_ns.media.sound import read_sound
        from ntalker_ns.media.video_writer import check_output
        from ntalker_ns.rendering.background import Background

        if self.audio is None and self.text is None and self.camera_path is None:
            raise NTalkerError("Give --audio with speech, --text to speak, or --camera-path to look around in silence.")
        if self.audio is not None and self.text is not None:
            raise NTalkerError("Give --audio or --text, not both.")
        if self.audio is None and self.audio_features is not None:
            raise NTalkerError("--audio-features needs the sound that belongs to them: give --audio too.")
        Background.parse(self.background)
        check_controls(self.eyes, self.pose, self.smooth, self.seed)
        if not self.outputs:
            raise NTalkerError("--outputs is empty: give rgb, or several outputs.")
        if self.refinement_weight is not None and not 0.0 <= self.refinement_weight <= 1.0:
            raise NTalkerError(f"--refinement-weight {self.refinement_weight:g} is not between 0 and 1.")
        if self.size is not None and self.size < 16:
            raise NTalkerError(f"--size {self.size} is too small: give at least 16 px.")
        given = (self.audio, self.audio_features, self.camera_path)
        for path in given:
            if path is not None and not path.is_file():
                raise NTalkerError(f"There is no file at '{path}'.")
        check_output(self.output, self._is_transparent(), given)
        if self.text is not None:
            return _spoken(self.text, self.voice)
        return None if self.audio is None else read_sound(self.audio), None

    def _is_transparent(self) -> bool:
        return self.background == "transparent"


def _spoken(text: str, voice: str) -> "tuple[Sound, list[Closure]]":
    from ntalker_ns.media.espeak import synthesize_phonemes
    from ntalker_ns.media.sound import Sound
    from ntalker_ns.speech.closures import closures_of

    if not text.strip():
        raise NTalkerError("--text is empty: give words to speak.")
    waveform, rate, phonemes = synthesize_phonemes(text, voice)
    return Sound.of_waveform(waveform, rate), closures_of(phonemes, len(waveform) / rate)
