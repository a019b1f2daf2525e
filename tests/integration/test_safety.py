"""What a run says and asks before it writes into a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from servers.s3 import S3UnderTest
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.producer.consent import describe
from tagmill.producer.preflight import Preflight, preflight
from tagmill.producer.safety import Clearance, Dialogue
from tagmill.worker.canary import FIRST, ONE_IN
from tagmill.worker.errors import ConfigError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

QUEUE = "arn:aws:sqs:eu-central-1:123456789012:thumbnails"


@pytest.fixture(scope="module")
def shared() -> Iterator[StrictS3UnderTest]:
    with running_strict_s3() as server:
        yield server


@pytest.fixture
def server(shared: StrictS3UnderTest) -> Iterator[StrictS3UnderTest]:
    yield shared
    shared.faults.clear()


@cache
def client_of(server: StrictS3UnderTest) -> S3Client:
    """Making a client costs more than a whole test."""
    return server.client()


class Library:
    """A bucket, and what is said and asked of a run over `photos/` in it."""

    def __init__(self, server: StrictS3UnderTest, **fields: Any) -> None:
        self.server, self.client = server, client_of(server)
        self.bucket = server.new_bucket(**fields)
        self.said: list[str] = []
        self.asked: list[str] = []

    def put(self, *keys: str, **fields: Any) -> None:
        for key in keys:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=b"image", **fields)

    def notify(self, *events: Any, prefix: str = "") -> None:
        rules: Any = [{"Name": "prefix", "Value": prefix}]
        queue: Any = {"QueueArn": QUEUE, "Events": events, "Filter": {"Key": {"FilterRules": rules}}}
        self.client.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": [queue]}
        )

    def rule(self, **fields: Any) -> None:
        rules: Any = [{"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, **fields}]
        self.client.put_bucket_lifecycle_configuration(
            Bucket=self.bucket, LifecycleConfiguration={"Rules": rules}
        )

    def preflight(self) -> Preflight:
        return preflight(self.client, self.bucket, "photos/")

    def consent(
        self, *allowed: str, sinks: tuple[str, ...] = ("metadata",), answer: bool | None = None, **fields: Any
    ) -> Any:
        """`answer` None: nobody is there to ask."""

        def ask(question: str) -> bool:
            self.asked.append(question)
            return bool(answer)

        clearance = Clearance(sinks, [(self.bucket, "photos/")], allowed, **fields)
        return clearance.consent(self.client, Dialogue(self.said.append, None if answer is None else ask))

    def refusal(self, **fields: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            self.consent(**fields)
        return str(caught.value)


@pytest.fixture
def library(server: StrictS3UnderTest) -> Library:
    return Library(server)


@pytest.fixture
def versioned(server: StrictS3UnderTest) -> Library:
    return Library(server, versioned=True)


# --- what is read -----------------------------------------------------------------------------------------


def test_a_plain_bucket_has_no_effects_and_asks_nothing(library: Library) -> None:
    library.put("photos/a.jpg", "photos/b.jpg")
    assert library.preflight() == Preflight(library.bucket, objects=2)
    assert library.consent() == {}
    line, canaries = library.said
    assert canaries.startswith(f"the first {FIRST} images, and 1 in {ONE_IN} of all others, are read in full")
    assert line.startswith(
        f"metadata in s3://{library.bucket}: 2 HEAD and 1 COPY an image, 1 LIST for 1,000 "
    )
    assert line.endswith("; at most 4 HEAD, 2 COPY, 1 LIST for 2 images")


def test_of_images_that_are_yet_to_come_it_is_said_what_each_costs(library: Library) -> None:
    library.consent(listed=False)
    assert library.said[0] == f"metadata in s3://{library.bucket}: 2 HEAD and 1 COPY an image"


def test_a_limit_bounds_the_requests(library: Library) -> None:
    library.put("photos/a.jpg", "photos/b.jpg")
    library.consent(at_most=1)
    assert library.said[0].endswith("at most 2 HEAD, 1 COPY, 1 LIST for 1 images")


@pytest.mark.parametrize("events", ["s3:ObjectCreated:*", "s3:ObjectCreated:Copy"])
def test_who_hears_of_copies_is_found(library: Library, events: str) -> None:
    library.notify(events)
    assert library.preflight().listeners == (QUEUE,)


def test_who_hears_of_other_things_or_places_does_not_matter(library: Library) -> None:
    library.notify("s3:ObjectCreated:Put", "s3:ObjectRemoved:*")
    assert library.preflight().listeners == ()
    library.notify("s3:ObjectCreated:*", prefix="videos/")
    assert library.preflight().listeners == ()
    library.notify("s3:ObjectCreated:*", prefix="photos/2024/")
    assert library.preflight().listeners == (QUEUE,)


def test_event_bridge_hears_of_everything(library: Library) -> None:
    library.client.put_bucket_notification_configuration(
        Bucket=library.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    assert library.preflight().listeners == ("EventBridge",)


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        ({"Expiration": {"Days": 30}}, True),
        ({"Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]}, True),
        ({"Expiration": {"Date": "2030-01-01T00:00:00Z"}}, False),
        ({"Expiration": {"Days": 30}, "Status": "Disabled"}, False),
        ({"Expiration": {"Days": 30}, "Filter": {"Prefix": "videos/"}}, False),
        ({"Expiration": {"Days": 30}, "Filter": {"And": {"Prefix": "photos/", "Tags": []}}}, True),
    ],
)
def test_lifecycle_rules_that_count_from_the_rewrite_are_named(
    library: Library, rule: dict[str, Any], *, counts: bool
) -> None:
    library.rule(**rule)
    assert library.preflight().lifecycle == (("tidy",) if counts else ())


@pytest.mark.parametrize(
    "filters",
    [
        {"Tag": {"Key": "tagmill-run", "Value": "x"}},
        {"And": {"Prefix": "", "Tags": [{"Key": "tagmill-tags", "Value": "x"}]}},
    ],
)
def test_rules_that_look_at_our_tags_are_named(library: Library, filters: dict[str, Any]) -> None:
    library.rule(Filter=filters, Expiration={"Days": 1})
    library.consent(sinks=("tags",))
    assert library.said == [f"lifecycle rule tidy of s3://{library.bucket} looks at tags that Tagmill writes"]


def test_a_policy_that_looks_at_our_tags_is_named(library: Library) -> None:
    condition = {"StringEquals": {"s3:ExistingObjectTag/tagmill-run": "x"}}
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": condition,
    }
    library.client.put_bucket_policy(Bucket=library.bucket, Policy=json.dumps({"Statement": [statement]}))
    assert library.preflight().tag_rules == ("the bucket's policy",)


def test_where_versions_are_replicated_to_is_named(versioned: Library) -> None:
    rule: Any = {
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::copies"},
    }
    versioned.client.put_bucket_replication(
        Bucket=versioned.bucket, ReplicationConfiguration={"Role": "arn:aws:iam::1:role/r", "Rules": [rule]}
    )
    versioned.consent("new_versions")
    assert "each rewritten image is replicated to s3://copies" in versioned.said


def test_storage_classes_whose_clock_starts_again_are_counted(s3_server: S3UnderTest) -> None:
    client, bucket = s3_server.client(), s3_server.bucket()
    for key, storage_class in {"a": "STANDARD_IA", "b": "STANDARD_IA", "c": "STANDARD"}.items():
        client.put_object(Bucket=bucket, Key=f"photos/{key}", Body=b"image", StorageClass=storage_class)  # type: ignore[arg-type] # they are
    found = preflight(client, bucket, "photos/")
    assert (found.clocks, found.objects) == ({"STANDARD_IA": 2}, 3)
    assert "2 of the first objects are STANDARD_IA, whose clock starts again with a rewrite" in describe(
        found, None
    )


# --- what is asked ----------------------------------------------------------------------------------------


def test_new_versions_are_refused_where_nobody_can_be_asked(versioned: Library) -> None:
    assert versioned.refusal() == (
        f"s3://{versioned.bucket} keeps versions: each rewritten image becomes one more, paid for, too: "
        "say --allow-new-versions, or --write-back tags, annotation or sidecar"
    )
    assert versioned.said == []


def test_new_versions_are_asked_for_on_a_terminal(versioned: Library) -> None:
    assert versioned.consent(answer=True) == {"new_versions": "asked"}
    assert versioned.asked == ["Add these versions?"]
    assert any("keeps versions" in line for line in versioned.said)
    assert "say --allow-new-versions" in versioned.refusal(answer=False)


def test_what_is_allowed_is_not_asked_for(versioned: Library) -> None:
    assert versioned.consent("new_versions", answer=False) == {"new_versions": "--allow-new-versions"}
    assert versioned.asked == []


def test_copy_events_need_their_own_consent(versioned: Library) -> None:
    versioned.notify("s3:ObjectCreated:*")
    with pytest.raises(ConfigError, match=f"is heard by {QUEUE}: say --allow-copy-events"):
        versioned.consent("new_versions")
    assert versioned.consent("new_versions", "copy_events", answer=False) == {
        "new_versions": "--allow-new-versions",
        "copy_events": "--allow-copy-events",
    }


@pytest.mark.parametrize("sinks", [("tags",), ("annotation",), ("sidecar",), ()])
def test_sinks_that_do_not_rewrite_need_no_consent(versioned: Library, sinks: tuple[str, ...]) -> None:
    versioned.notify("s3:ObjectCreated:*")
    assert versioned.consent(sinks=sinks) == {}


def test_a_suspended_bucket_may_get_versions_of_images_from_before(library: Library) -> None:
    library.client.put_bucket_versioning(
        Bucket=library.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    assert library.preflight().versioned is True


@pytest.mark.parametrize(
    ("operation", "what", "flag"),
    [
        ("GetBucketVersioning", "it cannot be read whether", "--allow-new-versions"),
        ("GetBucketNotificationConfiguration", "it cannot be read who hears of", "--allow-copy-events"),
    ],
)
def test_what_cannot_be_read_is_not_taken_for_harmless(
    library: Library, operation: str, what: str, flag: str
) -> None:
    library.server.faults.always(operation, lambda: Fault(403, "AccessDenied"))
    line = library.refusal()
    assert line.startswith(what)
    assert flag in line
    library.consent(answer=True)
    assert library.said[-1].startswith(f"not readable in s3://{library.bucket}: ")
    assert library.said[-1].endswith(" (AccessDenied)")


def test_a_server_without_such_settings_has_no_such_effects(library: Library) -> None:
    for name in (
        "Versioning",
        "NotificationConfiguration",
        "Replication",
        "LifecycleConfiguration",
        "Policy",
    ):
        library.server.faults.always(f"GetBucket{name}", lambda: Fault(501, "NotImplemented"))
    assert library.preflight() == Preflight(library.bucket, objects=0)


# --- what the probe decides -------------------------------------------------------------------------------


def clear(library: Library, *sinks: str, trying: bool = True) -> Any:
    return Clearance(sinks, [(library.bucket, "photos/")]).probe(library.client, "http://s3", trying=trying)


def test_the_probe_is_kept_with_endpoint_and_date(library: Library) -> None:
    found = clear(library, "metadata", "tags")
    assert (found.endpoint, found.at[:2]) == ("http://s3", "20")
    assert found.of(library.bucket).copy_conditions
    assert found.warnings(["metadata"]) == []


def test_without_a_probe_nothing_is_trusted(library: Library) -> None:
    found = clear(library, "metadata", trying=False)
    assert not found.of(library.bucket).copy_conditions
    (warning,) = found.warnings(["metadata"])
    assert warning.startswith(f"s3://{library.bucket} was not tried for conditions on CopyObject: ")
    assert not [event for event in library.server.events if event.bucket == library.bucket]


def test_a_lax_server_is_warned_of_once(server: StrictS3UnderTest) -> None:
    lax = Library(server, honours_copy_conditions=False, copies_tags=False)
    found = clear(lax, "metadata")
    conditions, tags = found.warnings(["metadata"])
    assert conditions.startswith(f"s3://{lax.bucket} ignores conditions on CopyObject: ")
    assert tags == f"s3://{lax.bucket} drops tags in a copy: objects with tags get no metadata"
    assert found.warnings(["tags"]) == []


@pytest.mark.parametrize("trying", [True, False])
def test_annotations_are_refused_where_nothing_has_shown_them(
    server: StrictS3UnderTest, *, trying: bool
) -> None:
    unknowing = Library(server, knows_annotations=False)
    with pytest.raises(ConfigError, match="overwrites the image: use --write-back metadata, tags or sidecar"):
        clear(unknowing, "annotation", trying=trying)


def test_annotations_are_allowed_where_they_were_shown(library: Library) -> None:
    assert clear(library, "annotation").of(library.bucket).annotations
