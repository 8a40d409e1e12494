"""Pictures and figures of a portrait: held-out frames, novel views, backgrounds, eyes, flicker, nerfacto beside it.

Example: python -m scripts.benchmarks.portrait --load-config outputs/anna/ntalker-base-small/TIME/config.yml \
    --nerfacto-seconds 420
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from jaxtyping import Float, UInt8

from ntalker_ns.cli.run import run_command
from ntalker_ns.data.head_removal import HEAD
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.evaluate import evaluate
from ntalker_ns.evaluation.metrics import catalogue
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions, Surroundings
from ntalker_ns.evaluation.report.write import write_text
from ntalker_ns.media.contact_sheet import grid, write_picture
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.media.pixels import to_uint8

Picture = UInt8[np.ndarray, "h w 3"]
Box = Float[np.ndarray, "4"]

YAWS = (-30.0, -15.0, -5.0, 0.0, 5.0, 15.0, 30.0)
PITCHES = (-20.0, -12.0, -5.0, 0.0, 5.0, 12.0, 20.0)
"""Of the novel views, degrees."""
CLOSED, OUTLINE = 13, 9
"""Px of 256: gaps that are narrower are holes in a head, and within half of the latter of its outline none counts."""
SILENCE = 2.0
"""Seconds of silence in which flicker is measured."""


@dataclass
class PortraitSheet:
    """Render pictures and measure figures to judge a portrait by."""

    load_config: Path
    """The run's config.yml; its data set must be there."""
    output_dir: Path | None = None
    """Where the pictures and portrait.json go; by default the folder portrait beside the config."""
    size: int = 512
    """Longest side of the rendered pictures in px."""
    frames: int = 4
    """Held-out frames to show."""
    picture: Path | None = None
    """A picture for the background strip; by default a gradient."""
    nerfacto_seconds: float = 0.0
    """Seconds to train nerfacto on the same frames, to be scored beside; 0 leaves it out."""

    def main(self) -> None:
        """Renders everything, writes it, prints the numbers."""
        from ntalker_ns.run_folder import read_config
        from ntalker_ns.runs import load_run

        pipeline = load_run(self.load_config)
        pipeline.eval()
        studio = Studio(pipeline.model, self.size)
        folder = self.output_dir or self.load_config.parent / "portrait"
        write_picture(folder / "heldout.png", heldout_sheet(studio, pipeline.datamanager.eval_dataset, self.frames))
        write_picture(folder / "views.png", views_sheet(studio))
        write_picture(folder / "backgrounds.png", backgrounds_sheet(studio, self.picture))
        write_picture(folder / "eyes.png", eyes_sheet(studio))
        figures: dict[str, Any] = {"psnr": quality(self.load_config)}
        figures["holes, % of the head"] = holes(studio)
        figures["difference of consecutive frames"] = flicker(studio, pipeline.datamanager.eval_dataset)
        if self.nerfacto_seconds:
            figures["beside nerfacto"] = beside_nerfacto(read_config(self.load_config), pipeline, self.nerfacto_seconds)
        write_text(folder / "portrait.json", json.dumps(figures, indent=2) + "\n")
        print(f"Pictures: {folder}")
        print(describe(figures))


class Studio:
    """A loaded head and the clip that it comes from."""

    def __init__(self, model: Any, size: int) -> None:
        self.model = model
        self.size = size
        self.clip: DrivingSequence = model.driving

    def show(self, frame: int, yaw: float = 0.0, pitch: float = 0.0) -> dict[str, Float[np.ndarray, "h w c"]]:
        """All outputs for a frame of the driving sequence, from a camera turned about the head by degrees."""
        from ntalker_ns.driving.cameras import sequence_cameras

        camera = sequence_cameras(self.model.driving, size=self.size, enlarge=True)[frame : frame + 1]
        camera.camera_to_worlds = camera.camera_to_worlds.new_tensor(
            orbit(camera.camera_to_worlds[0].numpy(), np.radians(yaw), np.radians(pitch))
        )[None]
        outputs = self.model.get_outputs_for_camera(camera.to(self.model.device))
        return {name: value.cpu().numpy() for name, value in outputs.items()}

    def picture(self, frame: int, yaw: float = 0.0, pitch: float = 0.0) -> Picture:
        """What the camera of `show` sees."""
        return to_uint8(self.show(frame, yaw, pitch)["rgb"])

    def drive(self, sequence: DrivingSequence) -> None:
        """Drives the head by another sequence."""
        self.model.set_driving(sequence)


