"""What an edit does, in numbers and pictures: an edit that is followed, the three update strategies, the weight w.

    python scripts/edit_experiments.py --base outputs/anna/ntalker-base-small/2026-01-01_000000 --audio speech.wav \
        --output edits

Every head speaks the same audio and is compared with its base saying it. Filters stand for the diffusion editor, so
that this runs anywhere; all is written to DIR/report.json, DIR/report.md and pictures beside them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from jaxtyping import Float, UInt8

from ntalker_ns import runs
from ntalker_ns.capture.landmarks import face_landmarks
from ntalker_ns.evaluation.metrics.lips import amplitude_ratio, mouth_openings, opening_correlation
from ntalker_ns.media.contact_sheet import grid, write_picture
from ntalker_ns.run_folder import read_run

Pictures = UInt8[np.ndarray, "n h w 3"]
STRATEGIES = ("progressive", "one-time", "iterative")
WEIGHTS = (0.0, 0.4, 0.8)
HIGH = 0.25
"""Frequencies above this share of the sampling rate count as high."""


@dataclass
class Experiments:
    """Edits a trained head in several ways and measures what comes out."""

    base: Path
    """The run to edit."""
    audio: Path
    """What the heads say."""
    output: Path
    """Where runs, pictures and the report go."""
    which: tuple[Literal["style", "strategies", "weights"], ...] = ("style", "strategies", "weights")
    """Which of the experiments; the weight w is tried on the style's head."""
    instruction: str = "Make him look like a bronze statue"
    """The edit that is to be followed."""
    deforming: str = "Make him look like a distorted bronze statue"
    """The edit whose filter moves pixels, each frame's otherwise."""
    clean: str = "Make him look like a bronze statue"
    """The same without moved pixels: what the style of the result is compared with."""
    method: str = "ntalker-edit-small"
    """The preset."""
    frames: int = 24
    """Frames of an edit (N)."""
    epochs: int = 18
    """Epochs on large patches, of the same budget for every strategy."""
    lip_epochs: int = 6
    """Epochs on lip patches."""
    measured: int = 150
    """Frames of the audio that are rendered and measured."""
    video: bool = True
    """Whether to write the edited head as an mp4 with sound."""

    def main(self) -> None:
        """Runs the experiments and writes the report."""
        base = speaking(self.base / "config.yml", self.audio, self.measured)
        report: dict[str, Any] = {"base": str(self.base), "audio": self.audio.name, "frames": len(base)}
        if "style" in self.which or "weights" in self.which:
            run = self.edit("style", instruction=self.instruction)
            if "style" in self.which:
                report["style"] = self.style(run, base)
            if "weights" in self.which:
                report["weights"] = self.weights(run)
        if "strategies" in self.which:
            report["strategies"] = self.strategies(base)
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / "report.json").write_text(json.dumps(report, indent=2))
        text = table_of(report)
        (self.output / "report.md").write_text(text)
        print(text)

    def edit(self, name: str, instruction: str, **fields: Any) -> Path:
        """Edits the base, unless that has been done; gives the run folder."""
        found = [read_run(path.parent) for path in sorted((self.output / name).glob("*/*/*/nerfstudio_models"))]
        if done := [run.folder for run in found if run.complete]:
            return done[-1]
        config = runs.method_config(self.method, instruction=instruction, base=self.base, output_dir=self.output / name)
        options = {"num_frames": self.frames, "epochs": self.epochs, "lip_epochs": self.lip_epochs, **fields}
        for option, value in options.items():
            setattr(config.edit, option, value)
        return runs.train_config(config).parent

    def style(self, run: Path, base: Pictures) -> dict[str, float]:
        """Whether the head follows its edited frames, and whether its lips still follow the audio."""
        edited = speaking(run / "config.yml", self.audio, self.measured)
        targets, unedited, rendered = supervision(run)
        pick = np.linspace(0, len(targets) - 1, 4).round().astype(int)
        rows = [[unedited[i], targets[i], rendered[i]] for i in pick]
        sheet = grid(rows, [""] * 4, ["base", "edited frame", "edited head"], height=256)
        write_picture(self.output / "style.png", sheet)
        if self.video:
            from ntalker_ns.cli.render import Render

            Render(load_config=run / "config.yml", audio=self.audio, output=self.output / "style.mp4").main()
        gain = psnr(rendered, targets) - psnr(unedited, targets)
        return {
            "psnr_edited_head": psnr(rendered, targets),
            "psnr_unedited": psnr(unedited, targets),
            "gain_db": gain,
            "landmarks_in_edited_frames": faces_found(targets),
            **lips(edited, base),
        }

    def strategies(self, base: Pictures) -> dict[str, dict[str, float]]:
        """The paper's Table 3 with an editor that deforms lips, on one budget."""
        import torch

        from ntalker_ns.editing.filters import FilterEditor, FilterEditorConfig
        from ntalker_ns.editing.plan import Strength

        editor = FilterEditor(FilterEditorConfig())
        planes = torch.from_numpy(base).permute(0, 3, 1, 2).float() / 255.0
        styled = editor.edit(planes, self.clean, Strength(6.0, 20, 20), [0] * len(base))
        wanted = (styled * 255.0).round().byte().permute(0, 2, 3, 1).numpy()
        results = {"base": {"style_distance": colour_distance(base, wanted), **lips(base, base)}}
        pictures = {"base": base}
        for strategy in STRATEGIES:
            run = self.edit(f"strategy-{strategy}", self.deforming, strategy=strategy, noise="frame", interval=3)
            pictures[strategy] = speaking(run / "config.yml", self.audio, self.measured)
            results[strategy] = {
                "style_distance": colour_distance(pictures[strategy], wanted),
                **lips(pictures[strategy], base),
            }
        pick = np.linspace(0, len(base) - 1, 4).round().astype(int)
        rows = [[one[i] for one in pictures.values()] for i in pick]
        write_picture(self.output / "strategies.png", grid(rows, [""] * 4, list(pictures), height=256))
        return results

    def weights(self, run: Path) -> dict[str, float]:
        """How much fine detail the refinement network adds, as its weight rises."""
        pipeline = runs.load_run(run / "config.yml")
        shown: dict[float, Pictures] = {}
        for weight in WEIGHTS:
            pipeline.model.refinement_weight.value = weight
            shown[weight] = speak(pipeline, self.audio, min(self.measured, 24))
        middle = len(shown[0.0]) // 2
        rows = [[one[i] for one in shown.values()] for i in (0, middle)]
        write_picture(self.output / "weights.png", grid(rows, ["", ""], [f"w = {w:g}" for w in WEIGHTS], height=384))
        return {f"{weight:g}": high_frequency_share(pictures) for weight, pictures in shown.items()}


