"""What a bucket says about rewriting its objects: who may own them, who may read them, what encrypts them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from tagmill.worker.sinks.s3_access import RefusedError
from tagmill.worker.sinks.s3_errors import error_code
from tagmill.worker.sinks.s3_object import KMS, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectAclOutputTypeDef

T = TypeVar("T")

#: A bucket's settings are asked for again after this long.
MEMORY_SECONDS = 300.0
#: Answers of servers that have no such notion at all: then there is nothing to keep either.
UNKNOWN_TO_SERVER = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
DENIED = frozenset({"AccessDenied", "403"})
GRANT_ARGUMENTS = {
    "FULL_CONTROL": "GrantFullControl",
    "READ": "GrantRead",
    "READ_ACP": "GrantReadACP",
    "WRITE_ACP": "GrantWriteACP",
}


class Buckets:
    """Bucket settings, remembered for a while. Botocore's errors pass through."""

    def __init__(self, client: S3Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._memory: dict[tuple[str, str], tuple[float, Any]] = {}

    def protection(self, bucket: str, key: str, stored: StoredObject) -> dict[str, Any]:
        """CopyObject arguments that keep an object's readers. Raise RefusedError where none can."""
        if stored.encryption is None and self._default_encryption(bucket) in KMS:
            raise RefusedError("encryption")  # the copy would be encrypted with a key its readers may lack
        if stored.version_id and self._locks_objects(bucket):
            raise RefusedError("object_lock")  # HEAD hides a lock from those who may not read locks
        if self._acls_are_disabled(bucket):
            return {}
        return self._grants(bucket, key, stored.version_id)

    def _grants(self, bucket: str, key: str, version_id: str | None) -> dict[str, str]:
        acl = self._object_acl(bucket, key, version_id)
        if acl is None:
            return {}
        owner = acl["Owner"].get("ID")
        if owner != self._owner(bucket):
            raise RefusedError("owner")  # another account's object: the copy would become ours
        return grant_arguments(owner, acl["Grants"])

    def _object_acl(self, bucket: str, key: str, version_id: str | None) -> GetObjectAclOutputTypeDef | None:
        version: Any = {"VersionId": version_id} if version_id else {}
        try:
            return self._client.get_object_acl(Bucket=bucket, Key=key, **version)
        except ClientError as error:
            if error_code(error) in UNKNOWN_TO_SERVER:
                return None
            if error_code(error) in DENIED:
                raise RefusedError("acl_unreadable") from error
            raise

    def _locks_objects(self, bucket: str) -> bool:
        """Only a versioned bucket can. New versions there may not be deleted for years, ours included."""
        return self._remembered(bucket, self._ask_object_lock)

    def _ask_object_lock(self, bucket: str) -> bool:
        try:
            answer = self._client.get_object_lock_configuration(Bucket=bucket)
        except ClientError as error:
            if error_code(error) in DENIED:
                raise RefusedError("object_lock_unreadable") from error
            if error_code(error) in UNKNOWN_TO_SERVER | {"ObjectLockConfigurationNotFoundError"}:
                return False
            raise
        return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    def _acls_are_disabled(self, bucket: str) -> bool:
        """Saves a request an object; where it cannot be known, each object's own ACL is read."""
        return self._remembered(bucket, self._ownership) == "BucketOwnerEnforced"

    def _ownership(self, bucket: str) -> str | None:
        try:
            answer = self._client.get_bucket_ownership_controls(Bucket=bucket)
        except ClientError as error:
            if error_code(error) in UNKNOWN_TO_SERVER | DENIED | {"OwnershipControlsNotFoundError"}:
                return None
            raise
        rules = answer.get("OwnershipControls", {}).get("Rules", [])
        return rules[0]["ObjectOwnership"] if rules else None

    def _owner(self, bucket: str) -> str | None:
        return self._remembered(bucket, self._ask_owner)

    def _ask_owner(self, bucket: str) -> str | None:
        try:
            return self._client.get_bucket_acl(Bucket=bucket)["Owner"].get("ID")
        except ClientError as error:
            if error_code(error) in DENIED:
                raise RefusedError("acl_unreadable") from error
            raise

    def _default_encryption(self, bucket: str) -> str | None:
        return self._remembered(bucket, self._ask_default_encryption)

    def _ask_default_encryption(self, bucket: str) -> str | None:
        """Only objects from before 2023 lack encryption on AWS, and a copy always gets some."""
        try:
            answer = self._client.get_bucket_encryption(Bucket=bucket)
        except ClientError as error:
            if error_code(error) in DENIED:
                raise RefusedError("encryption_unreadable") from error
            if error_code(error) in UNKNOWN_TO_SERVER | {"ServerSideEncryptionConfigurationNotFoundError"}:
                return None
            raise
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        return rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") if rules else None

    def _remembered(self, bucket: str, ask: Callable[[str], T]) -> T:
        question, now = (bucket, ask.__name__), self._clock()
        asked_at, answer = self._memory.get(question, (float("-inf"), None))
        if now - asked_at >= MEMORY_SECONDS:
            answer = ask(bucket)
            self._memory[question] = (now, answer)
        return answer  # type: ignore[no-any-return] # the dict holds each question's own type


def grant_arguments(owner: str | None, grants: list[Any]) -> dict[str, str]:
    """An ACL as CopyObject arguments; none for a private object, which is what a copy is anyway."""
    arguments: dict[str, list[str]] = defaultdict(list)
    for grant in grants:
        arguments[_grant_argument(grant)].append(_grantee(grant["Grantee"]))
    if dict(arguments) == {"GrantFullControl": [f'id="{owner}"']}:
        return {}
    return {name: ",".join(grantees) for name, grantees in arguments.items()}


def _grant_argument(grant: Mapping[str, Any]) -> str:
    """WRITE has no header, because it means nothing on an object; it cannot be sent again."""
    try:
        return GRANT_ARGUMENTS[grant["Permission"]]
    except KeyError:
        raise RefusedError("acl") from None


def _grantee(grantee: Mapping[str, Any]) -> str:
    if grantee.get("Type") == "CanonicalUser":
        return f'id="{grantee["ID"]}"'
    if grantee.get("Type") == "Group":
        return f'uri="{grantee["URI"]}"'
    raise RefusedError("acl")
