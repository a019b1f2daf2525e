"""An S3 server that is as strict as the S3 API reference says, where test servers are usually kind.

Path-style, in memory, signatures not checked. What an operation does not know it refuses (501), because a
server that ignores an unknown sub-resource overwrites images.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config
from servers.strict_s3_http import Faults, Request, Response, S3Error, refusal, serving, spoiled, xml

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OWNER = "0" * 63 + "1"
MAX_COPY_BYTES = 5 * 1024**3
MAX_METADATA_BYTES = 2048
ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}
SYSTEM_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
GRANTS = {
    "x-amz-grant-full-control": "FULL_CONTROL",
    "x-amz-grant-read": "READ",
    "x-amz-grant-read-acp": "READ_ACP",
    "x-amz-grant-write-acp": "WRITE_ACP",
}
GROUPS = "http://acs.amazonaws.com/groups/global/"
CANNED: dict[str, list[tuple[str, str]]] = {
    "private": [],
    "public-read": [("READ", f"uri={GROUPS}AllUsers")],
    "authenticated-read": [("READ", f"uri={GROUPS}AuthenticatedUsers")],
    "bucket-owner-full-control": [],
}
CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "SHA1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "SHA256": lambda body: hashlib.sha256(body).digest(),
}
Grants = list[tuple[str, str]]
_ticks = itertools.count()


@dataclass(frozen=True)
class Stored:
    """One version of one object. Tests replace fields that no request can set."""

    body: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)  #: of `SYSTEM_HEADERS`
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    owner: str = OWNER
    grants: Grants = field(default_factory=list)
    storage_class: str = "STANDARD"
    encryption: dict[str, str] = field(default_factory=dict)  #: `x-amz-server-side-encryption…` headers
    redirect: str | None = None
    checksum: tuple[str, str, str] | None = None  #: algorithm, value, FULL_OBJECT or COMPOSITE
    size: int = 0
    version_id: str | None = None
    last_modified: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    extra: dict[str, str] = field(default_factory=dict)  #: headers of lock, replication, missing metadata …
    customer_key: bool = False  #: SSE-C

    @property
    def bytes_sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class Bucket:
    versioned: bool = False
    acls_enabled: bool = False
    owner: str = OWNER
    encryption: dict[str, str] = field(default_factory=lambda: {"x-amz-server-side-encryption": "AES256"})
    objects: dict[str, list[Stored]] = field(default_factory=dict)  #: newest last


@dataclass(frozen=True)
class Event:
    """One request that changed something."""

    operation: str
    bucket: str
    key: str
    version_id: str | None = None


class StrictS3:
    """The store and its operations; each operation is a method that tests of it can read."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.faults = Faults()
        self.events: list[Event] = []
        self.requests: list[str] = []  #: every operation, in order of arrival
        self._lock = threading.RLock()

    def answer(self, request: Request) -> Response:
        operation = operation_of(request)
        self.requests.append(operation)
        fault = self.faults.take(operation)
        if fault and not fault.applied:
            return spoiled(fault)
        try:
            with self._lock:
                response = self._operations.get(operation, StrictS3.not_implemented)(self, request)
        except S3Error as error:
            response = refusal(error.status, error.code)
        return spoiled(fault) if fault else response

    # --- what tests look at and set -----------------------------------------------------------------------

    def current(self, bucket: str, key: str) -> Stored:
        return self._find(self._bucket(bucket), key, None)

    def edit(self, bucket: str, key: str, **fields: Any) -> None:
        """Set what no request can, such as `extra={"x-amz-replication-status": "REPLICA"}`."""
        versions = self.buckets[bucket].objects[key]
        versions[-1] = replace(versions[-1], **fields)

    # --- operations ---------------------------------------------------------------------------------------

    def create_bucket(self, request: Request) -> Response:
        acls = request.headers.get("x-amz-object-ownership", "BucketOwnerEnforced") != "BucketOwnerEnforced"
        self.buckets[request.bucket] = Bucket(acls_enabled=acls)
        return Response()

    def put_bucket_versioning(self, request: Request) -> Response:
        self._bucket(request.bucket).versioned = b"<Status>Enabled" in request.body
        return Response()

    def get_bucket_ownership_controls(self, request: Request) -> Response:
        enabled = self._bucket(request.bucket).acls_enabled
        ownership = "ObjectWriter" if enabled else "BucketOwnerEnforced"
        rule = f"<Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule>"
        return xml(f"<OwnershipControls>{rule}</OwnershipControls>")

    def get_bucket_encryption(self, request: Request) -> Response:
        algorithm = self._bucket(request.bucket).encryption["x-amz-server-side-encryption"]
        default = f"<SSEAlgorithm>{algorithm}</SSEAlgorithm>"
        rule = (
            f"<Rule><ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault></Rule>"
        )
        return xml(f"<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>")

    def get_bucket_acl(self, request: Request) -> Response:
        owner = self._bucket(request.bucket).owner
        return xml(_acl(owner, [("FULL_CONTROL", f"id={owner}")]))

    def put_object(self, request: Request) -> Response:
        bucket = self._bucket(request.bucket)
        self._check_write_conditions(bucket, request)
        stored = self._new(bucket, request, request.body, _tags(request.header("x-amz-tagging")))
        stored = self._add(bucket, request, stored, "PutObject")
        return Response(headers={"ETag": _quoted(stored.etag), **_version(stored)})

    def head_object(self, request: Request) -> Response:
        stored = self._find(self._bucket(request.bucket), request.key, request.query.get("versionId"))
        if stored.customer_key:
            raise S3Error(400, "InvalidRequest")
        return Response(headers=_headers(stored, checksum=request.header("x-amz-checksum-mode") == "ENABLED"))

    def get_object(self, request: Request) -> Response:
        stored = self._find(self._bucket(request.bucket), request.key, request.query.get("versionId"))
        response = self.head_object(request)
        del response.headers["Content-Length"]
        first_byte = request.header("range") == "bytes=0-0"
        response.body = stored.body[:1] if first_byte else stored.body
        response.status = 206 if first_byte else 200
        return response

    def copy_object(self, request: Request) -> Response:
        bucket = self._bucket(request.bucket)
        source = self._copy_source(request)
        self._check_write_conditions(bucket, request)
        replaces = request.header("x-amz-metadata-directive") == "REPLACE"
        keeps_tags = request.header("x-amz-tagging-directive") != "REPLACE"
        tags = source.tags if keeps_tags else _tags(request.header("x-amz-tagging"))
        stored = self._new(bucket, request, source.body, tags)
        if not replaces:
            stored = replace(stored, headers=source.headers, metadata=source.metadata)
        if request.header("x-amz-checksum-algorithm") is None:
            stored = replace(
                stored, checksum=source.checksum
            )  # "will be copied to the new object by default"
        stored = self._add(bucket, request, stored, "CopyObject")
        etag = f"<ETag>{_quoted(stored.etag)}</ETag>"
        when = f"<LastModified>{stored.last_modified.isoformat()}</LastModified>"
        return xml(f"<CopyObjectResult>{etag}{when}</CopyObjectResult>", _version(stored))

    def delete_object(self, request: Request) -> Response:
        self._bucket(request.bucket).objects.pop(request.key, None)
        self.events.append(Event("DeleteObject", request.bucket, request.key))
        return Response(204)

    def list_objects_v2(self, request: Request) -> Response:
        query, objects = request.query, self._bucket(request.bucket).objects
        after = query.get("continuation-token") or query.get("start-after", "")
        found = sorted(key for key in objects if key.startswith(query.get("prefix", "")) and key > after)
        page = found[: int(query.get("max-keys", 1000))]
        more = f"<NextContinuationToken>{quote(page[-1])}</NextContinuationToken>" if page < found else ""
        rows = "".join(_listed(key, objects[key][-1]) for key in page)
        truncated = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>"
        return xml(
            f"<ListBucketResult><EncodingType>url</EncodingType>{truncated}{more}{rows}</ListBucketResult>"
        )

    def get_object_acl(self, request: Request) -> Response:
        stored = self._find(self._bucket(request.bucket), request.key, request.query.get("versionId"))
        return xml(_acl(stored.owner, stored.grants))

    def get_object_tagging(self, request: Request) -> Response:
        stored = self._find(self._bucket(request.bucket), request.key, request.query.get("versionId"))
        tags = (
            f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>" for k, v in stored.tags.items()
        )
        return xml(f"<Tagging><TagSet>{''.join(tags)}</TagSet></Tagging>", _version(stored))

    def put_object_tagging(self, request: Request) -> Response:
        root = ET.fromstring(request.body)  # noqa: S314 - the tests' own client wrote it
        texts = [element.text or "" for element in root.iter() if element.tag.endswith(("}Key", "}Value"))]
        self.edit(request.bucket, request.key, tags=dict(zip(texts[::2], texts[1::2], strict=True)))
        self.events.append(Event("PutObjectTagging", request.bucket, request.key))
        return Response()

    def not_implemented(self, _: Request) -> Response:
        raise S3Error(501, "NotImplemented")

    #: operation name -> method
    _operations: Mapping[str, Callable[[StrictS3, Request], Response]] = {
        "CreateBucket": create_bucket,
        "PutBucketVersioning": put_bucket_versioning,
        "GetBucketOwnershipControls": get_bucket_ownership_controls,
        "GetBucketEncryption": get_bucket_encryption,
        "GetBucketAcl": get_bucket_acl,
        "PutObject": put_object,
        "HeadObject": head_object,
        "GetObject": get_object,
        "CopyObject": copy_object,
        "DeleteObject": delete_object,
        "ListObjectsV2": list_objects_v2,
        "GetObjectAcl": get_object_acl,
        "GetObjectTagging": get_object_tagging,
        "PutObjectTagging": put_object_tagging,
    }

    # --- rules --------------------------------------------------------------------------------------------

    def _bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise S3Error(404, "NoSuchBucket")
        return self.buckets[name]

    def _find(self, bucket: Bucket, key: str, version_id: str | None) -> Stored:
        versions = bucket.objects.get(key, [])
        found = [stored for stored in versions if version_id in (None, stored.version_id or "null")]
        if not found:
            raise S3Error(404, "NoSuchVersion" if version_id else "NoSuchKey")
        return found[-1]

    def _check_write_conditions(self, bucket: Bucket, request: Request) -> None:
        exists = request.key in bucket.objects
        if request.header("if-none-match") == "*" and exists:
            raise S3Error(412, "PreconditionFailed")
        wanted = request.header("if-match")
        if wanted is not None and not exists:
            raise S3Error(404, "NoSuchKey")
        if wanted is not None and wanted.strip('"') != bucket.objects[request.key][-1].etag:
            raise S3Error(412, "PreconditionFailed")

    def _copy_source(self, request: Request) -> Stored:
        path, _, version = (request.header("x-amz-copy-source") or "").partition("?versionId=")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        source = self._find(self._bucket(bucket), key, version or None)
        wanted = request.header("x-amz-copy-source-if-match")
        if wanted is not None and wanted.strip('"') != source.etag:
            raise S3Error(412, "PreconditionFailed")
        if source.storage_class in ARCHIVED or "x-amz-archive-status" in source.extra:
            raise S3Error(403, "InvalidObjectState")
        onto_itself = (bucket, key) == (request.bucket, request.key) and not version
        changes = ("x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-server-side-encryption")
        unchanged = request.header("x-amz-metadata-directive") != "REPLACE" and not any(
            map(request.header, changes)
        )
        if source.customer_key or source.size > MAX_COPY_BYTES or (onto_itself and unchanged):
            raise S3Error(400, "InvalidRequest")
        return source

    def _new(self, bucket: Bucket, request: Request, body: bytes, tags: dict[str, str]) -> Stored:
        """An object as the request alone describes it: what is not sent is the bucket's default."""
        headers = {name: value for name in SYSTEM_HEADERS if (value := request.header(name))}
        encryption = _encryption(request) or dict(bucket.encryption)
        is_kms = encryption["x-amz-server-side-encryption"] != "AES256"
        return Stored(
            body,
            etag=uuid.uuid4().hex if is_kms else hashlib.md5(body, usedforsecurity=False).hexdigest(),
            headers={"content-type": "binary/octet-stream", **headers},
            metadata=_metadata(request),
            tags=tags,
            grants=_grants(bucket, request),
            storage_class=request.header("x-amz-storage-class") or "STANDARD",
            encryption=encryption,
            redirect=request.header("x-amz-website-redirect-location"),
            checksum=_checksum(request, body),
            size=len(body),
            last_modified=datetime.fromtimestamp(1_800_000_000 + next(_ticks), UTC),
        )

    def _add(self, bucket: Bucket, request: Request, stored: Stored, operation: str) -> Stored:
        if bucket.versioned:
            stored = replace(stored, version_id=uuid.uuid4().hex)
        earlier = bucket.objects.get(request.key, []) if bucket.versioned else []
        bucket.objects[request.key] = [*earlier, stored]
        self.events.append(Event(operation, request.bucket, request.key, stored.version_id))
        return stored


