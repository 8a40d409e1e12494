"""Frames a second, beside nerfacto rendering the same camera."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from rich.console import Group
from rich.table import Table

from ntalker_ns.console import track
from ntalker_ns.media.frame_indices import evenly_spaced
from ntalker_ns.refinement.network import RefinementNetwork, refine
from scripts.benchmarks.breakdown import breakdown_table, time_breakdown
from scripts.benchmarks.timing import timed
from scripts.benchmarks.training import Training, start_nerfacto

MOVING, STILL, REFINED = "moving head", "still camera", "moving head, refined"

CHUNK = 1 << 15
"""nerfacto's eval_num_rays_per_chunk."""

REFINEMENT = 0.8
"""Weight of the refinement network in a refined frame."""


@dataclass(frozen=True)
class FrameSizes:
    """What is rendered."""

    sizes: tuple[int, ...] = (128, 256, 512)
    """Longest sides of the pictures in px."""
    frames: int = 8
    """Frames rendered of each size, after one to warm up."""
    peer_rays: int | None = None
    """Rays that nerfacto renders at a time; its time for a whole picture is scaled from them. None: its own 32,768 on a
    GPU, 1,024 on a CPU, where they are as fast and take seconds."""

    def rays_on(self, device: torch.device) -> int:
        """`peer_rays`, or its default on a device."""
        return self.peer_rays or (CHUNK if device.type == "cuda" else 1024)


@dataclass(frozen=True)
class FrameSpeed:
    """Seconds of a frame of ours and of nerfacto's."""

    seconds: dict[int, dict[str, float]]
    """By longest side in px, then by how the head is seen."""
    peer_seconds: dict[int, float]
    """nerfacto's, scaled from some of its rays."""
    peer_rays: int
    """How many rays those are."""
    breakdown: dict[str, float]
    """Fractions of the time of our largest frame with a moving head, by part."""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        rates = {
            size: {
                **{name: 1.0 / seconds for name, seconds in each.items()},
                "nerfacto": 1.0 / self.peer_seconds[size],
            }
            for size, each in self.seconds.items()
        }
        return {
            "frames_per_second": rates,
            "nerfacto_scaled_from_rays": self.peer_rays,
            "breakdown_of_our_frame": self.breakdown,
        }

    def table(self) -> Group:
        """Frames per second, in brackets relative to nerfacto, and the breakdown of ours."""
        table = Table(title="Rendering: frames a second (times nerfacto's)")
        table.add_column("px")
        for column in (MOVING, STILL, REFINED, "nerfacto (torch)"):
            table.add_column(column, justify="right")
        for size, each in self.seconds.items():
            peer = self.peer_seconds[size]
            cells = (f"{1 / each[name]:.2f} ({peer / each[name]:.0f}x)" for name in (MOVING, STILL, REFINED))
            table.add_row(str(size), *cells, f"{1 / peer:.4f}")
        table.caption = f"nerfacto's is scaled from {self.peer_rays:,} rays of the picture."
        return Group(table, breakdown_table("Where our largest frame's time goes", self.breakdown))


def measure_frames(ours: Training, sizes: FrameSizes) -> FrameSpeed:
    """Renders held-out frames in several sizes, with the head moving as in the clip and with a static camera.

    A refined frame is one of the former and a refinement network with random weights.

    Args:
        ours: a trained head.
        sizes: what is rendered.
    """
    dataset = ours.pipeline.datamanager.eval_dataset
    chosen = evenly_spaced(sizes.frames + 1, len(dataset))
    peer_rays = sizes.rays_on(ours.device)
    peer = start_nerfacto(ours.config, rays=peer_rays)
    ours.pipeline.eval()
    peer.pipeline.eval()
    network = RefinementNetwork().to(ours.device).eval()
    seconds, peer_seconds = {}, {}

    def render(camera: Cameras) -> torch.Tensor:
        return ours.model.get_outputs_for_camera(camera)["rgb"]

    @torch.no_grad()
    def refined(camera: Cameras) -> torch.Tensor:
        return refine(network, render(camera).permute(2, 0, 1)[None], REFINEMENT)

    for size in sizes.sizes:
        moving = [resized(dataset.cameras[int(i) : int(i) + 1], size) for i in chosen]
        still = [_at_time_of(moving[0], each) for each in moving]
        seconds[size] = {
            MOVING: _frame_seconds(render, moving, ours.device, f"{size} px"),
            STILL: _frame_seconds(render, still, ours.device, f"{size} px, still"),
            REFINED: _frame_seconds(refined, moving, ours.device, f"{size} px, refined"),
        }
        peer_seconds[size] = _peer_seconds(peer, moving[0], peer_rays)
    largest = [resized(dataset.cameras[int(i) : int(i) + 1], max(sizes.sizes)) for i in chosen]
    breakdown = time_breakdown(lambda: [render(each) for each in largest], ours.device, 1)
    return FrameSpeed(seconds, peer_seconds, peer_rays, breakdown)


def resized(camera: Cameras, size: int) -> Cameras:
    """The same view in another resolution.

    Args:
        camera: one camera.
        size: longest side in px.
    """
    camera = camera.to("cpu")
    longest = max(int(camera.width.max()), int(camera.height.max()))
    scaled = camera[:]
    scaled.rescale_output_resolution(size / longest)
    return scaled


def _at_time_of(camera: Cameras, other: Cameras) -> Cameras:
    """A camera at another's time."""
    moved = camera[:]
    moved.times = other.times
    return moved


def _frame_seconds(
    render: Callable[[Cameras], Any], cameras: list[Cameras], device: torch.device, description: str
) -> float:
    """The median time of a frame, the first one left out."""
    render(cameras[0])
    times = [timed(lambda camera=camera: render(camera), device) for camera in track(cameras[1:], description)]
    return statistics.median(times)


def _peer_seconds(peer: Training, camera: Cameras, rays: int) -> float:
    """nerfacto's time for a picture, from the time of some of its rays."""
    width, height = int(camera.width), int(camera.height)
    rays = min(rays, width * height)
    pixels = np.random.default_rng(0).choice(width * height, rays, replace=False)
    bundle = pixel_rays(camera.to(peer.device), pixels)
    with torch.no_grad():
        peer.model(bundle)
        return timed(lambda: peer.model(bundle), peer.device) * width * height / rays


def pixel_rays(camera: Cameras, pixels: np.ndarray) -> Any:
    """The rays of some pixels of a camera.

    Args:
        camera: one camera.
        pixels: (P,) indices of pixels, row by row.

    Returns:
        A nerfstudio ray bundle of P rays, camera 0's.
    """
    width = int(camera.width)
    places = torch.from_numpy(np.stack([pixels // width, pixels % width], axis=1)).to(camera.device)
    indices = torch.zeros(len(pixels), 1, dtype=torch.long, device=camera.device)
    return camera.generate_rays(camera_indices=indices, coords=places + 0.5)
