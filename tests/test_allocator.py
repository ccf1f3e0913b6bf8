"""The C library keeps memory where it can be told to."""

import platform
import subprocess
import sys

FAULTS = """
import resource, torch
from robustgen.allocator import keep_large_blocks
kept = keep_large_blocks()
block = 64 * 2**20 // 4
for _ in range(5):
    torch.ones(block)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(block)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_blocks_are_used_again():
    # In a process of its own: the setting cannot be taken back.
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    glibc = platform.libc_ver()[0] == "glibc"
    assert kept == str(glibc)
    if glibc:
        # Twenty blocks of 64 MB, each mapped anew, are 327,680 pages. The heap may grow
        # once more before it has room.
        assert int(faults) < 327_680 / 4
