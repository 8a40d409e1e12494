"""`ntalker export`: a head of Gaussians as a file for other programs."""

from dataclasses import dataclass
from pathlib import Path

from ntalker_ns.errors import NTalkerError


@dataclass
class Export:
    """Write a head of Gaussians (ntalker-splat) as a file for splat viewers and other programs."""

    load_config: Path
    """The run's config.yml."""
    output: Path
    """A .ply file: the neutral head in the layout of 3D Gaussian splatting. With --animated an .npz file."""
    animated: bool = False
    """Write the neutral head, its blendshapes of lips, brows and eyes, and the names of their coefficients,
    as arrays in an .npz file."""

    def main(self) -> None:
        """Loads the run and writes the file."""
        from ntalker_ns.media.output_paths import check_file
        from ntalker_ns.rendering.splat_head import SplatHead
        from ntalker_ns.runs import load_run
        from ntalker_ns.splats.export import at_rest, write_animated, write_ply

        ending = ".npz" if self.animated else ".ply"
        if self.output.suffix != ending:
            raise NTalkerError(f"--output {self.output} must end with {ending}.")
        check_file(self.output, "--output", [self.load_config])
        head = load_run(self.load_config).model.head
        if not isinstance(head, SplatHead):
            raise NTalkerError(
                f"{self.load_config} is a radiance field and has no Gaussians: train one with ns-train ntalker-splat."
            )
        if self.animated:
            write_animated(head.gaussians, self.output)
        else:
            write_ply(at_rest(head.gaussians), self.output)
        print(f"{self.output}: {len(head.gaussians)} Gaussians, {self.output.stat().st_size / 1e6:.1f} MB.")
