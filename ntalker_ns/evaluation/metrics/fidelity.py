"""Fidelity of a picture to the true one: SSIM, LPIPS and a distance of features."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.metrics.weights import Unavailable, require_torchvision_weights
from ntalker_ns.refinement.efficientnet import load_efficientnet
from ntalker_ns.rendering import losses

Picture = Float32[np.ndarray, "h w 3"]

SSIM_LEAST = 11
"""Side of SSIM's window, px: smaller pictures have none."""


def ssim(prediction: Picture, truth: Picture) -> float:
    """Structural similarity (Wang et al., 2004) by torchmetrics, as `ns-eval` takes it.

    Args:
        prediction: RGB in [0, 1].
        truth: RGB in [0, 1], of the same size.

    Returns:
        At most 1, for equal pictures; NaN for pictures smaller than its window of 11 px.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(truth.shape[:2]) < SSIM_LEAST:
        return float("nan")
    value = structural_similarity_index_measure(_planes(prediction), _planes(truth), data_range=1.0)
    assert isinstance(value, Tensor)
    return float(value)


def load_lpips() -> Callable[[Picture, Picture], float]:
    """Learned perceptual similarity (Zhang et al., 2018) with AlexNet, by torchmetrics; 0 for equal pictures.

    Returns:
        A function of two RGB pictures in [0, 1].

    Raises:
        Unavailable: AlexNet's weights are not available.
    """
    from torchvision.models import AlexNet_Weights

    require_torchvision_weights(AlexNet_Weights.DEFAULT, "AlexNet for LPIPS")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measure = losses.load_lpips("alex", device)

    @torch.inference_mode()
    def lpips(prediction: Picture, truth: Picture) -> float:
        return float(measure(_planes(prediction).to(device), _planes(truth).to(device)))

    return lpips


def load_perceptual() -> Callable[[Picture, Picture], float]:
    """A distance of features by EfficientNet-Lite0, see the metric's definition; 0 for equal pictures.

    Returns:
        A function of two RGB pictures in [0, 1].

    Raises:
        Unavailable: the network's weights are not installed.
    """
    try:
        network = load_efficientnet()
    except NTalkerError as error:
        raise Unavailable(str(error).rstrip(".")) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device)

    @torch.inference_mode()
    def distance(prediction: Picture, truth: Picture) -> float:
        features = (network(_planes(picture).to(device)) for picture in (prediction, truth))
        pairs = zip(*([functional.normalize(stage, dim=1) for stage in stages] for stages in features), strict=True)
        return float(sum((one - other).square().sum(dim=1).mean() for one, other in pairs))

    return distance


def _planes(picture: Picture) -> Tensor:
    return torch.from_numpy(np.clip(picture, 0.0, 1.0)).permute(2, 0, 1)[None]
