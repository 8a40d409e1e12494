"""The lips phase: when it comes, what it costs, and that it needs no download."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns.errors import NTalkerError
from ntalker_ns.rendering.losses import LPIPS_WEIGHTS, LipPatchLoss, gradient_loss, load_lpips, lpips_network
from ntalker_ns.training.lip_patches import LipsPhaseConfig


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any network weights."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_every_other_step_at_the_end_has_lip_patches():
    phase = LipsPhaseConfig(fraction=0.4)
    assert [step for step in range(10) if phase.takes(step, 10)] == [7, 9]
    assert not any(LipsPhaseConfig().takes(step, 10) for step in range(10))


def test_the_gradient_loss_by_hand():
    image = torch.zeros(1, 3, 2, 3)
    rendered = image.clone()
    rendered[0, 0, 0, 1] = 0.6
    # Two differences to the right and one downwards are off by 0.6, of 3 * 2 * 2 and 3 * 1 * 3.
    expected = (2 * 0.6 / 12 + 0.6 / 9) / 2
    assert float(gradient_loss(rendered, image)) == pytest.approx(expected)
    assert float(gradient_loss(rendered + 0.2, rendered)) == pytest.approx(0.0, abs=1e-6)


def test_without_weights_the_loss_is_gradients_and_a_message_says_so_once(capsys: pytest.CaptureFixture[str]):
    assert lpips_network() is None
    loss = LipPatchLoss(LipsPhaseConfig(fraction=0.5, patch_size=16, gradient_weight=0.5))
    rendered, image = torch.rand(2 * 256, 3, requires_grad=True), torch.rand(2 * 256, 3)
    value = loss(rendered, image)
    patches = [(colours.detach().view(2, 16, 16, 3).permute(0, 3, 1, 2)) for colours in (rendered, image)]
    torch.testing.assert_close(value.detach(), 0.5 * gradient_loss(*patches))
    value.backward()
    loss(rendered, image)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("lip patches' loss is") == 1 and "image gradients" in said and "alexnet-owt" in said


def test_with_weights_on_the_machine_it_is_lpips(empty_hub: Path):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), empty_hub / LPIPS_WEIGHTS["squeeze"])
    assert lpips_network() == "squeeze"
    loss = load_lpips("squeeze", torch.device("cpu"))
    image = torch.rand(2, 3, 32, 32)
    assert float(loss(image, image)) == pytest.approx(0.0, abs=1e-6)
    rendered = image.roll(3, dims=3).requires_grad_(True)
    value = loss(rendered, image)
    assert float(value) > 1e-4
    value.backward()
    assert rendered.grad is not None and bool(rendered.grad.abs().sum() > 0)


def test_options_out_of_range_are_refused():
    with pytest.raises(NTalkerError, match=r"lips\.fraction"):
        LipsPhaseConfig(fraction=1.5).check()
    with pytest.raises(NTalkerError, match=r"lips\.patch-size"):
        LipsPhaseConfig(patch_size=4).check()


def begins_with_patch(indices: np.ndarray, side: int) -> bool:
    """Whether the first rays, as (camera, row, column), are those of a square patch."""
    if len(indices) < side * side:
        return False
    rows, columns = (indices[: side * side, axis].reshape(side, side) for axis in (1, 2))
    offset = np.arange(side)
    return bool((rows - rows[0, 0] == offset[:, None]).all() and (columns - columns[0, 0] == offset).all())


def test_a_run_ends_with_lip_patches(tmp_path: Path):
    data = write_tiny_clip(tmp_path / "data", size=48)
    config = tiny_config(data, tmp_path / "outputs", max_num_iterations=6)
    config.pipeline.lips = LipsPhaseConfig(fraction=0.5, patch_size=16)
    config.set_timestamp()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    taken = []
    training_rays = trainer.pipeline.datamanager.training_rays

    def spy(*given):
        bundle, batch = training_rays(*given)
        taken.append((len(taken), batch["indices"].numpy()))
        return bundle, batch

    trainer.pipeline.datamanager.training_rays = spy
    trainer.train()
    assert [step for step, _ in taken] == list(range(6))
    assert [step for step, indices in taken if begins_with_patch(indices, 16)] == [3, 5]
    assert not [name for name in trainer.pipeline.state_dict() if "lpips" in name or "lips_phase" in name]
