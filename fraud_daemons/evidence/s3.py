"""Evidence over the S3 protocol: `IfNoneMatch='*'` makes a put conditional, so nothing is ever overwritten.

botocore's errors are translated here, once. boto3 is imported only when the first store is made: sixteen processes
start at once on two cores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fraud_daemons.errors import FatalFault, OverloadFault, PlatformError, TransientFault
from fraud_daemons.evidence.port import STORE, EvidenceConflict, ObjectFacts, ObjectVersion, PutOutcome
from fraud_daemons.observability.pulse import pulse

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 8
CONNECTIONS_MAX = 8
CONTENT_TYPES = {"gz": "application/gzip", "html": "text/html; charset=utf-8"}
"""By what a key ends with; everything else is JSON."""

REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "AllAccessDisabled", "403"}


class StoreRefusal(TransientFault):
    """The store answers and says no: a key, a signature, a bucket. Patience for workers - keys rotate -, an answer for `up`."""


@dataclass(frozen=True)
class S3Settings:
    """Where and as whom. The secret is never in a repr."""

    endpoint: str | None
    bucket: str
    region: str
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"S3Settings(endpoint={self.endpoint!r}, bucket={self.bucket!r})"


class S3EvidenceStore:
    """Put-once objects in one bucket. `read_settings` is called again after a refusal, so keys can rotate."""

    def __init__(self, read_settings: Callable[[], S3Settings]) -> None:
        self._read_settings = read_settings
        self._settings = read_settings()
        self._client_or_none: Any = None

    def put_once(self, key: str, body: bytes, *, sha256: str) -> PutOutcome:
        try:
            self._client.put_object(
                Bucket=self._settings.bucket,
                Key=key,
                Body=body,
                IfNoneMatch="*",
                Metadata={"sha256": sha256},
                ContentType=CONTENT_TYPES.get(key.rpartition(".")[2], "application/json"),
            )
        except Exception as error:
            if _code(error) not in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                raise self._translated(error, f"put {key}") from error
        else:
            return PutOutcome.WRITTEN
        there = hashlib.sha256(self.get(key)).hexdigest()
        if there != sha256:
            raise EvidenceConflict(
                f"object {key} exists with other bytes (sha256 {there}, ours {sha256}); it was not overwritten",
                reason=f"evidence conflict at {key}",
            )
        return PutOutcome.ALREADY_THERE

    def get(self, key: str) -> bytes:
        try:
            answer = self._client.get_object(Bucket=self._settings.bucket, Key=key)
            body: bytes = answer["Body"].read()
        except Exception as error:
            raise self._translated(error, f"get {key}") from error
        return body

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectFacts(entry["Key"], entry["Size"])
        except Exception as error:
            raise self._translated(error, f"list {prefix}") from error

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        try:
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._settings.bucket, Prefix=prefix
            )
            for page in pages:
                yield from _versions(page)
        except Exception as error:
            raise self._translated(error, f"list versions of {prefix}") from error

    def get_version(self, key: str, version: str) -> bytes:
        try:
            answer = self._client.get_object(Bucket=self._settings.bucket, Key=key, VersionId=version)
            body: bytes = answer["Body"].read()
        except Exception as error:
            raise self._translated(error, f"get {key} version {version}") from error
        return body

    def keeps_versions(self) -> bool:
        try:
            status = self._client.get_bucket_versioning(Bucket=self._settings.bucket).get("Status")
        except Exception as error:
            raise self._translated(error, f"versioning of bucket {self._settings.bucket}") from error
        return bool(status == "Enabled")

    def check(self) -> None:
        try:
            self._client.list_objects_v2(Bucket=self._settings.bucket, MaxKeys=1)
        except Exception as error:
            raise self._translated(error, f"bucket {self._settings.bucket}") from error

    @property
    def _client(self) -> Any:
        pulse()  # each answer is waited for under these timeouts, so whoever asks is alive
        if self._client_or_none is None:
            import boto3
            from botocore.config import Config

            self._client_or_none = boto3.session.Session().client(
                "s3",
                endpoint_url=self._settings.endpoint,
                region_name=self._settings.region,
                aws_access_key_id=self._settings.access_key or None,  # None: boto3's own chain
                aws_secret_access_key=self._settings.secret_key or None,
                config=Config(
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    read_timeout=READ_TIMEOUT_SECONDS,
                    max_pool_connections=CONNECTIONS_MAX,
                    retries={"total_max_attempts": 1},  # patience belongs to the loop, which also tells of it
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        return self._client_or_none

    def _translated(self, error: Exception, what: str) -> PlatformError:
        code = _code(error)
        if isinstance(error, PlatformError):
            return error
        if code in ("NoSuchKey", "NoSuchVersion", "404"):
            return FatalFault(f"object store: {what}: no such object", reason=f"{STORE}: no such object")
        if code in REFUSED:
            self._settings, self._client_or_none = self._read_settings(), None
            return StoreRefusal(f"object store refused {what}: {code}", reason=f"{STORE}: {code}")
        if code == "EntityTooLarge":
            return OverloadFault(f"object store: {what}: {code}", reason=f"{STORE}: {code}")
        if code is None and not _from_the_network(error):
            raise error
        name = code or type(error).__name__
        return TransientFault(f"object store away: {what}: {name}", reason=f"{STORE}: {name}")


def _versions(page: Mapping[str, Any]) -> Iterator[ObjectVersion]:
    for list_name, deleted in (("DeleteMarkers", True), ("Versions", False)):
        for entry in page.get(list_name, ()):
            at = entry["LastModified"].isoformat()
            yield ObjectVersion(entry["Key"], entry["VersionId"], at, entry["IsLatest"], deleted)


def _code(error: Exception) -> str | None:
    """The S3 error code of a botocore ClientError, None for anything else."""
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _from_the_network(error: Exception) -> bool:
    """Whether botocore could not reach the store or lost it half-way (its own errors, or the socket's)."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("botocore", "urllib3")
