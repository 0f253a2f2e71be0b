"""How a process ended: told by the plugin inside supervisord, read by whoever asks it. One shape for both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Death:
    """How a process ended. `cause` is operator, exit_code, signal, watchdog, configuration, finished or shutdown."""

    cause: str
    exit_code: int | None
    signal: str | None
    uptime_seconds: float
    at: str
    beat_age_seconds: float | None = None
    """How long it had been silent when the watchdog ended it."""

    def __str__(self) -> str:
        if self.cause == "watchdog":
            return (
                f"ended by the watchdog (no beat for {self.beat_age_seconds:.0f} s) after {self.uptime_seconds:.0f} s"
            )
        how = f"killed by {self.signal}" if self.signal else f"exit {self.exit_code}"
        return f"{how} after {self.uptime_seconds:.0f} s"
