"""How much of a stream may become dead letters before somebody must look: a run without one good record, or a share.

A producer that changed its shape would otherwise pour the whole stream into the dead letters, record by record, and every
gauge would stay green. It refuses to set anything aside itself; it only counts, and raises before the letter is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from fraud_daemons.errors import FatalFault

WINDOW_TIMES = 5  # the share is taken over about this many times the longest run


@dataclass
class LetterLimit:
    """Counts records and letters of one consumer since its process began, or was resumed."""

    run_max: int
    share_max: float
    run: int = 0
    records: float = 0.0
    letters: float = 0.0

    def refuse_beyond(self, *, records: int, letters: int, topic: str, reason: str) -> None:
        """Raise FatalFault when `letters` among these `records` would be too many. Nothing is counted yet."""
        run = self._run_after(records, letters)
        if run > self.run_max:
            raise FatalFault(
                f"{run} records in a row of {topic} are poison; stopping instead of pouring the stream into the dead letters",
                reason=f"{topic}: too many dead letters in a row ({reason})",
            )
        all_records, all_letters = self.records + records, self.letters + letters
        if letters and all_letters > self.run_max and all_letters > self.share_max * all_records:
            raise FatalFault(
                f"{all_letters:.0f} of about {all_records:.0f} records of {topic} are poison; stopping instead of pouring the"
                " stream into the dead letters",
                reason=f"{topic}: too large a share of dead letters ({reason})",
            )

    def count(self, *, records: int, letters: int) -> None:
        """They are committed. What is long past counts half as often as it is passed again."""
        self.run = self._run_after(records, letters)
        self.records += records
        self.letters += letters
        if self.records > WINDOW_TIMES * self.run_max:
            self.records, self.letters = self.records / 2, self.letters / 2

    def _run_after(self, records: int, letters: int) -> int:
        if not records:
            return self.run
        return self.run + letters if letters == records else 0
