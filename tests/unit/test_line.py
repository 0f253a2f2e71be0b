"""The line that the workers' tests stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fraud_daemons.runtime.worker import Worker

if TYPE_CHECKING:
    from tests.line import Line

READER = Worker(name="reader", schema="df", dsn="DF_REPLAY_DSN", build=lambda _context: [], consumes=("decisions",))


def test_what_is_appended_is_read_once_and_again_after_fresh_checkpoints(line: Line) -> None:
    """A drained worker has read everything once; with fresh checkpoints it reads everything again."""
    line.append("decisions", [{"decision_id": f"d{n}", "card_token": f"c{n}"} for n in range(20)])
    assert line.drain(line.pass_through(READER)) == 20
    assert line.drain(line.pass_through(READER)) == 0
    line.fresh_checkpoints()
    assert line.drain(line.pass_through(READER)) == 20
    assert {body["decision_id"] for body in line.bodies("decisions")} == {f"d{n}" for n in range(20)}
