"""A test's own network in front of its database: `proxied` stands there, `through` is the way past it."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fraud_daemons.acceptance.wire_proxy import WireProxy


def proxied(dsn: str) -> WireProxy:
    """A proxy, not yet entered, in front of the server of a DSN that leads to a unix socket."""
    parts = conninfo_to_dict(dsn)
    return WireProxy(f"{parts['host']}/.s.PGSQL.{parts['port']}")


def through(proxy: WireProxy, dsn: str) -> str:
    """The same database, reached through the proxy."""
    return make_conninfo(dsn, host="127.0.0.1", port=proxy.port)
