"""Kernels compiled by numba, for CPUs."""
