"""What of a face moves in frames but does not speak, and where its lips are: what brings positions to their places in
the mean face with open eyes."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ntalker_ns.kernels.face_state import Gate, Landmarks


class Face(NamedTuple):
    """Of frames, on the device of the samples."""

    brow_gate: Gate
    eye_gate: Gate
    lips: Landmarks
    brows: Landmarks
    lids: Float[Tensor, "2 columns 4"]
    """See `LidFold`."""
    openness: Float[Tensor, "frames"]
    """Of the eyes."""
