"""What state keeps of the bus record it was made from. State knows no bus: any record with these words will do."""

from __future__ import annotations

from typing import Protocol


class SourceRecord(Protocol):
    """A record as read: where it stood, under which key, and its bytes."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def platform_run_id(self) -> str: ...
    @property
    def body(self) -> bytes: ...
