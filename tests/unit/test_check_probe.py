"""The probe of a bucket: a store must refuse to overwrite, or evidence is not safe in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fraud_daemons.cli._finding import not_checked, ok, wrong
from fraud_daemons.evidence.conditional_put import PROBE_BODY, PROBE_KEY, probe
from fraud_daemons.evidence.port import ObjectFacts, PutOutcome


class Store:
    """A store in memory; `honours` = it knows If-None-Match, `gives` = what a get answers instead of what was put."""

    def __init__(self, *, honours: bool = True, gives: bytes | None = None) -> None:
        self._honours, self._gives = honours, gives
        self.objects: dict[str, bytes] = {}

    def put_once(self, key: str, body: bytes, *, sha256: str) -> PutOutcome:
        there = self._honours and key in self.objects
        self.objects[key] = body
        return PutOutcome.ALREADY_THERE if there else PutOutcome.WRITTEN

    def get(self, key: str) -> bytes:
        return self._gives if self._gives is not None else self.objects[key]

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        raise AssertionError("the probe of a conditional put only puts and gets")

    def check(self) -> None:
        raise AssertionError("the probe of a conditional put only puts and gets")


@pytest.mark.parametrize(
    ("store", "words"),
    [(Store(honours=False), "overwrote an object"), (Store(gives=b"else"), "did not give back")],
)
def test_a_store_that_cannot_keep_evidence(store: Store, words: str) -> None:
    """A store that overwrites, or gives back something else, is named for it."""
    said = probe(store)
    assert said
    assert words in said


def test_a_good_store_may_be_probed_again() -> None:
    """The probe is one object with fixed bytes, so every later probe finds it and is good too."""
    store = Store()
    assert probe(store) is None
    assert probe(store) is None
    assert store.objects == {PROBE_KEY: PROBE_BODY}


def test_a_finding_in_words_and_json() -> None:
    """Good, wrong and not checked are three different answers."""
    assert [finding.to_json()["ok"] for finding in (ok("a"), wrong("b", "x"), not_checked("c", "y"))] == [
        True,
        False,
        None,
    ]
    assert str(not_checked("topics", "substrate is down")).endswith("topics: not checked: substrate is down")
