"""Kernels in plain torch: the reference for all others, on any device."""
