"""A whole model on each backend: the reference runs without numba, and both give the same numbers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.paths import REPOSITORY
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

from ntalker_ns.kernels.backend import Backend

STEP_AND_PICTURE = """
import sys
from pathlib import Path
import torch
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config

folder = Path(sys.argv[1])
config = tiny_config(write_tiny_clip(folder / "data"), folder).pipeline
config.model.backend = "reference"
pipeline = config.setup(device="cpu", test_mode="val").train()
losses = pipeline.get_train_loss_dict(0)[1]
torch.stack(list(losses.values())).sum().backward()
pipeline.model.get_outputs_for_camera(pipeline.datamanager.train_dataset.cameras[:1])
print(sorted(name for name in sys.modules if name.startswith("ntalker_ns.kernels.numba.")))
"""


def test_the_reference_backend_calls_no_numba_kernel(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STEP_AND_PICTURE, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY / "tests", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The data manager gathers pixels on the host, whatever the model's backend.
    expected = {f"ntalker_ns.kernels.numba.{name}" for name in ("common", "pixels")}
    assert set(eval(done.stdout.splitlines()[-1])) <= expected


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("backends") / "data")


def make_pipeline(data: Path, backend: Backend) -> Any:
    torch.manual_seed(0)
    config = tiny_config(data, data.parent).pipeline
    config.model.backend = backend
    pipeline: Any = config.setup(device="cpu", test_mode="val")
    for table in pipeline.model.head.field.grid_parameters():
        torch.nn.init.normal_(table)
    return pipeline


def test_reference_and_numba_agree(data: Path) -> None:
    found = []
    for backend in ("reference", "numba"):
        pipeline = make_pipeline(data, backend).train()
        model = pipeline.model
        bundle, batch = pipeline.datamanager.next_train(0)
        model.pose_refinement.mark_trained(torch.arange(4))
        torch.manual_seed(1)
        outputs = model(bundle)
        losses = model.get_loss_dict(outputs, batch)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        model.eval()
        picture = model.get_outputs_for_camera(pipeline.datamanager.train_dataset.cameras[:1])
        found.append((losses, picture, gradients))
    (losses, picture, gradients), (their_losses, their_picture, their_gradients) = found
    torch.testing.assert_close(losses, their_losses, rtol=1e-4, atol=1e-6)
    for name, values in picture.items():
        torch.testing.assert_close(values, their_picture[name], rtol=0, atol=0.02, msg=name)
    assert gradients.keys() == their_gradients.keys()
    for name, gradient in gradients.items():
        difference = float((gradient - their_gradients[name]).abs().max())
        assert difference <= 1e-3 * float(gradient.abs().max()) + 1e-8, name
