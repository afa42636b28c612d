"""The archive in S3-compatible storage, through boto3."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from infra.archive.store import CHUNK, S3, ArchiveError, Object
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.settings import Archive

_GONE = frozenset({"NoSuchKey", "404", "NotFound"})
_HINTS = {
    "NoSuchBucket": "make the bucket first; Milepost makes none",
    "AccessDenied": "grant the key the rights to list, read, write and delete objects of the bucket",
    "InvalidAccessKeyId": "check archive.access_key_id",
    "SignatureDoesNotMatch": "check archive.access_key_secret and archive.region",
}


class _Body(Protocol):
    def read(self) -> bytes: ...

    def iter_chunks(self, chunk_size: int) -> Iterator[bytes]: ...


class _Pages(Protocol):
    def paginate(self, **request: str) -> Iterator[dict[str, list[dict[str, object]]]]: ...


class Client(Protocol):
    """What is used of boto3's client."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> object: ...

    def upload_fileobj(self, file: IO[bytes], bucket: str, key: str) -> None: ...

    def get_object(self, **request: str) -> dict[str, object]: ...

    def get_paginator(self, operation: str) -> _Pages: ...

    def delete_object(self, *, Bucket: str, Key: str) -> object: ...


class S3Store:
    """infra.archive.store.Store. An object is there when its upload has ended, so nothing needs another name first."""

    def __init__(self, client: Client, bucket: str, prefix: str) -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.place = f"{S3}{bucket}/{self._prefix}".rstrip("/")

    @classmethod
    def of(cls, place: str, settings: Archive) -> S3Store:
        """The one that a place s3://BUCKET/PREFIX names. Raises MilepostError when boto3 is missing."""
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as error:
            raise MilepostError("S3 needs boto3.", why=str(error), hint="pip install 'milepost[aws]'") from error
        bucket, _, prefix = place.removeprefix(S3).partition("/")
        secret = settings.access_key_secret.get_secret_value() if settings.access_key_secret else None
        client = boto3.client(
            "s3", endpoint_url=settings.endpoint, region_name=settings.region, aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret,
            config=Config(
                s3={"addressing_style": settings.addressing}, connect_timeout=10, read_timeout=60,
                retries={"mode": "standard", "max_attempts": 5},
                # the trailing checksums that boto3 sends by itself are refused by storage that is only compatible
                request_checksum_calculation="when_required", response_checksum_validation="when_required",
            ),
        )  # fmt: skip
        return cls(client, bucket, prefix)

    def put(self, name: str, data: bytes) -> None:
        with self._told():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def put_file(self, name: str, file: Path) -> None:
        with self._told(), file.open("rb") as content:
            self._client.upload_fileobj(content, self._bucket, self._key(name))
        file.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="milepost-archive-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        if length == 0:
            return b""
        span = "" if not offset and length is None else f"bytes={offset}-{'' if length is None else offset + length - 1}"
        body = self._body(name, span)
        if body is None:
            return None
        with self._told():
            return body.read()

    def chunks(self, name: str) -> Iterator[bytes]:
        body = self._body(name)
        if body is not None:
            with self._told():
                yield from body.iter_chunks(CHUNK)

    def list(self, prefix: str = "") -> Iterator[Object]:
        with self._told():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
                for each in page.get("Contents", []):
                    yield Object(str(each["Key"]).removeprefix(self._prefix), int(str(each["Size"])))

    def top(self) -> Iterator[str]:
        with self._told():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"):
                yield from (str(each["Key"]).removeprefix(self._prefix) for each in page.get("Contents", []))

    def delete(self, name: str) -> None:
        with self._told():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def _body(self, name: str, span: str = "") -> _Body | None:
        request = {"Bucket": self._bucket, "Key": self._key(name)} | ({"Range": span} if span else {})
        with self._told():
            try:
                return self._client.get_object(**request)["Body"]  # type: ignore[return-value]  # botocore's StreamingBody
            except Exception as error:
                if _code(error) in _GONE:
                    return None
                raise

    def _key(self, name: str) -> str:
        return self._prefix + name

    @contextmanager
    def _told(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            yield
        except (BotoCoreError, ClientError, HTTPClientError, Boto3Error, OSError) as error:
            hint = _HINTS.get(_code(error), "check archive.endpoint, archive.to and the credentials")
            raise ArchiveError(f"The archive in {self.place} cannot be used.", why=str(error), hint=hint) from error


def _code(error: BaseException) -> str:
    said = getattr(error, "response", {})
    return str(said.get("Error", {}).get("Code", "")) if isinstance(said, dict) else ""
