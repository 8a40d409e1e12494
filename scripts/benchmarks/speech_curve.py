"""Lip regression against RAD-NeRF's audio network, by seconds of speech: made-up clips, whose true mouths are known.

For each length a clip of sentences that do not repeat is made, processed and trained on with either
`--pipeline.model.speech`; the heads then say new sentences, and the rendered mouths are compared with the true opening.

Example:
    python -m scripts.benchmarks.speech_curve --seconds 20 60 180 300 --output-dir outputs/speech-curve
"""

import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from ntalker_ns.cli.run import run_command
from ntalker_ns.evaluation.metrics.lips import LipSync

MODES: tuple[Literal["regression", "network"], ...] = ("regression", "network")

SUBJECTS = "my brother|the old baker|a fox|our teacher|the captain|her aunt|this boy|a quiet painter|the judge|Paul"
VERBS = "watched|carried|found|forgot|mended|bought|showed me|put away|moved|followed"
OBJECTS = "a blue boat|five loaves of bread|the farm gate|some warm shoes|an apple|the church bell|every map|a piano"
PLACES = "by the harbour|before you woke up|on the other bank|in a room full of clocks|at half past four|near Vienna"
ENDS = "and then it rained|but nobody laughed|so we have to begin again|which I thought was odd|while the kettle boiled"


@dataclass
class SpeechCurve:
    """Train heads on made-up clips of several lengths, with lips by regression and by the audio network."""

    output_dir: Path
    """Folder of clips, data sets, runs and curve.json; what is there already is used again."""
    seconds: tuple[float, ...] = (20.0, 60.0, 180.0, 300.0)
    """Lengths of the clips."""
    size: int = 256
    """Side of the clips in px."""
    steps: int = 1_800
    """Training steps of each head."""

    def main(self) -> None:
        """Trains, renders, measures; writes the figures after each head."""
        from ntalker_ns.demo.speech import NEW_TEXT, write_speech
        from scripts.benchmarks.held_out_speech import print_table

        path = self.output_dir / "curve.json"
        found = json.loads(path.read_text("utf8")) if path.exists() else {}
        speech = write_speech(self.output_dir / "new.wav", NEW_TEXT + " " + sentences(8, seed=1))
        for seconds in self.seconds:
            data = self._data(seconds)
            for mode in MODES:
                name = f"{seconds:g} s, {mode}"
                if name not in found:
                    found[name] = asdict(self._measure(data, mode, speech))
                    path.write_text(json.dumps(found, indent=2), "utf8")
        columns = ("speech, lips by", "correlation", "best of 20 shifted", "amplitude", "lag, frames")
        rows = [(name, LipSync(**values)) for name, values in found.items()]
        print_table(
            "Mouth opening of new sentences, rendered against true",
            columns,
            [
                (name, f"{s.correlation:.2f}", f"{max(s.shifted):.2f}", f"{s.amplitude_ratio:.2f}", f"{s.lag}")
                for name, s in rows
            ],
        )

    def _data(self, seconds: float) -> Path:
        from ntalker_ns.cli.process import Process
        from ntalker_ns.demo.clip import make_clip

        clip, data = (self.output_dir / f"{name}-{seconds:g}" for name in ("clip", "data"))
        if not data.exists():
            clip = clip.with_suffix(".mp4")
            make_clip(clip, seconds, self.size, text=sentences(int(seconds)))
            Process(clip, data, size=self.size).main()
        return data

    def _measure(self, data: Path, mode: Literal["regression", "network"], speech: Path) -> LipSync:
        from ntalker_ns.cli.demo import known_opening, measured_opening
        from ntalker_ns.cli.render import Render
        from ntalker_ns.evaluation.metrics.lips import lip_sync
        from ntalker_ns.runs import method_config, train_config

        config = method_config(
            data=data, output_dir=self.output_dir / "runs" / mode, max_num_iterations=self.steps, vis="tensorboard"
        )
        config.pipeline.model.speech = mode
        video = self.output_dir / f"{data.name}-{mode}.mp4"
        Render(load_config=train_config(config), output=video, audio=speech).main()
        rendered, true = measured_opening(video), known_opening(speech)
        count = min(len(rendered), len(true))
        return lip_sync(rendered[:count], true[:count])


def sentences(count: int, seed: int = 0) -> str:
    """So many different sentences, the same for a seed; each takes more than a second to say.

    Args:
        count: of them.
        seed: of the choice; the sentences of two seeds differ.
    """
    drawn = random.Random(seed)
    parts = [part.split("|") for part in (SUBJECTS, VERBS, OBJECTS, PLACES, ENDS)]
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(drawn.choice(part) for part in parts).capitalize() + "."] = None
    return " ".join(made)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(SpeechCurve)))
