"""Reads a record's body, and turns whatever a broken one raises into poison: the loop then sets exactly that one aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from fraud_daemons.bus.port import Record
from fraud_daemons.errors import PoisonFault

Made = TypeVar("Made")


def made_from(record: Record, make: Callable[[dict[str, Any]], Made]) -> Made:
    """`make` applied to the record's JSON body. Raises PoisonFault when the body is not what its topic promises."""
    try:
        return make(orjson.loads(record.body))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PoisonFault(
            f"{record.topic} [{record.partition}:{record.position}] breaks its contract:"
            f" {type(error).__name__} {str(error)[:200]}",
            reason=f"{record.topic}: contract broken",
        ) from error
