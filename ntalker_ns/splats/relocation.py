"""Relocates transparent Gaussians to regions of large error; their number is fixed.

The picture is wrong where the gradient of the Gaussians' projected means is large (3D Gaussian splatting, Kerbl et al.
2023). A Gaussian and its copy together cover what it covered before, so that a picture changes little when Gaussians
move (3DGS-MCMC, Kheradmand et al. 2024).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torch.optim import Optimizer

from ntalker_ns.splats.gaussians import HeadGaussians

FRACTION = 0.05
"""Largest fraction of the Gaussians that moves at a time."""

SMALLER = 0.35
"""By how much the logarithm of both Gaussians' sizes falls."""


@torch.no_grad()
def relocate(
    gaussians: HeadGaussians, gradient: Float[Tensor, "n"], optimizers: Iterable[Optimizer]
) -> Int[Tensor, ""]:
    """Moves the least useful Gaussians beside those with the largest gradient in the picture. Processes that train
    together move the same ones to the same places.

    Args:
        gaussians: of a head.
        gradient: norm of the gradient of each projected mean, summed since the last call, see `Ops.rasterise`.
        optimizers: of the Gaussians; the moments of both are reset.

    Returns:
        How many were transparent and have moved.
    """
    gradient, generator = _shared(gradient)
    count = max(int(FRACTION * len(gaussians)), 1)
    base, rates = gaussians.base, gaussians.rates
    opacity = torch.sigmoid(base[:, 10] * rates[10])
    transparent = gaussians.transparent()
    # A fixed number, so that nothing waits for a device; those that are useful stay where they are.
    candidates = (opacity + (~transparent).float()).topk(count, largest=False).indices
    moves = transparent[candidates]
    chances = torch.where(transparent, 0.0, gradient).clamp(min=1e-20)
    sources = torch.multinomial(chances, count, replacement=len(gaussians) < 2 * count, generator=generator)
    targets = torch.where(moves, candidates, sources)
    # 1 - (1 - new)^2 = old.
    shared = 1.0 - (1.0 - opacity[sources].clamp(max=0.999)).sqrt()
    base[sources, 10] = torch.where(moves, torch.logit(shared) / rates[10], base[sources, 10])
    base[sources, 3:6] -= moves[:, None] * (SMALLER / rates[3])
    for values in (base[None], gaussians.deltas, gaussians.shading):
        values[:, targets] = values[:, sources]
    scales = (base[targets, 3:6] * rates[3]).exp().mean(dim=1, keepdim=True)
    away = torch.randn(count, 3, device=base.device, generator=generator) * scales / rates[:3]
    base[targets, :3] += moves[:, None] * away
    touched = torch.cat([targets, sources])
    for optimizer in optimizers:
        for parameter in (base, gaussians.deltas, gaussians.shading):
            for name in ("exp_avg", "exp_avg_sq"):
                moments = optimizer.state.get(parameter, {}).get(name)
                if moments is not None:
                    (moments if parameter is base else moments.transpose(0, 1))[touched] = 0.0
    return moves.sum()


def _shared(gradient: Float[Tensor, "n"]) -> tuple[Float[Tensor, "n"], torch.Generator | None]:
    """The gradients of all processes together, and the random numbers of the first; a lone process has its own."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return gradient, None
    gradient, seed = gradient.clone(), torch.randint(2**31, (1,), device=gradient.device)
    distributed.all_reduce(gradient)
    distributed.broadcast(seed, 0)
    return gradient, torch.Generator(gradient.device).manual_seed(int(seed))
