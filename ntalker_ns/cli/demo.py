"""`ntalker demo`: the whole pipeline on a synthetic clip, offline."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ntalker_ns.errors import NTalkerError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from ntalker_ns.evaluation.evaluate import Evaluation
    from ntalker_ns.evaluation.metrics.lips import LipSync


HEADS = {"Gaussians": "ntalker-splat-small", "field": "ntalker-base-small"}
"""Methods of the heads that are trained, by their names in tables; the first is the one to talk with."""


@dataclass
class Demo:
    """Synthesise a clip, process it, train a head of Gaussians and a radiance field on it, render both with new audio.

    Needs no network, no model weights, no video and no GPU; takes two minutes on two CPU cores.
    """

    output_dir: Path = Path("demo")
    """Output folder. Files of an earlier demo are replaced, its runs are kept."""
    seconds: float = 12.0
    """Duration of the synthetic clip in s, 3 to 120."""
    size: int = 256
    """Side length of the synthetic clip in px, even, 128 to 512."""
    steps: int = 400
    """Training steps of each head."""
    seed: int = 0
    """Seed of head motion and blinks."""
    _times: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def main(self) -> None:
        """Runs the steps that a user would type, then prints the results."""
        from ntalker_ns.demo.clip import make_clip
        from ntalker_ns.demo.speech import NEW_TEXT, write_speech

        self._check()
        folder = self.output_dir
        clip, speech, data = (folder / name for name in ("clip.mp4", "speech.wav", "data"))
        with self._step(f"A made-up clip: {clip}"):
            make_clip(clip, self.seconds, self.size, self.seed)
            write_speech(speech, NEW_TEXT)
        with self._step(f"ntalker process {clip} --output-dir {data} --size {self.size}"):
            self._process(clip, data)
        spoken = []
        for name, method in HEADS.items():
            options = f"--data {data} --output-dir {folder / 'outputs'} --max-num-iterations {self.steps}"
            with self._step(f"ns-train {method} {options} --vis tensorboard"):
                config = self._train(method, data, folder / "outputs", first=not spoken)
            video = folder / ("talking.mp4" if not spoken else f"talking_{name}.mp4")
            with self._step(f"ntalker render --load-config {config} --audio {speech} --output {video}"):
                self._render(config, speech, video)
            spoken.append(SpokenHead(name, config, video))
        with self._step("Evaluation"):
            heldout, lips = evaluate(spoken, speech, folder)
        self._print(heldout, lips)
        print(f"What the tracker saw: {data / 'preview.png'}. Held-out frames: {folder / 'heldout.png'}.")
        print(f"To look around: ntalker view --load-config {spoken[0].config}")
        print(f"To talk with it: ntalker live --load-config {spoken[0].config}")
        print("The heads speaking new audio: " + ", ".join(f"{head.video} ({head.name})" for head in spoken))

    def _check(self) -> None:
        """Checks the options before minutes have passed."""
        from ntalker_ns.media.output_paths import check_folder

        if not 3.0 <= self.seconds <= 120.0:
            raise NTalkerError(f"--seconds {self.seconds:g} is not possible; give 3 to 120.")
        if not 128 <= self.size <= 512 or self.size % 2:
            raise NTalkerError(f"--size {self.size} is not possible; give an even number of pixels from 128 to 512.")
        if self.steps < 1:
            raise NTalkerError(f"--steps {self.steps} is not possible; give at least 1.")
        check_folder(self.output_dir, "--output-dir")

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(f"\n{title}", style="bold"))
        start = time.perf_counter()
        yield
        name = title.split(" --")[0].split(":")[0]
        self._times[name] = self._times.get(name, 0.0) + time.perf_counter() - start

    def _process(self, clip: Path, data: Path) -> None:
        from ntalker_ns.cli.process import Process

        Process(clip, data, size=self.size).main()

    def _train(self, method: str, data: Path, output_dir: Path, first: bool) -> Path:
        from ntalker_ns.demo.first_picture import FirstPictureTrainer
        from ntalker_ns.runs import method_config, prepare, train_prepared

        config = method_config(method, data=data, output_dir=output_dir, max_num_iterations=self.steps)
        prepare(config)
        if first:
            picture = self.output_dir / "first.png"
            print(f"{picture} will show the head after its first steps.", flush=True)
            # The saved configuration keeps the usual trainer.
            config._target = partial(FirstPictureTrainer, path=picture)
        return train_prepared(config)

    def _render(self, config: Path, speech: Path, video: Path) -> None:
        from ntalker_ns.cli.render import Render

        Render(load_config=config, output=video, audio=speech).main()

    def _print(self, heldout: "Evaluation", lips: "dict[str, LipSync]") -> None:
        from rich.console import Console
        from rich.table import Table

        from ntalker_ns.evaluation.report.write import table as heldout_table

        console = Console()
        console.print()
        console.print(heldout_table(heldout))
        table = Table("", *lips, title="New speech")
        table.add_row(
            "mouth opening against the truth: correlation (shifted sound, at most)",
            *(f"{each.correlation:.2f} ({max(each.shifted):.2f})" for each in lips.values()),
        )
        table.add_row("mouth amplitude over the true one", *(f"{each.amplitude_ratio:.2f}" for each in lips.values()))
        console.print(table)
        table = Table(title="Time", show_header=False)
        for title, seconds in self._times.items():
            table.add_row(title, f"{seconds:.0f} s")
        table.add_row("all", f"{sum(self._times.values()) / 60:.1f} min")
        console.print(table)


@dataclass(frozen=True)
class SpokenHead:
    """A head of the demo and what it said."""

    name: str
    config: Path
    """The run's config.yml."""
    video: Path


