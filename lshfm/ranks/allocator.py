"""How the C library manages the memory of a process that computes on a CPU."""

import ctypes
import os
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")  # say it otherwise

# Arrays beyond the first are mapped one by one, which lets them grow in place; it is the largest that glibc takes.
LARGEST_IN_HEAP, KEPT = 32 * 2**20, 2**30  # bytes


def keep_freed_memory() -> None:
    """Have freed memory of up to a GiB kept for the next step, where the C library is glibc.

    Its own thresholds follow the sizes of tensors, so that a step gives the memory of its activations back to the
    system and gets it again page by page: thousands of faults, a fifth of the time of a small network. No number
    changes by it. What the user's environment says of malloc holds instead.
    """
    if any(name in os.environ for name in OWN):
        return
    with suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_IN_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
