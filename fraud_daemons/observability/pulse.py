"""The pulse: whoever waits for something outside, under a deadline of its own, says meanwhile that the loop is alive.

A step that asks a slow server forty times, or reads a whole run at once, may take longer than the watchdog has patience;
what makes it alive is that each wait has an end. So the waits themselves tell. Only the work loop's own thread is heard, and
a step that hangs anywhere else stays silent: that is what the watchdog is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Heard(threading.local):
    def __init__(self) -> None:
        self.beat: Callable[[], object] | None = None


_heard = _Heard()


@contextmanager
def heard_by(beat: Callable[[], object]) -> Iterator[None]:
    """Within this, `beat` is called for every pulse of this thread."""
    _heard.beat = beat
    try:
        yield
    finally:
        _heard.beat = None


def pulse() -> None:
    """A wait begins or goes on."""
    if _heard.beat is not None:
        _heard.beat()