def operation_of(request: Request) -> str:
    """The operation's name in the API reference; a sub-resource that is not listed here is refused."""
    level = "Object" if request.key else "Bucket"
    method = request.method.capitalize()
    ignored = {
        "x-id",
        "versionId",
        "prefix",
        "start-after",
        "continuation-token",
        "max-keys",
        "encoding-type",
    }
    extra = set(request.query) - ignored
    if extra == {"list-type"} and level == "Bucket":
        return "ListObjectsV2"
    if not extra and request.header("x-amz-copy-source"):
        return "CopyObject"
    if not extra:
        return "CreateBucket" if (method, level) == ("Put", "Bucket") else f"{method}{level}"
    names = {"acl": "Acl", "tagging": "Tagging", "versioning": "Versioning", "encryption": "Encryption"}
    names["ownershipControls"] = "OwnershipControls"
    return f"{method}{level}{names.get(''.join(extra), '?')}"


def _metadata(request: Request) -> dict[str, str]:
    prefix = "x-amz-meta-"
    found = {name[len(prefix) :]: value for name, value in request.headers.items() if name.startswith(prefix)}
    if sum(len(name) + len(value.encode()) for name, value in found.items()) > MAX_METADATA_BYTES:
        raise S3Error(400, "MetadataTooLarge")
    return found


