"""The least that has to be allowed: an IAM policy for AWS, and the calls of a Filestack policy.

S3 actions: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tagmill.producer.sources.s3_versions import LIST_VERSIONS
from tagmill.worker.models import Json

READ = ("s3:GetObject", "s3:GetObjectVersion")
STORE = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")  #: delete: the probe's own scratch file
#: By write-back, on objects.
WRITE = {
    "metadata": (
        "s3:GetObjectAcl",
        "s3:GetObjectAnnotation",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionAcl",
        "s3:GetObjectVersionTagging",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "s3:PutObjectAnnotation",
        "s3:PutObjectTagging",
    ),
    "tags": (
        "s3:DeleteObjectTagging",
        "s3:DeleteObjectVersionTagging",
        "s3:GetObjectTagging",
        "s3:GetObjectVersionTagging",
        "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging",
    ),
    "annotation": ("s3:GetObjectAnnotation", "s3:PutObjectAnnotation", "s3:DeleteObjectAnnotation"),
    "sidecar": ("s3:PutObject", "s3:DeleteObject"),
}
SCRATCH = ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion")  #: for the probe's scratch object
#: What is read of a bucket that objects are rewritten in.
CONFIGURATION = (
    "s3:GetBucketAcl",
    "s3:GetBucketNotification",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketVersioning",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
)
FILESTACK_TAGS, FILESTACK_UPLOAD, FILESTACK_STAT = ("convert", "read"), ("store", "remove"), ("stat",)


def iam_policy(
    source: tuple[str, str] | None,
    write_back: Collection[str],
    run_store: tuple[str, str] | None,
    *,
    all_versions: bool = False,
) -> Json:
    """`source` and `run_store`: bucket and prefix, where they are in S3."""
    statements = []
    if source is not None:
        objects = {*READ, *(action for sink in write_back for action in WRITE.get(sink, ()))}
        probed = set(SCRATCH) if write_back else set[str]()
        configuration = set(CONFIGURATION) if "metadata" in write_back else set[str]()
        listing = {"s3:ListBucket", LIST_VERSIONS.permission} if all_versions else {"s3:ListBucket"}
        statements += [
            _statement("TagmillList", listing | configuration, _bucket(source)),
            _statement("TagmillObjects", objects | probed, _objects(source)),
        ]
    if run_store is not None:
        statements += [
            _statement("TagmillRunStoreList", {"s3:ListBucket"}, _bucket(run_store)),
            _statement("TagmillRunStore", set(STORE), _objects(run_store)),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def filestack_calls(*, uploads: bool, handles: bool) -> list[str]:
    """The `call` list that the app's security has to admit."""
    wanted = [*FILESTACK_TAGS, *(FILESTACK_UPLOAD if uploads else ()), *(FILESTACK_STAT if handles else ())]
    return sorted(wanted)


def _statement(name: str, actions: Iterable[str], resource: str) -> Json:
    return {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}


def _bucket(place: tuple[str, str]) -> str:
    return f"arn:aws:s3:::{place[0]}"


def _objects(place: tuple[str, str]) -> str:
    return f"arn:aws:s3:::{place[0]}/{place[1]}*"
