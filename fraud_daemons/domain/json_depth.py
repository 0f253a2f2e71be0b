"""How deep a JSON body is nested, told before it is parsed: a parser builds everything before anybody can say no.

At the speed of `bytes` methods, because every body is looked at: what is no bracket or quote is dropped, pairs vanish
from the inside out, and what is left after as many rounds as levels are allowed is too deep. Only then, or when a text
holds a bracket, are texts cut out properly. It says nothing about whether a body is JSON: that is the parser's word.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

_BRACKETS: Final = b"[]{}"
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"' + _BRACKETS)
_NOT_BRACKET: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_TEXT: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP: Final = {ord("["): 1, ord("]"): -1}


def is_deeper(body: bytes, levels: int) -> bool:
    """Whether arrays and objects in `body` stand in one another more than `levels` deep."""
    left = body.translate(_AS_SQUARE, _NOT_STRUCTURE).replace(b'""', b"")
    for _ in range(levels):
        if not left:
            return False
        before = len(left)
        left = left.replace(b"[]", b"")
        if len(left) == before:
            break
    return bool(left) and _reaches(body, levels)


def _reaches(body: bytes, levels: int) -> bool:
    """The exact answer, texts cut out; for a body that is no JSON, whether any place in it is that deep."""
    brackets = _TEXT.sub(b"", body).translate(_AS_SQUARE, _NOT_BRACKET)
    return any(depth > levels for depth in accumulate(map(_STEP.__getitem__, brackets)))
