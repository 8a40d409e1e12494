"""The loop of an edit: its order, and resuming in the middle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.sequences import make_sequence

from ntalker_ns.driving.cameras import sequence_cameras
from ntalker_ns.editing.dataset_update import DatasetUpdate
from ntalker_ns.editing.filters import FilterEditor, FilterEditorConfig
from ntalker_ns.editing.plan import EditConfig, make_plan
from ntalker_ns.editing.store import EditStore

N, WIDTH, HEIGHT = 2, 16, 12


class Head:
    """Records what the loop does with it; its pictures get brighter with each training."""

    head_device = torch.device("cpu")

    def __init__(self) -> None:
        self.events: list[str] = []
        self.noted: dict[str, int] = {}
        self.level = 0.2
        self.supervision: Any = None

    def move_head(self, device: torch.device) -> None:
        raise AssertionError

    def render(self, camera: Any) -> dict[str, torch.Tensor]:
        self.events.append("render")
        picture = torch.full((HEIGHT, WIDTH, 3), self.level)
        half = torch.full((HEIGHT, WIDTH, 1), 0.5)
        pictures = {"rgb": picture, "field_rgb": picture, "torso": half * picture, "background": picture}
        return pictures | {"head_opacity": half, "torso_opacity": half}

    def surface(self, camera: Any, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        raise AssertionError

    def beside(self, camera: Any, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        raise AssertionError

    def extend_outline(self, views: Any) -> None:
        raise AssertionError

    def lip_shapes(self, frames: np.ndarray) -> np.ndarray:
        return np.zeros((len(frames), 6))

    def distil_refinement(self, cameras: Any) -> float:
        self.events.append(f"distil {len(cameras)}")
        return 50.0

    def supervise(self, supervision: Any) -> None:
        self.events.append("supervise")
        self.supervision = supervision

    def save_checkpoint(self, step: int) -> None:
        self.events.append(f"save {step}")

    def wait_while_paused(self) -> None:
        pass

    def note(self, work: str, count: int, phase: str, done: int, total: int) -> None:
        self.noted[work] = self.noted.get(work, 0) + count


def update(head: Head, folder: Path, **options: Any) -> DatasetUpdate:
    driving = make_sequence(6)
    indices = np.array([0, 5])
    cameras = sequence_cameras(driving, indices, WIDTH)
    return DatasetUpdate(
        head=head,
        editor=FilterEditor(FilterEditorConfig()),
        batch_size=1,
        device=torch.device("cpu"),
        instruction="sepia",
        region="frame",
        outline="keep",
        plan=make_plan(EditConfig(**{"num_frames": N, "updates": 2, "epochs": 4, "lip_epochs": 1, **options})),
        driving=driving,
        indices=indices,
        cameras=cameras,
        plate=np.zeros((HEIGHT, WIDTH, 3), np.float32),
        store=EditStore(folder),
    )


def train(head: Head, loop: Any) -> None:
    for step in loop:
        head.events.append(f"train to {step}")
        head.level += 0.1


def test_the_order_is_the_papers(tmp_path: Path):
    head = Head()
    train(head, update(head, tmp_path).run(0, 10))
    unedited, sheet = ["render"] * N, ["render"] * N
    first = ["save -1", *unedited, "supervise", "train to 0"]
    second = ["train to 4", *sheet, "save 3", *["render"] * N]
    assert head.events == [*first, *second, "train to 8", *sheet, "train to 10", f"distil {N}", *sheet]
    assert {path.name for path in (tmp_path / "sheets").iterdir()} == {"update-1.png", "update-2.png", "final.png"}
    assert head.noted == {"render": 2 * N, "edit": 2 * N}


@pytest.mark.parametrize("strategy", ["progressive", "one-time", "iterative"])
def test_the_newest_edits_are_the_training_targets(tmp_path: Path, strategy: Any):
    head = Head()
    loop = update(head, tmp_path, strategy=strategy, interval=3).run(0, 10)
    for step in loop:
        frames = head.supervision.frames
        stored = EditStore(tmp_path).newest_of_all("edited", step)
        for i, index in enumerate(frames.indices):
            newest = stored.get(int(index))
            expected = frames.unedited[i] if newest is None else EditStore(tmp_path).get("edited", int(index), newest)
            np.testing.assert_array_equal(frames.edited[i], expected)


def test_resumed_between_updates_it_trains_on_before_it_edits(tmp_path: Path):
    head = Head()
    loop = update(head, tmp_path).run(0, 10)
    assert [next(loop), next(loop)] == [0, 4]
    edited = head.supervision.frames.edited.copy()
    resumed = Head()
    loop = update(resumed, tmp_path).run(3, 10)
    assert next(loop) == 4
    assert resumed.events == ["save 2", "supervise"]
    np.testing.assert_array_equal(resumed.supervision.frames.edited, edited)
