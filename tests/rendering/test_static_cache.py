"""What is rendered again while a camera stands still."""

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from ntalker_ns.rendering.static_cache import StaticCameraCache, lens

RAYS, LIVE = 6, [1, 4]
CPU = torch.device("cpu")


class Scene:
    """Rays whose value is their number, and the frame's number where they are live."""

    def __init__(self) -> None:
        self.frame = 0
        self.asked: list[tuple[int, bool]] = []

    def render(self, chosen: Tensor, marks: bool) -> dict[str, Tensor]:
        self.asked.append((len(chosen), marks))
        live = torch.isin(chosen, torch.tensor(LIVE))[:, None]
        values = {"value": chosen[:, None] + 100.0 * self.frame * live}
        return values | {"live": live} if marks else values

    def truth(self) -> Tensor:
        return self.render(torch.arange(RAYS), False)["value"]


def test_only_live_rays_are_rendered_from_the_third_frame_on() -> None:
    still, scene = StaticCameraCache(), Scene()
    for frame, key in enumerate("aaaabbbaa"):
        scene.frame = frame
        found = still.render(key, RAYS, CPU, scene.render)
        assert list(found) == ["value"]
        asked = scene.asked[-1]
        assert torch.equal(found["value"], scene.truth())
        new, second = [(RAYS, False)], [(RAYS, True)]
        some = [(len(LIVE), False)]
        assert asked == (new + second + some + some + new + second + some + new + second)[frame]


def test_what_a_caller_writes_is_not_kept() -> None:
    still, scene = StaticCameraCache(), Scene()
    for _ in range(4):
        still.render("a", RAYS, CPU, scene.render)["more"] = torch.zeros(0)
    assert list(still.render("a", RAYS, CPU, scene.render)) == ["value"]


def test_no_live_rays() -> None:
    still = StaticCameraCache()

    def render(chosen: Tensor, marks: bool) -> dict[str, Tensor]:
        values = {"value": chosen[:, None].float()}
        return values | {"live": torch.zeros(len(chosen), 1, dtype=torch.bool)} if marks else values

    for _ in range(3):
        found = still.render(1, RAYS, CPU, render)["value"]
    assert found.flatten().tolist() == list(range(RAYS))


def test_lens_knows_all_but_the_pose() -> None:
    pose = torch.eye(4)[None, :3]
    camera = Cameras(pose, 10.0, 10.0, 4.0, 4.0, 8, 8)[0:1]
    moved = Cameras(2.0 * pose, 10.0, 10.0, 4.0, 4.0, 8, 8)[0:1]
    longer = Cameras(pose, 11.0, 10.0, 4.0, 4.0, 8, 8)[0:1]
    bent = Cameras(pose, 10.0, 10.0, 4.0, 4.0, 8, 8, distortion_params=torch.full((1, 6), 0.1))[0:1]
    assert lens(camera) == lens(moved)
    assert len({lens(each) for each in (camera, longer, bent)}) == 3
