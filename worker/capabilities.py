"""What the server of a bucket was found to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCRATCH_NAME = re.compile(r"\.tagmill-probe-[0-9a-f]{16}$")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Of one bucket. None: not tried, because no sink of the run needs it or the bucket does not let us."""

    bucket: str
    copy_conditions: bool | None = (
        None  #: CopyObject heeds `CopySourceIfMatch` and the destination's `IfMatch`
    )
    copies_tags: bool | None = None  #: object tags stay through a copy
    merges_tags: bool | None = None  #: a set of tags is read back as it was written
    annotations: bool | None = None  #: an annotation leaves the object alone and heeds `ObjectIfMatch`

    @classmethod
    def of_s3(cls, bucket: str) -> Capabilities:
        """What Amazon S3 does."""
        return cls(bucket, copy_conditions=True, copies_tags=True, merges_tags=True, annotations=True)
