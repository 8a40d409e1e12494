"""Closes eyes by drawing the upper lid's skin over them, so that the field need not paint lids it seldom saw.

In the frame's x, z plane: below the upper lid's edge an eye is seen as it is, and above it the skin between the open
lid and the brow is stretched down to the edge.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


class LidFold(nn.Module):
    """From a place in the frame to the place in the open-eyed face whose picture is there."""

    lids: Float[Tensor, "2 columns 4"]

    def __init__(self, lids: Float[np.ndarray, "2 columns 4"]) -> None:
        """
        Args:
            lids: see `ntalker_ns.face.eyelids.lid_curves`.
        """
        super().__init__()
        # They come with the driving sequence, as the gates do.
        self.register_buffer("lids", torch.from_numpy(lids), persistent=False)

    @torch.no_grad()
    def forward(
        self, positions: Float[Tensor, "samples 3"], openness: Float[Tensor, "samples 1"]
    ) -> Float[Tensor, "samples"]:
        """How far above each position its place in the open-eyed face is, world units.

        Args:
            positions: world.
            openness: of the eyes, 0 closed to 1 open.
        """
        x, z, openness = positions[:, 0], positions[:, 2], openness.squeeze(-1)
        rise = torch.zeros_like(z)
        for eye in self.lids.to(z):
            last = len(eye) - 1
            column = (x - eye[0, 0]) / (eye[-1, 0] - eye[0, 0]) * last
            left = column.clamp(0, last).floor().long().clamp(max=last - 1)
            meet, opened, top = torch.lerp(eye[left, 1:], eye[left + 1, 1:], (column - left)[:, None]).unbind(dim=1)
            edge = meet + openness * (opened - meet)
            above = (column >= 0) & (column <= last) & (z >= edge) & (z < top)
            rise += torch.where(above, (top - z) * (opened - edge) / (top - edge), 0.0)
        return rise
