"""An edit without any weights (a filter), and a picture of the head before and after it.

python scripts/examples/edit_and_compare.py outputs/anna/ntalker-base/TIME "Make it a pencil sketch" new.wav outputs
"""

import sys
from pathlib import Path
from typing import Any

import ntalker_ns as nt
from ntalker_ns.media.contact_sheet import grid, write_picture


def main(run: str, instruction: str, audio: str, folder: str, **options: Any) -> Path:
    """Returns the picture; options are those of `ns-train ntalker-edit-small`, by dotted path."""
    options = {"editor": "filter", **options}
    edited = nt.edit(run, instruction, method="ntalker-edit-small", output_dir=folder, options=options)
    frames = [next(iter(nt.load_head(head).say(audio))) for head in (run, edited)]
    picture = Path(folder, "compared.png")
    write_picture(picture, grid([frames], [""], ["before", instruction], height=256))
    return picture


if __name__ == "__main__":
    print(main(*sys.argv[1:5]))
