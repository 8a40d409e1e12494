"""A training step on CUDA does not synchronise, forward and backward: tested on tensors that only have shapes.

Tensors on torch's meta device cannot be read: whatever asks them for a number, or how many of them there are, fails.
What they go through is what tensors on a GPU go through: Triton's kernels, which are not launched here, and half
precision.
"""

import copy
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from support.synthetic_clip import write_clip
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from ntalker_ns.face.shell import FaceShell
from ntalker_ns.kernels.triton import compositing as triton_compositing
from ntalker_ns.kernels.triton import harmonics as triton_harmonics
from ntalker_ns.kernels.triton import hash_grid as triton_hash_grid
from ntalker_ns.kernels.triton import marching as triton_marching
from ntalker_ns.kernels.triton import mlp as triton_mlp
from ntalker_ns.kernels.triton import occupancy as triton_occupancy
from ntalker_ns.kernels.triton import poses as triton_poses
from ntalker_ns.kernels.triton import surface as triton_surface
from ntalker_ns.kernels.triton import warp as triton_warp
from ntalker_ns.method_configs import ntalker_base
from ntalker_ns.talker_datamanager import Patches
from ntalker_ns.training.transfers import CachedNonzero, DelayedScalar

# Triton decides at their import whether they are interpreted, which the fixture asks for.
COMPILED = (
    *(triton_hash_grid, triton_warp, triton_compositing, triton_harmonics),
    *(triton_marching, triton_mlp, triton_occupancy, triton_poses, triton_surface),
)

READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal")
"""Beginnings of the names of operations that read a result, or its shape, on the host."""

FRAMES = 20


class NoSynchronisation(TorchDispatchMode):
    """Fails where the host would synchronise with the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, options = func.name().removeprefix("aten::"), kwargs or {}
        assert not (name.startswith(READS) and args[0].device.type == "meta"), f"The host waits for {name}."
        if name.startswith("_to_copy") and "device" in options:
            moved = args[0].device.type != torch.device(options["device"]).type
            assert not moved, f"The host waits for a copy to {options['device']}."
        return func(*args, **options)


class NoHostTensors(TorchDispatchMode):
    """Fails where an operation on the device reads a tensor of the host: numbers are read when it is told of, tensors
    when it is done."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        there = any(tensor.device.type == "meta" for tensor in tensors)
        assert not there or all(tensor.device.type == "meta" for tensor in tensors), f"{func.name()} reads the host."
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = write_clip(tmp_path_factory.mktemp("clip") / "ball", num_frames=FRAMES + 2, size=48)
    config = copy.deepcopy(ntalker_base.config.pipeline)
    datamanager: Any = config.datamanager
    datamanager.data = datamanager.dataparser.data = Path(data)
    datamanager.rays_per_step, datamanager.surroundings_interval = 512, 1
    model: Any = config.model
    model.occlusion_interval = 1
    model.backend = "triton"
    model.field.log2_hashmap_size = model.portrait.torso.log2_hashmap_size = 10
    with pytest.MonkeyPatch.context() as patch:
        # Lets a model on the CPU have Triton's kernels; those imported above are compiled ones all the same.
        patch.setenv("TRITON_INTERPRET", "1")
        return config.setup(device="cpu", test_mode="val")


