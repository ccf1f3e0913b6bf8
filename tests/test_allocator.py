"""The C library keeps memory where it can be told to."""

import platform
import statistics
import subprocess
import sys

FAULTS = """
import resource, torch
from robustgen.allocator import keep_large_blocks
kept = keep_large_blocks()
block = 64 * 2**20 // 4
print(kept)
for _ in range(25):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_blocks_are_used_again():
    # In a process of its own: the setting cannot be taken back.
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    kept, *faults = done.stdout.split()
    glibc = platform.libc_ver()[0] == "glibc"
    assert kept == str(glibc)
    if glibc:
        # A block of 64 MB that is mapped anew costs 16,384 pages. The heap grows a few
        # times before it has room, how often depends on what lies on top of it.
        assert statistics.median(map(int, faults)) < 16_384 / 100
