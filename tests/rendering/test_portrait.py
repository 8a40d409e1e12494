"""What is around the head: layers, losses by hand, free cameras, and what may learn from what."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from support.synthetic_clip import plate, poses, write_clip

from ntalker_ns.data.head_removal import BACKGROUND, HEAD, TORSO
from ntalker_ns.data.training_rays import SurroundingsPixels
from ntalker_ns.driving.controls import controlled
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.field.torso_field import TorsoFieldConfig
from ntalker_ns.kernels.backend import Backend
from ntalker_ns.kernels.ops import Ops
from ntalker_ns.rendering.image_plane import places_of
from ntalker_ns.rendering.losses import LossWeights, composite_loss, surroundings_losses, torso_code_loss
from ntalker_ns.rendering.portrait import OPAQUE, Portrait, PortraitConfig
from ntalker_ns.talker_dataparser import TalkerDataParserConfig
from ntalker_ns.training.optimizers import FusedAdamConfig

SIZE = 32
OPS = Ops("cpu", "reference")


@pytest.fixture(scope="module")
def driving(tmp_path_factory: pytest.TempPathFactory) -> DrivingSequence:
    data = write_clip(tmp_path_factory.mktemp("portrait") / "ball", num_frames=22, size=SIZE)
    return TalkerDataParserConfig(data=Path(data)).setup().get_dataparser_outputs("train").metadata["driving"]


@pytest.fixture
def portrait(driving: DrivingSequence) -> Portrait:
    torch.manual_seed(0)
    sizes = TorsoFieldConfig(num_levels=4, max_resolution=32, log2_hashmap_size=8)
    portrait = Portrait(PortraitConfig(torso=sizes, background_size=2 * SIZE), driving, OPS)
    torch.nn.init.normal_(portrait.torso.grid.table)
    return portrait


def without_caches(portrait: Portrait, driving: DrivingSequence) -> Portrait:
    """The same portrait before its first picture."""
    same = Portrait(portrait.config, driving, OPS)
    same.load_state_dict(portrait.state_dict())
    return same


def camera(driving: DrivingSequence, frame: int = 0, size: int = SIZE) -> Cameras:
    pose = torch.from_numpy(driving.track.camera_to_worlds[frame : frame + 1])
    seen = driving.camera.resized((size, size))
    return Cameras(pose, seen.fl_x, seen.fl_y, size / 2, size / 2, size, size).flatten()


def test_the_background_is_what_was_chosen(portrait: Portrait, driving: DrivingSequence):
    view = camera(driving)
    room = torch.from_numpy(plate(SIZE)).float() / 255.0
    around = portrait.around(3, view)
    torch.testing.assert_close(around.background, room, atol=2 / 255, rtol=0)
    assert (around.background_opacity == 1).all()
    with torch.no_grad():
        portrait.learned.added[0].add_(0.1)
    brighter = portrait.around(3, view)
    torch.testing.assert_close(brighter.background, (around.background + 0.1).clamp(max=1.0))
    portrait.set_background("#ff8000")
    orange = portrait.around(3, view)
    torch.testing.assert_close(orange.background[5, 7], torch.tensor([1.0, 128 / 255, 0.0]))
    portrait.set_background("transparent")
    nothing = portrait.around(3, view)
    assert (nothing.background == 0).all() and (nothing.background_opacity == 0).all()
    torch.testing.assert_close(nothing.opacity, nothing.torso_opacity)
    for other in (brighter, orange, nothing):
        assert torch.equal(other.torso, around.torso) and torch.equal(other.torso_opacity, around.torso_opacity)


def test_a_free_camera_moves_neither_torso_nor_background(portrait: Portrait, driving: DrivingSequence):
    at_rest, turned = camera(driving), camera(driving)
    turned.camera_to_worlds = torch.from_numpy(poses(22)[9:10, :3]).float()
    one, two = portrait.around(3, at_rest), portrait.around(3, turned)
    assert torch.equal(one.colour, two.colour)
    assert not torch.equal(one.torso, portrait.around(9, at_rest).torso)


def test_any_size_sees_the_same_torso(portrait: Portrait, driving: DrivingSequence):
    small, large = (portrait.around(5, camera(driving, size=size)).torso_opacity for size in (SIZE, 3 * SIZE))
    assert large.shape == (3 * SIZE, 3 * SIZE, 1)
    torch.testing.assert_close(large[1::3, 1::3], small, atol=1e-4, rtol=1e-3)


def test_the_torso_is_shown_as_it_is_trained(portrait: Portrait, driving: DrivingSequence):
    view = camera(driving)
    places = places_of(driving.camera, view, portrait.device).view(-1, 2)
    trained = portrait.at(places, torch.zeros(len(places), 3), torch.tensor([9]), [len(places)])
    shown = portrait.around(9, view)
    for name in ("torso", "torso_opacity"):
        one, two = getattr(shown, name).view(len(places), -1), getattr(trained, name).detach()
        # The grid's table is noise here, which is hardest to interpolate.
        assert (one - two).square().mean() < 0.03 * two.var(), name


def test_caches_change_no_picture(portrait: Portrait, driving: DrivingSequence):
    for parameter in portrait.torso.motion_net.parameters():
        torch.nn.init.normal_(parameter)
    first = portrait.around(3, camera(driving)).torso
    for view, frame in ((camera(driving), 5), (camera(driving, size=SIZE // 2), 5), (camera(driving), 3)):
        kept = portrait.around(frame, view).torso
        assert torch.equal(kept, without_caches(portrait, driving).around(frame, view).torso)
    assert torch.equal(kept, first)
    # Once the network learns, nothing of before is shown.
    optimizer = FusedAdamConfig(lr=0.1).setup(list(portrait.torso.motion_net.parameters()))
    for parameter in portrait.torso.motion_net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    room = portrait.around(3, camera(driving)).background
    optimizer = FusedAdamConfig(lr=0.1).setup(list(portrait.learned.parameters()))
    for parameter in portrait.learned.parameters():
        parameter.grad = -torch.ones_like(parameter)
    optimizer.step()
    brighter = portrait.around(3, camera(driving)).background
    assert bool((brighter > room).any())
    learned = portrait.around(3, camera(driving)).torso
    assert not torch.equal(learned, first)
    fresh = without_caches(portrait, driving).around(3, camera(driving))
    assert torch.equal(learned, fresh.torso)
    assert torch.equal(brighter, fresh.background)


def test_a_head_held_still_holds_its_torso(portrait: Portrait, driving: DrivingSequence):
    portrait.set_driving(controlled(driving, driving, pose="still"))
    view = camera(driving)
    assert torch.equal(portrait.around(0, view).colour, portrait.around(17, view).colour)
    portrait.set_driving(controlled(driving, driving, pose="sway"))
    assert not torch.equal(portrait.around(0, view).torso, portrait.around(17, view).torso)


def test_losses_of_the_surroundings_by_hand(portrait: Portrait):
    generator = torch.Generator().manual_seed(1)
    image, place = torch.rand(6, 3, generator=generator), torch.rand(6, 2, generator=generator)
    headless = image.clone()
    headless[4] = (headless[4] + 0.5) % 1.0  # taken out with the head, though it is not labelled so
    labels = torch.tensor([TORSO, BACKGROUND, HEAD, TORSO, BACKGROUND, HEAD + 1], dtype=torch.uint8)
    pixels = SurroundingsPixels(place, torch.rand(6, 3), image, headless, labels, torch.tensor([2, 5]))
    with torch.no_grad():
        portrait.torso.codes.fill_(0.5)
    around = portrait.at(place, pixels.plate, pixels.frames, [3, 3])
    losses = surroundings_losses(around, pixels, LossWeights())
    colour, opacity = around.colour.detach().double().numpy(), around.torso_opacity.detach().double().numpy()[:, 0]
    squared = ((colour - headless.numpy()) ** 2).mean(axis=1)
    weights = np.array([1, 1, 0.1, 1, 0.1, 0.1])
    assert float(losses["surroundings"]) == pytest.approx(float((weights * squared).mean()), rel=1e-5)
    wrong = (opacity[[0, 1, 3]] - np.array([1, 0, 1])) ** 2
    assert float(losses["torso_opacity"]) == pytest.approx(0.1 * float(wrong.sum()) / 6, rel=1e-5)
    assert float(torso_code_loss(portrait.torso.codes.detach())) == pytest.approx(0.25)


def test_the_code_loss_is_zero_without_codes(driving: DrivingSequence):
    sizes = TorsoFieldConfig(num_levels=4, max_resolution=32, log2_hashmap_size=8, code_dim=0)
    portrait = Portrait(PortraitConfig(torso=sizes, background_size=2 * SIZE), driving, OPS)
    assert float(torso_code_loss(portrait.torso.codes)) == 0.0


def gradients(portrait: Portrait) -> set[str]:
    return {name for name, value in portrait.named_parameters() if value.grad is not None and bool(value.grad.any())}


def other_pixels() -> SurroundingsPixels:
    plate, image, headless = torch.rand(3, 4, 3)
    labels = torch.zeros(4, dtype=torch.uint8)
    return SurroundingsPixels(torch.rand(4, 2), plate, image, headless, labels, torch.tensor([7, 3]))


def test_layers_are_composited_where_the_head_is_not_opaque(portrait: Portrait):
    head, opacity = torch.rand(5, 3, requires_grad=True), torch.tensor([[0.0], [0.5], [1.0], [OPAQUE], [0.3]])
    places, pixels = (torch.rand(5, 2), torch.rand(5, 3), torch.tensor([1, 4]), [3, 2]), other_pixels()
    composite, layers = portrait.composite(head, opacity, places, pixels)
    assert composite.subset.index is not None and composite.subset.index.tolist() == [0, 1, 4]
    around = portrait.at(*places)
    torch.testing.assert_close(composite.rgb, (head + (1.0 - opacity) * around.colour)[[0, 1, 4]])
    expected = portrait.at(pixels.place, pixels.plate, pixels.frames, [2, 2])
    for name, value in expected.outputs().items():
        torch.testing.assert_close(layers.outputs()[name], value)
    image = torch.rand(5, 3)
    loss = composite_loss(composite, image)
    torch.testing.assert_close(loss, ((composite.rgb - image[[0, 1, 4]]) ** 2).sum() / 15)
    loss.backward()
    assert {"learned.added.0", "learned.added.1", "torso.grid.table"} <= gradients(portrait)
    assert head.grad is not None and head.grad[[0, 1, 4]].abs().min() > 0 and not head.grad[[2, 3]].any()


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_patches_may_be_all_head(driving: DrivingSequence, backend: Backend):
    sizes = TorsoFieldConfig(num_levels=4, max_resolution=32, log2_hashmap_size=8)
    portrait = Portrait(PortraitConfig(torso=sizes), driving, Ops("cpu", backend))
    places = (torch.rand(4, 2), torch.rand(4, 3), torch.tensor([1, 2]), [2, 2])
    composite, _ = portrait.composite(torch.rand(4, 3), torch.ones(4, 1), places, other_pixels())
    assert composite.rgb.shape == (0, 3)
    loss = composite_loss(composite, torch.rand(4, 3))
    loss.backward()
    assert float(loss.detach()) == 0.0 and not gradients(portrait)


def test_a_replay_of_the_clip_has_the_clips_torso(portrait: Portrait, driving: DrivingSequence):
    track = np.zeros((50, *driving.track.features.shape[1:]), np.float32)
    spoken = driving.with_features(track)
    with torch.no_grad():
        portrait.torso.codes.normal_()
    view = camera(driving)
    before = portrait.around(int(spoken.track.replay[30]), view)
    portrait.set_driving(spoken)
    assert torch.equal(portrait.around(30, view).colour, before.colour)
    assert set(Portrait(portrait.config, spoken, OPS).state_dict()) == set(portrait.state_dict())
