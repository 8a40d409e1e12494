"""Cloth that touches hair: paints a dark collar, which does not move, around the head of a processed clip, and compares
the labels of the painted clip, processed anew, with those that are true by construction.

    ntalker process clip.mp4 --output-dir data/anna
    python -m scripts.benchmarks.collar paint --data data/anna --clip clip.mp4 --output collar.mp4
    ntalker process collar.mp4 --output-dir data/collar
    python -m scripts.benchmarks.collar compare --data data/anna --painted data/collar
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, UInt8

from ntalker_ns.console import track
from ntalker_ns.data.head_removal import HEAD, TORSO
from ntalker_ns.face import mesh_indices
from ntalker_ns.media.sound import read_sound
from ntalker_ns.media.video_writer import write_video

FPS = 25.0
COLOUR = np.array([46.0, 34.0, 30.0])
"""Of the cloth: RGB, like dark hair."""


def files(folder: Path, kind: str) -> list[Path]:
    """The pictures of a data set in the order of frames."""
    return sorted((folder / kind).iterdir())


def labels_of(folder: Path, index: int) -> UInt8[np.ndarray, "h w"]:
    """The labels of a frame."""
    return cv2.imread(str(files(folder, "masks")[index]), cv2.IMREAD_UNCHANGED)


def collar_mask(folder: Path) -> Bool[np.ndarray, "h w"]:
    """Where the collar is: from the shoulders up to the hair above the ears, by the mean landmarks."""
    landmarks = np.nanmean(np.load(folder / "landmarks.npy")[..., :2], axis=0)
    size = labels_of(folder, 0).shape[0]
    chin, top = landmarks[mesh_indices.CHIN], landmarks[mesh_indices.FOREHEAD_TOP]
    middle, high = chin[0], float(chin[1] - top[1])
    # Over the face's height, from the chin; what lies behind the head is not drawn.
    right = [[0.0, 0.3], [0.56, 0.62], [0.66, 0.55], [0.78, 0.1], [0.95, -0.45]]
    corners: Float[np.ndarray, "n 2"] = np.array([*right, *([-x, y] for x, y in right[:0:-1])])
    outline = corners * [high, -high] + [middle, chin[1]]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], (1,))
    return mask > 0


def true_labels(folder: Path, index: int, collar: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The labels of a painted frame: cloth is torso, the head lies before it."""
    labels = labels_of(folder, index)
    return np.where(collar & (labels < HEAD), TORSO, labels).astype(np.uint8)


@dataclass
class Paint:
    """Write the clip with a collar."""

    data: Path
    """Processed clip."""
    clip: Path
    """The clip, for its sound."""
    output: Path
    """Video to write."""

    def main(self) -> None:
        """Writes the video."""
        collar = collar_mask(self.data)
        rng = np.random.default_rng(0)
        folds = cv2.GaussianBlur(rng.standard_normal(collar.shape), (0, 0), 3.0)
        cloth = COLOUR + (40.0 * folds[..., None] + 10.0 * np.sin(np.arange(len(collar)) / 6.0)[None, :, None])

        def painted() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for index, path in enumerate(track(files(self.data, "images"), "Painting")):
                picture = cv2.imread(str(path))[..., ::-1].astype(np.float64)
                shown = collar & (labels_of(self.data, index) < HEAD)
                soft = cv2.GaussianBlur(shown.astype(np.float64), (0, 0), 0.8)[..., None]
                yield np.clip(picture + soft * (cloth - picture), 0, 255).astype(np.uint8)

        write_video(self.output, painted(), FPS, read_sound(self.clip))


@dataclass
class Compare:
    """Compare the labels of the painted clip with the true ones."""

    data: Path
    """Processed clip without the collar."""
    painted: Path
    """Processed clip with it."""
    sheet: Path | None = None
    """Write some frames with their labels here."""

    def main(self) -> None:
        """Prints figures."""
        collar = collar_mask(self.data)
        count = min(len(files(each, "masks")) for each in (self.data, self.painted))
        truth = [true_labels(self.data, i, collar) for i in range(count)]
        print_figures(truth, [labels_of(self.painted, i) for i in range(count)], collar)
        if self.sheet is not None:
            rows = []
            for index in np.linspace(0, count - 1, 5).astype(int):
                picture = cv2.imread(str(files(self.painted, "images")[index]))
                shown = [overlaid(picture, each) for each in (truth[index], labels_of(self.painted, int(index)))]
                rows.append(np.concatenate([picture, *shown], axis=1))
            cv2.imwrite(str(self.sheet), np.concatenate(rows))


def print_figures(
    truth: list[UInt8[np.ndarray, "h w"]], found: list[UInt8[np.ndarray, "h w"]], collar: Bool[np.ndarray, "h w"]
) -> None:
    """Overlap of the head, cloth that counts as head, and pixels near the cloth that change from frame to frame."""
    near = cv2.dilate(collar.astype(np.uint8), np.ones((25, 25))) > 0
    heads, truths = np.stack([each >= HEAD for each in found]), np.stack([each >= HEAD for each in truth])
    union = (heads | truths).sum(axis=(1, 2))
    print(f"IoU of the head: {((heads & truths).sum(axis=(1, 2)) / union).mean():.4f}")
    cloth = collar & ~truths
    print(f"cloth that counts as head: {100 * (heads & cloth).sum() / cloth.sum():.2f}%")
    flips, true_flips = (((each[1:] != each[:-1]) & near).sum(axis=(1, 2)) for each in (heads, truths))
    print(f"changes near the cloth, px a frame: {flips.mean():.0f}, 95th percentile {np.percentile(flips, 95):.0f}")
    print(f"of the true labels: {true_flips.mean():.0f}, 95th percentile {np.percentile(true_flips, 95):.0f}")


def overlaid(picture: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A frame with its torso in blue and its head in red."""
    tint = np.zeros_like(picture)
    tint[labels == TORSO], tint[labels >= HEAD] = (255, 60, 0), (0, 0, 255)
    return cv2.addWeighted(picture, 0.6, tint, 0.4, 0.0)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"paint": Paint, "compare": Compare}).main()
