"""How far the making of a world has come, told now and then to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from fraud_daemons.worlds.transaction import Transaction

PROGRESS_EVERY_ROWS: Final = 1000

Progress = Callable[[int, int], None]
"""Called with (done, total); the total may be an estimate that grows."""


def unseen(_done: int, _total: int) -> None:
    """Nobody watches."""


def reported(
    transactions: Iterable[Transaction], progress: Progress, *, total: int, before: int = 0
) -> Iterator[Transaction]:
    """The same transactions, with progress told on the way; `before` was done in an earlier step of the same work."""
    for done, transaction in enumerate(transactions, start=before + 1):
        yield transaction
        if done % PROGRESS_EVERY_ROWS == 0:
            progress(done, total)
    progress(total, total)
