"""Files for other programs, against an independent reader and the head's own arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.head_gaussians import COUNT, head

from ntalker_ns.splats.export import PLY_COLUMNS, at_rest, control_names, write_animated, write_ply
from ntalker_ns.splats.gaussians import LIGHTS


def test_plyfile_reads_the_head_at_rest(tmp_path: Path):
    plyfile = pytest.importorskip("plyfile")
    gaussians, attributes = head()
    write_ply(at_rest(gaussians), tmp_path / "folder" / "anna.ply")
    found = plyfile.PlyData.read(str(tmp_path / "folder" / "anna.ply"))["vertex"]
    assert tuple(each.name for each in found.properties) == PLY_COLUMNS and len(found) == COUNT
    means, scales, turns, colours = (
        np.stack([found[name] for name in names], axis=1)
        for names in (PLY_COLUMNS[:3], PLY_COLUMNS[10:13], PLY_COLUMNS[13:], PLY_COLUMNS[6:9])
    )
    expected = attributes.numpy()
    np.testing.assert_allclose(means, expected[:, :3], atol=1e-6)
    np.testing.assert_allclose(scales, expected[:, 3:6], atol=1e-5)
    length = np.linalg.norm(expected[:, 6:10], axis=1, keepdims=True)
    np.testing.assert_allclose(turns, expected[:, 6:10] / length, atol=1e-5)
    np.testing.assert_allclose(found["opacity"], expected[:, 10], atol=1e-5)
    # Of degree 0, 1 / (2 sqrt(pi)).
    np.testing.assert_allclose(0.5 + colours / (2.0 * np.sqrt(np.pi)), expected[:, 11:], atol=1e-5)
    assert [each.name for each in (tmp_path / "folder").iterdir()] == ["anna.ply"]


def test_the_animated_file_moves_as_the_head_does(tmp_path: Path):
    gaussians, _ = head()
    torch.nn.init.normal_(gaussians.deltas, std=0.1)
    torch.nn.init.normal_(gaussians.shading, std=0.1)
    write_animated(gaussians, tmp_path / "anna.npz")
    stored = np.load(tmp_path / "anna.npz")
    names = stored["controls"].tolist()
    assert names == control_names(gaussians) and len(names) == len(gaussians.deltas)
    assert (names[0], names[6], names[-1]) == ("lips_0", "brows_0", "closed")
    generator = torch.Generator().manual_seed(0)
    controls, light = torch.randn(len(names), generator=generator), torch.randn(LIGHTS, generator=generator)
    controls[-1] = 0.0  # With open eyes no lid folds.
    with torch.no_grad():
        expected = gaussians(controls, light, gaussians.motion())
    for name, value in vars(expected).items():
        found = stored[name] + np.tensordot(controls.numpy(), stored[f"{name}_deltas"], axes=1)
        if name == "colours":
            found += np.tensordot(light.numpy(), stored["light"], axes=1)
        np.testing.assert_allclose(found.reshape(value.shape), value.numpy(), atol=1e-4, err_msg=name)
