"""One frame edited as an edit would, at its strongest: in a process of its own, so that weights are gone afterwards.

Run as a module, it reads a request as JSON from standard input and edits the picture that it is given.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ntalker_ns.editing.edit_process import EditRequest, last_error
from ntalker_ns.errors import NTalkerError

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


def _main(before: Path, after: Path) -> None:
    import torch

    from ntalker_ns.data.images import read_picture
    from ntalker_ns.editing.editor import Editor
    from ntalker_ns.editing.editors import editor_config
    from ntalker_ns.editing.plan import EditConfig, make_plan
    from ntalker_ns.editing.presets import load_preset
    from ntalker_ns.media.contact_sheet import write_picture
    from ntalker_ns.media.pixels import from_uint8, to_uint8

    request = EditRequest.of(json.load(sys.stdin))
    preset = None if request.preset is None else load_preset(request.preset)
    config = EditConfig(updates=1, guidance=request.guidance, steps=request.steps)
    (strength,) = make_plan(config, preset and preset.guidance, preset and preset.steps).schedule
    chosen = editor_config(request.editor)
    editor = chosen.setup()
    assert isinstance(editor, Editor)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frame = torch.from_numpy(from_uint8(read_picture(before))).permute(2, 0, 1)[None].to(device)
    with torch.no_grad():
        edited = editor.edit(frame, request.words or chosen.default_instruction(), strength, [0])
    write_picture(after, to_uint8(edited[0].permute(1, 2, 0)))


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
    except NTalkerError as error:
        sys.exit(f"Error: {error}")
