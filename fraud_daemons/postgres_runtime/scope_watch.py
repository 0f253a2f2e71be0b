"""Tells of a scope that is held too long, with the stack that holds it.

A thread that holds a scope cannot look at itself, and the loop's beat comes from that very thread; so one daemon thread
per process looks once a second. It reads times and stack frames - lines of code, never values - and it refuses to end
anything: the server's idle_in_transaction_session_timeout and the watchdog do that.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fraud_daemons.postgres_runtime.connector import open_scopes
from fraud_daemons.postgres_runtime.counters import count

LOOK_SECONDS = 1.0
STACK_FRAMES_MAX = 20


@dataclass(frozen=True)
class LongScope:
    """One scope over its limit, as it was found; each is told once."""

    source: str
    thread: str
    seconds: float
    stack: str


class ScopeWatch:
    """Looks at this process's open scopes while its block lasts, and hands each long one to `tell`."""

    def __init__(self, tell: Callable[[LongScope], None], *, look_seconds: float = LOOK_SECONDS) -> None:
        self._tell = tell
        self._look_seconds = look_seconds
        self._end = threading.Event()
        self._told: set[tuple[int, str, float]] = set()
        self._thread = threading.Thread(target=self._watch, name="scope_watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(self._look_seconds)

    def _watch(self) -> None:
        while not self._end.wait(self._look_seconds):
            self.look()

    def look(self) -> None:
        """One look at all threads."""
        now = time.monotonic()
        long = [scope for scope in open_scopes() if now - scope.entered > scope.seconds_max]
        found = {(scope.thread, scope.source, scope.entered) for scope in long}
        frames = sys._current_frames() if found - self._told else {}
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for scope in long:
            if (scope.thread, scope.source, scope.entered) not in self._told:
                frame = frames.get(scope.thread)
                stack = "".join(traceback.format_stack(frame, STACK_FRAMES_MAX)) if frame else "its thread has ended"
                count("scopes_long")
                name = names.get(scope.thread, str(scope.thread))
                self._tell(LongScope(scope.source, name, round(now - scope.entered, 1), stack))
        self._told = found