def orbit(camera_to_world: Float[np.ndarray, "3 4"], yaw: float, pitch: float) -> Float[np.ndarray, "3 4"]:
    """A camera turned about the head's centre.

    Args:
        camera_to_world: OpenGL.
        yaw: radians about the upright axis; positive goes to the camera's right.
        pitch: radians about the camera's own right axis; positive goes up.
    """
    from ntalker_ns.face.rotations import exp

    nod = exp(-pitch * camera_to_world[:, 0].astype(np.float64))
    turn = exp(np.array([0.0, 0.0, yaw]))
    return turn @ nod @ camera_to_world


def heldout_sheet(studio: Studio, held_out: Any, count: int) -> Picture:
    """True and rendered held-out frames, and the neck of both enlarged."""
    clip, frames = held_out.require_clip(), held_out.frame_indices
    chosen = [int(frames[i]) for i in evenly_spaced(count, len(frames))]
    true = [clip.image(frame) for frame in chosen]
    ours = [studio.picture(frame) for frame in chosen]
    necks = [
        [crop(row[k], clip.face_boxes[frame], clip.size, 0.9, 1.05) for k, frame in enumerate(chosen)]
        for row in (true, ours)
    ]
    words = ["true", "rendered", "true neck", "rendered neck"]
    return grid([true, ours, *necks], words, [f"frame {frame}" for frame in chosen], studio.size)


def crop(picture: Picture, box: Box, size: tuple[int, int], side: float, y: float) -> Picture:
    """A square in the middle of the face box's width.

    Args:
        picture: of any size.
        box: of the face: x0, y0, x1, y1 in px of the clip's pictures.
        size: width and height of those.
        side: of the square, face widths.
        y: its centre, face heights below the top of the box.
    """
    x0, y0, x1, y1 = box * (picture.shape[1] / size[0])
    length = int(min(side * (x1 - x0), 0.5 * picture.shape[1]))
    left = int(np.clip((x0 + x1 - length) / 2, 0, picture.shape[1] - length))
    top = int(np.clip(y0 + y * (y1 - y0) - length / 2, 0, picture.shape[0] - length))
    return np.ascontiguousarray(picture[top : top + length, left : left + length])


def views_sheet(studio: Studio) -> Picture:
    """The head in its mean pose, its eyes open, from the sides, from above and from below."""
    from ntalker_ns.driving.controls import rest_frame, usual_openness, with_eyes

    frame = rest_frame(studio.clip)
    studio.drive(with_eyes(studio.clip, usual_openness(studio.clip)))
    rows = [[studio.picture(frame, yaw=a) for a in YAWS], [studio.picture(frame, pitch=a) for a in PITCHES]]
    studio.drive(studio.clip)
    words = [f"{a:+.0f}, {b:+.0f} degrees" for a, b in zip(YAWS, PITCHES, strict=True)]
    return grid(rows, ["yaw", "pitch"], words, min(studio.size, 320))


