"""What the connector did in this process: whole numbers that only grow, shown in heartbeat and metrics."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass


@dataclass
class Counters:
    """In a steady state only `reused` moves."""

    opened: int = 0  # sessions opened
    reused: int = 0  # scopes that borrowed an open session
    waited: int = 0  # scopes that got none: the caller's patience goes on
    evicted: int = 0  # sessions given up: dead, old, or after a fault
    retried: int = 0  # connects tried again at once
    diagnosed: int = 0  # failed connects whose cause a second one found
    siblings_evicted: int = 0  # of the evicted: whole, but to a server that another session found changed
    throttled: int = 0  # connects held back by the limit per second
    ambiguous: int = 0  # answers to COMMIT that were lost
    scopes_long: int = 0  # scopes held longer than they may


_counters = Counters()
_lock = threading.Lock()


def counters() -> dict[str, int]:
    """A copy of this process's counters."""
    with _lock:
        return asdict(_counters)


def count(name: str, by: int = 1) -> None:
    """Add to one of them."""
    with _lock:
        setattr(_counters, name, getattr(_counters, name) + by)


def _begin_anew() -> None:
    """A forked child counts for itself, and a lock that another thread held at the fork would stay shut for ever."""
    global _lock, _counters
    _lock, _counters = threading.Lock(), Counters()


os.register_at_fork(after_in_child=_begin_anew)