def _encryption(request: Request) -> dict[str, str]:
    prefix = "x-amz-server-side-encryption"
    sent = {name: value for name, value in request.headers.items() if name.startswith(prefix)}
    if sent.get(f"{prefix}-bucket-key-enabled", "").lower() == "false":
        del sent[f"{prefix}-bucket-key-enabled"]  # S3 does not report a false one
    return sent


def _grants(bucket: Bucket, request: Request) -> Grants:
    sent = [
        (permission, grantee.strip().replace('"', ""))
        for name, permission in GRANTS.items()
        for grantee in (request.header(name) or "").split(",")
        if grantee
    ]
    canned = request.header("x-amz-acl")
    if not bucket.acls_enabled and (sent or canned not in (None, "bucket-owner-full-control")):
        raise S3Error(400, "AccessControlListNotSupported")
    return sorted(sent) or sorted([("FULL_CONTROL", f"id={OWNER}"), *CANNED[canned or "private"]])


def _checksum(request: Request, body: bytes) -> tuple[str, str, str] | None:
    sent = [name for name in CHECKSUMS if request.header(f"x-amz-checksum-{name.lower()}")]
    algorithm = request.header("x-amz-checksum-algorithm") or request.header("x-amz-sdk-checksum-algorithm")
    name = algorithm or next(iter(sent), None)
    if name is None:
        return None
    if name not in CHECKSUMS:
        raise S3Error(400, "InvalidRequest")
    return name, base64.b64encode(CHECKSUMS[name](body)).decode(), "FULL_OBJECT"


