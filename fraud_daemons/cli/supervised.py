"""How the commands that start and stop things answer: who is ready, who blocks and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fraud_daemons.cli.options import Invocation
from fraud_daemons.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from fraud_daemons.supervision.lifecycle import UpResult
    from fraud_daemons.supervision.turn import Blocker


def answer(call: Invocation, result: UpResult, *, done: str) -> int:
    """Report an operation: `done` when all went well, else the worker that blocks and its last error."""
    if call.as_json:
        call.answer({**asdict(result), "blocking": [asdict(blocker) for blocker in result.blocking]})
        return int(ExitCode.GOOD if result.ready else ExitCode.NO)
    if not result.ready:
        raise CommandError(_blocked(result.blocking))
    notes = (
        ["profile or packs have changed since it was started: platform down, then up, applies them"]
        if result.config_changed
        else []
    )
    call.answer(None, text="\n".join([f"{done} ({result.elapsed_seconds:.1f} s)", *notes]))
    return int(ExitCode.GOOD)


def _blocked(blocking: tuple[Blocker, ...]) -> str:
    first = blocking[0]
    also = f"; also not ready: {', '.join(b.name for b in blocking[1:])}" if len(blocking) > 1 else ""
    said = f"; its last words: {' | '.join(first.last_lines)}" if first.last_lines else ""
    advice = (
        f"put it right, then: platform resume {first.name}"
        if first.status == "held"
        else f"see: platform logs {first.name}"
    )
    return f"{first}{said}{also}; {advice}"
