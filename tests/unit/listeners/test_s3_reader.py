from __future__ import annotations

from typing import Any

import pytest
from servers.s3_notifications import PRINCIPAL, plain, record

from tagmill.producer.listeners.s3_reader import S3Reader
from tagmill.producer.sources.options import SourceOptions
from tagmill.producer.sources.spec import parse_source
from tagmill.worker.models import S3Object

SOURCE = parse_source("s3://b/in/", SourceOptions(extensions=("jpg",), min_size="10"))


def reader(*, own: bool = False, own_principal: str | None = None) -> S3Reader:
    return S3Reader(SOURCE, is_own=lambda _: own, own_principal=own_principal)


def test_an_object_of_the_source_is_due_and_new_to_the_service() -> None:
    delivery = reader().read(plain(record("b", "in/ü.jpg", versionId="v")))
    [event] = delivery.events
    assert (event.name, event.mark, event.image.ref.fresh) == ("s3://b/in/ü.jpg", "v", True)
    assert isinstance(event.image.ref.source, S3Object)
    assert delivery.passed_over == {}


@pytest.mark.parametrize(
    ("bucket", "key", "fields", "reason"),
    [
        ("other", "in/a.jpg", {}, "elsewhere"),
        ("b", "out/a.jpg", {}, "elsewhere"),
        ("b", "in/a.txt", {}, "extension"),
        ("b", "in/folder/", {}, "folder"),
        ("b", "in/a.jpg.tags.json", {}, "sidecar"),
        ("b", "in/a.jpg", {"size": 0}, "empty"),
        ("b", "in/a.jpg", {"size": 9}, "size"),
    ],
)
def test_what_a_run_over_the_source_would_pass_over_is_passed_over(
    bucket: str, key: str, fields: dict[str, Any], reason: str
) -> None:
    delivery = reader().read(plain(record(bucket, key, **fields)))
    assert (delivery.events, delivery.passed_over) == ((), {reason: 1})


def test_only_a_copy_can_be_our_own() -> None:
    copy, put = record("b", "in/a.jpg", name="ObjectCreated:Copy"), record("b", "in/a.jpg")
    for ours in (reader(own=True), reader(own_principal=PRINCIPAL)):
        assert ours.read(plain(copy)).passed_over == {"own": 1}
        assert len(ours.read(plain(put)).events) == 1
    assert len(reader(own_principal="AWS:somebody").read(plain(copy)).events) == 1


def test_sequencers_of_different_length_are_in_order() -> None:
    orders = []
    for sequencer in ("0A", "0A0", "0a01", "0B"):
        [event] = reader().read(plain(record("b", "in/a.jpg", sequencer=sequencer))).events
        orders.append(event.order)
    assert orders[0] == orders[1]
    assert orders == sorted(orders)
    assert len(set(orders)) == 3
