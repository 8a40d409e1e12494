"""Freed memory comes back without page faults; in a process of its own, since it cannot be undone."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from ntalker_ns.training.threads import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    np.ones(10 << 20, np.uint8), np.ones(40 << 20, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux")
def test_freed_memory_is_reused():
    faults = {
        name: int(subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, check=True).stdout)
        for name in ("keep", "give")
    }
    assert faults["keep"] < 100 < faults["give"]
