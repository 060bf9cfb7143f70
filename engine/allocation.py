"""Memory of the process on a CPU: kept for the next batch instead of handed back to the system after each operation."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that are freed; return whether it will.

    By default every large tensor is mapped anew and its pages are cleared by the kernel, operation by operation: half
    the time of a mobile network's forward pass on the machine this was measured on. Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGE))
