"""Card numbers (PANs): found where a card is named, and taken out of whatever is kept. Pure.

Fields decide, not digits: thousands of merchants have an id of 13 digits that passes the Luhn check. Only in a field
that names a card is such a number refused; only where no field can be read do the digits alone decide. What was taken
out is not kept as a hash either: a card number has so few digits that a hash without a key is undone by trying all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from json import loads as loads_in_pairs
from typing import Any, Final

from fraud_daemons.domain.identity import canonical_json

PAN_DIGITS_MIN, PAN_DIGITS_MAX = 13, 19

CARD_FIELDS: Final = ("card_token", "account_id")
"""Fields of our own schemas in which files and callers of the trade put one. A long party number may pass Luhn."""

REMOVED: Final[Mapping[str, str]] = {"removed": "card number"}
"""What stands in its place: an object, which no schema takes for a token should the record ever be sent again."""
_REMOVED_BYTES: Final = b"[card number removed]"
REMOVED_TEXT: Final = _REMOVED_BYTES.decode()

_CARD_NAME: Final = re.compile(r"card|pan|acc(?:oun)?t|track|^event_(?:id|type)$", re.IGNORECASE)
"""Names of fields, ours or anybody's, below which a number is a card number; an event's own id or type is never one."""

_SECRET_NAME: Final = re.compile(
    r"^(?:card_?)?(?:cvv|cvc|cvn|cav|csc|cid)2?$|security_?code|verification|^pin(?:_?block)?$|track_?[123]", re.IGNORECASE
)  # fmt: skip
"""Fields that are never kept, whatever they hold: three digits can be tried out."""

# A number that stands alone, between texts, behind the B of track 1 or before the D of track 2; not inside a longer token.
_STANDING: Final = re.compile(r"(?<![0-9A-Za-z])B?([0-9](?:[ -]?[0-9]){12,})(?=D[0-9]|[^0-9A-Za-z]|$)")
_ANY_RUN: Final = re.compile(rb"[0-9](?:[ -]?[0-9]){12,}")
_DIGITS: Final = re.compile(r"[0-9]{13,}")
_SEPARATORS: Final = re.compile(r"[ -]")
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")  # digit sum of twice the digit


def looks_like_pan(text: str | None) -> bool:
    """True for 13 to 19 digits, spaces and hyphens aside, that pass the Luhn check."""
    if text is None or len(text) < PAN_DIGITS_MIN:
        return False
    digits = text if text.isdigit() else text.replace(" ", "").replace("-", "")
    if not (PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX and digits.isascii() and digits.isdigit()):
        return False
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(_DOUBLED)))
    return total % 10 == 0


def holds_pan(text: str | None) -> bool:
    """True when a card number stands in the text of a card field: alone, or as in `PAN:4111…` or a track."""
    if text is None or len(text) < PAN_DIGITS_MIN:
        return False
    if text.isdigit():
        return looks_like_pan(text)
    return any(
        looks_like_pan(run) or any(map(looks_like_pan, _SEPARATORS.split(run))) for run in _STANDING.findall(text)
    )


def without_pans(event: Any, raw: bytes | None) -> bytes:
    """The bytes of a refused event as they may be kept: `raw` (None: canonical JSON) when there is no card number in it,
    else canonical JSON without."""
    given = event if raw is None else loads_in_pairs(raw, object_pairs_hook=_Pairs, parse_int=str)
    if _holds(given, inside=not isinstance(event, dict)):
        return canonical_json(_cleaned(event, inside=not isinstance(event, dict)))
    return canonical_json(event) if raw is None else raw


def without_long_numbers(raw: bytes) -> bytes:
    """A line that is no JSON, without any number as long as a card's: no field of it can be read, so digits decide."""
    return _ANY_RUN.sub(_REMOVED_BYTES, raw)


class _Pairs(list[tuple[str, Any]]):
    """An object with every pair that was sent: a name that comes twice may hide a number behind a token."""


def _holds(value: Any, *, inside: bool) -> bool:
    """Whether a card number, or what is never kept, is anywhere in it. `inside` = below a card field."""
    match value:
        case _Pairs() | dict():
            pairs = value.items() if isinstance(value, dict) else value
            return any(_is_removed(name, one, inside=inside) or _holds(one, inside=_below(name, inside=inside))
                       or _name_holds_pan(name) for name, one in pairs)  # fmt: skip
        case list():
            return any(_holds(one, inside=inside) for one in value)
        case _:
            return inside and _is_pan(value)


def _cleaned(value: Any, *, inside: bool) -> Any:
    match value:
        case dict():
            return {
                REMOVED_TEXT if _name_holds_pan(name) else name: REMOVED
                if _is_removed(name, one, inside=inside)
                else _cleaned(one, inside=_below(name, inside=inside))
                for name, one in value.items()
            }
        case list():
            return [_cleaned(one, inside=inside) for one in value]
        case _:
            return REMOVED if inside and _is_pan(value) else value


def _name_holds_pan(name: str) -> bool:
    """A number among the names of fields is nobody's id; it need not stand alone."""
    return any(map(looks_like_pan, _DIGITS.findall(name)))


def _below(name: str, *, inside: bool) -> bool:
    return inside or _CARD_NAME.search(name) is not None


def _is_removed(name: str, value: Any, *, inside: bool) -> bool:
    return (_below(name, inside=inside) and _is_pan(value)) or (
        value not in (None, REMOVED) and _SECRET_NAME.search(name) is not None
    )


def _is_pan(value: Any) -> bool:
    match value:
        case bool():
            return False
        case str():
            return holds_pan(value)
        case int():
            return looks_like_pan(str(value))
        case float():
            return value.is_integer() and looks_like_pan(str(int(value)))
        case _:
            return False