def _tags(text: str | None) -> dict[str, str]:
    return dict(parse_qsl(text or "", keep_blank_values=True))


def _headers(stored: Stored, *, checksum: bool) -> dict[str, str]:
    fields = {
        **stored.headers,
        **{f"x-amz-meta-{name}": value for name, value in stored.metadata.items()},
        **stored.encryption,
        **stored.extra,
        **_version(stored),
        "ETag": _quoted(stored.etag),
        "Last-Modified": format_datetime(stored.last_modified, usegmt=True),
        "Content-Length": str(stored.size),
    }
    if stored.storage_class != "STANDARD":
        fields["x-amz-storage-class"] = stored.storage_class
    if stored.redirect:
        fields["x-amz-website-redirect-location"] = stored.redirect
    if stored.tags:
        fields["x-amz-tagging-count"] = str(len(stored.tags))
    if checksum and stored.checksum:
        name, value, kind = stored.checksum
        fields |= {f"x-amz-checksum-{name.lower()}": value, "x-amz-checksum-type": kind}
    return fields


def _version(stored: Stored) -> dict[str, str]:
    return {"x-amz-version-id": stored.version_id} if stored.version_id else {}


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _listed(key: str, stored: Stored) -> str:
    when = stored.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    facts = (
        f"<LastModified>{when}</LastModified><ETag>{_quoted(stored.etag)}</ETag><Size>{stored.size}</Size>"
    )
    return f"<Contents><Key>{quote(key)}</Key>{facts}</Contents>"


