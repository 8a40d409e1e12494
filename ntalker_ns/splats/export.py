"""Files of a head of Gaussians for other programs: at rest as a .ply, with all that moves it as an .npz."""

from pathlib import Path

import numpy as np
import torch

from ntalker_ns.kernels.types import Gaussians
from ntalker_ns.media.output_paths import written_whole
from ntalker_ns.splats.gaussians import LIGHTS, RATES, WIDTHS, HeadGaussians

SH_0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): a .ply stores colours as (colour - 1/2) / SH_0."""

PLY_COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""Of 3D Gaussian splatting's files (Kerbl et al. 2023), whose colours do not depend on the view; all float32."""

FORMAT_VERSION = 1
"""Of the .npz."""


@torch.no_grad()
def at_rest(head: HeadGaussians) -> Gaussians:
    """The head with its mean mouth and brows, open eyes and the mean pose's light."""
    controls = torch.zeros(len(head.deltas), device=head.base.device)
    return head(controls, torch.zeros(LIGHTS, device=head.base.device), head.motion())


def write_ply(gaussians: Gaussians, path: Path) -> None:
    """Writes Gaussians as every splat viewer reads them; the file appears when it is complete.

    Means are in the head's space (crown to +z, face to -y), scales are natural logarithms, opacities logits, rotations
    unit quaternions wxyz.

    Args:
        gaussians: of one frame.
        path: of the file.
    """
    arrays = [np.atleast_2d(each.detach().cpu().numpy().T).T for each in vars(gaussians).values()]
    means, scales, turns, opacities, colours = (each.astype(np.float64) for each in arrays)
    turns = turns / np.maximum(np.linalg.norm(turns, axis=1, keepdims=True), 1e-12)
    table = np.concatenate(
        [means, np.zeros_like(means), (colours - 0.5) / SH_0, opacities, scales, turns], axis=1
    ).astype("<f4")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in PLY_COLUMNS] + ["end_header", ""]
    with written_whole(path) as partial:
        partial.write_bytes("\n".join(header).encode("ascii") + table.tobytes())


@torch.no_grad()
def write_animated(head: HeadGaussians, path: Path) -> None:
    """Writes base, motion and names of controls; the file appears when it is complete.

    With w the controls and l the light, attribute A of a frame is A + sum_k w_k A_deltas[k], colours also
    + sum_j l_j light[j]; gates are multiplied in. Closed eyes (control `closed`) moreover fold as
    `ntalker_ns.splats.lids.fold` does by the arrays lid_*.

    Args:
        head: the Gaussians.
        path: of the file.
    """
    motion = head.motion()
    base = (head.base * head.rates).split(list(WIDTHS.values()), dim=1)
    deltas = (motion.gates[:, :, None] * head.deltas * head.rates).split(list(WIDTHS.values()), dim=2)
    arrays = {name: each.cpu().numpy() for name, each in zip(WIDTHS, base, strict=True)}
    arrays |= {f"{name}_deltas": each.cpu().numpy() for name, each in zip(WIDTHS, deltas, strict=True)}
    arrays |= {f"lid_{name}": each.cpu().numpy() for name, each in motion.lids._asdict().items()}
    arrays["light"] = (head.shading * RATES["colours"]).cpu().numpy()
    arrays["controls"] = np.array(control_names(head))
    arrays["version"] = np.array(FORMAT_VERSION)
    with written_whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def control_names(head: HeadGaussians) -> list[str]:
    """Names of the numbers that move a head, in order."""
    numbered = (("lips", head.num_lips), ("brows", head.num_brows))
    return [*(f"{part}_{k}" for part, count in numbered for k in range(count)), "closed"]
