"""From a clip to a head that speaks new words: the real steps, small."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from ntalker_ns import runs
from ntalker_ns.cli.render import Render
from ntalker_ns.data.regions import region_psnr
from ntalker_ns.evaluation.entries import Entry
from ntalker_ns.evaluation.evaluate import evaluate
from ntalker_ns.evaluation.heldout import frame_errors, render
from ntalker_ns.evaluation.metrics.catalogue import PSNR
from ntalker_ns.evaluation.options import FrameOptions, MetricOptions

pytestmark = pytest.mark.slow

STEPS, SIZE = 300, 96


@pytest.fixture(scope="module")
def run(processed_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a short training of the small preset."""
    config = runs.method_config(
        data=processed_clip, output_dir=tmp_path_factory.mktemp("outputs"), max_num_iterations=STEPS
    )
    config.pipeline.datamanager.dataparser.image_size = SIZE
    config.pipeline.target_samples = 20_000
    config.steps_per_eval_image = 0
    return runs.train_config(config)


@pytest.fixture()
def pipeline(run: Path) -> Iterator[Any]:
    yield runs.load_run(run)


def scored(run: Path, image_size: int | None = None) -> dict[str, dict[str, float]]:
    """PSNR by take and region, over the true surroundings."""
    options = FrameOptions(image_size=image_size, surroundings="clip")
    found = evaluate([Entry("ours", run)], MetricOptions(), frames=options, baselines=True, metrics=PSNR)
    assert len(found.reference) == 7
    return {row.take.name: row.scores.values for row in found.rows[1:]}


def test_a_trained_head_beats_the_mean_frame(run: Path):
    for size in (None, SIZE // 2):
        found = scored(run, size)
        for region in ("psnr_head", "psnr_face"):
            assert found["ours"][region] > found["mean"][region] + 1.0, region


def test_an_empty_head_scores_below_the_mean_frame(run: Path, pipeline: Any):
    density = pipeline.model.head.field.density_net.layers[-1]
    with torch.no_grad():
        density.weight[0], density.bias[0] = 0.0, -100.0
    empty, found = region_psnr(frame_errors(pipeline)), scored(run)
    for region in ("full", "head", "face", "lips"):
        assert empty[region].mean < found["mean"]["psnr" if region == "full" else f"psnr_{region}"] - 1.0, region


def test_a_single_frame_fits(processed_clip: Path, tmp_path: Path):
    """The first check of any build: where it fails, gradients, marching or the optimiser are wrong."""
    config = runs.method_config(
        data=processed_clip, output_dir=tmp_path, max_num_iterations=200, steps_per_eval_image=0
    )
    datamanager = config.pipeline.datamanager
    datamanager.dataparser.max_frames, datamanager.dataparser.holdout = 1, "none"
    datamanager.frames_per_step = 1
    pipeline = runs.load_run(runs.train_config(config))
    assert region_psnr(frame_errors(pipeline))["head"].mean > 28.0


def test_audio_moves_the_mouth_and_little_else(pipeline: Any):
    model, camera = pipeline.model, pipeline.datamanager.train_dataset.cameras[10:11]
    own = model.driving
    loud = int(np.nanargmax(own.track.mouth_opening))
    quiet = int(np.nanargmin(own.track.mouth_opening))
    pictures = []
    for frame in (loud, quiet):
        features = np.repeat(own.track.features[frame : frame + 1], len(own), axis=0)
        model.set_driving(own.with_track(features=features))
        pictures.append(render(pipeline, camera))
    change = np.abs(pictures[0] - pictures[1]).mean(axis=-1)
    scale = SIZE / own.camera.width
    x0, y0, x1, y1 = np.round(own.track.lip_boxes[10] * scale).astype(int)
    in_lips = change[y0:y1, x0:x1].mean()
    forehead = change[: y0 - (y1 - y0)].mean()
    # Half a grey level on average over the lips: what an eye would call frozen is below.
    assert in_lips > 0.002
    assert in_lips > 5.0 * forehead


def test_new_speech_becomes_a_video_with_sound(run: Path, speech: Path, tmp_path: Path):
    video = tmp_path / "talking.mp4"
    Render(load_config=run, output=video, audio=speech).main()
    assert [path.name for path in tmp_path.iterdir()] == ["talking.mp4"]
    with av.open(str(video)) as container:
        (picture,), (sound,) = container.streams.video, container.streams.audio
        assert (picture.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        samples = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert np.abs(np.concatenate(samples, axis=1)).max() > 0.1
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert abs(len(frames) - 2.0 * 25) <= 1
    assert frames[0].shape == (SIZE, SIZE, 3)
    assert np.std(np.array(frames, np.float32), axis=0).max() > 5.0
