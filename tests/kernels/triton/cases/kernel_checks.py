"""The benchmark's comparison of every kernel with its reference, in miniature."""

import torch

from scripts.benchmarks.kernels import KernelSizes, measure_kernels


def test_every_kernel_agrees_with_its_reference():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = measure_kernels(KernelSizes(points=40, rays=5, gaussians=20, picture=20), device, repeats=1)
    found.require_agreement()
    assert len(found.results) == 14
    assert all(result.milliseconds > 0 for result in found.results.values())
    assert found.table().row_count == 14
