"""Keeping a long run's memory flat."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt parameters


def return_freed_memory() -> None:
    """Make the C allocator give freed tensors back to the system; nothing on other systems than Linux.

    glibc raises its thresholds as tensors of many sizes come and go, and keeps what they freed: a design run
    in bfloat16 grew from 0.7 to 1.4 GB in 15 steps, and stays at 0.9 GB with fixed thresholds.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from other C libraries than glibc
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)
