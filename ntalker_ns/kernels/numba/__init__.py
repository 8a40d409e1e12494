"""Kernels compiled by numba, for CPUs."""

from ntalker_ns.training.code_cache import provide_code_cache

provide_code_cache()
