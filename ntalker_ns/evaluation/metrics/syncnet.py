"""Sync confidence and distance: how well the mouth fits the sound by SyncNet.

The network and its evaluation are those of Chung and Zisserman, "Out of time: automated lip sync in the wild" (2016),
as published with the weight file `syncnet_v2.model`. The paper's Sync score is the confidence; Wav2Lip's evaluation
calls the same two numbers LSE-C and LSE-D. One thing differs from the published evaluation: the face box comes from
mediapipe's landmarks instead of a detector of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ntalker_ns.audio.clock import FPS, SAMPLE_RATE
from ntalker_ns.evaluation.metrics.mfcc import mfcc
from ntalker_ns.evaluation.metrics.weights import Unavailable

FACE_SIZE = 224
"""Side of the face pictures, px."""
WINDOW = 5
"""Frames that the network sees at once."""
STEPS_PER_FRAME = 4
"""Cepstra to a frame: 100 a second to 25."""
MAX_OFFSET = 15
"""Frames to either side over which the offset is sought."""
CROP_SCALE = 0.4
"""Margin around the face, as a fraction of the box's longer side; twice as much below it."""
PADDING = 110
"""Grey value outside the picture."""
SMOOTHING = 13
"""Frames of the median filter over the face boxes."""
BATCH = 20
"""Windows that go through the network at a time."""


@dataclass(frozen=True)
class SyncScore:
    """SyncNet's results for a clip."""

    confidence: float
    """Median over the offsets of the mean distance, less the smallest one (LSE-C). Higher is better; a good recording
    has about 6 to 9."""
    distance: float
    """The smallest mean distance (LSE-D). Lower is better."""
    offset: int
    """Frames by which the sound must be delayed to fit best; positive: the sound is early, the mouth late."""
    frames: int
    """Windows compared."""

    @property
    def padded(self) -> float:
        """Share of the comparisons, over all offsets, whose sound is padding."""
        padded = 2 * sum(min(offset, self.frames) for offset in range(1, MAX_OFFSET + 1))
        return padded / (self.frames * (2 * MAX_OFFSET + 1))


