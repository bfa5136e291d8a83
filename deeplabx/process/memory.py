"""Keep the memory of freed CPU tensors from one step to the next."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory of freed large tensors. By default it returns that to the system,
    which then hands out zeroed pages again: this costs a third of a training step or more. It affects the
    whole process, so it is for commands, not for functions called in a notebook. It has no effect with
    another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
