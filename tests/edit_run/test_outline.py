"""An edit that may change the outline: its store, its targets and the head's room."""

from pathlib import Path

import numpy as np
import pytest
from support.tiny_edit import tiny_edit
from support.tiny_run import train

from ntalker_ns.editing.plan import EditConfig
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_trainer import TalkerTrainer


def test_a_free_outline_is_learned_and_resumed(outputs: Path, base: TalkerTrainer):
    edited = train(tiny_edit(outputs, edit_outline="free"))
    frames = edited.pipeline.supervision.frames  # type: ignore[union-attr]
    assert frames.behind is not None and frames.held.shape == frames.opacities.shape
    np.testing.assert_array_equal(frames.held[..., 1], frames.opacities[..., 1])
    store = edited.dataset_update.store
    assert all(store.has("behind", int(index), 0) for index in edited.dataset_update.indices)
    resumed = train(tiny_edit(outputs, edit_outline="free", load_dir=edited.checkpoint_dir, max_num_iterations=26))
    again = resumed.pipeline.supervision.frames  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.held, frames.held)


def test_single_frames_cannot_change_it(outputs: Path, base: TalkerTrainer):
    config = tiny_edit(outputs, edit_outline="free")
    config.edit = EditConfig(**{**vars(config.edit), "strategy": "iterative"})
    with pytest.raises(NTalkerError, match="--edit-outline free needs updates of all frames"):
        config.set_timestamp()