class SyncNet(nn.Module):
    """Two towers that bring 0.2 s of sound and five pictures of a face into one space, where what belongs together is
    close. Names and shapes of the parameters are those of the published file."""

    def __init__(self, width: int = 1024) -> None:
        """
        Args:
            width: of the embeddings; 1024 in the published file.
        """
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1, stride=1),
            *_block(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_block(nn.Conv2d(192, 384, 3, padding=1)),
            *_block(nn.Conv2d(384, 256, 3, padding=1)),
            *_block(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, stride=2),
            *_block(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud = _head(width)
        self.netfclip = _head(width)
        self.netcnnlip = nn.Sequential(
            *_block(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_block(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_block(nn.Conv3d(256, 512, (1, 6, 6))),
        )

    def sounds(self, cepstra: Float[Tensor, "n 1 13 20"]) -> Float[Tensor, "n width"]:
        """Embeddings of 0.2 s of sound each."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def faces(self, pictures: Float[Tensor, "n 3 5 224 224"]) -> Float[Tensor, "n width"]:
        """Embeddings of five consecutive faces each, BGR in [0, 255]."""
        return self.netfclip(self.netcnnlip(pictures).flatten(1))


def _block(convolution: nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return [convolution, norm(convolution.out_channels), nn.ReLU()]


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width))


def load_syncnet(file: Path) -> SyncNet:
    """The network with its weights, in evaluation mode.

    Args:
        file: `syncnet_v2.model`, a state dict; the width of the embeddings is read from it.

    Raises:
        Unavailable: the file is no state dict of this network.
    """
    import pickle

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network = SyncNet(width=len(state["netfcaud.3.bias"]))
        network.load_state_dict(state)
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise Unavailable(f"--syncnet: {file} is not SyncNet's syncnet_v2.model ({reason})") from error
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def sync_score(
    network: SyncNet,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    landmarks: Float[np.ndarray, "n 478 2"],
    waveform: Float[np.ndarray, " samples"],
) -> SyncScore:
    """Confidence, distance and offset of a clip.

    Args:
        network: of `load_syncnet`.
        frames: consecutive pictures at 25 Hz, RGB.
        landmarks: of each picture, in px of it; NaN where no face was found.
        waveform: the clip's sound, mono, 16 kHz, in [-1, 1].

    Raises:
        Unavailable: no face, or fewer than six frames with sound.
    """
    count = min(len(landmarks), len(waveform) * FPS // SAMPLE_RATE)
    if count <= WINDOW:
        raise Unavailable(f"SyncNet needs more than {WINDOW} frames with sound, and there are {count}")
    boxes = face_boxes(landmarks[:count])
    faces = (crop_face(frame, *box) for frame, box in zip(frames, boxes, strict=False))
    seen, audio = embeddings(network, faces, mfcc(_pcm(waveform)), count - WINDOW)
    return search_offset(seen, audio)


def _pcm(waveform: np.ndarray) -> np.ndarray:
    """The values of 16-bit samples, which the published evaluation reads from a wav file."""
    return np.clip(np.round(np.asarray(waveform, np.float64) * 32768.0), -32768.0, 32767.0)


@torch.inference_mode()
def embeddings(
    network: SyncNet,
    faces: Iterable[UInt8[np.ndarray, "224 224 3"]],
    cepstra: Float[np.ndarray, "steps 13"],
    count: int,
) -> tuple[Float[Tensor, "count width"], Float[Tensor, "count width"]]:
    """Embeddings of the pictures and of the sound that start at each of the first `count` frames."""
    device = next(network.parameters()).device
    sound = torch.from_numpy(cepstra.T.astype(np.float32))[None]
    seen, audio, kept = [], [], []
    for face in faces:
        kept.append(torch.from_numpy(np.ascontiguousarray(face[..., ::-1])).permute(2, 0, 1))
        done = sum(map(len, seen))
        ready = min(len(kept) - WINDOW + 1, count - done)
        if ready < BATCH and not (ready > 0 and done + ready == count):
            continue
        pictures = torch.stack([torch.stack(kept[i : i + WINDOW], dim=1) for i in range(ready)]).float()
        starts = [STEPS_PER_FRAME * (done + i) for i in range(ready)]
        sounds = torch.stack([sound[..., start : start + STEPS_PER_FRAME * WINDOW] for start in starts])
        seen.append(network.faces(pictures.to(device)).cpu())
        audio.append(network.sounds(sounds.to(device)).cpu())
        kept = kept[ready:]
    return torch.cat(seen), torch.cat(audio)


def search_offset(
    seen: Float[Tensor, "n width"], audio: Float[Tensor, "n width"], max_offset: int = MAX_OFFSET
) -> SyncScore:
    """Which offset brings pictures and sound closest, and how much closer than the others.

    As published: the sound is padded with zeros to either side, distances are Euclidean, and each offset's is the mean
    over all windows.

    Args:
        seen: embeddings of the pictures that start at each frame.
        audio: embeddings of the sound that starts there.
        max_offset: largest offset in frames, to either side.
    """
    padded = nn.functional.pad(audio, (0, 0, max_offset, max_offset))
    distances = torch.stack(
        [nn.functional.pairwise_distance(seen, padded[k : k + len(seen)]).mean() for k in range(2 * max_offset + 1)]
    )
    smallest, place = distances.min(dim=0)
    return SyncScore(
        confidence=float(distances.median() - smallest),
        distance=float(smallest),
        offset=max_offset - int(place),
        frames=len(seen),
    )


def face_boxes(landmarks: Float[np.ndarray, "n 478 2"]) -> Float[np.ndarray, "n 3"]:
    """Where the face is in each frame, and half the longer side of its box, smoothed over half a second.

    Args:
        landmarks: px; frames without any are interpolated.

    Returns:
        x and y of the box's centre and half its longer side, px.

    Raises:
        Unavailable: no frame has a face.
    """
    from scipy.signal import medfilt

    known = np.flatnonzero(np.isfinite(landmarks).all(axis=(1, 2)))
    if len(known) == 0:
        raise Unavailable("no face was found in any frame")
    low, high = landmarks[known].min(axis=1), landmarks[known].max(axis=1)
    boxes = np.column_stack([0.5 * (low + high), 0.5 * (high - low).max(axis=1)])
    filled = [np.interp(np.arange(len(landmarks)), known, boxes[:, k]) for k in range(3)]
    return np.stack([_median_filtered(medfilt, course) for course in filled], axis=1)


def _median_filtered(medfilt, course: np.ndarray) -> np.ndarray:
    """Ends are continued: the filter's own zeros would move the first and last boxes into the corner."""
    half = SMOOTHING // 2
    return medfilt(np.pad(course, half, mode="edge"), SMOOTHING)[half:-half]


def crop_face(picture: UInt8[np.ndarray, "h w 3"], x: float, y: float, half: float) -> UInt8[np.ndarray, "224 224 3"]:
    """The square crop for SyncNet: the face with a margin, larger below than above.

    Args:
        picture: any channel order.
        x: centre of the face's box, px.
        y: centre of the face's box, px.
        half: half of its longer side, px.
    """
    import cv2

    room = int(half * (1 + 2 * CROP_SCALE))
    padded = np.pad(picture, ((room, room), (room, room), (0, 0)), constant_values=PADDING)
    top, left = y + room - half, x + room - half * (1 + CROP_SCALE)
    side = half * (2 + 2 * CROP_SCALE)
    face = padded[max(int(top), 0) : int(top + side), max(int(left), 0) : int(left + side)]
    return np.asarray(cv2.resize(face, (FACE_SIZE, FACE_SIZE)), np.uint8)
