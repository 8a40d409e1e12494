"""Python interface: trains as `ns-train` does, loads heads, and renders them with new audio."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound, read_sound
from ntalker_ns.run_folder import absolute, load_run
from ntalker_ns.training.overrides import changed

if TYPE_CHECKING:
    from ntalker_ns.driving.cameras import Shot
    from ntalker_ns.rendering.display import DisplayOptions
    from ntalker_ns.speech.closures import Closure


def train(
    data: str | Path,
    method: str = "ntalker-base",
    *,
    output_dir: str | Path = "outputs",
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Trains a head on a data set, in this process and without a viewer.

    Args:
        data: folder that `process_clip` wrote, or a data set of RAD-NeRF's format.
        method: "ntalker-splat" or "ntalker-base"; with "-small" appended for a CPU or a small GPU.
        output_dir: where the run folder goes, as EXPERIMENT/METHOD/TIME.
        steps: training steps; None takes the method's.
        options: further options of `ns-train METHOD`, by dotted path.

    Returns:
        The run's config.yml.

    Raises:
        NTalkerError: the data or an option cannot be used.

    Examples:
        >>> options = {"pipeline.datamanager.dataparser.image_size": 32}
        >>> run = train(data, "ntalker-base-small", output_dir=folder, steps=2, options=options)
        >>> run.name
        'config.yml'
    """
    config = configured(method, options or {}, data=absolute(Path(data)), output_dir=absolute(Path(output_dir)))
    if steps is not None:
        config.max_num_iterations = steps
    return train_config(config)


