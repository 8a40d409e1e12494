"""Python interface: trains as `ns-train` does, loads heads, and renders them with new audio."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import Sound
from ntalker_ns.run_folder import absolute, load_run
from ntalker_ns.training.overrides import changed


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
    return Head(load_run(path / "config.yml" if path.is_dir() else path))


class Head:
    """A trained head that renders new audio; see `load_head`.

    Examples:
        >>> load_head(run).edited
        False
    """

    def __init__(self, pipeline: Any) -> None:
        """
        Args:
            pipeline: a loaded `TalkerPipeline`.
        """
        self.pipeline = pipeline
        self.clip: DrivingSequence = pipeline.model.driving
        """The driving sequence of the training clip."""

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.clip.fps

    @property
    def edited(self) -> bool:
        """Whether it was edited by an instruction."""
        return hasattr(self.pipeline.model, "refinement_weight")

    def say(
        self,
        audio: str | Path,
        *,
        size: int | None = None,
        background: str = "plate",
        eyes: str = "replay",
        pose: str = "replay",
        smooth: float = 0.0,
        seed: int = 0,
        refinement_weight: float | None = None,
    ) -> "Speech":
        """Renders the head with new audio. Options are those of `ntalker render`.

        Args:
            audio: a sound or video file of any format and rate.
            size: longest side of the frames in px; None takes that of the training frames.
            background: "plate" (the clip's own), a colour (a name or #rrggbb), or a picture file.
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
        from ntalker_ns.driving.controls import check_controls, controlled
        from ntalker_ns.driving.new_audio import sequence_for_audio
        from ntalker_ns.media.sound import read_sound
        from ntalker_ns.rendering.background import Background

        if not Path(audio).is_file():
            raise NTalkerError(f"There is no file at '{audio}'.")
        Background.parse(background)
        check_controls(eyes, pose, smooth, seed)
        if refinement_weight is not None:
            check_refinement_weight(self.pipeline.model, refinement_weight)
        sound = read_sound(Path(audio))
        sequence = sequence_for_audio(self.clip, sound)
        sequence = controlled(sequence, self.clip, eyes, pose, smooth, seed)
        size = size or self.pipeline.config.datamanager.dataparser.image_size
        return Speech(self, Path(audio), sound, sequence, size, background, refinement_weight)


@dataclass(frozen=True)
class Speech:
    """The frames of a head that speaks, rendered while they are iterated over; see `Head.say`.

    Examples:
        >>> len(load_head(run).say(speech))
        5
    """

    head: Head
    audio: Path
    sound: Sound
    sequence: DrivingSequence
    """The driving sequence."""
    size: int | None
    """Longest side of the frames, px; None for the clip's own size."""
    background: str
    refinement_weight: float | None = None
    """Of an edited head; None as in training."""

    def __len__(self) -> int:
        return len(self.sequence)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        from ntalker_ns.driving.cameras import sequence_cameras
        from ntalker_ns.rendering.video_frames import rendered_frames

        model = self.head.pipeline.model
        model.set_driving(self.sequence)
        model.portrait.set_background(self.background)
        if self.head.edited:
            weight = self.refinement_weight
            model.refinement_weight = model.config.refinement_weight if weight is None else weight
        return rendered_frames(model, sequence_cameras(self.sequence, size=self.size, enlarge=True))

    def save(self, path: str | Path) -> int:
        """Writes a video with sound; it appears when it is complete.

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

        check_output(Path(path), False, (self.audio,))
        return write_frames(Path(path), with_progress(self, len(self)), self.head.fps, self.sound)


def check_refinement_weight(model: Any, weight: float) -> None:
    """Checks a weight of an edited head's refinement network.

    Args:
        model: of a run.
        weight: 0 to 1.

    Raises:
        NTalkerError: the head is not an edited one, or the weight is out of range.
    """
    if not 0.0 <= weight <= 1.0:
        raise NTalkerError(f"--refinement-weight {weight:g} is not between 0 and 1.")
    if not hasattr(model, "refinement_weight"):
        raise NTalkerError("--refinement-weight is for edited heads (ntalker-edit); this run is none: leave it out.")


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
