"""SyncNet: the published parameters, the offset found to the frame, and what the network is given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntalker_ns.evaluation.metrics.syncnet import (
    FACE_SIZE,
    MAX_OFFSET,
    SyncNet,
    SyncScore,
    crop_face,
    embeddings,
    face_boxes,
    load_syncnet,
    search_offset,
    sync_score,
)
from ntalker_ns.evaluation.metrics.weights import Unavailable

AUDIO = {0: (64, 1, 3, 3), 4: (192, 64, 3, 3), 8: (384, 192, 3, 3), 11: (256, 384, 3, 3), 14: (256, 256, 3, 3)}
AUDIO[18] = (512, 256, 5, 4)
FACES = {0: (96, 3, 5, 7, 7), 4: (256, 96, 1, 5, 5), 8: (256, 256, 1, 3, 3), 11: (256, 256, 1, 3, 3)}
FACES |= {14: (256, 256, 1, 3, 3), 18: (512, 256, 1, 6, 6)}
"""Convolutions of the published network by place in their nn.Sequential; a batch norm follows each."""


def published_shapes(width: int = 1024) -> dict[str, tuple[int, ...]]:
    """Names and shapes in syncnet_v2.model."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    for tower, layers in (("netcnnaud", AUDIO), ("netcnnlip", FACES)):
        for place, shape in layers.items():
            shapes |= {f"{tower}.{place}.weight": shape, f"{tower}.{place}.bias": shape[:1]}
            norm(f"{tower}.{place + 1}", shape[0])
    for head in ("netfcaud", "netfclip"):
        shapes |= {f"{head}.0.weight": (512, 512), f"{head}.0.bias": (512,)}
        norm(f"{head}.1", 512)
        shapes |= {f"{head}.3.weight": (width, 512), f"{head}.3.bias": (width,)}
    return shapes


