"""Does the store keep what was put first? Evidence is safe only where a second put of the same key changes nothing."""

from __future__ import annotations

import hashlib
from typing import Final

from fraud_daemons.evidence.port import EvidenceStore, PutOutcome

PROBE_KEY: Final = "_check/conditional_put"
PROBE_BODY: Final = b"written once by platform check and platform up\n"


def probe(store: EvidenceStore) -> str | None:
    """None when a put is kept, a second put of the same key refused and the get true; else what went wrong.

    Raises what the store raises.
    """
    digest = hashlib.sha256(PROBE_BODY).hexdigest()
    store.put_once(PROBE_KEY, PROBE_BODY, sha256=digest)
    again = store.put_once(PROBE_KEY, PROBE_BODY, sha256=digest)
    if again is not PutOutcome.ALREADY_THERE:
        return "a conditional put (If-None-Match: *) overwrote an object; evidence would not be safe in this store"
    return None if store.get(PROBE_KEY) == PROBE_BODY else "a get did not give back what was put"
