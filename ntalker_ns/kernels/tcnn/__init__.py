"""Kernels of tiny-cuda-nn, where it is installed."""
