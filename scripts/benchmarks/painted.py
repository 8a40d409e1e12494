"""Paint one frame of the made-up head, and compare the head that wears it with the clip of a head painted everywhere.

The clip's generator draws the same poses and speech with a painted texture: the truth for every frame. Run after
`ntalker demo` or `ntalker process` on the demo's clip:

    python -m scripts.benchmarks.painted --load-config RUN/config.yml --picture painted.png
    ns-train ntalker-edit-small --base RUN/config.yml editor:picture --editor.picture painted.png
    python -m scripts.benchmarks.painted --load-config RUN/config.yml --edited EDIT/config.yml
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from jaxtyping import Float, Float32

from ntalker_ns.demo.clip import FPS, draw_frame
from ntalker_ns.demo.motion import Motion, make_motion
from ntalker_ns.demo.photograph import Portrait, load_portrait
from ntalker_ns.demo.speech import TRAINING_TEXT, speech_of_length
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.carrying import Carrier, PaintedView
from ntalker_ns.editing.given_frame import FrameDescription, frame_to_edit, write_frame
from ntalker_ns.editing.views import INSIDE, LIPS, FrameView, view_of
from ntalker_ns.face.mesh_indices import INNER_LIPS, OUTER_LIPS
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.runs import load_run

Picture = Float32[np.ndarray, "h w 3"]


def painted_portrait() -> Portrait:
    """The demo's head with lipstick, cheeks of two colours and a striped forehead."""
    portrait = load_portrait()
    landmarks = portrait.mesh.texture
    atlas = portrait.atlas.copy()
    photo = atlas[:, :512, :3]
    scale = 8

    def brush(draw: Any, blur: float) -> Float[np.ndarray, "512 512 1"]:
        mask = np.zeros((512 * scale, 512 * scale), np.uint8)
        draw(mask)
        small = cv2.resize(mask, (512, 512), interpolation=cv2.INTER_AREA) / 255.0
        return cv2.GaussianBlur(small, (0, 0), blur)[..., None]

    def lips(mask: np.ndarray) -> None:
        for contour, value in ((OUTER_LIPS, 255), (INNER_LIPS, 0)):
            cv2.fillPoly(mask, [np.round(landmarks[contour] * scale).astype(np.int32)], (value,))

    def spot(index: int) -> Any:
        x, y = np.round(landmarks[index] * scale).astype(int)
        return lambda mask: cv2.circle(mask, (int(x), int(y)), 7 * scale, (255,), -1)

    def stripes(mask: np.ndarray) -> None:
        left, right, top = landmarks[103, 0], landmarks[332, 0], landmarks[151, 1]
        for offset in (-8.0, -3.0, 2.0):
            row = int((top + offset) * scale)
            cv2.rectangle(mask, (int(left * scale), row), (int(right * scale), row + 2 * scale), (255,), -1)

    for draw, blur, colour, cover in (
        (lips, 0.5, (0.5, 0.02, 0.3), 0.75),
        (spot(50), 2.0, (0.1, 0.6, 0.2), 0.7),
        (spot(280), 2.0, (0.2, 0.3, 0.8), 0.7),
        (stripes, 0.5, (0.9, 0.8, 0.1), 0.8),
    ):
        mask = cover * brush(draw, blur)
        photo[:] = photo * (1.0 - mask) + mask * np.array(colour)
    return replace(portrait, atlas=atlas.astype(np.float32))


def behind_openings() -> Portrait:
    """The demo's head, white where mouth and lids open and black elsewhere."""
    portrait = load_portrait()
    atlas = np.zeros_like(portrait.atlas)
    atlas[..., 3] = portrait.atlas[..., 3]
    atlas[:, 512:, :3] = 1.0
    return replace(portrait, atlas=atlas, still=np.zeros_like(portrait.still))


@dataclass
class Truth:
    """Frames of the clip, plain and painted, as the data set has them."""

    motion: Motion
    size: int
    """Of the clip's frames, px."""
    crop: tuple[int, int, int]
    """Left, top and side of the data set's part of them, px."""

    def frame(self, portrait: Portrait, index: int, size: int) -> Picture:
        """A frame at a size in px."""
        left, top, side = self.crop
        drawn = from_uint8(draw_frame(portrait, self.motion, index, self.size))[top : top + side, left : left + side]
        way = cv2.INTER_CUBIC if size > side else cv2.INTER_AREA
        return np.clip(cv2.resize(drawn, (size, size), interpolation=way), 0.0, 1.0)


