"""One frame edited as an edit would.

For pages, at its strongest and in a process of its own, so that weights are gone afterwards: run as a module, this
reads a request as JSON from standard input and edits the picture that it is given.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.editing.edit_process import EditRequest, last_error
from ntalker_ns.editing.editor import Editor, EditorConfig
from ntalker_ns.editing.plan import EditConfig, Strength, make_plan
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.pixels import from_uint8, to_uint8

SECONDS = 600
"""That a preview may take: diffusion models on a CPU are slow."""


def preview(request: EditRequest, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A frame as an edit would change it in its last update.

    Args:
        request: checked already.
        picture: of the head, RGB.

    Raises:
        NTalkerError: the editor has no preview, fails or takes too long.
    """
    from ntalker_ns.data.images import read_picture
    from ntalker_ns.media.contact_sheet import write_picture

    if request.editor == "picture":
        raise NTalkerError("The picture itself is the preview.")
    with tempfile.TemporaryDirectory(prefix="ntalker-preview-") as folder:
        before, after = Path(folder) / "before.png", Path(folder) / "after.png"
        write_picture(before, picture)
        command = [sys.executable, "-m", __name__, str(before), str(after)]
        asked = json.dumps({name: value for name, value in asdict(request).items() if name != "picture"})
        try:
            done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NTalkerError(f"The preview takes more than {SECONDS // 60} minutes on this machine.") from error
        if done.returncode != 0:
            raise NTalkerError(last_error(done.stderr) or "The preview failed.")
        return read_picture(after)


def edited(
    picture: UInt8[np.ndarray, "h w 3"],
    config: EditorConfig,
    instruction: str,
    strengths: Iterable[Strength],
    seed: int = 0,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """A frame edited at some strengths, one after the other.

    Args:
        picture: of the head, RGB.
        config: of the editor.
        instruction: checked already.
        strengths: guidance and steps.
        seed: of the noise.

    Raises:
        NTalkerError: the editor edits no single frames, or fails.
    """
    import torch

    editor = config.setup()
    if not isinstance(editor, Editor):
        raise NTalkerError("The picture itself is the preview.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frame = torch.from_numpy(from_uint8(picture)).permute(2, 0, 1)[None].to(device)
    for strength in strengths:
        with torch.no_grad():
            made = editor.edit(frame, instruction, strength, [seed])
        yield to_uint8(made[0].permute(1, 2, 0))


def _main(before: Path, after: Path) -> None:
    from ntalker_ns.data.images import read_picture
    from ntalker_ns.editing.editors import editor_config
    from ntalker_ns.editing.presets import load_preset
    from ntalker_ns.media.contact_sheet import write_picture

    request = EditRequest.of(json.load(sys.stdin))
    preset = None if request.preset is None else load_preset(request.preset)
    config = EditConfig(updates=1, guidance=request.guidance, steps=request.steps)
    plan = make_plan(config, preset and preset.guidance, preset and preset.steps)
    chosen = editor_config(request.editor)
    (picture,) = edited(read_picture(before), chosen, request.words or chosen.default_instruction(), plan.schedule)
    write_picture(after, picture)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
    except NTalkerError as error:
        sys.exit(f"Error: {error}")
