"""Identity by dlib's face network (King, 2017): a residual network of 29 convolutions that describes a face by 128
numbers. Its weights are in the public domain and come with this package, see `evaluation/weights/face_network.md`.

Descriptors of one person are less than 0.6 apart, those of two people more (99.4% of Labeled Faces in the Wild).
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from ntalker_ns.evaluation.metrics.identity import nearest_similarity
from ntalker_ns.face import mesh_indices

FILE = Path(__file__).parents[1] / "weights" / "face_network.safetensors"
SIDE = 150
"""Of an aligned face, px."""
MEAN = (122.782, 117.001, 104.298)
"""Of the network's training pictures, RGB."""
BLOCKS = tuple(
    f"conv{block}"
    for block in (
        *("32_1", "32_2", "32_3", "64_down", "64_1", "64_2", "64_3", "128_down", "128_1", "128_2"),
        *("256_down", "256_1", "256_2", "256_down_out"),
    )
)
"""The residual blocks; those with "down" in their names halve the picture."""
PADDING = 0.25
"""Around the template, over its size."""
TEMPLATE = np.array(
    [[0.12058, 0.21373], [0.33409, 0.22906], [0.64606, 0.22897], [0.85957, 0.21350], [0.49011, 0.62780]]
)
"""dlib's places, without padding, for the corners of the eye on the picture's left, of the other eye (left to right),
and for the point under the nose; over the template's size."""


class FaceNetwork:
    """The network, on the CPU."""

    def __init__(self, file: Path = FILE) -> None:
        """
        Args:
            file: its weights in 8 bits, with scale and least value of each tensor.
        """
        from safetensors.torch import load_file

        stored = load_file(file)
        names = [name for name in stored if f"{name}.range" in stored]
        ranges = {name: stored[f"{name}.range"] for name in names}
        self.weights = {name: stored[name].float() * ranges[name][0] + ranges[name][1] for name in names}

    @torch.inference_mode()
    def __call__(self, face: UInt8[np.ndarray, "150 150 3"]) -> Float[np.ndarray, "128"]:
        """Describes an aligned face, RGB."""
        planes = torch.from_numpy(face.astype(np.float32)).permute(2, 0, 1)[None]
        values = (planes - torch.tensor(MEAN).view(3, 1, 1)) / 255.0
        values = functional.max_pool2d(self._convolved(values, "conv32_down", 2).relu(), 3, 2)
        for block in BLOCKS:
            values = self._residual(values, block, halved="down" in block)
        return (values.mean(dim=(2, 3)) @ self.weights["fc"])[0].double().numpy()

    def _residual(self, values: Tensor, name: str, halved: bool) -> Tensor:
        """A block of two convolutions beside what it is added to."""
        out = self._convolved(values, f"{name}/conv1", 2 if halved else 1).relu()
        out = self._convolved(out, f"{name}/conv2", 1)
        beside = functional.avg_pool2d(values, 2) if halved else values
        # What is smaller or has fewer channels is filled with zeros.
        height, width = (max(a, b) for a, b in zip(out.shape[2:], beside.shape[2:], strict=True))
        channels = max(out.shape[1], beside.shape[1])
        filled = [
            functional.pad(each, (0, width - each.shape[3], 0, height - each.shape[2], 0, channels - each.shape[1]))
            for each in (out, beside)
        ]
        return (filled[0] + filled[1]).relu()

    def _convolved(self, values: Tensor, name: str, stride: int) -> Tensor:
        """A convolution (of the same size where it does not halve) and the scale that stands for its batch norm."""
        weights = self.weights
        filters = weights[f"{name}/conv/filters"]
        padding = filters.shape[-1] // 2 if stride == 1 else 0
        out = functional.conv2d(values, filters, weights[f"{name}/conv/bias"], stride, padding)
        scale, shift = (weights[f"{name}/scale/{kind}"].view(-1, 1, 1) for kind in ("weights", "biases"))
        return out * scale + shift


def face_chip(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"]
) -> UInt8[np.ndarray, "150 150 3"]:
    """The face brought to dlib's template.

    Args:
        picture: RGB.
        landmarks: face-mesh landmarks in px of it, pixel centres at .5.
    """
    corners = [*mesh_indices.RIGHT_EYE_CORNERS, *mesh_indices.LEFT_EYE_CORNERS, mesh_indices.UNDER_NOSE]
    points = landmarks[corners]
    target = (TEMPLATE + PADDING) / (1.0 + 2.0 * PADDING) * SIDE
    matrix = nearest_similarity(points - 0.5, target - 0.5)
    # Shrunk pictures are averaged first.
    shrunk = float(np.hypot(*matrix[0, :2]))
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.5 / shrunk) if shrunk < 0.7 else picture
    return np.asarray(cv2.warpAffine(smooth, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def tfjs_tensors(manifest: list[dict], content: bytes) -> dict[str, Tensor]:
    """The tensors of a TensorFlow.js model in 8 bits, as they are stored here.

    Args:
        manifest: of the model's weights.
        content: of its file.
    """
    stored: dict[str, Tensor] = {}
    start = 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        quantised = entry.get("quantization", {"dtype": "float32", "scale": 1.0, "min": 0.0})
        kind = np.dtype(quantised["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(content, kind, count, start).reshape(entry["shape"])
        start += count * kind.itemsize
        # Convolutions as torch has them: out, in, height, width.
        ordered = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values
        stored[entry["name"]] = torch.from_numpy(ordered.copy())
        stored[f"{entry['name']}.range"] = torch.tensor([quantised["scale"], quantised["min"]])
    return stored
