"""A strict S3's annotations, as botocore's model of S3 documents them."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime
from xml.sax.saxutils import escape

from servers.strict_s3_http import Request, Response, S3Error, xml
from servers.strict_s3_store import (
    Annotation,
    Operation,
    Store,
    Stored,
    is_met,
    now,
    quoted,
    version_header,
)

MAX_ANNOTATIONS = 1000
MAX_NAME_BYTES = 512
MAX_PAYLOAD_BYTES = 1024 * 1024
_VERSION = "x-amz-object-version-id"


def put_object_annotation(store: Store, request: Request) -> Response:
    name, stored = _name(request), _guarded(store, request)
    if stored.customer_key:
        raise S3Error(400, "InvalidRequest")
    _check_payload(request.body)
    annotation = Annotation(request.body, now())
    annotations = {**stored.annotations, name: annotation}
    if len(annotations) > MAX_ANNOTATIONS:
        raise S3Error(400, "AnnotationLimitExceeded")
    store.change(request, stored, "PutObjectAnnotation", annotations=annotations)
    named = f"<Key>{escape(request.key)}</Key><AnnotationName>{escape(name)}</AnnotationName>"
    headers = {"ETag": quoted(annotation.etag), **version_header(stored, _VERSION), **stored.encryption}
    return xml(f"<PutObjectAnnotationResult>{named}</PutObjectAnnotationResult>", headers)


def get_object_annotation(store: Store, request: Request) -> Response:
    stored = store.asked_for(request)
    annotation = stored.annotations.get(_name(request))
    if annotation is None:
        raise S3Error(404, "NoSuchAnnotation")
    when = format_datetime(annotation.last_modified, usegmt=True)
    headers = {"ETag": quoted(annotation.etag), "Last-Modified": when, **version_header(stored, _VERSION)}
    return Response(headers={**headers, **stored.encryption}, body=annotation.payload)


def list_object_annotations(store: Store, request: Request) -> Response:
    stored, query = store.asked_for(request), request.query
    prefix, after = query.get("annotation-prefix", ""), query.get("continuation-token", "")
    found = sorted(name for name in stored.annotations if name.startswith(prefix) and name > after)
    page = found[: int(query.get("max-annotation-results", MAX_ANNOTATIONS))]
    more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if page < found else ""
    rows = "".join(_listed(name, stored.annotations[name]) for name in page)
    facts = f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.key)}</Key>"
    count = f"<AnnotationCount>{len(page)}</AnnotationCount>"
    body = f"{facts}{count}<Annotations>{rows}</Annotations>{more}"
    return xml(
        f"<ListObjectAnnotationsResult>{body}</ListObjectAnnotationsResult>", version_header(stored, _VERSION)
    )


def delete_object_annotation(store: Store, request: Request) -> Response:
    """For good: annotations have no versions of their own."""
    name, stored = _name(request), _guarded(store, request)
    if name in stored.annotations:
        kept = {other: value for other, value in stored.annotations.items() if other != name}
        store.change(request, stored, "DeleteObjectAnnotation", annotations=kept)
    return Response(204, version_header(stored, _VERSION))


OPERATIONS: Mapping[str, Operation] = {
    "PutObjectAnnotation": put_object_annotation,
    "GetObjectAnnotation": get_object_annotation,
    "ListObjectAnnotations": list_object_annotations,
    "DeleteObjectAnnotation": delete_object_annotation,
}


def _name(request: Request) -> str:
    name = request.query.get("annotationName", "")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise S3Error(400, "AnnotationNameTooLong")
    if not name or name.lower().startswith(("aws", "s3")):
        raise S3Error(400, "InvalidAnnotationName")
    return name


def _guarded(store: Store, request: Request) -> Stored:
    stored = store.asked_for(request)
    if not is_met(request.header("x-amz-object-if-match"), stored.etag):
        raise S3Error(412, "PreconditionFailed")
    return stored


def _check_payload(payload: bytes) -> None:
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise S3Error(400, "InvalidRequest")
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise S3Error(415, "UnsupportedMediaType") from error


def _listed(name: str, annotation: Annotation) -> str:
    when = annotation.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    facts = f"<LastModified>{when}</LastModified><ETag>{quoted(annotation.etag)}</ETag>"
    size = f"<Size>{len(annotation.payload)}</Size>"
    return f"<AnnotationEntry><AnnotationName>{escape(name)}</AnnotationName>{facts}{size}</AnnotationEntry>"
