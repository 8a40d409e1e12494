"""Training steps as CUDA graphs: forward and backward passes are recorded once and replayed.

A step is some six hundred small kernels, whose launches take longer than their execution. Replaying needs that a step
depends on the host through nothing but its rays and pixels, which are copied to those of the recorded step, and through
the sizes and choices that distinguish kinds of steps.
"""

import dataclasses
import inspect
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn
from torch.func import functional_call

StepResult = tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]
"""Outputs, losses and metrics of a step."""

StepFunction = Callable[[Any, dict[str, Any]], StepResult]

AFTER = 8
"""Steps of a kind that run eagerly before one is recorded: short-lived sizes are not worth it."""

KEPT = 8
"""Most recorded kinds: each keeps the memory of its rays and gradients."""


class RecordedSteps:
    """Runs steps of a model; records each kind once."""

    def __init__(self, model: nn.Module, compute: StepFunction) -> None:
        """
        Args:
            model: to train; on CUDA.
            compute: outputs, losses and metrics (tensors) of rays and their pixels; depends on their tensors, on the
                `kind` of `__call__` and on random numbers of the device alone.
        """
        self._model, self._compute = model, compute
        self._met: Counter[Hashable] = Counter()
        self._recorded: OrderedDict[Hashable, Callable[..., StepResult]] = OrderedDict()
        self._pool: Any = None

    def __call__(self, bundle: RayBundle, batch: dict[str, Any], kind: Hashable) -> StepResult:
        """Outputs, losses and metrics with gradients; valid until the next step.

        Args:
            bundle: rays.
            batch: their pixels.
            kind: all else that a step depends on.
        """
        tensors = list(tensors_in((bundle, batch)))
        key = (kind, *((tensor.shape, tensor.dtype) for tensor in tensors))
        if key not in self._recorded:
            self._met[key] += 1
            if self._met[key] < AFTER:
                return self._compute(bundle, batch)
            self._recorded[key] = self._record(_Step(self._model, self._compute, bundle, batch), tensors)
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        return self._recorded[key](*tensors, *self._model.parameters())

    def _record(self, step: "_Step", tensors: list[Tensor]) -> Callable[..., StepResult]:
        """A function that replays a step for other tensors and parameters.

        Args:
            step: runs a few times before it is recorded.
            tensors: its own, in the order of later calls.
        """
        names = [name for name, _ in step.named_parameters()]
        dtype, mixed = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")

        def replay(*given: Tensor) -> StepResult:
            learned = dict(zip(names, given[len(tensors) :], strict=True))
            # Without a cache: the next step would read this one's.
            with torch.autocast("cuda", dtype, enabled=mixed, cache_enabled=False):
                return functional_call(step, learned, given[: len(tensors)])

        # Detached copies of the parameters: torch remembers the stream on which a leaf was first used, and a recording
        # must not wait for it.
        learned = [each.detach().requires_grad_(each.requires_grad) for each in step.parameters()]
        # Steps run one after the other and may share memory.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        options: Any = {"allow_unused_input": True, "pool": self._pool}
        # A viewer uses the GPU in a thread of its own, which must not end the recording.
        if "capture_error_mode" in inspect.signature(torch.cuda.make_graphed_callables).parameters:
            options["capture_error_mode"] = "thread_local"
        devices = sorted({each.get_device() for each in learned if each.is_cuda})
        # torch runs the step a few times before it records it, which must not advance the random numbers. The backward
        # pass is recorded outside of autocast, as it runs elsewhere.
        with torch.random.fork_rng(devices), torch.autocast("cuda", enabled=False):
            return torch.cuda.make_graphed_callables(replay, (*tensors, *learned), **options)  # type: ignore[return-value]


class _Step(nn.Module):
    """A step with fixed tensors, to which others are copied."""

    def __init__(self, model: nn.Module, compute: StepFunction, bundle: RayBundle, batch: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._compute, self._bundle, self._batch = compute, bundle, batch

    def forward(self, *tensors: Tensor) -> StepResult:
        return self._compute(self._bundle, self._batch)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in dataclasses, dictionaries, tuples and lists, each once, in order."""
    seen: set[int] = set()
    for tensor in _leaves(value):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield tensor


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (leaf for each in value.values() for leaf in _leaves(each))
    elif isinstance(value, (tuple, list)):
        yield from (leaf for each in value for leaf in _leaves(each))
    elif dataclasses.is_dataclass(value):
        yield from (leaf for each in dataclasses.fields(value) for leaf in _leaves(getattr(value, each.name)))
