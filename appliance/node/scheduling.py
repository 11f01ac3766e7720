"""How the kernel is to schedule a thread that computes for long: behind what must be prompt, and in long slices."""

import ctypes
import os
import platform
import struct
import threading

SLICE_S = 0.02
"""With several training threads on a core, the kernel's own 1 to 3 ms are one mini-batch, after which the next thread
finds its weights and moments pushed out of the cache. Five nodes on two cores trained an epoch in a tenth less time of
the processor with 20 ms, and hardly less with 100."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``, sched_setattr(2): size, policy, flags, nice, priority, runtime, deadline, period."""
_KEEP_POLICY = 8
"""SCHED_FLAG_KEEP_POLICY: the policy is the operator's choice (``CPUSchedulingPolicy=`` of the unit)."""


def compute_in_background(niceness: int) -> None:
    """Have the calling thread run at a lower priority, and in slices of ``SLICE_S`` where the kernel knows them.

    That is from Linux 6.12 on, which RHEL 8 has not: so the service's filter of system calls does not let it be asked
    for. A thread with shorter slices, as all others of a node have, takes the core from this one as soon as it wakes.

    Args:
        niceness: added to what the process has been given: to set a lower one than that takes a privilege.
    """
    # On Linux a thread has its own niceness, named by its thread id.
    thread = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, thread) + niceness
    os.setpriority(os.PRIO_PROCESS, thread, nice)
    _set_slice(min(nice, 19))


def _set_slice(nice: int) -> None:
    """Ask for long slices; Python's ``os`` has no name for it. Who may not, goes on without."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None:
        wanted = _SCHED_ATTR.pack(_SCHED_ATTR.size, 0, _KEEP_POLICY, nice, 0, round(SLICE_S * 1e9), 0, 0)
        ctypes.CDLL(None).syscall(number, 0, wanted, 0)
