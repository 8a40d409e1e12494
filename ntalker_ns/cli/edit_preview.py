"""`ntalker edit-preview`: one frame of a head edited at several strengths, before an edit spends the time."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from ntalker_ns.errors import NTalkerError

LARGEST_CELL = 320
"""Longest side of a picture on the sheet, px."""


@dataclass
class EditPreview:
    """Write a sheet of one frame edited with several text guidance scales (rows) and diffusion steps (columns), to
    choose --edit.guidance and --edit.steps of ns-train. The editor is named at the end, as there."""

    load_config: Path
    """The run's config.yml."""
    instruction: str = ""
    """What to change."""
    preset: str | None = None
    """An instruction with bounds that work for it, see ns-train ntalker-edit -h."""
    output: Path = Path("preview.png")
    """The sheet (.png or .jpg)."""
    guidance: tuple[float, ...] = ()
    """Text guidance scales. None given: the bounds of the preset or the paper (3 and 6), and the value between."""
    steps: tuple[int, ...] = ()
    """Diffusion steps; the largest is the number from pure noise to a picture. None given: the bounds of the preset or
    the paper (10 and 20), and the value between."""
    frame: int | None = None
    """Frame of the clip. By default one from the front, with open eyes and a slightly open mouth."""
    size: int | None = None
    """Longest side in px. By default the one at which the head was trained, as in an edit."""
    seed: int = 0
    """Of the editor's noise."""
    editor: tyro.conf.Suppress[Any] = None
    """The editor's configuration; None: the filters. On a command line, see `with_editors`."""

    def main(self) -> None:
        """Loads the run, renders and edits the frame, writes the sheet."""
        import time

        from ntalker_ns.console import track
        from ntalker_ns.editing.editor import check_instruction
        from ntalker_ns.editing.filters import FilterEditorConfig
        from ntalker_ns.editing.given_frame import rendered_frame
        from ntalker_ns.editing.picture_editor import PictureEditorConfig
        from ntalker_ns.editing.plan import EditConfig, Strength, make_plan
        from ntalker_ns.editing.presets import load_preset
        from ntalker_ns.editing.preview import edited
        from ntalker_ns.media.contact_sheet import check_picture_format, grid, write_picture
        from ntalker_ns.runs import load_run

        editor = self.editor or FilterEditorConfig()
        if isinstance(editor, PictureEditorConfig):
            raise NTalkerError("A picture that you edited is its own preview: train on it with ns-train.")
        check_picture_format(self.output)
        preset = None if self.preset is None else load_preset(self.preset)
        given = self.instruction or ("" if preset is None else preset.instruction)
        instruction = check_instruction(given or editor.default_instruction())
        editor.check(instruction)
        bounds = make_plan(EditConfig(updates=1), preset and preset.guidance, preset and preset.steps).bounds
        scales = self.guidance or (bounds[0][0], sum(bounds[0]) / 2, bounds[0][1])
        counts = self.steps or (bounds[1][0], sum(bounds[1]) // 2, bounds[1][1])
        if min(scales) < 1 or min(counts) < 1:
            raise NTalkerError("--guidance and --steps must be at least 1.")
        pipeline = load_run(self.load_config)
        frame, picture = rendered_frame(
            pipeline.model, self.frame, self.size or pipeline.config.datamanager.dataparser.image_size
        )
        print(f'Frame {frame}, "{instruction}". {editor.describe(instruction)}')
        strengths = [Strength(float(scale), count, max(counts)) for scale in scales for count in counts]
        begin = time.perf_counter()
        made = list(track(edited(picture, editor, instruction, strengths, self.seed), "Edits", len(strengths)))
        seconds = (time.perf_counter() - begin) / len(made)
        rows = [[picture, *made[i * len(counts) :][: len(counts)]] for i in range(len(scales))]
        labels = ["unedited", *(f"{count} of {max(counts)} steps" for count in counts)]
        height = min(LARGEST_CELL, picture.shape[0])
        write_picture(self.output, grid(rows, [f"guidance {scale:g}" for scale in scales], labels, height))
        print(f"{self.output}: {len(made)} edits of {picture.shape[1]} x {picture.shape[0]} px, {seconds:.1f} s each.")


def with_editors() -> type[EditPreview]:
    """The same with the options of all editors, whose modules take seconds to import: only this command needs them."""
    from ntalker_ns.editing.editors import AnyEditorConfig
    from ntalker_ns.editing.filters import FilterEditorConfig

    @dataclass
    class EditPreviewWithEditors(EditPreview):
        __doc__ = EditPreview.__doc__

        editor: AnyEditorConfig = field(default_factory=FilterEditorConfig)
        """The editor."""

    return EditPreviewWithEditors
