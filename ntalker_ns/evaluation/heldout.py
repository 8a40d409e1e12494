"""The held-out frames of a run against the two baselines: one table, one picture."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ntalker_ns.capture.landmarks import MEASURED_AT, face_landmarks
from ntalker_ns.evaluation.baselines import mean_frame, nearest_frames, over_true_rest
from ntalker_ns.evaluation.metrics.lips import lip_distances
from ntalker_ns.evaluation.metrics.regions import REGIONS, RegionPsnr, region_errors, region_masks, region_psnr
from ntalker_ns.media.contact_sheet import grid, write_picture

METHODS = ("ours", "nearest", "mean")


@dataclass(frozen=True)
class HeldoutReport:
    """What the held-out frames say.

    Attributes:
        psnr: by method and region, dB.
        lip_distance: by method, mean distance of the lips' landmarks from the true frame's, px at 512; None where no
            face is found in any picture.
        lip_frames: by method, in how many frames a face was found.
        frames: how many held-out frames were compared.
        width: px of the compared pictures.
        height: px of the compared pictures.
        examples: pairs of a true and a rendered picture, evenly spaced over the held-out frames.
    """

    psnr: dict[str, dict[str, RegionPsnr]]
    lip_distance: dict[str, float | None]
    lip_frames: dict[str, int]
    frames: int
    width: int
    height: int
    examples: list[tuple[int, UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the pictures."""
        psnr = {method: {name: asdict(value) for name, value in rows.items()} for method, rows in self.psnr.items()}
        names = ("lip_distance", "lip_frames", "frames", "width", "height")
        return {"psnr": psnr, **{name: getattr(self, name) for name in names}}


def evaluate_heldout(
    pipeline: Any, examples: int = 4, surroundings: str = "clip", image_size: int | None = None
) -> HeldoutReport:
    """Renders every held-out frame of a loaded run and compares it, and both baselines, with the truth.

    The baselines show a training picture where the true frame shows the head, and the true frame elsewhere.

    Args:
        pipeline: a loaded `TalkerPipeline` whose data set is there.
        examples: how many pairs of pictures to keep.
        surroundings: `clip`, the frame's own torso and background, which scores the head alone;
            or `learned`, the learned ones, which scores the whole portrait.
        image_size: longest side of the compared pictures, px; that of the training where None.

    Raises:
        NTalkerError: the data set's frames are not there.
    """
    from ntalker_ns.console import track

    train, held_out = pipeline.datamanager.train_dataset, pipeline.datamanager.eval_dataset
    if image_size is not None:
        train, held_out = (dataset.at_size(image_size) for dataset in (train, held_out))
    landmarks = held_out.require_clip().landmarks
    usable = [i for i in range(len(held_out)) if np.isfinite(landmarks[held_out.frame_indices[i]]).all()]
    frames = held_out.frame_indices[usable]
    chosen = nearest_frames(landmarks[train.frame_indices], landmarks[frames])
    mean = mean_frame(_pictures(train))
    keep = set(np.linspace(0, len(usable) - 1, min(examples, len(usable))).round().astype(int).tolist())
    errors: dict[str, list] = {name: [] for name in METHODS}
    shown: dict[str, list] = {name: [] for name in METHODS}
    pairs = []
    for order, index in enumerate(track(usable, "Held-out frames")):
        item = held_out[index]
        truth, labels = item["image"].numpy(), item["labels"].numpy()
        masks = region_masks(labels, item["face_mask"].numpy())
        nearest = train.get_numpy_image(int(chosen[order])).astype(np.float32) / 255.0
        pictures = {
            "ours": render(pipeline, held_out.cameras[index : index + 1], surroundings),
            "nearest": over_true_rest(nearest, truth, labels),
            "mean": over_true_rest(mean, truth, labels),
        }
        for method, picture in pictures.items():
            errors[method].append(region_errors(picture, truth, masks))
            shown[method].append(_bytes(picture))
        if order in keep:
            pairs.append((int(frames[order]), _bytes(truth), shown["ours"][-1]))
    true_points = landmarks[frames] * (MEASURED_AT / max(held_out.driving.width, held_out.driving.height))
    distances = {name: lip_distances(face_landmarks(pictures), true_points) for name, pictures in shown.items()}
    width, height = held_out.size
    return HeldoutReport(
        psnr={method: region_psnr(rows) for method, rows in errors.items()},
        lip_distance={name: _mean_of_known(values) for name, values in distances.items()},
        lip_frames={name: int(np.isfinite(values).sum()) for name, values in distances.items()},
        frames=len(usable),
        width=width,
        height=height,
        examples=pairs,
    )


def render(pipeline: Any, camera: Any, surroundings: str = "clip") -> Float32[np.ndarray, "h w 3"]:
    """The model's picture of one camera, RGB in [0, 1].

    Args:
        pipeline: a loaded `TalkerPipeline`.
        camera: one camera with a time.
        surroundings: what is around the head, see `evaluate_heldout`.
    """
    pipeline.eval()
    outputs = pipeline.model.get_outputs_for_camera(camera.to(pipeline.device), surroundings=surroundings)
    return outputs["rgb"].clamp(0.0, 1.0).cpu().numpy().astype(np.float32)


def _mean_of_known(values: Float[np.ndarray, " n"]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def heldout_table(report: HeldoutReport) -> Any:
    """The report as a rich table: PSNR by region (mean of the frames' values), and how far the lips are off."""
    from rich.table import Table

    title = f"{report.frames} held-out frames, {report.width}x{report.height} px: PSNR in dB"
    table = Table(title=title)
    for column in ("", *REGIONS, f"lips off by, px at {MEASURED_AT}"):
        table.add_column(column, justify="left" if not column else "right")
    names = {"ours": "rendered", "nearest": "nearest training frame", "mean": "mean training frame"}
    for method in METHODS:
        cells = [f"{report.psnr[method][name].mean:.1f}" if name in report.psnr[method] else "-" for name in REGIONS]
        distance = report.lip_distance[method]
        table.add_row(names[method], *cells, "-" if distance is None else f"{distance:.1f}")
    return table


def write_examples(path: Path, report: HeldoutReport, height: int = 256) -> None:
    """Writes the report's pictures side by side: the true ones above, the rendered ones below.

    Args:
        path: the picture to write.
        report: of `evaluate_heldout`.
        height: of each picture, px.
    """
    rows = [[pair[1] for pair in report.examples], [pair[2] for pair in report.examples]]
    columns = [f"frame {pair[0]}" for pair in report.examples]
    write_picture(path, grid(rows, ["true", "rendered"], columns, height))


def _pictures(dataset: Any) -> Iterator[Float32[np.ndarray, "h w 3"]]:
    for index in range(len(dataset)):
        yield dataset.get_numpy_image(index).astype(np.float32) / 255.0


def _bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