def _acl(owner: str, grants: Grants) -> str:
    rows = "".join(f"<Grant>{_grantee(who)}<Permission>{what}</Permission></Grant>" for what, who in grants)
    return (
        f"<AccessControlPolicy><Owner><ID>{owner}</ID></Owner>"
        f"<AccessControlList>{rows}</AccessControlList></AccessControlPolicy>"
    )


def _grantee(who: str) -> str:
    kind, _, value = who.partition("=")
    name, tag = ("CanonicalUser", "ID") if kind == "id" else ("Group", "URI")
    schema = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return f'<Grantee {schema} xsi:type="{name}"><{tag}>{value}</{tag}></Grantee>'


@dataclass(frozen=True)
class StrictS3UnderTest:
    """A running server: `store` is its inside, `client()` its outside."""

    url: str
    store: StrictS3

    @property
    def faults(self) -> Faults:
        return self.store.faults

    @property
    def events(self) -> list[Event]:
        return self.store.events

    def client(self) -> S3Client:
        """A client of its own, with one attempt a request."""
        config = Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, max_pool_connections=32
        )
        session = boto3.session.Session("testing", "testing", region_name="us-east-1")
        return session.client("s3", endpoint_url=self.url, config=config)

    def new_bucket(self, *, acls_enabled: bool = False, versioned: bool = False) -> str:
        """An empty bucket that no other test knows."""
        name = f"bucket-{next(_ticks)}"
        self.store.buckets[name] = Bucket(versioned=versioned, acls_enabled=acls_enabled)
        return name


@contextmanager
def running_strict_s3() -> Iterator[StrictS3UnderTest]:
    store = StrictS3()
    with serving(store.answer) as url:
        yield StrictS3UnderTest(url, store)