@pytest.fixture
def on_device(base: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline with its tensors on the meta device, which stands for CUDA; names of launched kernels are in
    `launched`."""
    pipeline = copy.copy(base)
    known = torch.arange(FRAMES)
    launched: list[str] = []
    monkeypatch.setattr(JITFunction, "run", lambda kernel, *args, **options: launched.append(kernel.__name__))
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
    monkeypatch.setattr(triton_mlp, "_programs", lambda device: 4)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float16)
    monkeypatch.setattr(DelayedScalar, "put", lambda self, value: None)
    # Asked for only where they have changed, see test_async_copies.py.
    there = known.to("meta")
    monkeypatch.setattr(CachedNonzero, "of", lambda self, mask: known if self._on_host else there)

    def to_device(values: Tensor, device: torch.device) -> Tensor:
        if values.device.type != "meta":
            launched.append("to_device")
        return torch.empty(values.shape, dtype=values.dtype, device=device)

    for name, module in list(sys.modules.items()):
        if name.startswith("ntalker_ns.") and hasattr(module, "to_device"):
            monkeypatch.setattr(module, "to_device", to_device)
    pipeline.model.to("meta").zero_grad()
    pipeline.datamanager.device = "meta"
    resolution = pipeline.model.head.occupancy.resolution
    y = torch.linspace(-0.5, 0.5, resolution)[:, None].expand(-1, resolution).clone().numpy()
    pipeline.model.head.set_face(FaceShell(y - 0.1, y, y + 0.1, unit=0.4))
    pipeline.train()
    return pipeline, launched


@pytest.mark.parametrize("on_lips", [False, True])
def test_a_training_step_does_not_synchronise(on_device: Any, on_lips: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, launched = on_device
    pipeline.datamanager.train_dataset.store()
    # The last step of a lips phase renders lip patches.
    monkeypatch.setattr(pipeline.config.lips, "fraction", float(on_lips))
    trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=1, gradient_accumulation_steps={}))
    pipeline.get_training_callbacks(
        TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=pipeline, trainer=trainer)
    )
    with NoSynchronisation():
        _, losses, metrics = pipeline.get_train_loss_dict(0)
        torch.stack(list(losses.values())).sum().backward()
        pipeline.model.adapt_head({})
    expected = {"rgb", "mask", "entropy", "surface_distance", "occlusion", "composite", "surroundings", "poses"}
    assert expected | ({"lip_patches"} if on_lips else set()) <= set(losses) and {"psnr", "samples_per_ray"} <= set(
        metrics
    )
    without = {name for name, value in pipeline.model.named_parameters() if value.grad is None}
    assert without == {"device_indicator_param"}
    kernels = {"hash_grid_table_gradient", "mlp_backward", "composite_backward", "march_count", "march_write"}
    kernels |= {
        "inverse_warp_samples",
        "gate_samples",
        "harmonics",
        "intersect_boxes",
        "move_samples",
        "correction_gradient",
        "raise_visibility",
    }
    kernels |= {"squared_distances"}
    assert kernels <= set(launched)


@pytest.mark.parametrize("on_lips", [False, True])
def test_a_recordable_step_copies_nothing_from_the_host(on_device: Any, on_lips: bool) -> None:
    """What is recorded holds no copies from the host: they would bring what the host had then."""
    pipeline, launched = on_device
    pipeline.datamanager.train_dataset.store()
    patches = Patches(pipeline.config.lips.patch_size, "lips") if on_lips else None
    bundle, batch = pipeline.datamanager.training_rays(512, patches)
    bundle.step.sizes = pipeline.budget.sizes(bundle.counts[0], 8, 1)
    # Before it is recorded, what is known for good is brought to the device.
    pipeline.recordable_step(bundle, batch)
    assert "to_device" in launched
    launched.clear()
    with NoSynchronisation(), NoHostTensors():
        _, losses, _ = pipeline.recordable_step(bundle, batch)
        torch.stack(list(losses.values())).sum().backward()
    assert "occlusion" in losses and "to_device" not in launched and len(launched) > 20


class ReadsItsGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * float(grads[0].sum())


SYNCHRONISING = [
    float,
    torch.nonzero,
    Tensor.cpu,
    lambda values: values[values > 0],
    torch.unique,
    lambda values: torch.ones(1).to(values.device),
    lambda values: ReadsItsGradient.apply(values.requires_grad_()).sum().backward(),
]


@pytest.mark.parametrize("ask", SYNCHRONISING)
def test_synchronisation_is_detected(ask: Any) -> None:
    values = torch.empty(1, device="meta")
    with NoSynchronisation(), pytest.raises((AssertionError, NotImplementedError)):
        ask(values)
