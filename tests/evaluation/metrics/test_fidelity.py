"""SSIM against scikit-image's, LPIPS on random weights in the published place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ntalker_ns.evaluation.metrics.fidelity import load_lpips, ssim
from ntalker_ns.evaluation.metrics.weights import Unavailable

RNG = np.random.default_rng(0)


def pair(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    truth = RNG.random((size, size, 3)).astype(np.float32)
    return np.clip(truth + RNG.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32), truth


def test_equal_pictures_are_one():
    picture, _ = pair()
    assert ssim(picture, picture) == pytest.approx(1.0, abs=1e-6)


def test_ssim_is_that_of_scikit_image():
    prediction, truth = pair()
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    # The one averages over the inside that whole windows reach, the other over all of a mirrored picture.
    values = np.asarray(structural_similarity(prediction, truth, channel_axis=-1, full=True, **settings)[1])
    assert ssim(prediction, truth) == pytest.approx(float(values[5:-5, 5:-5].mean()), abs=2e-3)


def test_pictures_below_the_window_have_none():
    assert np.isnan(ssim(*pair(10)))


def test_lpips_without_weights_is_unavailable_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("ntalker_ns.evaluation.metrics.weights.answers", lambda address: False)
    with pytest.raises(Unavailable, match=r"AlexNet for LPIPS \(alexnet-owt"):
        load_lpips()


def test_lpips_of_a_picture_with_itself_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.models import AlexNet_Weights, alexnet

    torch.manual_seed(0)
    (tmp_path / "checkpoints").mkdir()
    name = AlexNet_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(alexnet().state_dict(), tmp_path / "checkpoints" / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    lpips = load_lpips()
    prediction, truth = pair()
    assert lpips(truth, truth) == pytest.approx(0.0, abs=1e-6)
    first, second = lpips(prediction, truth), lpips(prediction, truth)
    assert first > 1e-4
    assert second == pytest.approx(first)