def evaluate(heads: list[SpokenHead], speech: Path, folder: Path) -> "tuple[Evaluation, dict[str, LipSync]]":
    """Scores the held-out frames, and the mouths of the videos against the known opening of the sound.

    Args:
        heads: trained on the same clip.
        speech: what they said.
        folder: where heldout.json and heldout.png go.
    """
    from ntalker_ns.evaluation.entries import Entry
    from ntalker_ns.evaluation.evaluate import evaluate
    from ntalker_ns.evaluation.metrics import catalogue, lips
    from ntalker_ns.evaluation.options import FrameOptions, MetricOptions
    from ntalker_ns.evaluation.report.figures import strip
    from ntalker_ns.media.contact_sheet import write_picture

    heldout = evaluate(
        [Entry(head.name, head.config) for head in heads],
        MetricOptions(),
        frames=FrameOptions(surroundings="clip"),
        baselines=True,
        metrics=(*catalogue.PSNR, catalogue.BY_KEY["lip_distance"]),
    )
    write_picture(folder / "heldout.png", strip(heldout))
    true = known_opening(speech)
    synced = {}
    for head in heads:
        rendered = measured_opening(head.video)
        count = min(len(rendered), len(true))
        synced[head.name] = lips.lip_sync(rendered[:count], true[:count])
    figures = {row.take.name: row.scores.values for row in heldout.rows[1:]}
    speaking = {
        name: {"correlation": sync.correlation, "amplitude": sync.amplitude_ratio} for name, sync in synced.items()
    }
    (folder / "heldout.json").write_text(json.dumps({**figures, "new speech": speaking}, indent=2), "utf8")
    return heldout, synced


def measured_opening(video: Path) -> "Float[np.ndarray, ' n']":
    """The mouth opening in each frame of a video, NaN where no face is found."""
    from ntalker_ns.capture.landmarks import face_landmarks
    from ntalker_ns.evaluation.metrics.lips import mouth_openings
    from ntalker_ns.media.video_reader import read_frames

    return mouth_openings(face_landmarks(read_frames(video)))


def known_opening(speech: Path) -> "Float[np.ndarray, ' n']":
    """The mouth opening that the made-up head has for a sound, 25 a second."""
    import numpy as np

    from ntalker_ns.audio.clock import FPS, SAMPLE_RATE, frame_count
    from ntalker_ns.demo.motion import mouth_opening_of_speech
    from ntalker_ns.media.sound import read_audio

    waveform = read_audio(speech)
    return mouth_opening_of_speech(waveform, SAMPLE_RATE, np.arange(frame_count(len(waveform))) / FPS)
