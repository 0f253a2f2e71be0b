"""What the gate tells about itself: its OpenAPI document, its schemas, and a page for a person. No key is asked for.

The page is one document without script and without anything fetched from elsewhere: it reads the same on a machine
that reaches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from http import HTTPStatus
from typing import Any, Final

import orjson

from fraud_daemons.domain.schemas import load_schema
from fraud_daemons.workers.control_ingress._gate_http import Refused, Reply, Request
from fraud_daemons.workers.control_ingress._gate_openapi import MEANING, PUBLISHED, Document

SCHEMAS: Final = "/schemas/"
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #ddd;padding:.25rem .5rem;"
    "text-align:left;vertical-align:top}code{font:13px ui-monospace,monospace}h2{margin-top:2.5rem}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}td,th{border-color:#444}a{color:#8ab4f8}}"
)
_POLICY: Final = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")


class Pages:
    """Made once, from the document that this gate runs with."""

    def __init__(self, document: Document) -> None:
        self._openapi = Reply.json(HTTPStatus.OK, document)
        self._page = Reply(
            HTTPStatus.OK, "".join(_page(document)).encode(), (_POLICY,), content_type="text/html; charset=utf-8"
        )
        index = {name: {v: f"{SCHEMAS}{name}/{v}" for v in versions} for name, versions in PUBLISHED.items()}
        self._index = Reply.json(HTTPStatus.OK, {"schemas": index})

    def openapi(self, _request: Request) -> Reply:
        return self._openapi

    def page(self, _request: Request) -> Reply:
        return self._page

    def index(self, _request: Request) -> Reply:
        return self._index

    def schema(self, request: Request) -> Reply:
        """A schema as it lies beside the code. Raises Refused (404)."""
        name, _, version = request.path.removeprefix(SCHEMAS).partition("/")
        if version not in PUBLISHED.get(name, ()):
            known = ", ".join(f"{name}/{v}" for name, versions in PUBLISHED.items() for v in versions)
            raise Refused(HTTPStatus.NOT_FOUND, "unknown_schema", "there is no such schema", fix=f"known: {known}")
        return _schema(name, version)


@lru_cache(maxsize=32)
def _schema(name: str, version: str) -> Reply:
    return Reply(HTTPStatus.OK, orjson.dumps(load_schema(name, version), option=orjson.OPT_INDENT_2))


def _page(document: Document) -> Iterator[str]:
    info = document["info"]
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title><style>{_STYLE}</style>"
    yield f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
    yield "<p>Every answer is JSON. Send the header <code>X-API-Key</code>. For machines: <a href=/openapi.json>/openapi.json</a>.</p>"
    yield "<h2>Requests</h2>"
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            yield f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{escape(told['summary'])}</p>"
            yield _table(
                ("status", "when"), [(status, one["description"]) for status, one in told["responses"].items()]
            )
    yield "<h2>Reasons</h2><p>Why an event is answered <code>QUARANTINED</code>.</p>"
    yield _table(("reason", "meaning"), [(str(code), meaning) for code, meaning in MEANING.items()])
    yield "<h2>Schemas</h2>"
    for name, versions in PUBLISHED.items():
        for version in versions:
            yield from _described(name, version)
    yield "</html>"


def _described(name: str, version: str) -> Iterator[str]:
    schema = load_schema(name, version)
    place = f"{SCHEMAS}{name}/{version}"
    yield f"<h3 id={name}><a href={place}>{escape(schema['title'])}</a></h3><p>{escape(schema.get('description', ''))}</p>"
    required = schema.get("required", [])
    rows = [(field, "yes" if field in required else "", _rule(told)) for field, told in schema["properties"].items()]
    yield _table(("field", "required", "rule"), rows)


def _rule(told: dict[str, Any]) -> str:
    """A field's rule in a line: `string or null, 1 to 64 characters`."""
    kinds = told.get("type", "")
    parts = [" or ".join(kinds) if isinstance(kinds, list) else kinds]
    if "maxLength" in told:
        parts.append(f"{told.get('minLength', 0)} to {told['maxLength']} characters")
    if "maximum" in told:
        parts.append(f"{told.get('minimum', '')} to {told['maximum']}")
    if "enum" in told:
        parts.append("one of " + ", ".join(map(str, told["enum"])))
    if "pattern" in told:
        parts.append(f"matches {told['pattern']}")
    return ", ".join(filter(None, [*parts, told.get("description", "")]))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}" for cell in row) for row in rows]
    return f"<table><tr>{''.join(f'<th>{escape(name)}' for name in head)}{''.join(f'<tr>{line}' for line in lines)}</table>"
