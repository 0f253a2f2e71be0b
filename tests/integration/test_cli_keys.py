"""platform keys: what it issues the gate accepts, what it ends the gate refuses, and no key is ever written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_daemons.config.secrets_file import read_secrets, write_secrets
from fraud_daemons.errors import ExitCode
from tests.gate import CLIENT_KEY, PRODUCER_KEY, Gate, events_of, mark, open_gate
from tests.integration.test_cli_receipts_quarantine import Platform, platform
from tests.integration.test_no_card_numbers import rows_with
from tests.line import Line

__all__ = ["platform"]


def as_json(platform: Platform, *words: str) -> dict[str, str]:
    code, said, error = platform("keys", *words, "--json")
    assert code == ExitCode.GOOD, error
    answer: dict[str, str] = json.loads(said)
    return answer


def states(platform: Platform, name: str) -> list[str]:
    """States of a principal's keys, newest first."""
    return [key["state"] for key in as_json(platform, "list", name)["keys"]]  # type: ignore[index]


def answer_to(line: Line, gate: Gate, key: str) -> tuple[int, str]:
    """What the gate says to a key, once it has read its list again."""
    line.clock.advance(6)
    answer = gate.post(events_of([1], run=line.run), key=key)
    return answer.status, answer.body.get("error", "")


def test_a_principal_is_issued_a_key_for_what_it_may_send(line: Line, platform: Platform) -> None:
    """The key is shown once and works for its scope only; neither list nor database holds it."""
    with open_gate(line) as gate:
        issued = as_json(platform, "issue", "acquirer-7", "--sends", "traffic")
        key = issued["key"]
        results = gate.post([*events_of([1], run=line.run), mark("traffic", 1, run=line.run)], key=key).results
        assert [r.get("reason", r["status"]) for r in results] == ["ADMITTED", "EVENT_TYPE_NOT_IN_SCOPE"]
    assert rows_with(line, key) == []
    listed = platform("keys", "list")[1]
    assert key not in listed
    assert issued["fingerprint"] in listed
    assert platform("keys", "issue", "acquirer-7", "--sends", "traffic")[0] == ExitCode.NO
    assert platform("keys", "issue", "Acquirer 7", "--sends", "traffic")[0] == ExitCode.USAGE
    assert line.sql("select detail ->> 'deed', subject from control.governance where kind = 'KEY_ROTATED'") == [
        ("issued", "acquirer-7")
    ]


def test_a_rotation_has_an_overlap_and_an_end(line: Line, platform: Platform) -> None:
    """Old and new are both accepted during the grace, then the old one is refused by name; never three at a time."""
    with open_gate(line) as gate:
        keys = [as_json(platform, "issue", "acquirer-7", "--sends", "traffic")["key"]]
        keys += [as_json(platform, "rotate", "acquirer-7")["key"] for _ in range(2)]
        assert [answer_to(line, gate, key)[0] for key in keys] == [401, 200, 200]
        assert states(platform, "acquirer-7") == ["accepted", "accepted", "ended"]
        line.sql("update ig.principals set expires_at = now() where expires_at > now()")
        assert answer_to(line, gate, keys[1]) == (401, "key_expired")
        assert answer_to(line, gate, keys[2])[0] == 200


def test_our_own_keys_rotate_in_their_place(line: Line, platform: Platform, short_dir: Path) -> None:
    """The producer's new key is in secrets.json and nowhere shown; the rest of the file stays; up keeps it."""
    write_secrets(
        short_dir, {"gate": {"producer_key": PRODUCER_KEY, "client_key": CLIENT_KEY}, "console": {"token": "t"}}
    )
    with open_gate(line) as gate:
        told = as_json(platform, "rotate", "world_stream_producer", "--grace-seconds", "0")
        assert told.keys() == {"principal", "fingerprint", "rotated_at", "secret"}
        secrets = read_secrets(short_dir)
        new = secrets["gate"].pop("producer_key")
        assert secrets == {"gate": {"client_key": CLIENT_KEY}, "console": {"token": "t"}}
        assert answer_to(line, gate, PRODUCER_KEY) == (401, "key_expired")
        assert answer_to(line, gate, new)[0] == 200
        code, _, said = platform("keys", "withdraw", "world_stream_producer", told["fingerprint"])
        assert code == ExitCode.NO
        assert "platform keys rotate world_stream_producer --grace-seconds 0" in said


def test_a_withdrawn_key_is_refused_at_once(line: Line, platform: Platform) -> None:
    """Named by its fingerprint; one that is not there, or is too short to name one, withdraws nothing."""
    with open_gate(line) as gate:
        issued = as_json(platform, "issue", "acquirer-7", "--sends", "traffic", "--until", "2099-01-01T00:00:00Z")
        assert answer_to(line, gate, issued["key"])[0] == 200
        as_json(platform, "withdraw", "acquirer-7", issued["fingerprint"][:8])
        assert answer_to(line, gate, issued["key"]) == (401, "key_wrong")
        assert states(platform, "acquirer-7") == ["withdrawn"]
    assert platform("keys", "withdraw", "acquirer-7", issued["fingerprint"])[0] == ExitCode.NO
    assert platform("keys", "withdraw", "acquirer-7", "ab")[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "code"),
    [(("rotate", "nobody"), ExitCode.NO), (("list", "nobody"), ExitCode.NO),
     (("issue", "a", "--sends", "weather"), ExitCode.USAGE),
     (("issue", "a", "--sends", "traffic", "--until", "soon"), ExitCode.USAGE),
     (("issue", "a", "--sends", "traffic", "--until", "2001-01-01T00:00:00Z"), ExitCode.USAGE)],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line(
    line: Line, platform: Platform, words: tuple[str, ...], code: ExitCode
) -> None:
    """Unknown names, types and times: one line, the right exit code, nothing issued."""
    found, _, said = platform("keys", *words)
    assert found == code
    assert said.startswith("error: ")
    assert line.sql("select count(*) from ig.principals where name not in ('client', 'world_stream_producer')") == [
        (0,)
    ]
