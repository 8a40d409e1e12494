"""Frames of an update divided over processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import TESTS
from support.tiny_clip import write_tiny_clip
from support.tiny_edit import FRAMES, train_base

from ntalker_ns.editing.store import EditStore
from ntalker_ns.training import distributed

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS)}


def test_alone_everything_is_ones_own():
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert list(distributed.share(range(5))) == [0, 1, 2, 3, 4]
    distributed.wait_for_all()


def test_shares_are_disjoint_and_complete(monkeypatch: Any):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(list(distributed.share(range(8))))
    assert sorted(item for share in shares for item in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.slow
def test_two_cpu_processes_train_the_same_head(tmp_path: Path):
    data, outputs = write_tiny_clip(tmp_path / "anna"), tmp_path / "outputs"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29518"]
    script = TESTS / "support" / "base_on_ranks.py"
    done = subprocess.run(
        [*command, script, data, outputs], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    notes = [json.loads((outputs / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert notes[0] == notes[1]
    assert np.isfinite(notes[0]["weights"])


@pytest.mark.slow
def test_two_cpu_processes_divide_the_frames_and_learn_the_same(tmp_path: Path):
    base = train_base(write_tiny_clip(tmp_path / "anna"), tmp_path / "base")
    outputs = tmp_path / "outputs"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    script = TESTS / "support" / "edit_on_ranks.py"
    done = subprocess.run(
        [*command, script, base.base_dir, outputs], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr[-4000:]
    notes = [json.loads((outputs / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert notes[0]["run"] == notes[1]["run"]
    # Two updates of five frames: three and two of each.
    assert [note["edited"] for note in notes] == [6, 4]
    assert notes[0]["weights"] == notes[1]["weights"]
    (run,) = outputs.glob("anna/ntalker-edit-small/*")
    assert len(EditStore(run / "edit").newest_of_all("edited", 99)) == FRAMES
    assert [path.name for path in (run / "nerfstudio_models").iterdir()] == ["step-000000024.ckpt"]
    assert np.isfinite(notes[0]["weights"])
