"""The small networks of the field."""

from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntalker_ns.field.ragged import PerRay, SparseInputs, add_per_frame
from ntalker_ns.kernels.backend import Backend, unavailable
from ntalker_ns.kernels.tcnn import mlp as tcnn_mlp

NetworkBackend = Literal["torch", "numba", "triton", "tcnn"]
"""What computes a network."""


def network_backend(backend: Backend, device_type: str, half: bool) -> NetworkBackend:
    """What computes the networks of a field: a kernel that takes all layers in one go, or torch layer by layer.

    The kernel is tiny-cuda-nn's where that is asked for and installed.

    Args:
        backend: as the field's configuration has it.
        device_type: as in `torch.device.type`.
        half: matrices are multiplied in half precision, as autocast has it. Triton's kernel multiplies float32 without
            the device's matrix units, numba's knows nothing shorter and tiny-cuda-nn nothing longer: torch then does
            better.
    """
    if backend == "torch":
        return "torch"
    if device_type == "cpu" and backend != "triton":  # Triton's interpreter, which is for tests, runs on the CPU too
        return "torch" if half else "numba"
    if not half:
        return "torch"
    if backend == "tcnn" and unavailable("tcnn", device_type) is None:
        return "tcnn"
    return "triton" if unavailable("triton", device_type) is None else "torch"


_network_backend = lru_cache(network_backend)


class FrameMLP(nn.Module):
    """A ReLU network on samples, part of whose input is the same for all samples of a frame.

    That part enters as a bias of the first layer, one product a frame: the numbers are those of a network that is
    given it as repeated columns, without the columns.
    """

    def __init__(
        self, sample_dim: int, frame_dim: int, width: int, layers: int, out_dim: int, backend: Backend = "auto"
    ) -> None:
        """
        Args:
            sample_dim: channels that differ between samples.
            frame_dim: channels shared by the samples of a frame; may be 0.
            width: hidden channels.
            layers: linear layers in all, at least 2.
            out_dim: channels that come out, with no activation.
            backend: see `network_backend`. A network that does not fit tiny-cuda-nn's is computed as with "triton", and
                one that does not fit Triton's kernel layer by layer.
        """
        super().__init__()
        self.frame = nn.Linear(frame_dim, width, bias=False) if frame_dim else None
        widths = [sample_dim] + [width] * (layers - 1) + [out_dim]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.width, self.out_dim, self.backend = width, out_dim, backend

    def forward(
        self,
        samples: Float[Tensor, "samples sample_dim"],
        frames: Float[Tensor, "frames frame_dim"] | None,
        counts: list[int],
        gates: Float[Tensor, "samples 1"] | None = None,
        sparse: SparseInputs | None = None,
        shared: PerRay | None = None,
    ) -> Float[Tensor, "samples out_dim"]:
        """
        Args:
            samples: grouped by frame; all input channels, or those between the ones in `shared` and in `sparse`.
            frames: one row a frame, None where `frame_dim` is 0.
            counts: samples of each frame.
            gates: factor on the frame's part for each sample, 1 where None.
            sparse: the last input channels, which most samples share.
            shared: the first input channels, which the samples of a ray share.

        Returns:
            In autocast's type where it is on.
        """
        backend = self._backend_for(samples)
        if backend == "tcnn":
            told = (frames, counts, gates, self._frame_weight)
            return tcnn_mlp.run_mlp(samples, *told, *self.parameters_by_kind(), sparse, shared)
        rows = None if self.frame is None or frames is None else self.frame(frames)
        told = (samples.new_zeros(1, self.width), [len(samples)]) if rows is None else (rows, counts)
        if backend == "triton":
            from ntalker_ns.kernels.triton import mlp as triton_mlp

            return triton_mlp.run_mlp(samples, *told, gates, *self.parameters_by_kind(), sparse, shared)
        if shared is not None:
            samples = torch.cat([shared.columns(samples.dtype), samples], dim=-1)
        if sparse is not None:
            samples = torch.cat([samples, sparse.columns()], dim=-1)
        if backend == "numba":
            from ntalker_ns.kernels.numba import mlp as numba_mlp

            return numba_mlp.run_mlp(samples, *told, gates, *self.parameters_by_kind())
        hidden = self.layers[0](samples)
        if rows is not None:
            hidden = add_per_frame(hidden, rows, counts, None if gates is None else gates.to(hidden.dtype))
        for layer in self.layers[1:]:
            hidden = layer(hidden.relu_())
        return hidden

    def _backend_for(self, samples: Tensor) -> NetworkBackend:
        """What computes the network: what its backend stands for, or the next that takes a network of its size."""
        if not len(samples):
            return "torch"
        device = samples.device.type
        half = torch.is_autocast_enabled(device)
        backend = _network_backend(self.backend, device, half)
        weights, _ = self.parameters_by_kind()
        if backend == "tcnn" and not tcnn_mlp.fits(weights, self._frame_weight):
            backend = _network_backend("triton", device, half)
        if backend == "triton":
            from ntalker_ns.kernels.triton.sizes import fits

            return "triton" if fits(weights, samples.device) else "torch"
        return backend

    @property
    def _frame_weight(self) -> Tensor | None:
        return None if self.frame is None else self.frame.weight

    def parameters_by_kind(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases, layer by layer."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        return [layer.weight for layer in linear], [layer.bias for layer in linear]


class TruncatedExp(torch.autograd.Function):
    """exp whose gradient stops growing where the input would make it overflow (as in Instant-NGP)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        """exp of x, with x at most 15."""
        ctx.save_for_backward(x)
        return torch.exp(x.clamp(max=15.0))

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:  # type: ignore[override]
        """The gradient of exp, with x at most 15."""
        (x,) = ctx.saved_tensors
        return grads[0] * torch.exp(x.clamp(max=15.0))


def truncated_exp(x: Tensor) -> Tensor:
    """exp of x clamped to 15 from above, with a gradient that does not vanish there; at least in float32."""
    return TruncatedExp.apply(at_least_float32(x))  # type: ignore[no-any-return]


def at_least_float32(x: Tensor) -> Tensor:
    """What networks say in half precision, for what comes behind them: float16 ends at exp(11)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
