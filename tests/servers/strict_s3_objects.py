"""A strict S3's objects: put, read, copy, delete, list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, unquote

from servers.strict_s3_fields import acl_xml, headers_of, new_object, with_checksum_of
from servers.strict_s3_http import Request, Response, S3Error, xml
from servers.strict_s3_store import (
    Bucket,
    Event,
    Operation,
    Store,
    Stored,
    is_met,
    now,
    quoted,
    version_header,
)
from servers.strict_s3_tagging import tags_in_header

MAX_COPY_BYTES = 5 * 1024**3
ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}


def put_object(store: Store, request: Request) -> Response:
    bucket = store.bucket(request.bucket)
    if bucket.honours_put_conditions:
        _check_write_conditions(store, request)
    stored = new_object(bucket, request, request.body)
    stored = store.add(request, replace(stored, tags=tags_in_header(request)), "PutObject")
    return Response(headers={"ETag": quoted(stored.etag), **version_header(stored)})


def head_object(store: Store, request: Request) -> Response:
    stored = store.asked_for(request)
    if stored.customer_key:
        raise S3Error(400, "InvalidRequest")
    if not is_met(request.header("if-match"), stored.etag):
        raise S3Error(412, "PreconditionFailed")
    return Response(headers=headers_of(stored, checksum=request.header("x-amz-checksum-mode") == "ENABLED"))


def get_object(store: Store, request: Request) -> Response:
    response = head_object(store, request)
    stored = store.asked_for(request)
    del response.headers["Content-Length"]
    first_byte = request.header("range") == "bytes=0-0"
    response.body = stored.body[:1] if first_byte else stored.body
    response.status = 206 if first_byte else 200
    return response


def copy_object(store: Store, request: Request) -> Response:
    bucket = store.bucket(request.bucket)
    source = _copy_source(store, request, bucket)
    if bucket.honours_copy_conditions:
        _check_write_conditions(store, request)
    stored = new_object(bucket, request, source.body)
    if request.header("x-amz-metadata-directive") != "REPLACE":
        stored = replace(stored, headers=source.headers, metadata=source.metadata)
    stored = with_checksum_of(request, stored, source)
    keeps_annotations = request.header("x-amz-object-annotation-directive") != "EXCLUDE"
    annotations = source.annotations if keeps_annotations else {}
    stored = replace(stored, tags=_copied_tags(request, bucket, source), annotations=annotations)
    stored = store.add(request, bucket.spoil_copy(stored), "CopyObject")
    etag = f"<ETag>{quoted(stored.etag)}</ETag>"
    when = f"<LastModified>{stored.last_modified.isoformat()}</LastModified>"
    return xml(f"<CopyObjectResult>{etag}{when}</CopyObjectResult>", version_header(stored))


def delete_object(store: Store, request: Request) -> Response:
    """A version for good; or the object, of which a bucket with versions keeps all under a marker."""
    bucket, version_id = store.bucket(request.bucket), request.query.get("versionId")
    if request.header("if-match") is not None:
        _check_write_conditions(store, request)
    if version_id is None and bucket.versioning:
        marker = Stored(b"", etag="", last_modified=now(), delete_marker=True)
        added = store.add(request, marker, "DeleteObject")
        return Response(204, {"x-amz-delete-marker": "true", **version_header(added)})
    versions = bucket.objects.pop(request.key, [])
    if kept := [stored for stored in versions if version_id not in (None, stored.version_id or "null")]:
        bucket.objects[request.key] = kept
    store.events.append(Event("DeleteObject", request.bucket, request.key, version_id))
    return Response(204)


def list_objects_v2(store: Store, request: Request) -> Response:
    query, objects = request.query, _visible(store.bucket(request.bucket))
    after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
    found = sorted(key for key in objects if key.startswith(query.get("prefix", "")) and key > after)
    page = found[: int(query.get("max-keys", 1000))]
    more = f"<NextContinuationToken>{quote(page[-1])}</NextContinuationToken>" if page < found else ""
    rows = "".join(_listed(key, objects[key]) for key in page)
    truncated = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>"
    return xml(
        f"<ListBucketResult><EncodingType>url</EncodingType>{truncated}{more}{rows}</ListBucketResult>"
    )


def list_object_versions(store: Store, request: Request) -> Response:
    """By key, the newest first, behind both markers; of a key alone, behind all its versions."""
    query, objects = request.query, store.bucket(request.bucket).objects
    if "version-id-marker" in query and not (query["version-id-marker"] and "key-marker" in query):
        raise S3Error(400, "InvalidArgument")
    found = [
        (key, stored)
        for key in sorted(objects)
        if key.startswith(query.get("prefix", "")) and key >= query.get("key-marker", "")
        for stored in reversed(objects[key])
    ]
    rest = found[_listed_before(found, query) :]
    page = rest[: int(query.get("max-keys", 1000))]
    rows = "".join(_listed_version(key, stored, latest=stored is objects[key][-1]) for key, stored in page)
    more = ""
    if len(page) < len(rest):
        last = quote(page[-1][0]), page[-1][1].version_id or "null"
        more = f"<NextKeyMarker>{last[0]}</NextKeyMarker><NextVersionIdMarker>{last[1]}</NextVersionIdMarker>"
    truncated = f"<EncodingType>url</EncodingType><IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
    return xml(f"<ListVersionsResult>{truncated}{more}{rows}</ListVersionsResult>")


def _listed_before(found: list[tuple[str, Stored]], query: Mapping[str, str]) -> int:
    """How many of them the markers are behind."""
    key, version = query.get("key-marker"), query.get("version-id-marker")
    of_key = [stored.version_id or "null" for found_key, stored in found if found_key == key]
    if version is None:
        return len(of_key)
    if version not in of_key:
        raise S3Error(400, "InvalidArgument")
    return of_key.index(version) + 1


def get_object_acl(store: Store, request: Request) -> Response:
    stored = store.asked_for(request)
    return xml(acl_xml(stored.owner, stored.grants))


OPERATIONS: Mapping[str, Operation] = {
    "PutObject": put_object,
    "HeadObject": head_object,
    "GetObject": get_object,
    "CopyObject": copy_object,
    "DeleteObject": delete_object,
    "ListObjectsV2": list_objects_v2,
    "ListObjectVersions": list_object_versions,
    "GetObjectAcl": get_object_acl,
}


def _check_write_conditions(store: Store, request: Request) -> None:
    current = _visible(store.bucket(request.bucket)).get(request.key)
    if request.header("if-none-match") == "*" and current is not None:
        raise S3Error(412, "PreconditionFailed")
    wanted = request.header("if-match")
    if wanted is not None and current is None:
        raise S3Error(404, "NoSuchKey")
    if current is not None and not is_met(wanted, current.etag):
        raise S3Error(412, "PreconditionFailed")


def _copy_source(store: Store, request: Request, target: Bucket) -> Stored:
    path, _, version = (request.header("x-amz-copy-source") or "").partition("?versionId=")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    source = store.find(bucket, key, version or None)
    wanted = request.header("x-amz-copy-source-if-match")
    if target.honours_copy_conditions and not is_met(wanted, source.etag):
        raise S3Error(412, "PreconditionFailed")
    if source.storage_class in ARCHIVED or "x-amz-archive-status" in source.extra:
        raise S3Error(403, "InvalidObjectState")
    onto_itself = (bucket, key) == (request.bucket, request.key) and not version
    if source.customer_key or source.size > MAX_COPY_BYTES or (onto_itself and not _changes(request)):
        raise S3Error(400, "InvalidRequest")
    return source


def _changes(request: Request) -> bool:
    """Whether a copy onto itself changes anything, without which S3 refuses it."""
    changes = ("x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-server-side-encryption")
    return request.header("x-amz-metadata-directive") == "REPLACE" or any(map(request.header, changes))


def _copied_tags(request: Request, bucket: Bucket, source: Stored) -> dict[str, str]:
    if request.header("x-amz-tagging-directive") == "REPLACE":
        return tags_in_header(request)
    return source.tags if bucket.copies_tags else {}


def _visible(bucket: Bucket) -> dict[str, Stored]:
    return {key: versions[-1] for key, versions in bucket.objects.items() if not versions[-1].delete_marker}


def _facts(stored: Stored) -> str:
    when = stored.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return f"<LastModified>{when}</LastModified><ETag>{quoted(stored.etag)}</ETag><Size>{stored.size}</Size>"


def _listed(key: str, stored: Stored) -> str:
    return f"<Contents><Key>{quote(key)}</Key>{_facts(stored)}</Contents>"


def _listed_version(key: str, stored: Stored, *, latest: bool) -> str:
    name = "DeleteMarker" if stored.delete_marker else "Version"
    which = f"<VersionId>{stored.version_id or 'null'}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
    return f"<{name}><Key>{quote(key)}</Key>{which}{_facts(stored)}</{name}>"
