"""A frame of a head written, painted, given back, and learned."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.tiny_edit import frames_of, tiny_edit
from support.tiny_run import train

from ntalker_ns.cli.frame import WriteFrame
from ntalker_ns.edit_trainer import EditTrainer
from ntalker_ns.editing.given_frame import read_description
from ntalker_ns.editing.picture_editor import PictureEditorConfig
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_trainer import TalkerTrainer

PAINT = np.array([0.25, -0.1, 0.0])


@pytest.fixture(scope="module")
def picture(base: TalkerTrainer, outputs: Path) -> Path:
    """Frame 5, its colours shifted."""
    frame = outputs.parent / "frame.png"
    WriteFrame(base.base_dir / "config.yml", frame, frame=5).main()
    values = cv2.imread(str(frame))[..., ::-1] / 255.0
    edited = outputs.parent / "edited.png"
    cv2.imwrite(str(edited), np.rint(255 * np.clip(values + PAINT, 0, 1)).astype(np.uint8)[..., ::-1])
    return edited


@pytest.fixture(scope="module")
def painted(outputs: Path, picture: Path) -> EditTrainer:
    config = tiny_edit(outputs, instruction="", editor=PictureEditorConfig(picture=(picture,), frame=(5,)))
    return train(config)


def test_the_frame_is_a_rendering_and_remembers_its_camera(base: TalkerTrainer, tmp_path: Path):
    WriteFrame(base.base_dir / "config.yml", tmp_path / "frame.png", frame=5, size=32).main()
    described = read_description(tmp_path / "frame.png")
    model: Any = base.pipeline.model
    assert described is not None
    assert (described.frame, described.intrinsics["width"]) == (5, 32)
    np.testing.assert_allclose(described.camera_to_world, model.driving.track.camera_to_worlds[5])
    with pytest.raises(NTalkerError, match="no frame 22"):
        WriteFrame(base.base_dir / "config.yml", tmp_path / "other.png", frame=22).main()
    assert not (tmp_path / "other.png").exists()


def test_all_frames_take_the_change(painted: EditTrainer):
    unedited, edited = (frames_of(painted, kind, step) / 255.0 for kind, step in (("base", 0), ("edited", 10)))
    expected = np.clip(unedited + PAINT, 0, 1)
    assert np.abs(edited - expected).mean() < 0.03
    assert np.abs(edited - expected).mean() < 0.3 * np.abs(edited - unedited).mean()


def test_the_head_learns_it(painted: EditTrainer):
    edited, unedited = (frames_of(painted, kind, step) / 255.0 for kind, step in (("edited", 10), ("base", 0)))
    update = painted.dataset_update
    rendered = np.stack(
        [painted.render(update.cameras[i : i + 1])["field_rgb"].cpu().numpy() for i in range(len(unedited))]
    )
    assert np.square(rendered - edited).mean() < 0.7 * np.square(unedited - edited).mean()
    assert painted.config.instruction == "As in edited.png"


def test_a_resumed_edit_compares_with_the_unedited_frame(painted: EditTrainer, outputs: Path, picture: Path):
    """The head is edited by now: its renders are not what the picture was made from."""
    config = tiny_edit(
        outputs,
        instruction="",
        editor=PictureEditorConfig(picture=(picture,), frame=(5,)),
        load_dir=painted.checkpoint_dir,
        max_num_iterations=26,
    )
    resumed = train(config)
    first, second = (np.load(run.dataset_update.store.folder / "picture-0.npz") for run in (painted, resumed))
    np.testing.assert_array_equal(first["picture"], second["picture"])


def test_what_cannot_be_followed_is_said_before_the_run_starts(outputs: Path, base: TalkerTrainer, picture: Path):
    for editor, message in (
        (PictureEditorConfig(), "There is no picture to follow"),
        (PictureEditorConfig(picture=(picture,), frame=(1, 2)), "2 frames for 1 pictures"),
        (PictureEditorConfig(picture=(picture.with_name("gone.png"),)), "There is no picture at"),
    ):
        with pytest.raises(NTalkerError, match=message):
            tiny_edit(outputs, instruction="", editor=editor).set_timestamp()


def test_the_surface_of_a_picture_is_where_its_camera_sees_it(base: TalkerTrainer):
    model: Any = base.pipeline.model
    model.eval()
    camera = base.pipeline.datamanager.eval_dataset.cameras[0:1]  # type: ignore[attr-defined]
    outputs = model.get_outputs_for_camera(camera)
    surface = model.surface(camera, outputs)
    shown = outputs["accumulation"][..., 0] > 0.3
    assert int(shown.sum()) > 100
    # Brows, lids and lips move points by little; the camera sees all of them where they are.
    points = surface["canonical"][shown].cpu()
    pose, height = camera.camera_to_worlds[0], int(camera.height)
    inside = (points - pose[:, 3]) @ pose[:, :3]
    pixels = torch.stack([inside[:, 0], -inside[:, 1]], dim=1) / -inside[:, 2:] * camera.fx[0] + height / 2
    rows, columns = torch.nonzero(shown.cpu(), as_tuple=True)
    assert (pixels - torch.stack([columns, rows], dim=1) - 0.5).norm(dim=1).median() < 1.0
    assert set(surface["mouth"].unique().tolist()) <= {0, 1, 2}
