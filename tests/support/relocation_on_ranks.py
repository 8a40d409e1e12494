"""What each process of `test_relocation` runs: Gaussians that show nothing move, and are saved."""

import sys
from pathlib import Path

import torch
from torch import distributed

from ntalker_ns.splats.relocation import relocate
from support.head_gaussians import head, optimizer_of


def main(folder: Path) -> None:
    """Writes rank-N.pt into `folder`."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    gaussians, _ = head()
    with torch.no_grad():
        gaussians.base[:, 10] = 1.0
        gaussians.base[:7, 10] = -9.0
    optimizer = optimizer_of(gaussians)
    torch.manual_seed(rank)
    relocate(gaussians, torch.rand(len(gaussians)), [optimizer])
    torch.save(gaussians.state_dict(), folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