def edit(
    run: str | Path,
    instruction: str,
    *,
    method: str = "ntalker-edit",
    output_dir: str | Path = "outputs",
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Edits a trained head by an instruction (the paper's progressive dataset update).

    Args:
        run: config.yml, run folder or checkpoint of the head.
        instruction: such as "Turn him into a bronze statue".
        method: "ntalker-edit", or "ntalker-edit-small" for a CPU or a small GPU.
        output_dir: where the run folder of the edited head goes.
        options: further options of `ns-train METHOD`, by dotted path; "editor" is an editor's name: "filter" (offline,
            no weights), "style", "picture", "ip2p" (InstructPix2Pix) or "diffusers".

    Returns:
        The edited run's config.yml.

    Raises:
        NTalkerError: there is no such run, or an option cannot be used.

    Examples:
        >>> options = {"editor": "filter", "edit.num_frames": 4, "edit.epochs": 1, "edit.lip_epochs": 0}
        >>> edited = edit(run, "Make it sepia", method="ntalker-edit-small", output_dir=folder, options=options)
        >>> load_head(edited).edited
        True
    """
    fields = {"base": absolute(Path(run)), "output_dir": absolute(Path(output_dir)), "instruction": instruction}
    return train_config(configured(method, options or {}, **fields))


def load_head(run: str | Path) -> "Head":
    """Loads a trained head, from wherever its run folder lies now; its data set is not needed.

    Args:
        run: the run's config.yml, or its folder.

    Raises:
        NTalkerError: there is no such run, or it has no checkpoint.

    Examples:
        >>> head = load_head(run)
        >>> head.fps
        25.0
    """
    path = Path(run)
    head = Head(path / "config.yml" if path.is_dir() else path)
    _ = head.pipeline
    return head


class Head:
    """A trained head that renders new audio; see `load_head`.

    Examples:
        >>> load_head(run).edited
        False
    """

    def __init__(self, config: Path) -> None:
        """
        Args:
            config: the run's config.yml; the head is loaded when it is first needed, after the options are checked.
        """
        self._config = config

    @cached_property
    def pipeline(self) -> Any:
        """The loaded `TalkerPipeline`."""
        return load_run(self._config)

    @cached_property
    def clip(self) -> DrivingSequence:
        """The driving sequence of the training clip."""
        return self.pipeline.model.driving

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.clip.fps

    @property
    def edited(self) -> bool:
        """Whether it was edited by an instruction."""
        return self.pipeline.model.edited

    def say(
        self,
        audio: str | Path | None = None,
        *,
        text: str | None = None,
        voice: str = "en-us+f3",
        audio_features: Path | None = None,
        size: int | None = None,
        camera_path: Path | None = None,
        outputs: tuple[str, ...] = ("rgb",),
        background: str = "plate",
        eyes: str = "replay",
        pose: str = "replay",
        smooth: float = 0.0,
        seed: int = 0,
        refinement_weight: float | None = None,
    ) -> "Speech":
        """Renders the head with new audio. Options are those of `ntalker render`.

        Args:
            audio: a sound or video file of any format and rate; with a camera path it may be left out: the head then
                replays its own clip, in silence.
            text: to synthesise by eSpeak NG instead.
            voice: eSpeak NG's.
            audio_features: features of the audio as a .npy file; None computes them.
            size: longest side of the frames in px; None takes that of the training frames, or of the camera path.
            camera_path: a nerfstudio camera path; None for the clip's camera.
            outputs: pictures to show side by side.
            background: "plate" (the clip's own), "transparent" (frames then are RGBA), a colour (a name or #rrggbb), or
                a picture file.
            eyes: "replay" (as in the clip), "blink", or openness "0" to "1".
            pose: "replay" (as in the clip, back and forth), "still", "sway", or another data set's folder.
            smooth: standard deviation, in frames, of a Gaussian that smooths the head's motion over time.
            seed: of blinks and sway.
            refinement_weight: weight of an edited head's refinement network, 0 to 1; None as in training.

        Returns:
            The frames, rendered while they are iterated over.

        Raises:
            NTalkerError: the audio or an option cannot be used.

        Examples:
            >>> spoken = load_head(run).say(speech, size=24)
            >>> for frame in spoken:
            ...     pass
            >>> frame.shape, frame.dtype
            ((24, 24, 3), dtype('uint8'))
            >>> spoken.save(folder / "spoken.mp4") == len(spoken)
            True
        """
        from ntalker_ns.driving.cameras import Shot, path_shot, sequence_cameras
        from ntalker_ns.driving.controls import check_controls, controlled
        from ntalker_ns.driving.new_audio import sequence_for_audio
        from ntalker_ns.rendering.background import Background
        from ntalker_ns.rendering.display import DisplayOptions

        # Everything that needs no head comes first: loading one takes seconds.
        audio = None if audio is None else Path(audio)
        _check_sources(audio, text, audio_features, camera_path)
        display = DisplayOptions(Background.parse(background), refinement_weight)
        check_controls(eyes, pose, smooth, seed)
        if not outputs:
            raise NTalkerError("--outputs is empty: give rgb, or several outputs.")
        if refinement_weight is not None and not 0.0 <= refinement_weight <= 1.0:
            raise NTalkerError(f"--refinement-weight {refinement_weight:g} is not between 0 and 1.")
        if size is not None and size < 16:
            raise NTalkerError(f"--size {size} is too small: give at least 16 px.")
        sound, closures = _spoken(text, voice) if text is not None else (audio and read_sound(audio), None)
        if refinement_weight is not None and not self.edited:
            raise NTalkerError(
                "--refinement-weight is for edited heads (ntalker-edit); this run is none: leave it out."
            )
        sequence = self.clip if sound is None else sequence_for_audio(self.clip, sound, audio_features, closures)
        sequence = controlled(sequence, self.clip, eyes, pose, smooth, seed)
        if camera_path is None:
            size = size or self.pipeline.config.datamanager.dataparser.image_size
            shot = Shot(sequence_cameras(sequence, size=size, enlarge=True), sequence.fps, in_time=True)
        else:
            shot = path_shot(camera_path, sequence, size)
        files = tuple(path for path in (audio, audio_features, camera_path) if path is not None)
        return Speech(self, sound, sequence, shot, display, outputs, files)


@dataclass(frozen=True)
class Speech:
    """The frames of a head that speaks, rendered while they are iterated over; see `Head.say`.

    Examples:
        >>> len(load_head(run).say(speech))
        5
    """

    head: Head
    sound: Sound | None
    sequence: DrivingSequence
    """The driving sequence."""
    shot: "Shot"
    """Cameras and frame rate."""
    display: "DisplayOptions"
    outputs: tuple[str, ...] = ("rgb",)
    """Pictures side by side."""
    files: tuple[Path, ...] = ()
    """What it is made from."""

    def __len__(self) -> int:
        return len(self.shot.cameras)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w channels"]]:
        from ntalker_ns.rendering.video_frames import rendered_frames

        model = self.head.pipeline.model
        model.set_driving(self.sequence)
        return rendered_frames(model, self.shot.cameras, self.display, self.outputs)

    def save(self, path: str | Path) -> int:
        """Writes a video, with sound where the cameras advance at its pace; it appears when it is complete.

        Args:
            path: an .mp4 or .webm file, or a folder for PNG pictures.

        Returns:
            The number of frames.

        Raises:
            NTalkerError: it cannot be written.

        Examples:
            >>> load_head(run).say(speech, size=16).save(folder / "frames")
            5
        """
        from ntalker_ns.media.video_writer import check_output, write_frames
        from ntalker_ns.rendering.video_frames import with_progress

        check_output(Path(path), self.display.transparent, self.files)
        sound = self.sound if self.shot.in_time else None
        return write_frames(Path(path), with_progress(self, len(self)), self.shot.fps, sound)


def _check_sources(audio: Path | None, text: str | None, features: Path | None, camera_path: Path | None) -> None:
    """Checks what there is to say and to see."""
    if audio is None and text is None and camera_path is None:
        raise NTalkerError("Give --audio with speech, --text to speak, or --camera-path to look around in silence.")
    if audio is not None and text is not None:
        raise NTalkerError("Give --audio or --text, not both.")
    if audio is None and features is not None:
        raise NTalkerError("--audio-features needs the sound that belongs to them: give --audio too.")
    for path in (audio, features, camera_path):
        if path is not None and not path.is_file():
            raise NTalkerError(f"There is no file at '{path}'.")


def _spoken(text: str, voice: str) -> "tuple[Sound, list[Closure]]":
    """The sound of a text, and when it closes the lips."""
    from ntalker_ns.media.espeak import synthesize_phonemes
    from ntalker_ns.speech.closures import closures_of

    if not text.strip():
        raise NTalkerError("--text is empty: give words to speak.")
    waveform, rate, phonemes = synthesize_phonemes(text, voice)
    return Sound.of_waveform(waveform, rate), closures_of(phonemes, len(waveform) / rate)


def configured(method: str, options: Mapping[str, Any], **fields: Any) -> Any:
    """The configuration of one of our methods with some options set.

    Args:
        method: its registered name.
        options: values by dotted path, checked; "editor" is an editor's name.
        fields: fields of the trainer's configuration, as they are.

    Raises:
        NTalkerError: there is no such method, option or editor, or an option cannot have its value.
    """
    from ntalker_ns.editing.editors import editor_config

    config = method_config(method, **fields)
    if "editor" in options:
        config.editor = editor_config(options["editor"])
    return changed(config, {path: value for path, value in options.items() if path != "editor"})


def method_config(method: str = "ntalker-base-small", **overrides: Any) -> Any:
    """The configuration of one of our methods, to be changed freely.

    Args:
        method: its registered name.
        overrides: fields of the trainer's configuration.

    Raises:
        NTalkerError: there is no such method.
    """
    from nerfstudio.plugins.types import MethodSpecification

    from ntalker_ns import method_configs

    specifications = (one for one in vars(method_configs).values() if isinstance(one, MethodSpecification))
    configs = {one.config.method_name: one.config for one in specifications}
    if method not in configs:
        raise NTalkerError(f"There is no method '{method}': choose from {', '.join(map(str, configs))}.")
    config = copy.deepcopy(configs[method])
    for name, value in overrides.items():
        setattr(config, name, value)
    return config


def train_config(config: Any) -> Path:
    """Trains in this process, without a viewer.

    Args:
        config: of `method_config`, with `data` and `output_dir` set.

    Returns:
        The run's config.yml.

    Raises:
        NTalkerError: the data cannot be used.
    """
    prepare(config)
    return train_prepared(config)


def prepare(config: Any) -> None:
    """What precedes a training: names the run and writes its configuration.

    Args:
        config: of `method_config`, with `data` and `output_dir` set; its viewer is turned off.

    Raises:
        NTalkerError: the data cannot be used.
    """
    from nerfstudio.utils import writer

    # nerfstudio's writers are global and outlive a run: the next one would go on writing into its folder.
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    config.vis = "tensorboard"
    if config.data is not None:
        config.pipeline.datamanager.data = config.data
    config.set_timestamp()
    config.save_config()


def train_prepared(config: Any) -> Path:
    """Trains after `prepare`; returns the run's config.yml."""
    from nerfstudio.scripts.train import train_loop

    train_loop(local_rank=0, world_size=1, config=config)
    return config.get_base_dir() / "config.yml"
