"""EfficientNet-Lite0's features: it knows what a photograph shows, and its distance what a blur is."""

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.fidelity import load_perceptual
from ntalker_ns.refinement.efficientnet import LEVELS, STAGES, EfficientNetFeatures, load_efficientnet


def test_features_have_the_sizes_of_the_stages():
    features = load_efficientnet()(torch.rand(2, 3, 65, 48))
    assert [tuple(stage.shape) for stage in features] == [
        (2, 16, 33, 24),
        (2, 24, 17, 12),
        (2, 40, 9, 6),
        (2, 80, 5, 3),
    ]
    assert [out for out, *_ in STAGES] == [16, 24, 40, 80]


def test_padding_is_tensorflows():
    """An even picture has its border on the right and below: a shift by two px moves the first stage by one."""
    network = load_efficientnet()
    picture = torch.from_numpy(astronaut()[100:165, 100:165] / 255.0).float().permute(2, 0, 1)[None]
    padded = torch.nn.functional.pad(picture[..., :64, :62], (2, 0, 0, 0), mode="replicate")
    pictures = (picture[..., :64, :64], picture[..., :64, 1:65], padded)
    even, moved, shifted = (LEVELS[0] / 6.0 * network(each)[0] for each in pictures)
    torch.testing.assert_close(shifted[..., 4:-2, 6:-4], even[..., 4:-2, 5:-5], atol=1e-3, rtol=1e-3)
    assert (moved[..., 4:-4, 4:-4] - even[..., 4:-4, 4:-4]).abs().mean() > 1e-2


def test_it_stays_as_it_was_trained():
    network = load_efficientnet().train()
    assert not network.training and not any(one.requires_grad for one in network.parameters())


def test_a_stronger_blur_is_further_away():
    cv2 = pytest.importorskip("cv2")
    picture = (astronaut()[:256, 100:356] / 255.0).astype(np.float32)
    distance = load_perceptual()
    blurred = [cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (0.8, 1.6, 3.0)]
    found = [distance(one, picture) for one in (picture, *blurred)]
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert found == sorted(found)
    # Brightness, which lowers the PSNR as much as the weakest blur, is nearer.
    error = np.square(blurred[0] - picture).mean() ** 0.5
    assert distance(np.clip(picture + error, 0, 1).astype(np.float32), picture) < 0.5 * found[1]


def test_other_weights_are_refused():
    with pytest.raises(NTalkerError, match=r"_conv_stem.weight does not fit"):
        EfficientNetFeatures({"_conv_stem.weight": torch.zeros(1)})
