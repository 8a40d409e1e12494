"""A head that wears what was painted on one frame, against a clip that is painted everywhere."""

from pathlib import Path

import pytest

from ntalker_ns.cli.process import Process
from ntalker_ns.demo.clip import make_clip
from ntalker_ns.runs import edit, train
from scripts.benchmarks.painted import Painted

SECONDS, SIZE = 6.0, 192


@pytest.mark.slow
def test_one_painted_frame_makes_the_painted_head(tmp_path: Path):
    """On held-out frames: far better than the unedited head and than the best transform of all colours."""
    clip, data, picture = (tmp_path / name for name in ("clip.mp4", "data", "painted.png"))
    make_clip(clip, SECONDS, SIZE)
    Process(clip, data, size=SIZE).main()
    outputs = tmp_path / "outputs"
    options = {"pipeline.datamanager.dataparser.image_size": 128}
    base = train(data, "ntalker-splat-small", output_dir=outputs, steps=300, options=options)
    Painted(base, picture=picture, seconds=SECONDS, clip_size=SIZE).main()
    options = {"editor": "picture", "editor.picture": (picture,), "edit.updates": 1, "edit.epochs": 6}
    edited = edit(base, "", method="ntalker-edit-small", output_dir=outputs, options=options)
    figures = Painted(base, edited=edited, seconds=SECONDS, clip_size=SIZE, size=128, frames=8).measure()
    head = {name: values[0] for name, values in figures.items()}
    for name in ("carried", "edited head"):
        assert head[name] > head["unedited"] + 3.0, figures
        assert head[name] > head["global transform"] + 3.0, figures
