"""What people look like in edits by a painted frame and by an instruction, and what stays of their speech.

Paint is drawn at the landmarks of a frame; the head learns it, and is shown turned and with three mouth shapes beside
the unedited one. Both then speak the same sound: the mouth's opening by landmarks, by optical flow and by the Gaussians
of the lips; by landmarks also on the unedited head's own frames, painted alike, where lips are in sync by construction
and the detector alone can err; the contrast of what is inside the mouth, and how much edited frames flicker, and the
head that has learned them.

    python -m scripts.benchmarks.worn --load-config RUN/config.yml --audio new.wav --output-dir worn --edits glasses oil
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFilter

from ntalker_ns import runs
from ntalker_ns.capture.landmarks import MEASURED_AT, face_landmarks
from ntalker_ns.data.images import polygon_mask
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.editing.carrying import Carrier, PaintedView
from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.editing.filters import FilterEditorConfig
from ntalker_ns.editing.given_frame import FrameDescription, rendered_frame, write_frame
from ntalker_ns.editing.picture_editor import PictureEditorConfig
from ntalker_ns.editing.plan import Strength
from ntalker_ns.editing.preview import edited
from ntalker_ns.editing.style_networks import PAINTERS, repaint
from ntalker_ns.evaluation.metrics.lips import lip_sync, mouth_openings
from ntalker_ns.evaluation.metrics.warping import optical_flow, warping_errors
from ntalker_ns.face.mesh_indices import (
    EYES,
    FACE_OVAL,
    INNER_LIPS,
    LEFT_BROW,
    MOUTH_CORNERS,
    OUTER_LIPS,
    RIGHT_BROW,
)
from ntalker_ns.media.contact_sheet import grid, write_picture
from ntalker_ns.media.pixels import from_uint8, to_uint8
from ntalker_ns.media.video_writer import write_frames
from scripts.benchmarks.mouths import flow_openings, gaussian_openings
from scripts.benchmarks.painted import seen
from scripts.benchmarks.portrait import orbit

Picture = UInt8[np.ndarray, "h w 3"]
Landmarks = Float[np.ndarray, "478 2"]

GIVEN = 512
"""Longest side of the painted frame, px."""
FINE = 4
"""Paint is drawn so many times finer."""
YAWS = (-25.0, -12.0, 0.0, 12.0, 25.0)
"""Degrees by which the head is turned on the sheet."""
OPENINGS = (5.0, 60.0, 98.0)
"""Percentiles of the mouth's opening on the sheet."""
WIDE = 85.0
"""Percentile of the mouth's opening from which on its inside is measured."""
FRECKLES = (151, 9, 67, 297, 6, 5, 50, 280, 199, 136, 365, 36, 266, 116, 345, 207, 427, 147, 376)
"""Landmarks with a freckle: forehead, nose, cheeks, jaw."""
FRECKLE, NEAR = 4.0, 11.0
"""Radius of a freckle, and of the window in which it is looked for, px at 512."""
VISIBLE = 0.04
"""How much darker a freckle makes the head at least, of 1, to be found."""
FULL = Strength(6.0, 20, 20)
INSTRUCTIONS = {
    "bronze": "Make them look like a bronze statue",
    "oil": "Turn them into an oil painting",
    "van-gogh": "Make them look like Van Gogh",
    "munch": "Turn them into an Edvard Munch painting",
}
PAINTS = ("glasses", "makeup", "beard", "painting", "freckles")
GROWN = ("beard",)
"""Paints that change the head's outline."""


def _layer(size: tuple[int, int]) -> tuple[Image.Image, Any]:
    mask = Image.new("L", (size[0] * FINE, size[1] * FINE))
    return mask, ImageDraw.Draw(mask)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _points(places: np.ndarray) -> list[tuple[float, float]]:
    return [(float(x) * FINE, float(y) * FINE) for x, y in places]


