"""`ntalker process`: from a clip to a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from rich.console import Console

    from ntalker_ns.capture.process import Report


@dataclass
class Process:
    """Makes a data set from a clip of one person talking: tracks the head, labels every pixel, extracts audio features.

    Film head and shoulders from the front, in steady light before a still background, for 2 s to a few minutes.
    """

    clip: tyro.conf.Positional[Path]
    """The video, any format and frame rate, with sound."""
    output_dir: Path
    """Folder to write the data set to; a data set already there is replaced once the new one is complete."""
    size: int = 512
    """Side of the stored frames in pixels."""
    audio_track: int | None = None
    """Which of the clip's sound tracks to use, from 1 (screen recordings have several). By default the one that the
    file marks as default or, if that is silent, the first that is not."""
    features: str = "whisper"
    """Audio features: 'whisper' (included; generalises across speakers), 'mel' (log-mel energies),
    'wav2vec2' or 'hubert' (transformers), or a .npy file of your own of shape (frames, 16, channels)."""
    feature_model: str | None = None
    """Hub id or local folder of the weights of 'wav2vec2' or 'hubert'."""
    parsing_model: str | None = None
    """Hub id or local folder of a transformers face-parsing model with CelebAMask-HQ labels. Without it, labels come
    from mediapipe and the clip's own colours."""

    def main(self) -> None:
        """Runs all steps and prints a summary."""
        from rich.console import Console

        from ntalker_ns.capture.process import ProcessOptions, process_clip

        options = ProcessOptions(
            size=self.size,
            audio_track=self.audio_track,
            features=self.features,
            feature_model=self.feature_model,
            parsing_model=self.parsing_model,
        )
        report = process_clip(self.clip, self.output_dir, options)
        print_summary(Console(), report)


def print_summary(console: Console, report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    figures, total = report.figures, sum(report.seconds.values())
    table = Table(title=f"Data set in {escape(str(report.output))}", show_header=False)
    table.add_row("frames", f"{report.frames} at 25 fps ({report.frames / 25:.1f} s)")
    table.add_row(
        "landmark residual",
        f"{figures['residual_px']:.2f} px RMSE at 512 px ({figures['landmarks_only_residual_px']:.2f} before texture)",
    )
    table.add_row(
        "rotation jitter",
        f"{figures['rotation_jitter_deg']:.2f} degrees/frame^2 "
        f"({figures['landmarks_only_rotation_jitter_deg']:.2f} before texture)",
    )
    table.add_row(
        "face texture, deviation",
        f"{figures['texture_deviation']:.3f} ({figures['texture_deviation_landmarks_only']:.3f} before)",
    )
    table.add_row("focal length", f"{figures['focal_px']:.0f} px")
    table.add_row("background seen", f"{100 * figures['plate_observed_share']:.0f}% (the rest is painted in)")
    table.add_row(
        "mouth after sound",
        f"{figures['mouth_lag_ms']:+.0f} ms (correlation of predicted and measured openings "
        f"{figures['mouth_lag_correlation']:.2f})",
    )
    for step, seconds in report.seconds.items():
        table.add_row(f"  {step}", f"{seconds:.1f} s ({report.frames / max(seconds, 1e-3):.0f} frames/s)")
    table.add_row("all steps", f"{total:.1f} s ({report.frames / total:.1f} frames/s)")
    console.print(table)
    for note in report.notes:
        console.print(f"[yellow]Note:[/yellow] {escape(note)}")
    console.print(f"Look at {escape(str(report.output / 'preview.png'))} before training.")
