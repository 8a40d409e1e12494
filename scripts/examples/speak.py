"""A clip becomes a data set, a head, and a video of it saying something new.

python scripts/examples/speak.py clip.mp4 new.wav outputs
"""

import sys
from pathlib import Path

import ntalker_ns as nt


def main(clip: str, audio: str, folder: str, steps: int | None = None) -> Path:
    """Returns the video; fewer steps than the method's are for a first try."""
    data, video = Path(folder, "data"), Path(folder, "talking.mp4")
    print(nt.process_clip(clip, data).notes)
    run = nt.train(data, "ntalker-base-small", output_dir=folder, steps=steps)
    nt.load_head(run).say(audio).save(video)
    return video


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], sys.argv[3]))
