"""What writing to the objects of a bucket brings about, read from its configuration before a run starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from tagmill.producer.sources.s3_errors import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Answer = Mapping[str, Any]

OWN_TAGS = "tagmill-"  #: begins the key of each object tag of ours
#: Answers that say that nothing is configured, or that the server has no such notion.
NOTHING = frozenset(
    {
        "MethodNotAllowed",
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NotImplemented",
        "ReplicationConfigurationNotFoundError",
    }
)
#: Suspended, a copy of an object from before becomes one more version of it.
VERSIONED = frozenset({"Enabled", "Suspended"})
COPY_EVENTS = frozenset({"s3:ObjectCreated:*", "s3:ObjectCreated:Copy"})
#: Kind of listener -> the name of its ARN.
LISTENERS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
#: Storage classes in which a rewrite starts a clock again: a least storage time, or the way to colder tiers
#: (S3 user guide, "Understanding and managing Amazon S3 storage classes").
CLOCKS = frozenset({"STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "INTELLIGENT_TIERING"})


@dataclass(frozen=True, slots=True)
class Preflight:
    """One bucket, below one prefix. None: it could not be read, and `unreadable` says what."""

    bucket: str
    versioned: bool | None = False
    listeners: tuple[str, ...] | None = ()  #: to `ObjectCreated:Copy`
    replicas: tuple[str, ...] | None = ()  #: buckets that every new version goes to
    lifecycle: tuple[str, ...] | None = ()  #: rules that count days from the last rewrite
    tag_rules: tuple[str, ...] | None = ()  #: lifecycle rules and policies that look at our tags
    clocks: Mapping[str, int] = field(
        default_factory=dict
    )  #: of `CLOCKS`, objects of the listing's first page
    objects: int | None = None  #: None: more than a page
    unreadable: tuple[str, ...] = ()


def preflight(client: S3Client, bucket: str, prefix: str) -> Preflight:
    """Read seven settings and list one page. Raise `ConfigError` when the bucket itself is out of reach."""
    with translated(bucket, started=False):
        reader = _Reader(bucket)
        versioning = reader.ask("versioning", client.get_bucket_versioning)
        events = reader.ask("notifications", client.get_bucket_notification_configuration)
        replication = reader.ask("replication", client.get_bucket_replication)
        lifecycle = reader.ask("lifecycle", client.get_bucket_lifecycle_configuration)
        policy = reader.ask("policy", client.get_bucket_policy)
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    rules = None if lifecycle is None else _rules(lifecycle.get("Rules", ()), prefix)
    classes = Counter(str(item.get("StorageClass")) for item in page.get("Contents", ()))
    return Preflight(
        bucket,
        versioned=None if versioning is None else versioning.get("Status") in VERSIONED,
        listeners=None if events is None else tuple(_listeners(events, prefix)),
        replicas=None if replication is None else tuple(_replicas(replication, prefix)),
        lifecycle=None
        if rules is None
        else tuple(rule.get("ID", "without a name") for rule in rules if _counts_days(rule)),
        tag_rules=None if rules is None or policy is None else tuple(_tag_rules(rules, policy)),
        clocks={name: count for name, count in classes.items() if name in CLOCKS},
        objects=None if page.get("IsTruncated") else page.get("KeyCount"),
        unreadable=tuple(reader.unreadable),
    )


class _Reader:
    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self.unreadable: list[str] = []

    def ask(self, name: str, question: Callable[..., Any]) -> Answer | None:
        """Return {} where nothing is configured, None where it cannot be known."""
        try:
            answer: Answer = question(Bucket=self._bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in NOTHING:
                return {}
            self.unreadable.append(f"{name} ({code})")
        except ResponseParserError:
            self.unreadable.append(f"{name} (no answer of S3)")
        else:
            return answer
        return None


def _listeners(events: Answer, prefix: str) -> Iterable[str]:
    if "EventBridgeConfiguration" in events:
        yield "EventBridge"
    for kind, arn in LISTENERS.items():
        for listener in events.get(kind, ()):
            if COPY_EVENTS & set(listener["Events"]) and _overlap(_event_prefix(listener), prefix):
                yield listener[arn]


def _event_prefix(listener: Answer) -> str:
    filters = listener.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    return next((rule["Value"] for rule in filters if rule["Name"].lower() == "prefix"), "")


def _replicas(replication: Answer, prefix: str) -> Iterable[str]:
    rules = _rules(replication.get("ReplicationConfiguration", {}).get("Rules", ()), prefix)
    return sorted({rule["Destination"]["Bucket"].rpartition(":")[2] for rule in rules})


def _rules(rules: Iterable[Answer], prefix: str) -> list[Answer]:
    """Of lifecycle or replication, those in force that may concern objects below the prefix."""
    return [rule for rule in rules if rule["Status"] == "Enabled" and _overlap(_rule_prefix(rule), prefix)]


def _rule_prefix(rule: Answer) -> str:
    """Three forms of rules: a filter, several filters at once, and the one that came before filters."""
    filters = rule.get("Filter", {})
    return str(filters.get("Prefix") or filters.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _counts_days(rule: Answer) -> bool:
    return any("Days" in action for action in [*rule.get("Transitions", ()), rule.get("Expiration", {})])


def _tag_rules(rules: Iterable[Answer], policy: Answer) -> Iterable[str]:
    for rule in rules:
        filters = rule.get("Filter", {})
        tags = [filters.get("Tag", {}), *filters.get("And", {}).get("Tags", ())]
        if any(tag.get("Key", "").startswith(OWN_TAGS) for tag in tags):
            yield f"lifecycle rule {rule.get('ID', 'without a name')}"
    if f"ObjectTag/{OWN_TAGS}" in policy.get("Policy", ""):  # s3:ExistingObjectTag/…, s3:RequestObjectTag/…
        yield "the bucket's policy"


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
