"""The kinds of fault, and nothing else: what the loop does is decided by the kind, never by the driver's class.

    PlatformError
    ├── TransientFault      the database, bus or store is away, slow, restarting: same work again, no limit in time
    │   └── CommitAmbiguous the connection died between COMMIT and its answer: repeat only under an idempotency key
    ├── OverloadFault       too much at once: halve the batch, grow back later
    ├── PoisonFault         one record breaks its contract: bisect, dead-letter, go on
    └── FatalFault          no retry can help until somebody changes something: hold, exit 78
        ├── ConfigurationError   a profile, pack, policy, mapping: every problem at once
        └── AnotherCopyError     a newer copy of this worker owns the checkpoint

Anything that is not a PlatformError is a bug: nobody foresaw it. Drivers' errors are translated into these where they
enter (`postgres_runtime.faults`, `evidence.s3`), once, with `raise … from`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `platform` command and of workers; a contract with operators and the supervisor."""

    GOOD = 0
    NO = 1
    USAGE = 2
    NOT_RUNNING = 3
    UNKNOWN = 4
    BUG = 70
    CONFIGURATION = 78


class PlatformError(Exception):
    """Root of every fault the platform names itself.

    `reason` is the short form for a status line ("postgres: refused"); the message is the whole sentence.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class TransientFault(PlatformError):
    """Something outside is away or slow; the same work will succeed later."""


class CommitAmbiguous(TransientFault):
    """The connection broke between COMMIT and its answer; the work may or may not be durable."""


class OverloadFault(PlatformError):
    """The unit of work was too large for a time, memory or lock limit; less at once will pass."""


class PoisonFault(PlatformError):
    """A record breaks its contract or the data types; it can never pass as it is."""


class FatalFault(PlatformError):
    """No retry can help until somebody changes something."""


class AnotherCopyError(FatalFault):
    """A compare-and-set on a checkpoint hit nothing: a newer copy of this worker owns it."""


class ConfigurationError(FatalFault):
    """One or more settings are wrong; `problems` lists all of them, each with its setting and what would be right."""

    def __init__(self, problems: Sequence[str], *, source: str) -> None:
        self.problems = tuple(problems)
        self.source = source
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{source}: {count}\n{lines}", reason=f"config: {self.problems[0]}")


class CommandError(PlatformError):
    """A command's answer is an error: one line (what, why, what to do) and an exit code."""

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.NO) -> None:
        super().__init__(message)
        self.exit_code = exit_code