@dataclass
class Painted:
    """Measure an edit by one painted frame against a clip that is painted everywhere."""

    load_config: Path
    """Config of the base run on the demo's clip."""
    edited: Path | None = None
    """Config of the edited run; None: only what it is trained on is measured."""
    picture: Path | None = None
    """Write the painted frame here, and stop."""
    seconds: float = 12.0
    """Of the demo's clip."""
    clip_size: int = 256
    """Of the demo's clip, px."""
    size: int = 256
    """Of the compared pictures, px."""
    frames: int = 24
    """How many of the held-out frames are compared."""
    sheet: Path | None = None
    """Write a few of them here: unedited, carried, edited, truth."""

    def main(self) -> None:
        """Prints PSNR in dB."""
        if self.picture is not None:
            self.write_picture(self.picture)
            return
        figures = self.measure()
        print("PSNR in dB on head, lips, between the lips, and there where the truth, too, is between the lips")
        for name, values in figures.items():
            print(f"{name:24s}", "  ".join(f"{value:5.2f}" for value in values))

    def truth(self, driving: DrivingSequence) -> Truth:
        """The clip that the data set was made from."""
        waveform, rate = speech_of_length(TRAINING_TEXT, self.seconds)
        motion = make_motion(waveform, rate, round(self.seconds * FPS), FPS, 0)
        crop = json.loads((Path(driving.source) / "transforms.json").read_text("utf8"))["source"]["crop"]
        return Truth(motion, self.clip_size, tuple(crop))

    def write_picture(self, path: Path) -> None:
        """Paints a frame of the head and writes it."""
        model: Any = load_run(self.load_config).model
        truth, plain, painted = self.truth(model.driving), load_portrait(), painted_portrait()
        given = frame_to_edit(model.driving)
        frame = seen(model, given, 512)
        change = truth.frame(painted, given, 512) - truth.frame(plain, given, 512)
        picture = to_uint8(frame.picture + change * frame.head)
        write_frame(path, picture, FrameDescription.of(model.driving, given, 512))

    def measure(self) -> dict[str, list[float]]:
        """PSNR in dB for each kind of picture: on the head, the lips, between them, and there where the truth, too, is
        between them. (Sound tells only roughly where lips are.)"""
        model: Any = load_run(self.load_config).model
        truth, plain, painted = self.truth(model.driving), load_portrait(), painted_portrait()
        openings = behind_openings()
        given = frame_to_edit(model.driving)
        source = seen(model, given, self.size * 2)
        change = truth.frame(painted, given, source.size[0]) - truth.frame(plain, given, source.size[0])
        one = PaintedView(source, np.clip(source.picture + change * source.head, 0.0, 1.0).astype(np.float32))
        carrier = Carrier([one], model.driving.rig.eye_distance)
        overall = global_transform(one)
        held_out = np.nonzero(~model.driving.track.is_train)[0]
        chosen = held_out[np.linspace(0, len(held_out) - 1, min(self.frames, len(held_out))).round().astype(int)]
        after: Any = None if self.edited is None else load_run(self.edited).model
        errors: dict[str, list[list[float]]] = {}
        rows = []
        for index in map(int, chosen):
            view = seen(model, index, self.size)
            goal, before = (truth.frame(portrait, index, self.size) for portrait in (painted, plain))
            pictures = {"unedited": view.picture, "global transform": overall(view.picture)}
            pictures["carried"] = carrier.carry(view)
            if after is not None:
                camera = sequence_cameras(after.driving, np.array([index]), self.size, enlarge=True)
                pictures["edited head"] = after.get_outputs_for_camera(camera)["rgb"].clamp(0, 1).cpu().numpy()
            inside = view.mouth[..., 0] == INSIDE
            behind = truth.frame(openings, index, self.size)[..., 0] > 0.5
            masks = [view.head[..., 0] > 0.9, view.mouth[..., 0] == LIPS, inside, inside & behind]
            for name, picture in pictures.items():
                errors.setdefault(name, []).append([squared(picture, goal, mask) for mask in masks])
            errors.setdefault("base to the plain clip", []).append(
                [squared(view.picture, before, mask) for mask in masks]
            )
            rows.append(np.concatenate([to_uint8(each) for each in (*pictures.values(), goal)], axis=1))
        if self.sheet is not None:
            sheet = np.concatenate(rows[:: max(len(rows) // 4, 1)])
            cv2.imwrite(str(self.sheet), sheet[..., ::-1])
        return {name: (-10 * np.log10(np.nanmean(values, axis=0))).tolist() for name, values in errors.items()}


def seen(model: Any, index: int, size: int, beside: bool = False) -> FrameView:
    """A frame of a head, and what it could show beside it."""
    camera = sequence_cameras(model.driving, np.array([index]), size, enlarge=True)
    outputs = model.get_outputs_for_camera(camera)
    surface = model.surface(camera, outputs)
    if beside:
        surface |= model.beside(camera, outputs)
    return view_of(from_uint8(to_uint8(outputs["rgb"])), outputs, surface)


def squared(picture: Picture, goal: Picture, mask: np.ndarray) -> float:
    """Mean squared error in a mask."""
    return float(np.square(picture - goal)[mask].mean()) if mask.any() else float("nan")


def global_transform(one: PaintedView) -> Any:
    """The affine map of colours that fits a painted head best."""
    mask = one.view.head[..., 0] > 0.9
    inputs = np.concatenate([one.view.picture[mask], np.ones((mask.sum(), 1))], axis=1)
    matrix = np.linalg.lstsq(inputs, one.edited[mask], rcond=None)[0]
    return lambda picture: np.clip(picture @ matrix[:3] + matrix[3], 0.0, 1.0).astype(np.float32)


if __name__ == "__main__":
    tyro.cli(Painted).main()
