"""Signals only set a flag and wake the sleeper; all work happens in the loop.

Raising from a handler in the middle of a COMMIT would lose the knowledge whether it committed.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from types import FrameType


class StopRequest:
    """Whether to stop, and a rest that it interrupts. `wake` may be called from any thread."""

    def __init__(self) -> None:
        self.requested = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

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
            os.write(self._write, b"w")
        except (BlockingIOError, OSError):  # a full pipe wakes as well
            pass

    def rest(self, seconds: float, files: Sequence[int] = ()) -> bool:
        """Wait until `seconds` have passed, one of `files` is readable, or somebody wakes us; True when woken."""
        if self.requested or seconds <= 0:
            return False
        try:
            readable, _, _ = select.select([self._read, *files], [], [], seconds)
        except (OSError, ValueError):  # a connection closed under us: its owner will notice in the next step
            return True
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass
        return bool(readable)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.request()