def _applied(picture: Picture, mask: Image.Image, colour: tuple[int, int, int], cover: float, blur: float) -> Picture:
    """Paint of a colour over a picture."""
    small = mask.resize(_size(picture), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(blur))
    weight = cover * np.asarray(small, np.float32)[..., None] / 255.0
    return to_uint8(
        (from_uint8(picture) * (1 - weight) + weight * np.array(colour, np.float32) / 255).astype(np.float32)
    )


def glasses(picture: Picture, marks: Landmarks) -> Picture:
    """Two dark rims, a bridge and temples."""
    mask, draw = _layer(_size(picture))
    middles = np.stack([marks[eye.contour()].mean(axis=0) for eye in EYES])
    apart = float(np.linalg.norm(middles[1] - middles[0]))
    radii, line = np.array([0.38, 0.31]) * apart, round(0.06 * apart * FINE)
    for middle, temple, side in zip(middles, marks[[127, 356]], (-1, 1), strict=True):
        box = [*((middle - radii) * FINE), *((middle + radii) * FINE)]
        draw.ellipse(box, outline=255, width=line)
        outer = middle + np.array([side * radii[0], 0.0])
        draw.line(_points(np.stack([outer, temple])), fill=255, width=line)
    inner = middles + np.array([[radii[0], 0.0], [-radii[0], 0.0]])
    draw.line(_points(inner), fill=255, width=line)
    return _applied(picture, mask, (25, 20, 25), 0.95, 0.6)


def makeup(picture: Picture, marks: Landmarks) -> Picture:
    """Lipstick and eye shadow."""
    mask, draw = _layer(_size(picture))
    draw.polygon(_points(marks[OUTER_LIPS]), fill=255)
    draw.polygon(_points(marks[INNER_LIPS]), fill=0)
    made = _applied(picture, mask, (150, 10, 80), 0.75, 0.8)
    mask, draw = _layer(_size(picture))
    for eye, brow in zip(EYES, (RIGHT_BROW[5:], LEFT_BROW[5:]), strict=True):
        lid = marks[list(eye.upper)]
        under = marks[list(brow)]
        under = under[np.argsort(under[:, 0])]
        lid = lid[np.argsort(lid[:, 0])]
        draw.polygon(_points(np.concatenate([lid, (0.35 * lid[[0, -1]].mean(axis=0) + 0.65 * under)[::-1]])), fill=255)
    return _applied(made, mask, (40, 90, 200), 0.6, 0.008 * picture.shape[1])


def beard(picture: Picture, marks: Landmarks) -> Picture:
    """A full beard, longer than the chin."""
    mask, draw = _layer(_size(picture))
    jaw = marks[FACE_OVAL[10:27]]
    chin = marks[152]
    top = marks[168]
    longer = jaw + 0.22 * (jaw - top) * np.clip((jaw[:, 1:] - marks[1, 1]) / (chin[1] - marks[1, 1]), 0, 1) ** 2
    corners = marks[list(MOUTH_CORNERS)]
    upper = np.stack([corners[0], marks[164], corners[1]]) + np.array([0.0, -0.02]) * (chin[1] - top[1])
    draw.polygon(_points(np.concatenate([longer, upper])), fill=255)
    draw.polygon(_points(marks[OUTER_LIPS]), fill=0)
    made = _applied(picture, mask, (52, 34, 22), 0.93, 1.2)
    random = np.random.default_rng(0)
    rows, columns = np.nonzero(np.asarray(mask.resize(_size(picture), Image.Resampling.BOX)) > 128)
    hairs, draw = _layer(_size(picture))
    for pick in random.integers(0, len(rows), 700):
        start = np.array([columns[pick], rows[pick]], float)
        end = start + np.array([random.normal(0, 3.0), random.uniform(5, 12)])
        draw.line(_points(np.stack([start, end])), fill=200, width=FINE)
    inside = Image.fromarray(np.minimum(np.asarray(hairs), np.asarray(mask)))
    return _applied(made, inside, (120, 85, 55), 0.6, 0.4)


