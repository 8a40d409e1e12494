"""The prior over speakers: how lips and jaws move with speech, learned from other people.

The mean of a linear map and a small network, from windows of Whisper features to displacements of the landmarks of lips
and jaw, in units of how much a person's landmarks move. Where it comes from and what it may be used for:
`weights/lip_prior.md`; `python -m ntalker_ns.speech.training prior` makes it.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from ntalker_ns.face.mesh_indices import IBUG, LOWER_INNER_LIP, MESH, MESH_OF_IBUG, UPPER_INNER_LIP

WEIGHTS = Path(__file__).parent / "weights" / "lip_prior.safetensors"

BINS = 8
"""Parts of a window, 40 ms each, within which features are averaged."""

LIMIT = 3.0
"""Features, of unit variance on speech, are clamped to plus and minus this: new sound comes from other rooms."""


HIDDEN = 288
"""Hidden units of the network."""


@dataclass(frozen=True)
class CodeNetwork:
    """A network of one hidden layer (GELU) from windows to codes, which gives half of the prior's prediction."""

    hidden: Float[Tensor, "inputs hidden"]
    hidden_bias: Float[Tensor, " hidden"]
    output: Float[Tensor, "hidden codes"]

    def __call__(self, inputs: Float[Tensor, "frames inputs"]) -> Float[Tensor, "frames codes"]:
        """The codes, up to a constant.

        Args:
            inputs: of `window_inputs`, less their mean over a clip.
        """
        return gelu(inputs @ self.hidden + self.hidden_bias) @ self.output


@dataclass(frozen=True)
class LipPrior:
    """A network, and Bayesian linear regression of its residual: mean and precision of the coefficients."""

    weights: Float[Tensor, "inputs codes"]
    """From windows (`window_inputs`), less their mean over a clip, to the network's residual in codes."""
    precision: Float[Tensor, "inputs inputs"]
    """Of the weights, for targets of unit noise: the Gram matrix of the other people's inputs, regularised."""
    basis: Float[Tensor, "codes points 2"]
    """Displacement of each of `MESH.lips` for a code of 1: sideways (x) and up (z), in units of the root mean square,
    over a clip, of all displacements' norm."""
    network: CodeNetwork

    def codes(self, inputs: Float[Tensor, "frames inputs"]) -> Float[Tensor, "frames codes"]:
        """The predicted codes, up to a constant.

        Args:
            inputs: of `window_inputs`, less their mean over a clip.
        """
        return inputs @ self.weights + self.network(inputs)

    def basis_of(self, points: int) -> Float[Tensor, "codes points 2"]:
        """The displacements of the landmarks that a clip has.

        Args:
            points: 53 for mediapipe's mesh, 29 for AD-NeRF's 68 points.

        Raises:
            ValueError: another number.
        """
        if points == len(MESH.lips):
            return self.basis
        if points != len(IBUG.lips):
            raise ValueError(f"Lips have {len(MESH.lips)} or {len(IBUG.lips)} landmarks, not {points}.")
        return self.basis[:, [MESH.lips.index(MESH_OF_IBUG[point]) for point in IBUG.lips]]


@lru_cache(maxsize=1)
def load_prior() -> LipPrior:
    """The prior that comes with the package, in float64."""
    from safetensors.torch import load_file

    tensors = {name: value.double() for name, value in load_file(WEIGHTS).items()}
    network = CodeNetwork(*(tensors[f"network.{field.name}"] for field in fields(CodeNetwork)))
    return LipPrior(tensors["weights"], tensors["precision"], tensors["basis"], network)


def window_inputs(windows: Float[Tensor, "frames 16 channels"]) -> Float[Tensor, "frames inputs"]:
    """The prior's inputs from feature windows: clamped, and averaged over 40 ms.

    Args:
        windows: of Whisper features, one for each frame.
    """
    return windows.unflatten(1, (BINS, -1)).mean(dim=2).clamp(-LIMIT, LIMIT).flatten(1)


def opening_codes(prior: LipPrior) -> Float[np.ndarray, "codes"]:
    """How much each code opens the mouth: the gap between the inner lips, in the basis' units."""
    upper, lower = MESH.lips.index(UPPER_INNER_LIP), MESH.lips.index(LOWER_INNER_LIP)
    return (prior.basis[:, upper, 1] - prior.basis[:, lower, 1]).numpy()
