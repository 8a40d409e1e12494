"""What each process of `test_edit_ranks` runs: a tiny edit of a base, and notes on who did what."""

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed

from ntalker_ns.edit_trainer import EditTrainer
from ntalker_ns.editing.filters import FilterEditor
from ntalker_ns.training import distributed
from support.tiny_edit import tiny_edit


def main(base: Path, outputs: Path) -> None:
    """Edits `base` into `outputs`; each process writes rank-N.json beside it."""
    edited: list[int] = []
    edit, after = FilterEditor.edit, EditTrainer._after_train

    def counting(editor: Any, frames: Any, *arguments: Any) -> Any:
        edited.append(len(frames))
        return edit(editor, frames, *arguments)

    def noting(trainer: EditTrainer) -> None:
        weights = torch.cat([parameter.detach().flatten() for parameter in trainer.pipeline.model.parameters()])
        notes = {"edited": sum(edited), "weights": weights.double().sum().item(), "run": str(trainer.base_dir)}
        (outputs / f"rank-{torch.distributed.get_rank()}.json").write_text(json.dumps(notes))
        after(trainer)

    FilterEditor.edit, EditTrainer._after_train = counting, noting  # type: ignore[assignment]
    outputs.mkdir(exist_ok=True)
    distributed.run(tiny_edit(outputs, base=base))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
