"""Signals only set a flag and wake the sleeper; all work happens in the loop.

Raising from a handler in the middle of a COMMIT would lose the knowledge whether it committed.
"""

from __future__ import annotations

import os
import select
import signal
import weakref
from collections.abc import Sequence
from types import FrameType


class StopRequest:
    """Whether to stop, and a rest that it interrupts. `wake` may be called from any thread."""

    def __init__(self) -> None:
        self.requested = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)

    def listen(self) -> None:
        """Take SIGTERM and SIGINT; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def request(self) -> None:
        """Ask for a stop, as the signal would."""
        self.requested = True
        self.wake()

    def wake(self) -> None:
        """End a rest early."""
        try:
            os.eventfd_write(self._bell, 1)
        except OSError:  # a bell that rings already wakes as well
            pass

    def rest(self, seconds: float, files: Sequence[int] = ()) -> bool:
        """Wait until `seconds` have passed, one of `files` is readable, or somebody wakes us; True when woken."""
        if self.requested or seconds <= 0:
            return False
        poll = select.poll()  # select() refuses descriptors above 1023, and a rest that fails at once is a busy loop
        for file in (self._bell, *files):
            if file >= 0:  # closed under us: its owner will notice in the next step
                poll.register(file, select.POLLIN)
        ready = poll.poll(seconds * 1000)
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass
        return bool(ready)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.request()
