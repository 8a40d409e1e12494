"""The multi-resolution hash grid through tiny-cuda-nn.

tiny-cuda-nn reads our tables as they are. Its levels use the same vertex order, the same hash and the same alignment,
so a checkpoint trained with one backend loads with any other. It places a position x at x scale + 1/2, with scales
that grow in an exact geometric series; our scales are whole numbers of cells, and we add no half. Each level is
therefore an encoding of its own, with a scale that is just our resolution, and is given x shifted by half a cell;
one composite encoding holds them all. That costs one launch a level, where its usual hash grid needs one in all and
our Triton kernels too: this backend is for comparison, and "auto" does not choose it.

The numbers are the reference's up to float32 rounding of the place within a cell. Exactly on grid lines the slope
jumps, and rounding may take either side's.
"""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.errors import NTalkerError
from ntalker_ns.kernels.grid_layout import GridLayout


def encode(
    points: Float[Tensor, "points dims"],
    table: Float[Tensor, "entries features"],
    layout: GridLayout,
    active_levels: int,
) -> Float[Tensor, "points width"]:
    """See `kernels.reference.hash_grid.encode`; float32 or float16 tables, features in the table's type.

    Raises:
        NTalkerError: tiny-cuda-nn has no such table.
    """
    module, shifts = encoding(layout, active_levels, table.dtype, table.device)
    inside = (points >= 0) & (points <= 1)
    clamped = torch.where(inside, points, points.detach().clamp(0.0, 1.0)).float()
    if not len(points):
        # tiny-cuda-nn takes no empty batches: it is given a point, whose features are dropped below.
        clamped = nn.functional.pad(clamped, (0, 0, 0, 1))
    shifted = (clamped[:, None, :] - shifts[:, None]).flatten(1)
    last = layout.offsets[active_levels - 1] + layout.sizes[active_levels - 1]
    features = torch.func.functional_call(module, {"params": table[:last].flatten()}, (shifted,))
    missing = (layout.num_levels - active_levels) * layout.features_per_level
    return nn.functional.pad(features[: len(points)].to(table.dtype), (0, missing))


def encoding_config(layout: GridLayout, active_levels: int) -> dict[str, Any]:
    """What tiny-cuda-nn calls our grid: a composite of grids of one level each, on axes of their own.

    Args:
        layout: the grid.
        active_levels: levels used, coarse first.

    Returns:
        The configuration of a tiny-cuda-nn encoding of active levels * dims inputs.
    """
    levels = zip(layout.resolutions[:active_levels], layout.sizes[:active_levels], layout.dense, strict=False)
    nested = [
        {
            "otype": "Grid",
            "type": "Dense" if dense else "Hash",
            "hash": "CoherentPrime",
            "interpolation": "Linear",
            "n_dims_to_encode": layout.dims,
            "n_levels": 1,
            "n_features_per_level": layout.features_per_level,
            "log2_hashmap_size": size.bit_length() - 1,
            # A level's scale is this less one, and it has as many vertices along an axis.
            "base_resolution": resolution + 1,
            "per_level_scale": 1.0,
        }
        for resolution, size, dense in levels
    ]
    return {"otype": "Composite", "nested": nested}


@lru_cache
def encoding(
    layout: GridLayout, active_levels: int, kind: torch.dtype, device: torch.device
) -> tuple[nn.Module, Float[Tensor, "levels"]]:
    """tiny-cuda-nn's module, whose own parameters are not used, and half a cell of each level."""
    import tinycudann  # pyright: ignore[reportMissingImports]

    if layout.features_per_level not in (1, 2, 4, 8):
        raise NTalkerError(
            f"tiny-cuda-nn has no grids of {layout.features_per_level} features a level; use another backend."
        )
    if kind not in (torch.float16, torch.float32):
        raise NTalkerError(f"tiny-cuda-nn has no tables of {kind}; use float32, float16 or another backend.")
    with torch.cuda.device_of(torch.empty(0, device=device)):
        module = tinycudann.Encoding(active_levels * layout.dims, encoding_config(layout, active_levels), dtype=kind)
    shifts = 0.5 / torch.tensor(layout.resolutions[:active_levels], dtype=torch.float32, device=device)
    return module.to(device), shifts
