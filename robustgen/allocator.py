"""How the C library hands out memory for the activations of large images.

By default glibc maps every block of 32 MB or more anew and returns it after use, so the
kernel clears the same pages again and again. At 1024 px that took two thirds of the
time of a projection (`benchmarks/scale.py`, with and without `--plain`).
"""

import ctypes
import platform

LARGE = 128
"""Side of an image, in pixels, from which its activations are large blocks."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
_NEVER = 2**31 - 1


def keep_large_blocks() -> bool:
    """Makes this process keep freed memory for its next use.

    For programs, not for libraries: it holds for the whole process, whose size then
    stays near its peak. The same for a program of one's own, before it starts:
    `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647`.

    Returns:
        Whether the C library is glibc and took the settings; elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
