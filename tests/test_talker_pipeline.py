"""The pipeline on a made-up clip: strict loading, rays that follow the samples, averages over frames."""

import io
import math
import re
from pathlib import Path

import pytest
import torch
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.errors import NTalkerError
from ntalker_ns.talker_pipeline import TalkerPipeline, average_rows, model_name, model_tensors


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("data") / "clip")


@pytest.fixture(scope="module")
def pipeline(data: Path) -> TalkerPipeline:
    return tiny_config(data, data.parent / "out").pipeline.setup(device="cpu", test_mode="val")


def test_a_state_dict_survives_the_weights_only_loader(pipeline: TalkerPipeline):
    file = io.BytesIO()
    torch.save(pipeline.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    changed = {name: value.clone() for name, value in pipeline.model.state_dict().items()}
    with torch.no_grad():
        for parameter in pipeline.model.parameters():
            parameter.add_(1)
    pipeline.load_pipeline(state, 7)
    for name, value in pipeline.model.state_dict().items():
        assert torch.equal(value, changed[name]), name


def test_a_state_dict_holds_nothing_of_the_data(pipeline: TalkerPipeline):
    state = pipeline.state_dict()
    assert {name.partition(".")[0] for name in state} == {"_model", "_extra_state"}
    assert state["_extra_state"]["features"]["channels"] == 6
    shapes = [tuple(value.shape) for name, value in state.items() if name != "_extra_state"]
    assert not [shape for shape in shapes if shape[-2:] == (16, 6)], "the feature track is in the state dict"


def test_tensors_named_by_distributed_training_load(pipeline: TalkerPipeline):
    state = {re.sub(r"^_model\.", "_model.module.", name): value for name, value in pipeline.state_dict().items()}
    pipeline.load_pipeline(state, 7)
    with pytest.raises(NTalkerError, match="lacks"):
        pipeline.load_pipeline({"_extra_state": state["_extra_state"]}, 7)


def test_misfits_are_named_and_leave_the_weights(pipeline: TalkerPipeline):
    state = pipeline.state_dict()
    name = next(name for name in state if name.endswith(".weight"))
    short = name.removeprefix("_model.")
    before = {key: value.clone() for key, value in pipeline.model.state_dict().items()}
    renamed = {(key.replace(name, "_model.other") if key == name else key): value for key, value in state.items()}
    with pytest.raises(NTalkerError, match=f"step 7 does not fit .* lacks {short}; it has the unknown other"):
        pipeline.load_pipeline(renamed, 7)
    with pytest.raises(NTalkerError, match=f"another shape of {short} \\(3,\\) instead of"):
        pipeline.load_pipeline({**state, name: torch.zeros(3)}, 7)
    with pytest.raises(NTalkerError, match="names no audio features"):
        pipeline.load_pipeline({key: value for key, value in state.items() if key != "_extra_state"}, 7)
    for key, value in pipeline.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_checkpoint_of_another_feature_width_says_both(pipeline: TalkerPipeline):
    state = pipeline.state_dict()
    state["_extra_state"] = {"features": FeatureInfo("wav2vec2", None, 44).to_dict()}
    with pytest.raises(NTalkerError, match=r"wav2vec2 audio features of 44 channels.* mel features of 6"):
        pipeline.load_pipeline(state, 7)


def test_a_resumed_run_has_as_many_rays(data: Path):
    config = tiny_config(data, data.parent / "out").pipeline
    config.target_samples, config.min_rays, config.max_rays = 10_000, 64, 4096
    pipeline = config.setup(device="cpu", test_mode="val")
    pipeline.budget.resume(20.0)
    state = pipeline.training_state()
    pipeline.budget.resume(1.0)
    pipeline.load_training_state(state)
    assert float(pipeline.get_train_loss_dict(0)[2]["rays_per_step"]) == 512


def test_a_fixed_number_of_rays_stays(data: Path):
    config = tiny_config(data, data.parent / "out").pipeline
    config.target_samples = None
    pipeline = config.setup(device="cpu", test_mode="val")
    for step in range(2):
        metrics = pipeline.get_train_loss_dict(step)[2]
        assert float(metrics["rays_per_step"]) == 256


def test_evaluation_keeps_no_graph_and_gives_the_same_floats_for_each_frame(pipeline: TalkerPipeline, tmp_path: Path):
    results = pipeline.get_average_eval_image_metrics(output_path=tmp_path / "pictures", get_std=True)
    assert {"psnr", "psnr_std", "num_rays_per_sec", "fps"} <= results.keys()
    assert all(type(value) is float and math.isfinite(value) for value in results.values())
    frames = len(pipeline.datamanager.eval_dataset)
    assert len(list((tmp_path / "pictures").glob("eval_img_*.png"))) == frames
    assert pipeline.training
    metrics, images = pipeline.get_eval_image_metrics_and_images(0)
    assert metrics["num_rays"] == 40 * 40
    assert not any(image.requires_grad for image in images.values())


def test_averages_skip_frames_without_a_metric():
    rows = [{"psnr": 20.0, "lips": 1.0}, {"psnr": torch.tensor(24.0)}, {"psnr": 22.0, "lips": math.nan, "no": math.inf}]
    averages = average_rows(rows, get_std=True)
    assert averages == {"psnr": 22.0, "psnr_std": 2.0, "lips": 1.0, "lips_std": 0.0}
    assert average_rows(rows, get_std=False) == {"psnr": 22.0, "lips": 1.0}


def test_checkpoints_from_before_lips_closed_change_nothing_of_them():
    own = {"lip_model.closing.targets": torch.ones(2), "lip_model.mean": torch.ones(3)}
    old = {"_model.lip_model.mean": torch.zeros(3), "_extra_state": {}}
    found = model_tensors(old, own)
    assert found.keys() == own.keys()
    assert not found["lip_model.closing.targets"].any()
    new = old | {"_model.lip_model.closing.targets": torch.full((2,), 5.0)}
    assert float(model_tensors(new, own)["lip_model.closing.targets"][0]) == 5.0


def test_model_names_lose_only_their_prefixes():
    assert model_name("_model.field.module.weight") == "head.field.module.weight"
    assert model_name("_model.module.field.weight") == "head.field.weight"
    assert model_name("datamanager.x") == "datamanager.x"


def test_all_modules_switch_between_training_and_evaluation(pipeline: TalkerPipeline):
    for mode in (False, True, True, False):
        assert pipeline.train(mode) is pipeline
        assert {module.training for module in pipeline.modules()} == {mode}
    pipeline.train()
    pipeline.model.eval()
    pipeline.train()
    assert {module.training for module in pipeline.modules()} == {True}
