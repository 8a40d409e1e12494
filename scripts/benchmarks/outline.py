"""Edits that change the outline of the made-up head: hair that grows by 5% of the head's width, with --edit-outline
keep and free, against the outline that it must have; and a hat and a beard painted on one frame.

Run after `ntalker demo` or `ntalker process` on the demo's clip:

    python -m scripts.benchmarks.outline --load-config RUN/config.yml --output-dir outline
    python -m scripts.benchmarks.outline --load-config RUN/config.yml --output-dir outline --hat
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float, Float32

from ntalker_ns import runs
from ntalker_ns.demo.clip import draw_head
from ntalker_ns.demo.photograph import load_portrait
from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.editing.editor import EditorConfig
from ntalker_ns.editing.given_frame import FrameDescription, frame_to_edit, write_frame
from ntalker_ns.editing.picture_editor import PictureEditorConfig
from ntalker_ns.editing.views import FrameView, RenderView
from ntalker_ns.media.pixels import to_uint8
from ntalker_ns.rendering.background import Background
from ntalker_ns.rendering.display import DisplayOptions
from ntalker_ns.runs import load_run
from scripts.benchmarks.painted import Painted, Truth, seen

GROWTH = 0.05
"""Of the hair, over the head's width."""


@dataclass
class GrownHairConfig(EditorConfig):
    """An editor that lets the hair grow outwards."""

    _target: type = field(default_factory=lambda: GrownHair)

    def describe(self, instruction: str) -> str:
        """See `EditorConfig.describe`."""
        return "Hair that grows outwards, no diffusion model: each update applies it in full."


class GrownHair:
    """Continues the colours of the unedited head's rim outwards; see `SurfaceEditor`."""

    def __init__(self, config: GrownHairConfig) -> None:
        self.config = config

    def prepare(self, render_view: RenderView, driving: DrivingSequence, size: int, folder: Path) -> None:
        """See `SurfaceEditor.prepare`."""
        self._keypoints = driving.rig.keypoints

    def edit_views(
        self, frames: Float32[np.ndarray, "n h w 3"], views: Sequence[FrameView]
    ) -> Float32[np.ndarray, "n h w 3"]:
        """See `SurfaceEditor.edit_views`."""
        edited = []
        for view in views:
            grown, nearest = grown_mask(view.head[..., 0] > 0.9, self._keypoints, view)
            picture = view.picture.copy()
            picture[grown] = view.picture[nearest[0][grown], nearest[1][grown]]
            edited.append(picture)
        return np.stack(edited)

    def unload(self) -> None:
        """See `SurfaceEditor.unload`."""


def grown_mask(
    head: Bool[np.ndarray, "h w"], keypoints: dict[str, Any], view: FrameView
) -> tuple[Bool[np.ndarray, "h w"], np.ndarray]:
    """Where hair grows above the eyes, less below them and not at all at the mouth; and the nearest pixels of the head.

    Args:
        head: its mask.
        keypoints: of the rig.
        view: tells the height of pixels.
    """
    from scipy.ndimage import distance_transform_edt

    eyes, mouth = 0.5 * (keypoints["left_eye"] + keypoints["right_eye"])[2], keypoints["mouth"][2]
    away = distance_transform_edt(~head)
    # The rim itself shows some of what is behind it.
    inner = cv2.erode(head.astype(np.uint8), np.ones((9, 9))) == 0
    nearest = distance_transform_edt(inner, return_distances=False, return_indices=True)
    share = np.clip((heights(view) - mouth) / (eyes - mouth), 0.0, 1.0)
    wide = np.ptp(np.flatnonzero(head.any(axis=0))) + 1
    return ~head & (away <= GROWTH * wide * share) & (share > 0), np.asarray(nearest)


