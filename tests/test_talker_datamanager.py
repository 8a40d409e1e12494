"""The data manager: rays, batches, stock commands' needs, and runs without their frames."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from support.synthetic_clip import write_clip

from ntalker_ns.audio.mel import CHANNELS
from ntalker_ns.data.head_removal import HEAD, dilate, dilation_of
from ntalker_ns.data.readers import read_clip
from ntalker_ns.data.training_rays import ClipInputs
from ntalker_ns.driving.build import write_driving
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import write_wav
from ntalker_ns.talker_datamanager import Patches, TalkerDataManager, TalkerDataManagerConfig
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip

SIZE = 48


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("data") / "anna", 22, size=2 * SIZE, channels=CHANNELS)


def manager(
    data: Path, test_mode: Any = "val", parser: dict[str, Any] | None = None, **options: Any
) -> TalkerDataManager:
    fields: dict[str, Any] = {"image_size": SIZE} | (parser or {})
    config = TalkerDataManagerConfig(dataparser=TalkerDataParserConfig(data=data, **fields), **options)
    result = config.setup(device="cpu", test_mode=test_mode)
    assert isinstance(result, TalkerDataManager)
    return result


@pytest.fixture(scope="module")
def trained(clip):
    return manager(clip, rays_per_step=1000)


def test_shapes_and_types(trained):
    rays, batch = trained.next_train(0)
    assert rays.origins.shape == rays.directions.shape == (1000, 3)
    assert rays.camera_indices is not None and rays.times is not None
    assert rays.camera_indices.shape == rays.times.shape == (1000, 1)
    assert rays.step.headless.shape == (1000, 3) and rays.step.headless.dtype == torch.float32
    assert rays.step.place.shape == (1000, 2)
    shapes = {"image": (1000, 3), "labels": (1000,), "indices": (1000, 3), "face_boxes": (4, 4), "frames": (4,)}
    assert {name: tuple(batch[name].shape) for name in shapes} == shapes
    assert batch["image"].dtype == torch.float32 and batch["labels"].dtype == torch.uint8
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(1000))


def test_pixels_are_those_of_the_frames(trained):
    rays, batch = trained.next_train(0)
    items = {int(i): trained.train_dataset[int(i)] for i in batch["indices"][:, 0].unique()}
    for n in range(0, 1000, 7):
        camera, row, column = batch["indices"][n].tolist()
        item = items[camera]
        torch.testing.assert_close(batch["image"][n], item["image"][row, column])
        torch.testing.assert_close(rays.step.headless[n], item["headless_frame"][row, column])
        assert batch["labels"][n] == item["labels"][row, column]
        place = torch.tensor([column + 0.5, row + 0.5]) / SIZE
        torch.testing.assert_close(rays.step.place[n], place)
        plate = torch.from_numpy(trained.train_dataset.plate()[row, column] / 255).float()
        torch.testing.assert_close(rays.step.plate[n], plate)


def test_rays_are_nerfstudios_and_grouped_by_frame(trained):
    rays, batch = trained.next_train(0)
    cameras, indices = trained.train_dataset.cameras, batch["indices"]
    expected = cameras.generate_rays(indices[:, :1], coords=indices[:, 1:] + 0.5)
    torch.testing.assert_close(rays.directions, expected.directions, atol=2e-6, rtol=0)
    torch.testing.assert_close(rays.origins, expected.origins)
    torch.testing.assert_close(rays.times, expected.times)
    torch.testing.assert_close(rays.camera_indices, indices[:, :1])
    frames, counts = torch.unique_consecutive(indices[:, 0], return_counts=True)
    assert trained.train_dataset.frame_indices[frames.numpy()].tolist() == batch["frames"].tolist()
    assert counts.tolist() == [250] * 4


def test_boxes_are_at_training_size(trained, clip):
    _, batch = trained.next_train(0)
    full = read_clip(clip)
    np.testing.assert_allclose(batch["face_boxes"].numpy(), full.face_boxes[batch["frames"].numpy()] / 2, rtol=1e-6)
    np.testing.assert_allclose(batch["lip_boxes"].numpy(), full.lip_boxes[batch["frames"].numpy()] / 2, rtol=1e-6)


def test_every_training_frame_is_drawn_and_no_other(trained):
    drawn = {int(frame) for step in range(60) for frame in trained.next_train(step)[1]["frames"]}
    assert drawn == set(range(20))


@pytest.mark.parametrize(("head", "lips"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.25)])
def test_rays_are_distributed_as_configured(clip, head, lips):
    data = manager(clip, rays_per_step=4000, frames_per_step=1, head_fraction=head, lip_fraction=lips)
    _, batch = data.next_train(0)
    labels = data.train_dataset[int(batch["indices"][0, 0])]["labels"].numpy()
    on_head = dilate(labels >= HEAD, dilation_of(SIZE))
    x0, y0, x1, y1 = batch["lip_boxes"][0].tolist()
    columns, rows = np.arange(SIZE)[None, :], np.arange(SIZE)[:, None]
    on_lips = (columns >= np.floor(x0)) & (columns < np.ceil(x1)) & (rows >= np.floor(y0)) & (rows < np.ceil(y1))
    expected = head * on_head / on_head.sum() + lips * on_lips / on_lips.sum() + (1 - head - lips) / SIZE**2
    y, x = batch["indices"][:, 1].numpy(), batch["indices"][:, 2].numpy()
    found = np.bincount(y * SIZE + x, minlength=SIZE**2).reshape(SIZE, SIZE)
    assert found[expected == 0].sum() == 0
    for region in (on_head, on_lips, ~on_head):
        share = min(float(expected[region].sum()), 1.0)
        assert abs(found[region].sum() / 4000 - share) < 5 * np.sqrt(share * (1 - share) / 4000) + 1e-3


def test_patches_are_square_and_one_per_frame(clip):
    data = manager(clip, rays_per_step=600, patch_size=16, patch_region="lips")
    rays, batch = data.next_train(0)
    assert len(rays) == data.get_train_rays_per_batch() == 2 * 256
    assert len(batch["frames"]) == 2 and batch["frames"][0] != batch["frames"][1]
    for i in range(2):
        rows, columns = (batch["indices"][i * 256 : (i + 1) * 256, axis].reshape(16, 16) for axis in (1, 2))
        assert torch.equal(rows - rows[0, 0], torch.arange(16)[:, None].expand(16, 16))
        assert torch.equal(columns - columns[0, 0], torch.arange(16)[None, :].expand(16, 16))
        x0, y0, x1, y1 = batch["lip_boxes"][i].tolist()
        centre_x, centre_y = float(columns.float().mean()) + 0.5, float(rows.float().mean()) + 0.5
        assert x0 - 0.5 <= centre_x <= x1 + 0.5 and y0 - 0.5 <= centre_y <= y1 + 0.5
    assert len(data.training_rays(600)[0]) == data.get_train_rays_per_batch() == 600
    with pytest.raises(NTalkerError, match="larger than the frames"):
        data.training_rays(600, Patches(SIZE + 1))


def test_rays_per_step_can_change(clip):
    data = manager(clip, rays_per_step=100)
    assert [len(data.training_rays(rays)[0]) for rays in (1003, 1)] == [1000, 4]


def test_frames_are_on_the_device_that_uses_them(clip):
    for patch_size in (None, 16):
        data = manager(clip, rays_per_step=600, patch_size=patch_size)
        rays, batch = data.next_train(0)
        assert rays.step.frames is batch["frames"]
        # The audio features of held-out frames are on the host.
        rays, batch = data.next_eval(0)
        assert torch.equal(rays.step.frames, batch["frames"])


@pytest.mark.parametrize("interval", [1, 3])
def test_surroundings_pixels_keep_their_mean_number(clip, interval):
    data = manager(
        clip, rays_per_step=16, surroundings_pixels=64, surroundings_frames=4, surroundings_interval=interval
    )
    inputs = [data.next_train(step)[0].step for step in range(90)]
    rest = [each.surroundings for each in inputs if isinstance(each, ClipInputs) and each.surroundings is not None]
    assert abs(len(rest) - 90 / interval) <= (0 if interval == 1 else 15)
    for pixels in rest:
        assert len(pixels.place) == 64 * interval and len(set(pixels.frames.tolist())) == 4
        assert pixels.counts == [16 * interval] * 4
        frame = data.train_dataset[int(np.flatnonzero(data.train_dataset.frame_indices == int(pixels.frames[1]))[0])]
        x, y = (pixels.place[16 * interval : 32 * interval] * SIZE).long().unbind(dim=1)
        assert torch.equal(pixels.labels[16 * interval : 32 * interval], frame["labels"][y, x])
        torch.testing.assert_close(pixels.image[16 * interval : 32 * interval], frame["image"][y, x])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"head_fraction": 1.2}, "head-fraction"),
        ({"lip_fraction": -0.1}, "lip-fraction"),
        ({"head_fraction": 0.8, "lip_fraction": 0.3}, "head-fraction and --pipeline.datamanager.lip-fraction together"),
        ({"frames_per_step": 0}, "frames-per-step"),
        ({"rays_per_step": 0}, "rays-per-step"),
        ({"patch_size": 0}, "patch-size"),
        ({"surroundings_interval": 0}, "surroundings-interval"),
    ],
)
def test_invalid_options_are_named(clip, options, name):
    with pytest.raises(NTalkerError, match=f"--pipeline.datamanager.{name} must be"):
        manager(clip, **options)


def test_fewer_frames_than_configured(clip):
    data = manager(clip, parser={"max_frames": 1, "holdout": "none"}, rays_per_step=64)
    rays, batch = data.next_train(0)
    assert len(rays) == 64 and batch["frames"].tolist() == [0]


def test_the_same_seed_gives_the_same_rays_and_ranks_differ(clip):
    def indices(seed: int, rank: int = 0) -> torch.Tensor:
        parser = TalkerDataParserConfig(data=clip, image_size=SIZE)
        config = TalkerDataManagerConfig(dataparser=parser, rays_per_step=64, seed=seed)
        return config.setup(device="cpu", local_rank=rank, world_size=2).next_train(0)[1]["indices"]

    assert torch.equal(indices(3), indices(3))
    assert not torch.equal(indices(3), indices(4))
    assert not torch.equal(indices(3), indices(3, rank=1))


def test_sampler_state_continues_where_it_was_taken(clip, tmp_path):
    data = manager(clip, rays_per_step=64)
    data.next_train(0)
    torch.save(data.sampler_state(), tmp_path / "state.pt")
    expected = [data.next_train(1)[1]["indices"], data.next_eval(1)[1]["indices"]]
    other = manager(clip, rays_per_step=64)
    other.load_sampler_state(torch.load(tmp_path / "state.pt", weights_only=True))
    found = [other.next_train(1)[1]["indices"], other.next_eval(1)[1]["indices"]]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert json.dumps(data.sampler_state())


def test_evaluation_does_not_change_training(clip):
    quiet, evaluated = manager(clip, rays_per_step=64), manager(clip, rays_per_step=64)
    evaluated.next_eval(0)
    evaluated.next_eval_image(0)
    assert torch.equal(quiet.next_train(0)[1]["indices"], evaluated.next_train(0)[1]["indices"])


def test_evaluation_batches_are_of_held_out_frames(trained):
    rays, batch = trained.next_eval(0)
    assert len(rays) == trained.get_eval_rays_per_batch()
    assert int(batch["frames"][0]) in (20, 21)
    camera, item = trained.next_eval_image(0)
    assert camera.shape == (1,) and item["image"].shape == (SIZE, SIZE, 3)
    pairs = list(trained.fixed_indices_eval_dataloader)
    assert len(pairs) == len(trained.fixed_indices_eval_dataloader) == 2
    for i, (camera, item) in enumerate(pairs):
        torch.testing.assert_close(camera.times, torch.tensor([[(20 + i) / 21]]))
        assert item["image_idx"] == i and item["labels"].shape == (SIZE, SIZE)


def test_stock_commands_find_what_they_need(trained, clip):
    assert isinstance(trained, VanillaDataManager) and isinstance(trained.config, VanillaDataManagerConfig)
    assert trained.includes_time and trained.get_param_groups() == {}
    assert trained.get_datapath() == clip
    camera, _ = trained.eval_dataloader.get_camera(image_idx=0)
    assert camera.times is not None and camera.times.shape == (1, 1)
    assert trained.train_dataset.get_image_float32(3).shape == (SIZE, SIZE, 3)


def test_loading_a_run_reads_no_frame(clip, monkeypatch):
    monkeypatch.setattr("ntalker_ns.data.clip.Clip.image", lambda *args: pytest.fail("a frame was read"))
    for mode in ("val", "test", "inference"):
        manager(clip, test_mode=mode)


@pytest.fixture
def orphan(clip, tmp_path):
    """The driving folder of a run whose data set is gone."""
    data = tmp_path / "anna"
    shutil.copytree(clip, data)
    write_driving(*read_training_clip(TalkerDataParserConfig(data=data)), tmp_path / "run" / "driving")
    shutil.rmtree(data)
    return data, tmp_path / "run" / "driving"


def test_without_the_data_set_the_viewer_and_renders_work(orphan):
    data, driving = orphan
    loaded = manager(data, "test", parser={"driving": driving})
    assert loaded.get_datapath() == driving.parent
    assert loaded.train_dataset[0]["image"].shape == (SIZE, SIZE, 3)
    assert len(loaded.fixed_indices_eval_dataloader) == 2
    loaded.eval_dataloader.get_camera(image_idx=0)
    frames = FixedIndicesEvalDataloader(loaded.eval_dataset)
    assert [batch["image"].shape for _, batch in frames] == [(SIZE, SIZE, 3)] * 2


def test_without_the_data_set_a_sentence_says_that_frames_are_needed(orphan):
    data, driving = orphan
    loaded = manager(data, "test", parser={"driving": driving})
    asks = (
        lambda: list(loaded.fixed_indices_eval_dataloader),
        lambda: loaded.next_train(0),
        lambda: loaded.next_eval(0),
        lambda: loaded.next_eval_image(0),
    )
    for ask in asks:
        with pytest.raises(NTalkerError, match="frames of the data set are needed"):
            ask()


def test_new_audio_renders_frame_by_frame(orphan, tmp_path):
    _, driving = orphan
    write_wav(tmp_path / "new.wav", np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
    config = TalkerDataManagerConfig(dataparser=TalkerDataParserConfig(data=tmp_path / "gone", driving=driving))
    config.data = tmp_path / "new.wav"
    loaded = config.setup(device="cpu", test_mode="inference")
    assert len(loaded.eval_dataset) == len(loaded.train_dataset) == 25
    frames = list(FixedIndicesEvalDataloader(loaded.eval_dataset))
    times = torch.cat([camera.times for camera, _ in frames if camera.times is not None]).flatten()
    torch.testing.assert_close(times, torch.arange(25) / 24)
    assert len(set(loaded.eval_dataset.image_filenames)) == 25
    assert loaded.get_datapath() == driving.parent
