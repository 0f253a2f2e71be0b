"""What the machine itself refuses - room, memory, descriptors, processes - as the faults the loop knows.

Every other driver's error is translated where it enters; these may come from any line, so they are translated where they
arrive. It refuses to guess: an OSError that says nothing about resources stays the bug it probably is.
"""

from __future__ import annotations

import errno

from fraud_daemons.errors import OverloadFault, PlatformError, TransientFault

_SCARCE = {
    errno.ENOSPC: "disk: full",
    errno.EDQUOT: "disk: quota reached",
    errno.EROFS: "disk: read only",
    errno.EMFILE: "machine: no descriptor left in this process",
    errno.ENFILE: "machine: no descriptor left",
    errno.ENOMEM: "machine: no memory left",
    errno.ENOBUFS: "machine: no buffer left",
}
"""By errno: what is scarce, and whose it is."""


def fault_of_the_machine(error: Exception) -> PlatformError | None:
    """The fault behind an error that says a resource is used up; None for any other, and for what is a fault already."""
    if isinstance(error, PlatformError):
        return None
    if isinstance(error, MemoryError):
        return _caused(OverloadFault("no memory for this much at once", reason="machine: no memory left"), error)
    reason = _SCARCE.get(error.errno or 0) if isinstance(error, OSError) else None
    return None if reason is None else _caused(TransientFault(f"{reason}: {error}", reason=reason), error)


def _caused(fault: PlatformError, error: Exception) -> PlatformError:
    fault.__cause__ = error
    return fault
