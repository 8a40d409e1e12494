"""Frames of a speaking head one by one, each with its stretch of the audio, for a program of one's own.

python scripts/examples/export_frames.py outputs/anna/ntalker-base/TIME new.wav frames
"""

import sys
from pathlib import Path

import cv2
import numpy as np

import ntalker_ns as nt
from ntalker_ns.audio.clock import SAMPLE_RATE
from ntalker_ns.media.sound import read_audio


def main(run: str, audio: str, folder: str, *, size: int | None = None) -> int:
    """Writes each frame and the loudness that is heard with it; returns their number."""
    spoken = nt.load_head(run).say(audio, size=size)
    sound, samples = read_audio(Path(audio)), round(SAMPLE_RATE / spoken.head.fps)
    Path(folder).mkdir(parents=True, exist_ok=True)
    loudness = []
    for index, frame in enumerate(spoken):
        heard = sound[index * samples : (index + 1) * samples]
        loudness.append(float(np.sqrt(np.mean(np.square(heard)))) if len(heard) else 0.0)
        cv2.imwrite(str(Path(folder, f"{index:05d}.png")), frame[..., ::-1])
    np.savetxt(Path(folder, "loudness.txt"), loudness, fmt="%.4f")
    return len(loudness)


if __name__ == "__main__":
    print(f"{main(*sys.argv[1:4])} frames")
