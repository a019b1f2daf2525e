"""A request's headers as an object's fields, and an object's fields as headers."""

from __future__ import annotations

import base64
import hashlib
import uuid
import zlib
from collections.abc import Callable
from dataclasses import replace
from email.utils import format_datetime

from servers.strict_s3_http import Request, S3Error
from servers.strict_s3_store import OWNER, Bucket, Grants, Stored, now, quoted, version_header

MAX_METADATA_BYTES = 2048
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


def new_object(bucket: Bucket, request: Request, body: bytes) -> Stored:
    """An object as the request alone describes it: what is not sent is the bucket's default."""
    headers = {name: value for name in SYSTEM_HEADERS if (value := request.header(name))}
    encryption = _encryption(request) or dict(bucket.encryption)
    is_kms = encryption["x-amz-server-side-encryption"] != "AES256"
    return Stored(
        body,
        etag=uuid.uuid4().hex if is_kms else hashlib.md5(body, usedforsecurity=False).hexdigest(),
        headers={"content-type": "binary/octet-stream", **headers},
        metadata=_metadata(request),
        grants=_grants(bucket, request),
        storage_class=request.header("x-amz-storage-class") or "STANDARD",
        encryption=encryption,
        redirect=request.header("x-amz-website-redirect-location"),
        checksum=_checksum(request, body),
        size=len(body),
        last_modified=now(),
    )


def with_checksum_of(request: Request, stored: Stored, source: Stored) -> Stored:
    """A copy's checksum "will be copied to the new object by default"."""
    asked = request.header("x-amz-checksum-algorithm") is not None
    return stored if asked else replace(stored, checksum=source.checksum)


def headers_of(stored: Stored, *, checksum: bool) -> dict[str, str]:
    fields = {
        **stored.headers,
        **{f"x-amz-meta-{name}": value for name, value in stored.metadata.items()},
        **stored.encryption,
        **stored.extra,
        **version_header(stored),
        "ETag": quoted(stored.etag),
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


def acl_xml(owner: str, grants: Grants) -> str:
    rows = "".join(f"<Grant>{_grantee(who)}<Permission>{what}</Permission></Grant>" for what, who in grants)
    return (
        f"<AccessControlPolicy><Owner><ID>{owner}</ID></Owner>"
        f"<AccessControlList>{rows}</AccessControlList></AccessControlPolicy>"
    )


def check_body_checksum(request: Request) -> None:
    """Some bodies S3 takes only with a checksum of them."""
    known = "content-md5" in request.headers or any(
        name.startswith("x-amz-checksum-") for name in request.headers
    )
    if not known:
        raise S3Error(400, "InvalidRequest")


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


def _grantee(who: str) -> str:
    kind, _, value = who.partition("=")
    name, tag = ("CanonicalUser", "ID") if kind == "id" else ("Group", "URI")
    schema = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return f'<Grantee {schema} xsi:type="{name}"><{tag}>{value}</{tag}></Grantee>'
