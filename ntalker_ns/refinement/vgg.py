"""VGG-16 features for the perceptual and the style loss."""

import pickle
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError

LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512)
"""Channels of VGG-16's convolutions up to relu4_3; 0: max pooling."""
TAPS = (3, 8, 15, 22)
"""Indices of relu1_2, relu2_2, relu3_3 and relu4_3 in torchvision's `features`."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as in VGG's training."""


class VGGFeatures(nn.Module):
    """VGG-16 up to relu4_3, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """
        Args:
            weights: state dict of torchvision's vgg16; only `features.*` up to relu4_3 is used.

        Raises:
            NTalkerError: a weight is missing or has another shape.
        """
        super().__init__()
        self.features = vgg_layers()
        own = self.state_dict()
        missing = [name for name, value in own.items() if name not in weights or weights[name].shape != value.shape]
        if missing:
            raise NTalkerError(f"These are not the weights of torchvision's vgg16: {missing[0]} does not fit.")
        self.load_state_dict({name: weights[name] for name in own})
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.requires_grad_(False)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h_l w_l"]]:
        """relu1_2, relu2_2, relu3_3 and relu4_3 of a picture.

        Args:
            image: [0, 1].
        """
        values = (image - self.mean) / self.std
        taps = []
        for index, layer in enumerate(self.features):
            values = layer(values)
            if index in TAPS:
                taps.append(values)
        return taps


def load_vgg(file: Path | None) -> VGGFeatures:
    """Loads VGG-16 with ImageNet weights.

    Args:
        file: torchvision's `vgg16-397923af.pth`; None: from torch's cache, or downloaded.

    Raises:
        NTalkerError: the file is invalid, or the download fails.
    """
    if file is None:
        return VGGFeatures(_downloaded())
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise NTalkerError(f"{file} cannot be read as weights of vgg16 ({error}).") from error
    if not isinstance(weights, dict):
        raise NTalkerError(f"{file} holds no state dict: give torchvision's vgg16-397923af.pth.")
    return VGGFeatures(weights)


def vgg_is_here(file: Path | None) -> bool:
    """Whether VGG-16's weights are on this machine: a file that was named, or torch's cache."""
    from torchvision.models import VGG16_Weights

    name = VGG16_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    return file is not None or (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()


def _downloaded() -> dict[str, Tensor]:
    from torchvision.models import VGG16_Weights

    try:
        return dict(VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True))
    except (OSError, RuntimeError) as error:
        raise NTalkerError(
            f"The weights of VGG-16 are not in torch's cache and cannot be downloaded ({error}): give their file with "
            "--pipeline.model.vgg-weights (torchvision's vgg16-397923af.pth), or take another network with "
            "--pipeline.model.perceptual efficientnet."
        ) from error


def vgg_layers() -> nn.Sequential:
    """The layers, named as in torchvision."""
    layers: list[nn.Module] = []
    channels_in = 3
    for channels in LAYERS:
        if channels == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels_in, channels, kernel_size=3, padding=1), nn.ReLU()]
        channels_in = channels
    return nn.Sequential(*layers)
