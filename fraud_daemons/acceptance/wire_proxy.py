"""A network that fails on command: a TCP proxy in front of a server, which cuts, stalls, slows, refuses and resets.

    with WireProxy(address) as proxy:
        ... connect to 127.0.0.1, proxy.port ...
        proxy.arm(Strike.COMMIT_ANSWER)      # the next COMMIT is done by the server, and its answer never arrives
        proxy.stall(); proxy.pass_on()       # a dead link, and its return

It follows PostgreSQL's messages, so that a break can come exactly between COMMIT and its answer; for any other
protocol say `postgres=False`. `figures` counts what really struck. It refuses to decide when: whoever holds it does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Self

from fraud_daemons.acceptance.wire_messages import Conversation

Address = tuple[str, int] | str
"""Where the server is: host and port, or the path of a unix socket."""

LINKS_MAX = 1000
CHUNK_BYTES = 65_536
BACKLOG = 128
COMMAND_SECONDS_MAX = 10.0
CONNECT_SECONDS_MAX = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Strike(Enum):
    """A break that waits for its moment in a conversation."""

    COMMIT = "commit"  # COMMIT never reaches the server, which rolls back
    COMMIT_ANSWER = "commit_answer"  # the server has committed, and its answer is lost
    STATEMENT = "statement"  # reset in the middle of the answer to a statement


@dataclass
class Figures:
    """What happened on the proxy's links; each fault has a figure of its own that proves it took place."""

    accepted: int = 0
    turned_away: int = 0  # the server behind did not take the connection
    cut: int = 0
    reset: int = 0
    held_back: int = 0  # pieces of data that met a stalled link
    slowed: int = 0  # pieces of data that were delayed
    commits: int = 0
    commits_lost: int = 0
    commit_answers_lost: int = 0
    statements_reset: int = 0


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    conversation: Conversation
    strike: Strike | None = None  # has begun on this link
    ended: bool = False


