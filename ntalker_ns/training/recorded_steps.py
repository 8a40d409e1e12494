"""Training steps that a GPU repeats by itself: CUDA graphs of what a step asks of a model, forward and backward.

A step is some six hundred small operations. To be told of them one by one takes a GPU longer than to do them: the host
records them once, and from then on says to do them all again, to other rays. That is possible because nothing in a step
depends on the host but what is named here: the rays and their pixels, which are copied to where those of the recorded
step lie, and the sizes and choices that steps are told apart by.
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
"""Steps of a kind that are asked one by one before one of them is recorded: sizes that change soon are not worth it."""

KEPT = 8
"""Recorded kinds of steps that are kept: each holds the memory of its rays and gradients."""


class RecordedSteps:
    """Asks a model, and records how, once for each kind of steps."""

    def __init__(self, model: nn.Module, ask: StepFunction) -> None:
        """
        Args:
            model: what learns; on CUDA.
            ask: of rays and their pixels; a function of their tensors and of nothing else that changes, but for what
                `__call__` is told and random numbers of the device. Outputs, losses and metrics are tensors.
        """
        self._model, self._ask = model, ask
        self._met: Counter[Hashable] = Counter()
        self._recorded: OrderedDict[Hashable, Callable[..., StepResult]] = OrderedDict()
        self._pool: Any = None

    def __call__(self, bundle: RayBundle, batch: dict[str, Any], told: Hashable) -> StepResult:
        """What the model says, with gradients; the tensors are good until the next step.

        Args:
            bundle: rays.
            batch: their pixels.
            told: whatever else a step depends on, the numbers among its rays' metadata included.
        """
        tensors = list(tensors_in((bundle, batch)))
        kind = (told, *((tensor.shape, tensor.dtype) for tensor in tensors))
        if kind not in self._recorded:
            self._met[kind] += 1
            if self._met[kind] < AFTER:
                return self._ask(bundle, batch)
            self._recorded[kind] = self._record(_Step(self._model, self._ask, bundle, batch), tensors)
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(kind)
        return self._recorded[kind](*tensors, *self._model.parameters())

    def _record(self, step: "_Step", tensors: list[Tensor]) -> Callable[..., StepResult]:
        """A step that replays, instead of asking again, to whatever tensors and parameters it is given.

        Args:
            step: asked a few times before it is recorded.
            tensors: its own, in the order in which others will be given.
        """
        names = [name for name, _ in step.named_parameters()]
        kind, halves = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")

        def ask(*given: Tensor) -> StepResult:
            learned = dict(zip(names, given[len(tensors) :], strict=True))
            # What autocast keeps of one step would be read by the next.
            with torch.autocast("cuda", kind, enabled=halves, cache_enabled=False):
                return functional_call(step, learned, given[: len(tensors)])

        # The parameters by other names: torch remembers of each tensor that learns on which stream it first did, and
        # what is recorded must not wait for that stream.
        learned = [each.detach().requires_grad_(each.requires_grad) for each in step.parameters()]
        # One step is through before the next begins, and all may write to the same memory.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        options: Any = {"allow_unused_input": True, "pool": self._pool}
        # An open viewer works on the GPU in a thread of its own, which must not end the recording.
        if "capture_error_mode" in inspect.signature(torch.cuda.make_graphed_callables).parameters:
            options["capture_error_mode"] = "thread_local"
        devices = sorted({each.get_device() for each in learned if each.is_cuda})
        # torch takes the step a few times before it records it: none of that may change which numbers are drawn later.
        # The way back is recorded as it is asked for elsewhere: outside of autocast.
        with torch.random.fork_rng(devices), torch.autocast("cuda", enabled=False):
            return torch.cuda.make_graphed_callables(ask, (*tensors, *learned), **options)  # type: ignore[return-value]


class _Step(nn.Module):
    """A step whose tensors stay where they are: others are copied there."""

    def __init__(self, model: nn.Module, ask: StepFunction, bundle: RayBundle, batch: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._ask, self._bundle, self._batch = ask, bundle, batch

    def forward(self, *tensors: Tensor) -> StepResult:
        return self._ask(self._bundle, self._batch)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in data classes, dictionaries, tuples and lists, each once, in the order in which they lie there."""
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