def holes(studio: Studio) -> dict[str, float]:
    """What shows through the head in views around the mean pose, per cent of its area."""
    from ntalker_ns.driving.controls import rest_frame

    frame, groups = rest_frame(studio.clip), {"front": [(0.0, 0.0)]}
    groups |= {f"yaw {angle:g} degrees": [(-angle, 0.0), (angle, 0.0)] for angle in (15.0, 30.0)}
    groups["pitch 20 degrees"] = [(0.0, -20.0), (0.0, 20.0)]

    def missing(yaw: float, pitch: float) -> float:
        opacity = studio.show(frame, yaw, pitch)["head_opacity"][..., 0]
        closing, rim = (
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (round(px * studio.size / 256) | 1,) * 2)
            for px in (CLOSED, OUTLINE)
        )
        border = studio.size // 8
        around = cv2.copyMakeBorder(
            (opacity > 0.5).astype(np.uint8), border, border, border, border, cv2.BORDER_REPLICATE
        )
        closed = cv2.morphologyEx(around, cv2.MORPH_CLOSE, closing)[border:-border, border:-border]
        return 100.0 * float(1.0 - opacity[cv2.erode(closed, rim) > 0].mean())

    return {name: float(np.mean([missing(*view) for view in views])) for name, views in groups.items()}


def backgrounds_sheet(studio: Studio, picture: Path | None) -> Picture:
    """The plate, a colour, a picture, and transparency over a checkerboard."""
    from ntalker_ns.driving.controls import rest_frame

    frame, portrait = rest_frame(studio.clip), studio.model.portrait
    with tempfile.TemporaryDirectory() as folder:
        backdrop = Path(folder) / "backdrop.png"
        write_picture(backdrop, gradient())
        shown = []
        for choice in ("plate", "#3a7d44", str(picture or backdrop), "transparent"):
            portrait.set_background(choice)
            outputs = studio.show(frame)
            shown.append(to_uint8(outputs["rgb"] + (1.0 - outputs["opacity"]) * checkerboard(outputs["rgb"].shape)))
        portrait.set_background("plate")
    return grid([shown], [""], ["plate", "colour", "picture", "transparent"], studio.size)


def gradient(height: int = 360, width: int = 640) -> Picture:
    """From blue at the top to orange."""
    y = np.broadcast_to(np.linspace(0.0, 1.0, height)[:, None], (height, width))
    return to_uint8(np.stack([0.2 + 0.8 * y, 0.3 + 0.35 * y, 0.7 - 0.45 * y], axis=-1))


def checkerboard(shape: tuple[int, ...], side: int = 16) -> Float[np.ndarray, "h w 1"]:
    """Light and dark grey squares."""
    y, x = np.mgrid[: shape[0], : shape[1]] // side
    return np.where((x + y) % 2 == 0, 0.8, 0.5)[..., None]


def eyes_sheet(studio: Studio) -> Picture:
    """The head in its mean pose with its eyes closed, half open and open; and the eyes enlarged."""
    from ntalker_ns.driving.controls import rest_frame, with_eyes

    frame, rows, levels = rest_frame(studio.clip), [[], []], (0.0, 0.5, 1.0)
    for openness in levels:
        studio.drive(with_eyes(studio.clip, openness))
        picture = studio.picture(frame)
        rows[0].append(picture)
        rows[1].append(crop(picture, studio.clip.track.face_boxes[frame], studio.clip.camera.size, 0.7, 0.38))
    studio.drive(studio.clip)
    return grid(rows, ["", ""], [f"openness {level:g}" for level in levels], studio.size)


def quality(load_config: Path) -> dict[str, dict[str, float]]:
    """Mean PSNR of the held-out frames by method and region, dB: the head over the true surroundings, and the whole."""

    def scored(surroundings: Surroundings, name: str) -> dict[str, dict[str, float]]:
        frames, alone = FrameOptions(surroundings=surroundings), surroundings == "clip"
        entry = Entry(name, load_config)
        found = evaluate([entry], MetricOptions(), frames=frames, baselines=alone, metrics=catalogue.PSNR)
        return {row.take.name: row.scores.values for row in found.rows[1:]}

    return scored("clip", "head over the true surroundings") | scored("learned", "whole portrait")