def speaking(load_config: Path, audio: Path, count: int) -> Pictures:
    """The first frames of a head that says something."""
    return speak(runs.load_run(load_config), audio, count)


def speak(pipeline: Any, audio: Path, count: int) -> Pictures:
    """The same for a run that is loaded already, at the size it was trained at."""
    from ntalker_ns.cli.render import rendered_frames
    from ntalker_ns.driving.cameras import sequence_cameras
    from ntalker_ns.driving.new_audio import sequence_for_audio
    from ntalker_ns.driving.sequence import DrivingSequence

    dataparser = pipeline.config.datamanager.dataparser
    sequence = sequence_for_audio(DrivingSequence.load(dataparser.driving), audio)
    pipeline.model.set_driving(sequence)
    cameras = sequence_cameras(sequence, dataparser.image_size)
    return np.stack(list(rendered_frames(pipeline.model, cameras[:count])))


def supervision(run: Path) -> tuple[Pictures, Pictures, Pictures]:
    """Edited and unedited frames that an edit was trained on, and the same frames of the edited head."""
    from ntalker_ns.edit_trainer import STORE_FOLDER, to_bytes
    from ntalker_ns.editing.frames import edit_cameras
    from ntalker_ns.editing.store import EditStore

    store, pipeline = EditStore(run / STORE_FOLDER), runs.load_run(run / "config.yml")
    newest = store.newest_of_all("edited", 1 << 30)
    frames = np.array(sorted(newest))
    parser = pipeline.config.datamanager.dataparser
    cameras = edit_cameras(pipeline.model.driving, frames, parser.image_size)
    rendered = [to_bytes(pipeline.model.get_outputs_for_camera(cameras[i : i + 1])["rgb"]) for i in range(len(frames))]
    edited = [store.get("edited", int(frame), newest[int(frame)]) for frame in frames]
    unedited = [store.get("base", int(frame), 0) for frame in frames]
    return np.stack(edited), np.stack(unedited), np.stack(rendered)


