"""The DSN names, the schema each one owns, and the groups whose tables commit together.

One PLATFORM_DSN serves all by default; a name that is set moves its schema to that server. Names of one group move
together: a profile that splits a group is refused before start, naming it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

PLATFORM_DSN: Final = "PLATFORM_DSN"
EVENT_BUS_DSN: Final = "EVENT_BUS_DSN"
IG_ADMISSION_DSN: Final = "IG_ADMISSION_DSN"

SCHEMA_OF: Final[Mapping[str, str]] = {
    IG_ADMISSION_DSN: "ig",
    "WSP_CHECKPOINT_DSN": "wsp",
    "IEG_PROJECTION_DSN": "ieg",
    "OFP_PROJECTION_DSN": "ofp",
    "OFP_SNAPSHOT_INDEX_DSN": "ofp",
    "CSFB_PROJECTION_DSN": "csfb",
    "DL_POSTURE_DSN": "dl",
    "DF_REPLAY_DSN": "df",
    "DF_CHECKPOINT_DSN": "df",
    "AL_LEDGER_DSN": "al",
    "AL_OUTCOMES_DSN": "al",
    "AL_REPLAY_DSN": "al",
    "AL_CHECKPOINT_DSN": "al",
    "DLA_INDEX_DSN": "dla",
    "ARCHIVE_WRITER_LEDGER_DSN": "archive",
    "CASE_TRIGGER_REPLAY_DSN": "case_trigger",
    "CASE_TRIGGER_CHECKPOINT_DSN": "case_trigger",
    "CASE_TRIGGER_PUBLISH_STORE_DSN": "case_trigger",
    "CASE_MGMT_LOCATOR": "case_mgmt",
    "LABEL_STORE_LOCATOR": "label_store",
    EVENT_BUS_DSN: "bus",
}

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "OFP_*": ("OFP_PROJECTION_DSN", "OFP_SNAPSHOT_INDEX_DSN"),
    "DF_*": ("DF_REPLAY_DSN", "DF_CHECKPOINT_DSN"),
    "AL_*": ("AL_LEDGER_DSN", "AL_OUTCOMES_DSN", "AL_REPLAY_DSN", "AL_CHECKPOINT_DSN"),
    "CASE_TRIGGER_*": ("CASE_TRIGGER_REPLAY_DSN", "CASE_TRIGGER_CHECKPOINT_DSN", "CASE_TRIGGER_PUBLISH_STORE_DSN"),
}

NAMES: Final = (PLATFORM_DSN, *SCHEMA_OF)


@dataclass(frozen=True)
class Server:
    """One database that DSN names lead to, called after the first of them, and the schemas that stand there."""

    name: str
    schemas: tuple[str, ...]


def split_groups(dsns: Mapping[str, str]) -> list[str]:
    """A problem line for every group that the explicit `dsns` (name -> DSN, "" = default) would split."""
    problems = []
    for group, names in GROUPS.items():
        values = {name: dsns.get(name, "") for name in names}
        if len(set(values.values())) > 1:
            moved = ", ".join(name for name, value in values.items() if value)
            problems.append(
                f"database.dsns: {group} commit together and move together; {moved} is set differently from the others"
                f" - give all of {', '.join(names)} the same DSN, or none"
            )
    return problems
