"""The gate's small vocabulary of HTTP: a request, a reply, a refusal. Every body is JSON, errors included, but one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

NDJSON_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")


class Refused(Exception):
    """A whole request is refused: status, a short name, what is wrong and what to do. Nothing was done."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        detail: str,
        *,
        fix: str,
        retry_after_seconds: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.fix = fix
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow


@dataclass(frozen=True)
class Reply:
    """An answer: status, JSON bytes and extra headers."""

    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    @classmethod
    def json(cls, status: HTTPStatus, value: Any) -> Reply:
        return cls(status, orjson.dumps(value))


@dataclass(frozen=True)
class Request:
    """One request, read from the WSGI environment."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    key: str | None
    content_type: str
    length: int
    environ: Mapping[str, Any]

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Request:
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
        except ValueError:
            length = 0
        return cls(
            method=environ["REQUEST_METHOD"],
            path=environ.get("PATH_INFO", "/"),
            query=parse_qs(environ.get("QUERY_STRING", "")),
            key=environ.get("HTTP_X_API_KEY"),
            content_type=(environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower(),
            length=length,
            environ=environ,
        )

    def body(self, *, bytes_max: int) -> bytes:
        """The body. Raises Refused when it is longer than `bytes_max`."""
        if self.length > bytes_max:
            raise too_large(bytes_max)
        raw: bytes = self.environ["wsgi.input"].read(bytes_max + 1)
        if len(raw) > bytes_max:
            raise too_large(bytes_max)
        return raw

    def whole_number(self, name: str, *, default: int) -> int:
        """A query parameter that is a whole number >= 0. Raises Refused for anything else."""
        text = self.query.get(name, [str(default)])[0]
        if not (text.isascii() and text.isdigit()):
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "bad_parameter",
                f"{name} must be a whole number",
                fix=f"for example {name}=1000",
            )
        return int(text[:9])


def refusal_reply(refused: Refused, **further: Any) -> Reply:
    """The answer to a request that is refused as a whole; `further` fields stand behind error, detail and fix."""
    headers = {"Retry-After": refused.retry_after_seconds, "Allow": refused.allow}
    return Reply(
        refused.status,
        orjson.dumps({"error": refused.error, "detail": refused.detail, "fix": refused.fix, **further}),
        tuple((name, str(value)) for name, value in headers.items() if value is not None),
    )


def too_large(bytes_max: int) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"the body has more than {bytes_max} bytes",
        fix="send smaller batches",
    )


def busy(error: str, detail: str, *, retry_after_seconds: int) -> Refused:
    """429: this gate could, but not now."""
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        error,
        detail,
        fix="send the same request again after Retry-After; nothing of it was done",
        retry_after_seconds=retry_after_seconds,
    )


def away(detail: str, *, retry_after_seconds: int) -> Refused:
    """503: something the gate needs is away."""
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        detail,
        fix="send the same request again after Retry-After; what was admitted will be answered as DUPLICATE",
        retry_after_seconds=retry_after_seconds,
    )