def psnr(one: Pictures, other: Pictures) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(-10.0 * np.log10(np.square((one.astype(float) - other) / 255.0).mean()))


def lips(pictures: Pictures, base: Pictures) -> dict[str, float]:
    """How a mouth follows its base's on the same audio: by landmarks, and without them.

    The second way asks no detector: the strongest motion of the mouth's region over time, its first principal
    component, in both videos.
    """
    landmarks, true = face_landmarks(pictures), face_landmarks(base)
    openings, wanted = mouth_openings(landmarks), mouth_openings(true)
    box = mouth_box(true, base.shape[1:3])
    motion = np.corrcoef(main_motion(pictures, box), main_motion(base, box))[0, 1]
    return {
        "opening_correlation": opening_correlation(openings, wanted),
        "opening_amplitude": amplitude_ratio(openings, wanted),
        "landmarks_found": float(np.isfinite(openings).mean()),
        "motion_correlation": abs(float(motion)),
    }


def faces_found(pictures: Pictures) -> float:
    """Share of pictures in which the landmark detector finds a face."""
    return float(np.isfinite(mouth_openings(face_landmarks(pictures))).mean())


def mouth_box(landmarks: Float[np.ndarray, "n 478 2"], size: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns around the lips of all frames."""
    from ntalker_ns.capture.landmarks import MEASURED_AT
    from ntalker_ns.face.mesh_indices import OUTER_LIPS

    points = landmarks[:, OUTER_LIPS].reshape(-1, 2) * (max(size) / MEASURED_AT)
    low, high = np.nanmin(points, axis=0).astype(int), np.nanmax(points, axis=0).astype(int) + 1
    return slice(max(low[1], 0), high[1]), slice(max(low[0], 0), high[0])


def main_motion(pictures: Pictures, box: tuple[slice, slice]) -> Float[np.ndarray, " n"]:
    """The first principal component of a region's brightness over time."""
    region = pictures[:, box[0], box[1]].mean(axis=-1).reshape(len(pictures), -1)
    return np.linalg.svd(region - region.mean(axis=0), full_matrices=False)[0][:, 0]


def colour_distance(pictures: Pictures, wanted: Pictures) -> float:
    """Mean distance of the colour distributions (Wasserstein-1, channel by channel), in grey levels of 255: whatever
    is where does not count."""
    pairs = [(np.sort(pictures[..., c], axis=None), np.sort(wanted[..., c], axis=None)) for c in range(3)]
    return float(np.mean([np.abs(one.astype(float) - other).mean() for one, other in pairs]))


def high_frequency_share(pictures: Pictures) -> float:
    """Part of the energy (without the mean) at frequencies above `HIGH`."""
    grey = pictures.astype(float).mean(axis=-1)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(grey)) ** 2
    frequencies = np.hypot(*np.meshgrid(*(np.fft.fftfreq(side) for side in grey.shape[1:]), indexing="ij"))
    return float(power[:, frequencies > HIGH].sum() / power.sum())


def table_of(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# Edits of {report['base']}", "", f"{report['frames']} frames of {report['audio']}."]
    if "style" in report:
        lines += ["", "## An edit that is followed", "", "| measure | value |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in report["style"].items()]
    if "strategies" in report:
        rows = report["strategies"]
        names = list(next(iter(rows.values())))
        lines += [
            "",
            "## Update strategies",
            "",
            f"| strategy | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        lines += [f"| {row} | {' | '.join(f'{values[n]:.3f}' for n in names)} |" for row, values in rows.items()]
    if "weights" in report:
        lines += ["", "## High-frequency energy", "", "| w | share |", "|---|---|"]
        lines += [f"| {weight} | {share:.5f} |" for weight, share in report["weights"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(Experiments).main()
