"""A trained head speaks several voice files, with blinks and a gentle sway of its own.

python scripts/examples/new_voice.py outputs/anna/ntalker-base/TIME one.wav two.wav
"""

import sys
from pathlib import Path

import ntalker_ns as nt


def main(run: str, *voices: str, size: int | None = None) -> list[Path]:
    """Writes a video beside each voice file."""
    head = nt.load_head(run)
    videos = [Path(voice).with_suffix(".mp4") for voice in voices]
    for voice, video in zip(voices, videos, strict=True):
        head.say(voice, size=size, eyes="blink", pose="sway", smooth=1.0, seed=7).save(video)
    return videos


if __name__ == "__main__":
    print(*main(*sys.argv[1:]), sep="\n")