def beside_nerfacto(config: Any, pipeline: Any, seconds: float) -> dict[str, dict[str, float]]:
    """PSNR of this head and of nerfacto over the same random pixels of all held-out frames, dB.

    Args:
        config: of the loaded run.
        pipeline: the loaded run.
        seconds: of nerfacto's training.
    """
    from scripts.benchmarks.curve import CurveSizes, measure_beside_run

    sizes = CurveSizes(seconds, points=1, frames=len(pipeline.datamanager.eval_dataset), pixels=512)
    with tempfile.TemporaryDirectory() as folder:
        config.output_dir = Path(folder)
        (full, head), (peer,) = measure_beside_run(config, pipeline, sizes)
    trained = {"seconds": peer.seconds, "steps": peer.steps}
    return {"whole portrait": {"full": full, "head": head}, "nerfacto": {"full": peer.psnr, "head": peer.head_psnr}} | {
        "nerfacto's training": trained
    }


def describe(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as lines of text."""
    lines = []
    for title, rows in figures.items():
        lines.append(title)
        for name, row in rows.items():
            values = row if isinstance(row, dict) else {"": row}
            lines.append("  ".join([f"  {name}:", *(f"{key} {value:.2f}".strip() for key, value in values.items())]))
    return "\n".join(lines)


def flicker(studio: Studio, held_out: Any) -> dict[str, float]:
    """Mean absolute differences between consecutive frames, grey levels of 255.

    Args:
        studio: the head.
        held_out: the data set's held-out frames, for the true video.
    """
    from ntalker_ns.driving.controls import controlled, usual_openness
    from ntalker_ns.driving.new_audio import sequence_for_audio
    from ntalker_ns.media.sound import write_wav

    with tempfile.TemporaryDirectory() as folder:
        silence = Path(folder) / "silence.wav"
        write_wav(silence, np.zeros(round(SILENCE * 16000), np.float32), 16000)
        spoken = sequence_for_audio(studio.clip, silence)
    posed = controlled(spoken, studio.clip, eyes=f"{usual_openness(studio.clip):.3f}", pose="still")
    studio.drive(posed)
    still = [studio.show(frame)["rgb"] for frame in range(len(posed))]
    studio.drive(studio.clip)
    clip, frames = held_out.require_clip(), [int(frame) for frame in held_out.frame_indices]
    moving = [studio.show(frame)["rgb"] for frame in frames]
    size = moving[0].shape[1::-1]
    true = [cv2.resize(clip.image(frame) / 255.0, size, interpolation=cv2.INTER_AREA) for frame in frames]
    person = np.any([clip.labels(frame) > 0 for frame in frames], axis=0).astype(np.uint8)
    empty = cv2.resize(person, size, interpolation=cv2.INTER_NEAREST) == 0
    head = np.all([clip.labels(frame) >= HEAD for frame in frames], axis=0).astype(np.uint8)
    inside = cv2.resize(head, size, interpolation=cv2.INTER_NEAREST) == 1
    return {
        "rendered, still pose and silence, whole picture": consecutive(still),
        "rendered, held-out frames, background": consecutive([one[empty] for one in moving]),
        "true, held-out frames, background": consecutive([one[empty] for one in true]),
        "rendered, held-out frames, head, second difference": second([one[inside] for one in moving]),
        "true, held-out frames, head, second difference": second([one[inside] for one in true]),
    }


def consecutive(frames: list[np.ndarray]) -> float:
    """Mean absolute difference between consecutive frames in [0, 1], in grey levels of 255."""
    return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(frames)]) * 255.0)


def second(frames: list[np.ndarray]) -> float:
    """Mean absolute second difference over time of frames in [0, 1], in grey levels of 255."""
    triples = zip(frames, frames[1:], frames[2:], strict=False)
    return float(np.mean([np.abs(a - 2.0 * b + c).mean() for a, b, c in triples]) * 255.0)


if __name__ == "__main__":
    sys.exit(run_command(tyro.cli(PortraitSheet)))
