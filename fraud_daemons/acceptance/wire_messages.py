"""The messages of one PostgreSQL conversation, followed as the bytes go by: enough to know a COMMIT and its answer.

It keeps the first bytes of each message and lets the rest pass; it changes nothing and holds nothing back. A
conversation that turns to TLS, and a cancel request, are not readable: from then on no message is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

BODY_BYTES_KEPT = 256
"""Of each message; enough for BEGIN, COMMIT and the command's tag."""

_CANCEL_REQUEST, _TLS_REQUEST, _GSS_REQUEST = 80877102, 80877103, 80877104
_ENCRYPTED = b"SG"


@dataclass(frozen=True)
class Message:
    """One message: its type letter and the beginning of its body."""

    kind: str
    body: bytes

    def asks_for(self, word: bytes) -> bool:
        """Whether it is a statement that begins with `word`, by the simple (Q) or the extended protocol (P)."""
        if self.kind == "Q":
            text = self.body
        elif self.kind == "P":
            text = self.body.partition(b"\0")[2]
        else:
            return False
        return text.lstrip().upper().startswith(word)

    def is_statement(self) -> bool:
        """Whether it asks for work: a statement, not the brackets of a transaction."""
        return self.kind in "QP" and not any(self.asks_for(word) for word in (b"BEGIN", b"COMMIT", b"ROLLBACK"))

    def completes(self, tag: bytes) -> bool:
        """Whether the server says that a command with this tag is done."""
        return self.kind == "C" and self.body.startswith(tag)


class _Framer:
    """Cuts one direction's bytes into messages; keeps less than a message's kept part in memory."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        found: list[Message] = []
        while len(self._buffer) > 0:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
            if len(self._buffer) < 5:  # type letter and length
                break
            whole = 1 + int.from_bytes(self._buffer[1:5], "big")
            kept = min(whole, 5 + BODY_BYTES_KEPT)
            if len(self._buffer) < kept:
                break
            found.append(Message(chr(self._buffer[0]), bytes(self._buffer[5:kept])))
            del self._buffer[:kept]
            self._skip = whole - kept
        return found


class Conversation:
    """Both directions of one connection, from its first byte on."""

    def __init__(self) -> None:
        self._client, self._server = _Framer(), _Framer()
        self._greeting = bytearray()
        self._greeted = False
        self._single_bytes_due = 0  # answers to a request for encryption are one byte without a frame
        self.readable = True

    def client_says(self, data: bytes) -> list[Message]:
        """Messages that the client completed with these bytes."""
        if not self.readable:
            return []
        return self._client.feed(data if self._greeted else self._greet(data))

    def server_says(self, data: bytes) -> list[Message]:
        """Messages that the server completed with these bytes."""
        while self.readable and self._single_bytes_due and data:
            self._single_bytes_due -= 1
            self.readable = data[:1] not in (_ENCRYPTED[:1], _ENCRYPTED[1:])
            data = data[1:]
        return self._server.feed(data) if self.readable else []

    def _greet(self, data: bytes) -> bytes:
        """Follow the frames without a letter that open a conversation; what is left belongs to the messages."""
        self._greeting += data
        while not self._greeted and len(self._greeting) >= 8:
            length, code = (int.from_bytes(self._greeting[at : at + 4], "big") for at in (0, 4))
            if len(self._greeting) < length:
                return b""
            del self._greeting[:length]
            if code in (_TLS_REQUEST, _GSS_REQUEST):
                self._single_bytes_due += 1
            else:
                self._greeted = True
                self.readable = code != _CANCEL_REQUEST
        rest = bytes(self._greeting) if self._greeted else b""
        if self._greeted:
            self._greeting.clear()
        return rest