def freckles(picture: Picture, marks: Landmarks) -> Picture:
    """A dark dot on each of `FRECKLES`."""
    mask, draw = _layer(_size(picture))
    radius = FRECKLE * picture.shape[1] / MEASURED_AT
    for place in marks[list(FRECKLES)]:
        draw.ellipse([*((place - radius) * FINE), *((place + radius) * FINE)], fill=255)
    return _applied(picture, mask, (50, 25, 15), 0.95, 0.5)


def found_freckles(frame: Picture, unedited: Picture, marks: Landmarks) -> Float[np.ndarray, "freckles 3"]:
    """Where each freckle of an edited head is, less its landmark in the unedited one, px at 512, NaN where it is not
    found; and by how much it is darker than its surroundings at its darkest, of 1. Its place is the centroid of what it
    makes darker."""
    darker = from_uint8(unedited).mean(axis=2) - from_uint8(frame).mean(axis=2)
    scale = frame.shape[1] / MEASURED_AT
    found = np.full((len(FRECKLES), 3), np.nan)
    # Landmarks count from pixels' corners.
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]] + 0.5
    for freckle, (x, y) in enumerate(marks[list(FRECKLES)] * scale):
        near = np.hypot(columns - x, rows - y) < NEAR * scale
        beside = darker[near] - np.median(darker[near])
        weight = np.clip(beside - VISIBLE / 2, 0, None)
        found[freckle, 2] = beside.max()
        if beside.max() > VISIBLE:
            place = np.array([(columns[near] - x) @ weight, (rows[near] - y) @ weight])
            found[freckle, :2] = place / weight.sum() / scale
    return found


def painting(picture: Picture, marks: Landmarks) -> Picture:
    """The whole frame in Van Gogh's style."""
    return to_uint8(repaint(from_uint8(picture), PAINTERS["van-gogh"].style))


