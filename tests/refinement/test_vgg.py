"""VGG features against torchvision's own network, from a file of weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ntalker_ns.errors import NTalkerError
from ntalker_ns.refinement.vgg import TAPS, VGGFeatures, load_vgg, vgg_layers


def random_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"features.{name}": value for name, value in vgg_layers().state_dict().items()}


def test_features_are_torchvisions(tmp_path: Path):
    from torchvision.models import vgg16

    with torch.device("meta"):
        theirs = torch.nn.Sequential(*list(vgg16().features.children())[: TAPS[-1] + 1])
    weights = random_weights()
    theirs = theirs.to_empty(device="cpu")
    theirs.load_state_dict({name.removeprefix("features."): value for name, value in weights.items()})
    torch.save({**weights, "classifier.0.bias": torch.zeros(2)}, tmp_path / "vgg.pth")
    image = torch.rand(1, 3, 32, 32)
    values = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    found = load_vgg(tmp_path / "vgg.pth")(image)
    assert [tuple(tap.shape[1:]) for tap in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    for tap, index in zip(found, TAPS, strict=True):
        torch.testing.assert_close(tap, theirs[: index + 1](values), rtol=1e-4, atol=1e-5)


def test_weights_stay_as_they_are_and_pictures_get_gradients():
    vgg, image = VGGFeatures(random_weights()), torch.rand(1, 3, 16, 16, requires_grad=True)
    sum(tap.mean() for tap in vgg(image)).backward()  # type: ignore[union-attr]
    assert image.grad is not None
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


def test_weights_that_cannot_be_had_are_a_sentence(tmp_path: Path, monkeypatch: Any):
    from torchvision.models import VGG16_Weights

    with pytest.raises(NTalkerError, match=r"gone\.pth cannot be read"):
        load_vgg(tmp_path / "gone.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(NTalkerError, match=r"text\.pth cannot be read"):
        load_vgg(tmp_path / "text.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(NTalkerError, match="does not fit"):
        load_vgg(tmp_path / "part.pth")

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", offline)
    options = r"--pipeline\.model\.vgg-weights.*--pipeline\.model\.perceptual"
    with pytest.raises(NTalkerError, match=rf"no route to host.*{options}"):
        load_vgg(None)
