"""The network between workers and PostgreSQL: cut, stalled, slowed, refused, reset in an answer, reset around COMMIT.

Each runs a platform of its own behind a TCP proxy; the drill's own looks at the database go past it.
"""

from __future__ import annotations

from collections.abc import Callable

from fraud_daemons.acceptance.drills.drill import Drill
from fraud_daemons.acceptance.drills.grounds import behind_proxy
from fraud_daemons.acceptance.drills.stage import Stage
from fraud_daemons.acceptance.wire_proxy import Strike, WireProxy
from fraud_daemons.errors import CommandError

BETWEEN_STRIKES_SECONDS = (0.2, 0.6)
STRIKES_AT_ONCE = 2
SLOW_DELAY_SECONDS = 0.05
SLOW_BYTES_PER_SECOND = 400_000.0


def _struck(stage: Stage, figure: str, strike: Callable[[WireProxy], None]) -> None:
    """Strike again and again for the drill's length; the proxy's own figure says how often it took place."""
    proxy = _proxy_of(stage)
    before, ends, strikes = proxy.figures[figure], stage.clock.monotonic() + stage.seconds, 0
    try:
        while stage.clock.monotonic() < ends:
            strike(proxy)
            strikes += 1
            stage.rest(stage.dice.uniform(*BETWEEN_STRIKES_SECONDS))
    finally:
        proxy.pass_on()
    happened = proxy.figures[figure] - before
    stage.fired[figure] += happened
    # closing every link at once is one fault, however many links there were
    stage.faults += strikes if figure in ("cut", "reset") else happened


def _lasting(stage: Stage, figure: str, begin: Callable[[WireProxy], None]) -> None:
    """A state of the network for the drill's length."""
    proxy = _proxy_of(stage)
    before = proxy.figures[figure]
    try:
        begin(proxy)
        stage.faults += 1
        stage.rest()
    finally:
        proxy.pass_on()
    stage.fired[figure] += proxy.figures[figure] - before


def _proxy_of(stage: Stage) -> WireProxy:
    if not isinstance(stage.tool, WireProxy):
        raise CommandError("drill: this drill needs a proxy between workers and server")
    return stage.tool


def _cut(stage: Stage) -> None:
    _struck(stage, "cut", lambda proxy: proxy.cut())


def _reset(stage: Stage) -> None:
    _struck(stage, "reset", lambda proxy: proxy.reset())


def _refuse(stage: Stage) -> None:
    _lasting(stage, "reset", lambda proxy: proxy.refuse())


def _stall(stage: Stage) -> None:
    _lasting(stage, "held_back", lambda proxy: proxy.stall())


def _slow(stage: Stage) -> None:
    _lasting(
        stage, "slowed",
        lambda proxy: proxy.slow(bytes_per_second=SLOW_BYTES_PER_SECOND, delay_seconds=SLOW_DELAY_SECONDS),
    )  # fmt: skip


def _statement_reset(stage: Stage) -> None:
    _struck(stage, "statements_reset", lambda proxy: proxy.arm(Strike.STATEMENT, STRIKES_AT_ONCE))


def _commit_lost(stage: Stage) -> None:
    _struck(stage, "commits_lost", lambda proxy: proxy.arm(Strike.COMMIT, STRIKES_AT_ONCE))


def _commit_answer_lost(stage: Stage) -> None:
    _struck(stage, "commit_answers_lost", lambda proxy: proxy.arm(Strike.COMMIT_ANSWER, STRIKES_AT_ONCE))


DRILLS = (
    Drill("network-cut", "every connection to the database is closed, again and again", _cut, ("cut",), ground=behind_proxy),
    Drill("network-reset", "every connection to the database is reset, again and again", _reset, ("reset",), ground=behind_proxy),
    Drill("network-refuse", "every connection is reset and none is taken for a while", _refuse, ("reset",), ground=behind_proxy),
    Drill("network-stall", "nothing passes in either direction, nothing is closed", _stall, ("held_back",), seconds=12.0,
          ground=behind_proxy),
    Drill("network-slow", "every piece of data is 50 ms late and bandwidth is small", _slow, ("slowed",), ground=behind_proxy),
    Drill("network-reset-in-answer", "a reset in the middle of a statement's answer", _statement_reset, ("statements_reset",),
          ground=behind_proxy),
    Drill("network-commit-lost", "a reset before COMMIT arrives", _commit_lost, ("commits_lost",), ground=behind_proxy),
    Drill("network-commit-answer-lost", "a reset exactly between COMMIT and its answer", _commit_answer_lost,
          ("commit_answers_lost",), ground=behind_proxy),
)  # fmt: skip