@dataclass
class Worn:
    """Measure and show edits of somebody's head."""

    load_config: Path
    """Config of the base run."""
    audio: Path
    """What the heads speak; some seconds."""
    output_dir: Path
    """Runs, sheets and videos go here."""
    edits: tuple[str, ...] = (*PAINTS, *INSTRUCTIONS)
    """Which ones."""
    epochs: int | None = None
    """On large patches; None: the preset's."""
    updates: int = 1
    """Of an edit by a painted frame."""
    runs: tuple[Path, ...] = ()
    """Configs of edits that are trained already, one for each; none: they are trained."""

    def main(self) -> None:
        """Trains, renders, measures; figures are appended to figures.jsonl."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.base = runs.load_head(self.load_config)
        model = self.base.pipeline.model
        self.spoken = list(self.base.say(self.audio))
        self.speech = model.driven()
        model.set_driving(self.base.clip)
        self.marks = face_landmarks(self.spoken)
        self.flow = flow_openings(self.spoken, self.marks)
        for index, name in enumerate(self.edits):
            begin = time.perf_counter()
            given = self.given(name)
            config = self.runs[index] if self.runs else self.train(name)
            seconds = time.perf_counter() - begin
            head = runs.load_head(config)
            speech = head.say(self.audio)
            frames = list(speech)
            write_frames(self.output_dir / f"{name}.mp4", iter(frames), head.fps, speech.sound)
            model.drive_again(self.speech)
            figures = {"edit": name, "seconds": round(seconds), **self.figures(name, given, head, frames)}
            model.set_driving(self.base.clip)
            with (self.output_dir / "figures.jsonl").open("a") as lines:
                lines.write(json.dumps(figures) + "\n")
            print(figures)
            write_picture(self.output_dir / f"{name}.png", self.sheet(given, head))

    def given(self, name: str) -> Picture:
        """The painted frame, which is written too; of an instruction, the frame that it makes."""
        model = self.base.pipeline.model
        frame, picture = rendered_frame(model, None, GIVEN)
        if name in INSTRUCTIONS:
            (made,) = edited(picture, FilterEditorConfig(), INSTRUCTIONS[name], [FULL])
            return made
        paint = {"glasses": glasses, "makeup": makeup, "beard": beard, "painting": painting, "freckles": freckles}[name]
        made = paint(picture, face_landmarks([picture])[0])
        write_frame(self.output_dir / f"{name}-given.png", made, FrameDescription.of(model.driving, frame, GIVEN))
        return made

    def train(self, name: str) -> Path:
        """An edit with the small preset."""
        config: Any = runs.configured("ntalker-edit-small", {}, output_dir=self.output_dir)
        editor: EditorConfig = FilterEditorConfig()
        if name in PAINTS:
            editor = PictureEditorConfig(picture=(self.output_dir / f"{name}-given.png",))
            config.edit = dataclasses.replace(config.edit, updates=self.updates)
        if self.epochs is not None:
            config.edit = dataclasses.replace(config.edit, epochs=self.epochs)
        config.base, config.editor, config.experiment_name = self.load_config, editor, name
        config.instruction = INSTRUCTIONS.get(name, "")
        config.edit_outline = "free" if name in GROWN else "keep"
        runs.prepare(config)
        return runs.train_prepared(config)

    def figures(self, name: str, given: Picture, head: Any, frames: list[Picture]) -> dict[str, float]:
        """Of an edited head that speaks, against the unedited one; both heads are driven by that speech."""
        alike = self.painted_alike(name, given)
        true = mouth_openings(self.marks)
        by_landmarks = lip_sync(mouth_openings(face_landmarks(frames)), true)
        detector = lip_sync(mouth_openings(face_landmarks(alike)), true)
        by_flow = lip_sync(flow_openings(frames, self.marks), self.flow)
        wide = np.flatnonzero(true >= np.nanpercentile(true, WIDE))
        figures = {
            "landmarks": by_landmarks.correlation,
            "chance": max(by_landmarks.shifted),
            "amplitude": by_landmarks.amplitude_ratio,
            "landmarks, painted alike": detector.correlation,
            "amplitude, painted alike": detector.amplitude_ratio,
            "flow": by_flow.correlation,
            "flow, chance": max(by_flow.shifted),
            "flow, amplitude": by_flow.amplitude_ratio,
            "flow against landmarks, unedited": lip_sync(self.flow, true).correlation,
            "contrast inside": self.contrast_inside(frames, wide),
            "contrast inside, painted alike": self.contrast_inside(alike, wide),
        }
        if hasattr(head.pipeline.model.head, "gaussians"):
            unedited, worn, moved = gaussian_openings(self.base.pipeline.model, head.pipeline.model, self.marks)
            of_lips = lip_sync(worn, unedited)
            figures |= {"Gaussians": of_lips.correlation, "Gaussians, amplitude": of_lips.amplitude_ratio}
            figures["Gaussians moved, px"] = moved
        if name == "freckles":
            figures |= self.freckle_figures("", frames) | self.freckle_figures(", painted alike", alike)
        if name not in PAINTS:
            flow = optical_flow("dis")
            figures["E_w by frames"] = warping_errors(iter(alike), flow).mean
            figures["E_w of the head"] = warping_errors(iter(frames), flow).mean
        return {key: round(value, 4) for key, value in figures.items()}

    def freckle_figures(self, which: str, frames: list[Picture]) -> dict[str, float]:
        """How far freckles are from their landmarks, and from their own mean place beside them, px at 512; and how much
        darker than the skin they are, of 1."""
        each = zip(frames, self.spoken, self.marks, strict=True)
        found = np.stack([found_freckles(frame, unedited, marks) for frame, unedited, marks in each])
        away, darker = found[..., :2], found[..., 2]
        distances = np.linalg.norm(away, axis=-1)
        moving = np.linalg.norm(away - np.nanmean(away, axis=0), axis=-1)
        return {
            f"freckles found{which}": float(np.isfinite(distances).mean()),
            f"freckles off, px{which}": float(np.nanmedian(distances)),
            f"freckles off, px, 90%{which}": float(np.nanpercentile(distances, 90)),
            f"freckles off their mean place, px{which}": float(np.nanmedian(moving)),
            f"freckles darker{which}": float(np.median(darker)),
        }

    def painted_alike(self, name: str, given: Picture) -> list[Picture]:
        """The unedited head's frames of the speech, edited one by one: nothing is trained."""
        if name in INSTRUCTIONS:
            return [next(edited(one, FilterEditorConfig(), INSTRUCTIONS[name], [FULL])) for one in self.spoken]
        model, size = self.base.pipeline.model, max(self.spoken[0].shape)
        model.set_driving(self.base.clip)
        frame, _ = rendered_frame(model, None, GIVEN)
        free = name in GROWN
        painted = PaintedView(seen(model, frame, GIVEN, free), from_uint8(given))
        carrier = Carrier([painted], self.base.clip.rig.eye_distance)
        model.drive_again(self.speech)
        return [to_uint8(carrier.carry(seen(model, index, size, free))) for index in range(len(self.spoken))]

    def contrast_inside(self, frames: list[Picture], wide: Int64[np.ndarray, " some"]) -> float:
        """`contrast` over that of the unedited head: the median of frames with a wide open mouth."""
        ratios = [self.contrast(frames[i], i) / max(self.contrast(self.spoken[i], i), 1e-6) for i in wide]
        return float(np.median(ratios))

    def contrast(self, picture: Picture, index: int) -> float:
        """Standard deviation of luminance between the inner lips, where the unedited head has them."""
        scale = picture.shape[1] / MEASURED_AT
        mask = polygon_mask(self.marks[index][INNER_LIPS] * scale, _size(picture))
        grey = from_uint8(picture) @ np.array([0.299, 0.587, 0.114], np.float32)
        return float(grey[mask].std()) if mask.sum() > 8 else float("nan")

    def sheet(self, given: Picture, head: Any) -> Picture:
        """Base, given picture, the head turned; both heads with three mouth shapes."""
        driving = self.base.clip
        head.pipeline.model.set_driving(head.clip)
        frame, unedited = rendered_frame(self.base.pipeline.model, None, GIVEN)
        camera = sequence_cameras(driving, np.array([frame]), GIVEN, enlarge=True)
        pose = driving.track.camera_to_worlds[frame]
        turned = []
        for yaw in YAWS:
            other = sequence_cameras(driving, np.array([frame]), GIVEN, enlarge=True)
            other.camera_to_worlds[0] = camera.camera_to_worlds.new_tensor(orbit(pose, np.radians(yaw), 0.0))
            turned.append(shown(head, other))
        opening = np.nan_to_num(driving.track.mouth_opening)
        mouths = [int(np.argmin(np.abs(opening - np.percentile(opening, each)))) for each in OPENINGS]
        cameras = [sequence_cameras(driving, np.array([each]), GIVEN, enlarge=True) for each in mouths]
        rows = [
            [unedited, given, *turned],
            [given, *(shown(each, one) for one in cameras for each in (self.base, head))],
        ]
        labels = ["base | base speaks", "given | and the head", *(f"{yaw:g} degrees" for yaw in YAWS)]
        return grid(rows, ["turned", "mouths: base, head"], labels, 320)


def shown(head: Any, camera: Any) -> Picture:
    """A picture of a head."""
    outputs = head.pipeline.model.get_outputs_for_camera(camera)
    return to_uint8(outputs["rgb"].clamp(0.0, 1.0))


if __name__ == "__main__":
    tyro.cli(Worn).main()