class MeanTowers(SyncNet):
    """Towers that return their inputs: the picture's brightness and the sound's first cepstrum, per step."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.scale = nn.Parameter(torch.ones(1))

    def faces(self, pictures: Tensor) -> Tensor:
        assert pictures.shape[1:3] == (3, 5)
        # As wide as the sounds' embeddings.
        return nn.functional.pad(pictures.mean(dim=(3, 4)).flatten(1), (0, 5))

    def sounds(self, cepstra: Tensor) -> Tensor:
        assert cepstra.shape[1:] == (1, 13, 20)
        return cepstra[:, 0, 0]


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval()


def test_parameters_are_those_of_the_published_file(network: SyncNet):
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published_shapes()


def test_towers_meet_in_one_space(network: SyncNet):
    with torch.inference_mode():
        assert network.sounds(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.faces(torch.zeros(1, 3, 5, FACE_SIZE, FACE_SIZE)).shape == (1, 1024)


def test_weights_come_back_from_a_file_and_score_a_clip(tmp_path: Path):
    torch.manual_seed(1)
    network = SyncNet(width=8)
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    loaded = load_syncnet(tmp_path / "syncnet_v2.model")
    assert not loaded.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name].cpu(), value)
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 255, (8, 60, 60, 3), np.uint8))
    landmarks = rng.uniform(20, 40, (8, 478, 2))
    score = sync_score(loaded, frames, landmarks, rng.normal(0, 0.1, 8 * 640))
    assert score.frames == 3
    assert score.confidence >= 0 and score.distance > 0


def test_files_of_old_torch_load_too(tmp_path: Path):
    """The published one is of a time before zip archives and before batch norms counted."""
    torch.manual_seed(1)
    network = SyncNet(width=8)
    uncounted = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(uncounted, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    loaded = load_syncnet(tmp_path / "old.model").state_dict()
    for name, value in uncounted.items():
        torch.testing.assert_close(loaded[name].cpu(), value)


@pytest.mark.parametrize("content", [b"not weights", b""])
def test_other_files_are_unavailable_by_name(content: bytes, tmp_path: Path):
    path = tmp_path / "other.model"
    path.write_bytes(content)
    with pytest.raises(Unavailable, match=r"other\.model"):
        load_syncnet(path)
    torch.save({"netfcaud.3.bias": torch.zeros(4)}, path)
    with pytest.raises(Unavailable, match=r"other\.model"):
        load_syncnet(path)


@pytest.mark.parametrize("late", [-15, -4, 0, 3, 15])
def test_planted_embeddings_are_found_to_the_frame(late: int):
    rng = torch.Generator().manual_seed(0)
    seen = torch.randn(60, 16, generator=rng)
    # The sound that belongs to a picture comes `late` frames after it.
    heard = torch.roll(seen, late, dims=0)
    score = search_offset(seen, heard)
    assert score.offset == -late
    assert score.frames == 60


def test_confidence_is_the_median_less_the_least_of_the_mean_distances():
    rng = torch.Generator().manual_seed(0)
    seen, heard = torch.randn(40, 4, generator=rng), torch.randn(40, 4, generator=rng)
    score = search_offset(seen, heard)
    padded = np.pad(heard.double().numpy(), ((MAX_OFFSET, MAX_OFFSET), (0, 0)))
    means = [
        np.mean([np.linalg.norm(seen.double().numpy()[i] - padded[i + k] + 1e-6) for i in range(40)])
        for k in range(2 * MAX_OFFSET + 1)
    ]
    assert score.distance == pytest.approx(min(means), abs=1e-5)
    assert score.confidence == pytest.approx(np.median(means) - min(means), abs=1e-5)


def test_windows_of_pictures_and_sound_start_together():
    count = 47
    faces = [np.full((FACE_SIZE, FACE_SIZE, 3), [i, 2 * i, 3 * i], np.uint8) for i in range(count + 5)]
    cepstra = np.tile(np.arange(4.0 * (count + 5))[:, None], (1, 13))
    seen, heard = embeddings(MeanTowers(), iter(faces), cepstra, count)
    starts = torch.arange(count)
    # Five pictures from the start on, blue first; twenty cepstra from four times the start on.
    blue_green_red = torch.stack([3.0 * (starts[:, None] + torch.arange(5)), 2.0 * (starts[:, None] + torch.arange(5))])
    torch.testing.assert_close(seen[:, :10], torch.cat(list(blue_green_red), dim=1))
    torch.testing.assert_close(heard, (4 * starts[:, None] + torch.arange(20)).float())


def test_a_crop_has_room_around_the_face_and_more_below():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[30:50, 40:60] = 255
    face = crop_face(picture, x=50.0, y=40.0, half=10.0)
    assert face.shape == (224, 224, 3)
    # The crop is 28 px wide: 4 px left and right of the box, none above, 8 below.
    bright = face[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert (rows[0], rows[-1]) == pytest.approx((0, 160), abs=4)
    assert (columns[0], columns[-1]) == pytest.approx((32, 192), abs=4)


def test_outside_the_picture_is_grey():
    face = crop_face(np.full((40, 40, 3), 200, np.uint8), x=0.0, y=20.0, half=20.0)
    assert face[100, 5].tolist() == [110, 110, 110]
    assert face[100, -5].tolist() == [200, 200, 200]


def test_boxes_are_medians_over_time_and_bridge_gaps():
    landmarks = np.zeros((30, 478, 2))
    landmarks[:, 0], landmarks[:, 1] = (10.0, 20.0), (50.0, 80.0)
    landmarks[14, :] += 100.0
    landmarks[3:6] = np.nan
    np.testing.assert_allclose(face_boxes(np.where(landmarks == 0, 30.0, landmarks)), [[30.0, 50.0, 30.0]] * 30)
    with pytest.raises(Unavailable, match="no face"):
        face_boxes(np.full((3, 478, 2), np.nan))


def test_too_short_a_clip_is_unavailable(network: SyncNet):
    with pytest.raises(Unavailable, match="more than 5 frames"):
        sync_score(network, [np.zeros((9, 9, 3), np.uint8)] * 9, np.zeros((9, 478, 2)), np.zeros(5 * 640))


@pytest.mark.parametrize(("frames", "padded"), [(1, 30 / 31), (15, 240 / 465), (1000, 240 / 31000)])
def test_comparisons_with_padding_are_counted(frames: int, padded: float):
    """One by one: window i of the picture meets sound i + offset, which is padding outside of the clip."""
    offsets = range(-15, 16)
    counted = sum(not 0 <= i + offset < frames for offset in offsets for i in range(frames)) / (31 * frames)
    assert SyncScore(1.0, 1.0, 0, frames).padded == pytest.approx(counted) == pytest.approx(padded)
