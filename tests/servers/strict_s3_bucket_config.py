"""A strict S3's bucket settings. What a client puts (`put_bucket_lifecycle_configuration` …) it gets back."""

from __future__ import annotations

from collections.abc import Mapping

from servers.strict_s3_fields import acl_xml, check_body_checksum
from servers.strict_s3_http import Request, Response, S3Error, xml
from servers.strict_s3_store import Bucket, Operation, Store

#: Sub-resource -> what a GET answers while nothing was put: an error's code, or an empty document.
UNSET = {
    "lifecycle": "NoSuchLifecycleConfiguration",
    "replication": "ReplicationConfigurationNotFoundError",
    "policy": "NoSuchBucketPolicy",
    "object-lock": "ObjectLockConfigurationNotFoundError",
}
EMPTY = {"notification": b"<NotificationConfiguration/>"}


def create_bucket(store: Store, request: Request) -> Response:
    acls = request.headers.get("x-amz-object-ownership", "BucketOwnerEnforced") != "BucketOwnerEnforced"
    store.buckets[request.bucket] = Bucket(acls_enabled=acls)
    return Response()


def head_bucket(store: Store, request: Request) -> Response:
    store.bucket(request.bucket)
    return Response()


def put_bucket_versioning(store: Store, request: Request) -> Response:
    enabled = b"<Status>Enabled" in request.body
    store.bucket(request.bucket).versioning = "Enabled" if enabled else "Suspended"
    return Response()


def get_bucket_versioning(store: Store, request: Request) -> Response:
    versioning = store.bucket(request.bucket).versioning
    status = f"<Status>{versioning}</Status>" if versioning else ""
    return xml(f"<VersioningConfiguration>{status}</VersioningConfiguration>")


def get_bucket_ownership_controls(store: Store, request: Request) -> Response:
    enabled = store.bucket(request.bucket).acls_enabled
    ownership = "ObjectWriter" if enabled else "BucketOwnerEnforced"
    rule = f"<Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule>"
    return xml(f"<OwnershipControls>{rule}</OwnershipControls>")


def get_bucket_encryption(store: Store, request: Request) -> Response:
    algorithm = store.bucket(request.bucket).encryption["x-amz-server-side-encryption"]
    default = f"<SSEAlgorithm>{algorithm}</SSEAlgorithm>"
    rule = f"<Rule><ApplyServerSideEncryptionByDefault>{default}</ApplyServerSideEncryptionByDefault></Rule>"
    return xml(f"<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>")


def get_bucket_acl(store: Store, request: Request) -> Response:
    owner = store.bucket(request.bucket).owner
    return xml(acl_xml(owner, [("FULL_CONTROL", f"id={owner}")]))


def get_configuration(store: Store, request: Request) -> Response:
    name = _sub_resource(request)
    found = store.bucket(request.bucket).configuration.get(name, EMPTY.get(name))
    if found is None:
        raise S3Error(404, UNSET[name])
    return Response(headers={"Content-Type": "application/xml"}, body=found)


def put_configuration(store: Store, request: Request) -> Response:
    name = _sub_resource(request)
    if name != "notification":
        check_body_checksum(request)
    store.bucket(request.bucket).configuration[name] = request.body
    return Response()


def _sub_resource(request: Request) -> str:
    return next(name for name in request.query if name in UNSET | EMPTY)


_CONFIGURATIONS = {
    "lifecycle": "BucketLifecycleConfiguration",
    "replication": "BucketReplication",
    "notification": "BucketNotificationConfiguration",
    "policy": "BucketPolicy",
    "object-lock": "ObjectLockConfiguration",
}
#: Sub-resource of a bucket -> the second half of its operations' names.
SUB_RESOURCES = {
    "acl": "BucketAcl",
    "versioning": "BucketVersioning",
    "encryption": "BucketEncryption",
    "ownershipControls": "BucketOwnershipControls",
    **_CONFIGURATIONS,
}
OPERATIONS: Mapping[str, Operation] = {
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "PutBucketVersioning": put_bucket_versioning,
    "GetBucketVersioning": get_bucket_versioning,
    "GetBucketOwnershipControls": get_bucket_ownership_controls,
    "GetBucketEncryption": get_bucket_encryption,
    "GetBucketAcl": get_bucket_acl,
    **{f"Get{name}": get_configuration for name in _CONFIGURATIONS.values()},
    **{f"Put{name}": put_configuration for name in _CONFIGURATIONS.values()},
}
