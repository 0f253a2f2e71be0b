"""SIGKILL at the n-th boundary between two statements, in a forked child: `killed_at(n, work)`.

The caller must have closed its database connections before: a child must not speak on its parent's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

CHILD_SECONDS_MAX = 60.0


def killed_at(point: int, work: Callable[[], None], *, also: Sequence[tuple[type, str]] = ()) -> bool:
    """Run `work` in a child that is killed at its `point`-th boundary; False when it ended before it got there.

    Boundaries lie before and after each statement, each row or part of a COPY, each COMMIT, and each call of the methods in `also`.
    """
    child = multiprocessing.get_context("fork").Process(target=_killing_at, args=(point, work, also))
    child.start()
    child.join(CHILD_SECONDS_MAX)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise AssertionError(f"the child hung before boundary {point}")
    assert child.exitcode in (0, -signal.SIGKILL), f"the child failed by itself before boundary {point}"
    return child.exitcode != 0


def _killing_at(point: int, work: Callable[[], None], also: Sequence[tuple[type, str]]) -> None:
    passed = 0

    def boundary() -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            boundary()
            answer = method(*args, **kwargs)
            boundary()
            return answer

        return wrapped

    statements = [(psycopg.Cursor, "execute"), (psycopg.Connection, "commit")]
    copies = [(psycopg.Copy, "write_row"), (psycopg.Copy, "write")]
    for owner, name in (*statements, *copies, *also):
        setattr(owner, name, around(getattr(owner, name)))
    work()
    os._exit(0)
