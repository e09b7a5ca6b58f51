"""Freed memory stays with the process: counted in page faults of a process of its own."""

import ctypes
import os
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from lib.core.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    [torch.ones(2**21) for _ in range(8)]
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    [torch.ones(2**21) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc here"
)
def test_blocks_of_some_megabytes_are_used_again():
    def faults(word: str) -> int:
        command = [sys.executable, "-c", COUNT, word]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}  # without which chance has a say in the second
        return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    assert faults("keep") * 10 < faults("leave")