def heights(view: FrameView) -> Float[np.ndarray, "h w"]:
    """Canonical z of the points that pixels show; beside the head, of the nearest of them."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(view.head[..., 0] < 0.9, return_distances=False, return_indices=True)  # type: ignore[misc]
    return view.canonical[rows, columns, 2]


@dataclass
class Outline:
    """Measure edits that change the outline of the demo's head."""

    load_config: Path
    """Config of the base run on the demo's clip."""
    output_dir: Path
    """Runs and pictures go here."""
    seconds: float = 12.0
    """Of the demo's clip."""
    clip_size: int = 256
    """Of the demo's clip, px."""
    frames: int = 12
    """How many held-out frames are compared."""
    size: int = 256
    """Of the compared pictures, px."""
    updates: int = 1
    """Of the edit."""
    edited: int = 24
    """Frames that are edited."""
    hat: bool = False
    """Paint a hat and a beard on one frame instead, and show the head that wears them."""

    def main(self) -> None:
        """Trains, measures, writes sheets."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        base: Any = load_run(self.load_config).model
        editor: EditorConfig = GrownHairConfig()
        if self.hat:
            editor = self.painted(base)
        models = {"unedited": base}
        outlines: tuple[Literal["keep", "free"], ...] = ("free",) if self.hat else ("keep", "free")
        for outline in outlines:
            models[outline] = load_run(self.train(editor, outline)).model
        if self.hat:
            self.show(models)
            return
        print(
            "above the eyes: IoU to the grown outline; beside the person before white: pixels off, mean level off, "
            "and the same of pixels that the edit paints, white before"
        )
        for name, values in self.measure(models).items():
            beside = "  ".join(f"{100 * share:.2f}%  {255 * grey:.2f}" for share, grey in (values[1:3], values[3:]))
            print(f"{name:10s} {values[0]:.3f}  {beside}")

    def train(self, editor: EditorConfig, outline: Literal["keep", "free"]) -> Path:
        """An edit."""
        config: Any = runs.configured("ntalker-edit-small", {}, output_dir=self.output_dir)
        config.base, config.editor, config.edit_outline = self.load_config, editor, outline
        config.instruction = "hat" if self.hat else "hair"
        config.experiment_name = f"{config.instruction}-{outline}"
        config.edit = dataclasses.replace(config.edit, num_frames=self.edited, updates=self.updates, hold_out=True)
        runs.prepare(config)
        return runs.train_prepared(config)

    def measure(self, models: dict[str, Any]) -> dict[str, list[float]]:
        """Means over held-out frames, of each head."""
        base, portrait = models["unedited"], load_portrait()
        held_out = np.nonzero(~base.driving.track.is_train)[0]
        chosen = held_out[np.linspace(0, len(held_out) - 1, min(self.frames, len(held_out))).round().astype(int)]
        truth = Painted(self.load_config, seconds=self.seconds, clip_size=self.clip_size).truth(base.driving)
        figures: dict[str, list[list[float]]] = {name: [] for name in ("truth before", *models)}
        rows = []
        for index in map(int, chosen):
            view = seen(base, index, self.size)
            head = true_head(truth, portrait, index, self.size)
            hair, _ = grown_mask(head, base.driving.rig.keypoints, view)
            goal = head | hair
            eyes = 0.5 * (base.driving.rig.keypoints["left_eye"] + base.driving.rig.keypoints["right_eye"])[2]
            above = heights(view) > eyes
            figures["truth before"].append([iou(head & above, goal & above), 0.0, 0.0, 0.0, 0.0])
            beside = ~(cv2.dilate(goal.astype(np.uint8), np.ones((9, 9))) > 0) & (view.torso[..., 0] < 0.02)
            painted = goal & plain_white(base, index, self.size)
            row = [view.picture]
            for name, model in models.items():
                opacity, white = before_white(model, index, self.size)
                off = np.abs(white - 1.0).max(axis=-1)
                parts = [off[where] for where in (beside, painted)]
                greys = [float(value) for part in parts for value in ((part > 4 / 255).mean(), part.mean())]
                figures[name].append([iou((opacity > 0.5) & above, goal & above), *greys])
                row.append(white)
            rows.append(np.concatenate([*row, np.repeat(goal[..., None], 3, axis=2).astype(np.float32)], axis=1))
        sheet = to_uint8(np.concatenate(rows[:: max(len(rows) // 4, 1)]))
        cv2.imwrite(str(self.output_dir / "hair.png"), sheet[..., ::-1])
        return {name: np.mean(values, axis=0).tolist() for name, values in figures.items()}

    def painted(self, base: Any) -> PictureEditorConfig:
        """One frame with a hat and a beard."""
        given = frame_to_edit(base.driving)
        view = seen(base, given, 512)
        picture, head = to_uint8(view.picture), view.head[..., 0] > 0.5
        rows, columns = np.nonzero(head)
        top, middle = int(rows.min()), int((columns.min() + columns.max()) / 2)
        wide, high = int(np.ptp(columns)), int(np.ptp(rows))
        brim = top + int(0.2 * high)
        crown = (middle - int(0.4 * wide), top - int(0.05 * high)), (middle + int(0.4 * wide), brim)
        cv2.rectangle(picture, *crown, (120, 25, 40), -1)
        band = (crown[0][0], brim - int(0.08 * high)), (crown[1][0], brim - int(0.02 * high))
        cv2.rectangle(picture, *band, (230, 200, 60), -1)
        cv2.ellipse(picture, (middle, brim), (int(0.68 * wide), int(0.04 * high)), 0, 0, 360, (90, 20, 30), -1)
        mouth = np.argwhere(view.mouth[..., 0] > 0)
        below, centre = int(mouth[:, 0].max()), int(mouth[:, 1].mean())
        beard = np.array([[-0.2, 0.02], [0.2, 0.02], [0.16, 0.18], [0.0, 0.3], [-0.16, 0.18]]) * [wide, high]
        cv2.fillPoly(picture, [np.round(beard + np.array([centre, below])).astype(np.int32)], (60, 35, 15))
        path = self.output_dir / "hat-painted.png"
        write_frame(path, picture, FrameDescription.of(base.driving, given, 512))
        return PictureEditorConfig(picture=(path,), frame=(given,))

    def show(self, models: dict[str, Any]) -> None:
        """A sheet: the head at five poses, before its background and before white."""
        track = models["unedited"].driving.track
        yaw, pitch = track.camera_to_worlds[:, 0, 2], track.camera_to_worlds[:, 1, 2]
        chosen = [int(yaw.argmin()), int(yaw.argmax()), int(pitch.argmin()), int(pitch.argmax()), len(yaw) - 1]
        rows = []
        for index in chosen:
            pictures = [seen(models[name], index, self.size).picture for name in models]
            pictures.append(before_white(models["free"], index, self.size)[1])
            rows.append(np.concatenate(pictures, axis=1))
        cv2.imwrite(str(self.output_dir / "hat.png"), to_uint8(np.concatenate(rows))[..., ::-1])


def before_white(model: Any, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Opacity of the head, and the portrait before a white background."""
    camera = sequence_cameras(model.driving, np.array([index]), size, enlarge=True)
    outputs = model.get_outputs_for_camera(camera, display=DisplayOptions(background=Background.parse("white")))
    return outputs["head_opacity"][..., 0].numpy(), outputs["rgb"].clamp(0.0, 1.0).numpy()


def plain_white(model: Any, index: int, size: int) -> Bool[np.ndarray, "h w"]:
    """Where a head leaves a white background as it is, a pixel away from all else."""
    _, white = before_white(model, index, size)
    return cv2.erode((white.min(axis=-1) > 1.0 - 1.5 / 255).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def true_head(truth: Truth, portrait: Any, index: int, size: int) -> Bool[np.ndarray, "h w"]:
    """Where the generator draws the head."""
    left, top, side = truth.crop
    drawn = draw_head(portrait, truth.motion, index, truth.size)[top : top + side, left : left + side, 3]
    return cv2.resize(drawn, (size, size), interpolation=cv2.INTER_LINEAR) > 0.5


def iou(one: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / max((one | other).sum(), 1))


if __name__ == "__main__":
    tyro.cli(Outline).main()