class WireProxy:
    """Listens on 127.0.0.1 in a thread of its own; every method may be called from any other thread."""

    def __init__(self, server: Address, *, port: int = 0, postgres: bool = True) -> None:
        # never listens: it keeps the port ours while we refuse, so that nobody else's connection takes it
        self._placeholder = _bound_socket(port)
        self.port: int = self._placeholder.getsockname()[1]
        self._server_address = server
        self._postgres = postgres
        self._figures = Figures()
        self._links: set[_Link] = set()
        self._armed: Counter[Strike] = Counter()
        self._spared: Counter[Strike] = Counter()
        self._bytes_per_second: float | None = None
        self._delay_seconds = 0.0
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"wire_proxy_{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(COMMAND_SECONDS_MAX)
        self._loop.close()
        self._placeholder.close()

    @property
    def figures(self) -> dict[str, int]:
        """A copy of what happened so far."""
        return asdict(self._figures)

    @property
    def links(self) -> int:
        """Connections through the proxy that are open now."""
        return len(self._links)

    def pass_on(self) -> None:
        """A healthy network again: nothing armed, nothing stalled or slow, new connections taken. What a stalled link
        held back goes on its way, as late packets do."""

        async def command() -> None:
            self._armed.clear()
            self._bytes_per_second, self._delay_seconds = None, 0.0
            self._flowing.set()
            await self._listen()

        self._do(command())

    def cut(self) -> None:
        """Close every open link in order (FIN). New connections are taken."""
        self._do(self._end_all(reset=False))

    def reset(self) -> None:
        """Break every open link (RST). New connections are taken."""
        self._do(self._end_all(reset=True))

    def stall(self) -> None:
        """From now on nothing passes in either direction; connections stay open and new ones are met with silence."""

        async def command() -> None:
            self._flowing.clear()

        self._do(command())

    def slow(self, *, bytes_per_second: float | None = None, delay_seconds: float = 0.0) -> None:
        """Delay each piece of data, and pass no more than so many bytes a second in each direction of each link."""

        async def command() -> None:
            self._bytes_per_second, self._delay_seconds = bytes_per_second, delay_seconds

        self._do(command())

    def refuse(self) -> None:
        """Break every open link and refuse new connections, as a machine does whose server is gone."""

        async def command() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            await self._end_all(reset=True)

        self._do(command())

    def arm(self, strike: Strike, times: int = 1, *, after: int = 0) -> None:
        """Let `strike` meet the next `times` conversations that give it the occasion, once `after` of them have passed."""
        if not self._postgres:
            raise ValueError(
                "a strike follows PostgreSQL's messages; this proxy was told that it passes something else"
            )

        async def command() -> None:
            self._armed[strike] += times
            self._spared[strike] = after

        self._do(command())

    def _do(self, command: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(command, self._loop).result(COMMAND_SECONDS_MAX)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._take, sock=_bound_socket(self.port), backlog=BACKLOG)

    async def _shut_down(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._end_all(reset=True)
        self._flowing.set()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:  # who is still reaching for the server
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _end_all(self, *, reset: bool) -> None:
        for link in list(self._links):
            self._count("reset" if reset else "cut")
            self._end(link, reset=reset)
        await asyncio.sleep(0)  # let the transports close

    def _end(self, link: _Link, *, reset: bool) -> None:
        link.ended = True
        self._links.discard(link)
        for writer in (link.client, link.server):
            if reset:
                _break(writer)
            else:
                writer.close()

    async def _take(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._count("accepted")
        if len(self._links) >= LINKS_MAX:
            self._count("turned_away")
            _break(client)
            return
        try:
            server_reader, server = await asyncio.wait_for(self._reach_server(), CONNECT_SECONDS_MAX)
        except (OSError, TimeoutError):
            self._count("turned_away")
            _break(client)
            return
        link = _Link(client, server, Conversation())
        self._links.add(link)
        try:
            await asyncio.gather(self._to_server(link, reader), self._to_client(link, server_reader))
        except asyncio.CancelledError:  # the proxy shuts down; a handler's cancelled task would be logged as an error
            pass
        self._end(link, reset=False)

    async def _reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._server_address, str):
            return await asyncio.open_unix_connection(self._server_address)
        return await asyncio.open_connection(*self._server_address)

    async def _to_server(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await self._piece(link, reader):
            if self._postgres and self._strikes_request(link, data):
                self._count("commits_lost")
                self._end(link, reset=True)
                return
            await _send(link.server, data)
        link.server.close()

    async def _to_client(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await self._piece(link, reader):
            said = link.conversation.server_says(data) if self._postgres else []
            if link.strike is Strike.STATEMENT:
                await _send(link.client, data[: len(data) // 2])
                self._count("statements_reset")
                self._end(link, reset=True)
                return
            if link.strike is Strike.COMMIT_ANSWER:
                if any(message.completes(b"COMMIT") for message in said):
                    self._count("commit_answers_lost")
                    self._end(link, reset=True)
                    return
                continue  # what belongs to the answer is lost with it
            await _send(link.client, data)
        link.client.close()

    async def _piece(self, link: _Link, reader: asyncio.StreamReader) -> bytes:
        """The next bytes of one direction, when the network lets them through; empty at its end."""
        try:
            data = await reader.read(CHUNK_BYTES)
        except OSError:
            data = b""
        if not self._flowing.is_set():
            self._count("held_back")
            await self._flowing.wait()
        seconds = self._delay_seconds + (len(data) / self._bytes_per_second if self._bytes_per_second else 0.0)
        if seconds and data:
            self._count("slowed")
            await asyncio.sleep(seconds)
        return b"" if link.ended else data

    def _strikes_request(self, link: _Link, data: bytes) -> bool:
        """Look at what the client asks; True when these bytes must not arrive."""
        for message in link.conversation.client_says(data):
            if message.asks_for(b"COMMIT"):
                self._count("commits")
                if self._disarm(Strike.COMMIT):
                    return True
                if self._disarm(Strike.COMMIT_ANSWER):
                    link.strike = Strike.COMMIT_ANSWER
            elif message.is_statement() and self._disarm(Strike.STATEMENT):
                link.strike = Strike.STATEMENT
        return False

    def _disarm(self, strike: Strike) -> bool:
        """Use up one of the armed strikes."""
        if not self._armed[strike]:
            return False
        if self._spared[strike]:
            self._spared[strike] -= 1
            return False
        self._armed[strike] -= 1
        return True

    def _count(self, name: str) -> None:
        setattr(self._figures, name, getattr(self._figures, name) + 1)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Pass bytes on; a peer that is gone is noticed by the other direction's end."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        writer.close()


def _break(writer: asyncio.StreamWriter) -> None:
    """Close without a goodbye: RST on TCP."""
    connection: socket.socket = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:  # already closed
            pass
    writer.transport.abort()


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
