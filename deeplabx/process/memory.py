"""The memory of a CPU's tensors, kept from one step to the next."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what large tensors took. It would give each back to the system, which then
    hands out zeroed pages again: a third of a training step and more. It is the whole process's malloc, so it
    is for commands, not for functions that a notebook calls. Nothing changes where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
