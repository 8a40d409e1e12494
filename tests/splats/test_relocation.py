"""Gaussians that show nothing move; the picture stays."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from support.gaussians import view_of
from support.head_gaussians import head, optimizer_of
from support.paths import TESTS

from ntalker_ns.kernels.reference.splats import rasterise
from ntalker_ns.splats.gaussians import LIGHTS
from ntalker_ns.splats.relocation import SMALLER, relocate


def test_useless_ones_move_beside_those_that_are_pulled_hardest():
    gaussians, _ = head()
    with torch.no_grad():
        gaussians.base[:, 10] = 1.0
        gaussians.base[:7, 10] = -9.0
    optimizer = optimizer_of(gaussians)
    before = gaussians.base.detach().clone()
    pull = torch.zeros(len(gaussians)) + 1e-6
    pull[40:80] = 1.0
    assert int(relocate(gaussians, pull, [optimizer])) == 7
    after, rates = gaussians.base.detach(), gaussians.rates
    distance = ((after[:7, None, :3] - before[40:80, :3]) * rates[:3]).norm(dim=-1).min(dim=1)
    sources = 40 + distance.indices
    assert (distance.values < 4.0 * (before[sources, 3:6] * rates[3]).exp().amax(dim=1)).all()
    opacity, old = (torch.sigmoid(each[sources, 10] * rates[10]) for each in (after, before))
    torch.testing.assert_close(1.0 - (1.0 - opacity) ** 2, old)
    torch.testing.assert_close((before - after)[sources, 3:6] * rates[3], torch.full((7, 3), SMALLER))
    moments = optimizer.state[gaussians.deltas]["exp_avg_sq"]
    assert not moments[:, :7].any() and not moments[:, sources].any()
    kept = torch.ones(len(gaussians), dtype=torch.bool)
    kept[:7] = kept[sources] = False
    assert torch.equal(after[kept], before[kept])


def test_a_head_of_useful_ones_stays():
    gaussians, _ = head()
    with torch.no_grad():
        gaussians.base[:, 10] = 1.0
    before = gaussians.base.detach().clone()
    assert int(relocate(gaussians, torch.ones(len(gaussians)), [optimizer_of(gaussians)])) == 0
    # Adam's step apart, which is a millionth.
    torch.testing.assert_close(gaussians.base.detach(), before, atol=1e-5, rtol=0)


def test_the_picture_changes_little():
    gaussians, _ = head()
    with torch.no_grad():
        gaussians.base[:, 10] = -1.0
        gaussians.base[:14, 10] = -9.0
    view = view_of(48, 48, torch.float32)
    still = torch.zeros(len(gaussians.deltas)), torch.zeros(LIGHTS)
    optimizer = optimizer_of(gaussians)
    pictures = []
    for _ in range(2):
        with torch.no_grad():
            pictures.append(rasterise(gaussians(*still, gaussians.motion()), view).colour)
        relocate(gaussians, torch.ones(len(gaussians)), [optimizer])
    assert (pictures[0] - pictures[1]).square().mean() < 0.05 * pictures[0].square().mean()


def test_processes_move_the_same_ones(tmp_path: Path):
    """Each sees other frames, so that their gradients differ; and so do their random numbers."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29519"]
    script = TESTS / "support" / "relocation_on_ranks.py"
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    one, other = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert not (one["base"][:7, 10] == -9.0).all()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
