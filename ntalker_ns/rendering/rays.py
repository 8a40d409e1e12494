"""The rays of whole pictures."""

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle

from ntalker_ns.training.transfers import to_device


def camera_rays(camera: Cameras, device: torch.device) -> RayBundle:
    """The rays through all pixels of a camera, as (height, width).

    The same as nerfstudio's `generate_rays`, in a fraction of its time for plain pinhole cameras.

    Args:
        camera: one flat camera, on the host.
        device: where the rays are wanted.
    """
    plain = camera.distortion_params is None or not bool(camera.distortion_params.any())
    if int(camera.camera_type[0]) != CameraType.PERSPECTIVE.value or not plain:
        return camera.to(device).generate_rays(camera_indices=0, keep_shape=True)
    height, width = int(camera.height), int(camera.width)
    x, y = (
        (torch.arange(count, device=device) + (0.5 - float(middle))) / float(focal)
        for count, middle, focal in ((width, camera.cx, camera.fx), (height, camera.cy, camera.fy))
    )
    ahead = torch.stack(torch.meshgrid(x, -y, torch.full((1,), -1.0, device=device), indexing="xy"), dim=-1)
    ahead = ahead.view(height, width, 3)
    length = ahead.norm(dim=-1, keepdim=True)
    pose = to_device(camera.camera_to_worlds[0], device)
    times = None if camera.times is None else to_device(camera.times[0], device)
    return RayBundle(
        origins=pose[:, 3].expand(height, width, 3),
        directions=(ahead / length) @ pose[:, :3].T,
        pixel_area=1.0 / (float(camera.fx) * float(camera.fy) * length**3),
        camera_indices=torch.zeros(height, width, 1, dtype=torch.long, device=device),
        times=None if times is None else times.expand(height, width, 1),
    )
