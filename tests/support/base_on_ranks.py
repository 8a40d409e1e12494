"""What each process of `test_edit_ranks` runs for a base: a tiny head, and notes on what it learned."""

import json
import sys
from pathlib import Path

import torch.distributed

from ntalker_ns.talker_trainer import TalkerTrainer
from ntalker_ns.training import distributed
from support.tiny_run import tiny_config


def main(data: Path, outputs: Path) -> None:
    """Trains a head of `data` into `outputs`; each process writes rank-N.json there."""
    after = TalkerTrainer._after_train

    def noting(trainer: TalkerTrainer) -> None:
        weights = torch.cat([parameter.detach().flatten() for parameter in trainer.pipeline.model.parameters()])
        notes = {"weights": weights.double().sum().item(), "run": str(trainer.base_dir)}
        (outputs / f"rank-{torch.distributed.get_rank()}.json").write_text(json.dumps(notes))
        after(trainer)

    TalkerTrainer._after_train = noting  # type: ignore[method-assign]
    outputs.mkdir(exist_ok=True)
    distributed.run(tiny_config(data, outputs))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
