"""S3 Inventory as a source, in each of its formats."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from servers.s3 import S3UnderTest
from servers.s3_inventory import WRITTEN, Line, lines_of, publish
from structlog.testing import capture_logs

from tagmill.producer.modes import state_name
from tagmill.producer.sources.base import Cursor, Filters, Listed
from tagmill.producer.sources.inventory_manifest import fetch_manifest
from tagmill.producer.sources.opening import located
from tagmill.producer.sources.options import SourceOptions
from tagmill.producer.sources.s3_inventory import S3Inventory
from tagmill.producer.sources.s3_listing import S3Listing
from tagmill.producer.sources.spec import parse_source
from tagmill.worker.errors import ConfigError, NotFoundError, RunError
from tagmill.worker.models import S3Object

FORMATS = ["CSV", "Parquet", "ORC"]
#: With every byte that a key may hold and XML or a URL may not, as no server for tests takes them.
AWKWARD = [
    *("in/a b.jpg", "in/a+b.jpg", "in/a%41.jpg", "in/a%2Bb.jpg", "in//x/../y.jpg", 'in/"quoted", &<>.jpg'),
    *("in/line\nbreak\r\n.jpg", "in/\x01\x08\x1f\x7f\ufffe.jpg", "in/写真😀.png", "in/" + "é" * 510 + "x"),
]


@dataclass(frozen=True)
class Report:
    """An inventory in a bucket of its own."""

    s3: S3UnderTest
    uri: str

    def list(
        self, cursor: Cursor | None = None, filters: Filters | None = None, *, all_versions: bool = False
    ) -> list[Listed]:
        client = self.s3.client()
        manifest = fetch_manifest(client, self.uri)
        source = S3Inventory(
            lambda: client,
            self.uri,
            lambda: io.BytesIO(manifest),
            filters or Filters(),
            all_versions=all_versions,
        )
        return list(source.list(cursor or {}))

    @property
    def bucket(self) -> str:
        return self.uri.split("/")[2]

    def key(self, ending: str) -> str:
        pages = self.s3.client().list_objects_v2(Bucket=self.bucket)["Contents"]
        [key] = [item["Key"] for item in pages if item["Key"].endswith(ending)]
        return key

    def overwrite(self, ending: str, content: bytes) -> None:
        self.s3.client().put_object(Bucket=self.bucket, Key=self.key(ending), Body=content)


def report(s3: S3UnderTest, lines: list[Line], file_format: str = "CSV", files: int = 2) -> Report:
    return Report(s3, publish(s3.client(), s3.bucket(), "photos", lines, file_format, files=files))


def keys(items: list[Listed]) -> list[str]:
    return [item.ref.source.key for item in items if item.ref]  # type: ignore[union-attr]  # only objects


@pytest.mark.parametrize("file_format", FORMATS)
def test_any_key_comes_as_it_is_and_a_listing_goes_on_after_any_item(
    s3: S3UnderTest, file_format: str
) -> None:
    """In the order of the report, which is none."""
    there = report(s3, [Line("photos", key) for key in reversed(AWKWARD)], file_format, files=3)
    items = there.list()
    assert keys(items) == list(reversed(AWKWARD))
    for place, item in enumerate(items):
        assert there.list(item.cursor) == items[place + 1 :]


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_inventory_says_of_an_object_what_a_listing_says(s3: S3UnderTest, file_format: str) -> None:
    bucket, client = s3.bucket(), s3.client()
    for key in ("in/a b.jpg", "in/é+%41.jpg", "other"):
        client.put_object(Bucket=bucket, Key=key, Body=b"image")
    there = Report(s3, publish(client, s3.bucket(), bucket, lines_of(client, bucket), file_format))
    listed = S3Listing(s3.client, bucket, "", Filters()).list({})
    assert [item.ref for item in there.list()] == [item.ref for item in listed]


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_is_no_image_or_no_longer_one_is_passed_over(s3: S3UnderTest, file_format: str) -> None:
    lines = [
        Line("photos", "now.jpg", "v2", is_latest=True, is_delete_marker=False),
        Line("photos", "now.jpg", "v1", is_latest=False, is_delete_marker=False),
        Line("photos", "gone.jpg", "v4", is_latest=True, is_delete_marker=True, size=None, e_tag=None),
        Line("photos", "cold.jpg", storage_class="DEEP_ARCHIVE"),
        Line("photos", "folder/", size=0),
        Line("photos", "empty.jpg", size=0),
        Line("photos", "small.jpg", size=3),
        Line("photos", "old.jpg", last_modified_date=WRITTEN.replace(year=2020)),
        Line("photos", "no.txt"),
        Line("elsewhere", "a.jpg"),
    ]
    filters = Filters(extensions=("jpg",), min_size=4, since="2025-01-01T00:00:00Z")
    items = report(s3, lines, file_format).list(filters=filters)
    assert keys(items) == ["now.jpg"]
    reasons = ("not_latest", "deleted", "archived", "folder", "empty", "size", "older", "extension")
    assert Counter(item.skipped for item in items if item.skipped) == Counter([*reasons, "elsewhere"])
    assert {item.passed_over for item in items} >= {"s3://photos/cold.jpg", "s3://photos/empty.jpg"}
    assert "s3://photos/gone.jpg" not in {item.passed_over for item in items}


@pytest.mark.parametrize("file_format", FORMATS)
def test_all_versions_are_planned_where_they_are_wanted(s3: S3UnderTest, file_format: str) -> None:
    """The version of what was put without versioning has no id in a report."""
    lines = [
        Line("photos", "a.jpg", "v2", is_latest=False, is_delete_marker=False),
        Line("photos", "a.jpg", "v3", is_latest=True, is_delete_marker=True, size=None, e_tag=None),
        Line("photos", "a.jpg", None, is_latest=False, is_delete_marker=False),
        Line("photos", "b.jpg", "v1", is_latest=True, is_delete_marker=False),
    ]
    items = report(s3, lines, file_format).list(all_versions=True)
    found: list[S3Object] = [item.ref.source for item in items if item.ref]  # type: ignore[misc]  # only objects
    assert [(one.key, one.version_id, one.is_latest) for one in found] == [
        ("a.jpg", "v2", False),
        ("a.jpg", "null", False),
        ("b.jpg", "v1", True),
    ]
    assert [item.skipped for item in items if item.skipped] == ["deleted"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_report_of_current_versions_has_no_others(s3: S3UnderTest, file_format: str) -> None:
    client, bucket, lines = s3.client(), s3.bucket(), [Line("photos", "a.jpg")]
    everything = publish(client, bucket, "photos", lines, file_format)
    options = SourceOptions(all_versions=True)
    assert located(parse_source(everything, options), lambda: client).all_versions
    current = publish(client, bucket, "others", lines, file_format, current_only=True)
    assert not located(parse_source(current), lambda: client).all_versions
    with pytest.raises(ConfigError, match='configure the inventory with IncludedObjectVersions "All"'):
        located(parse_source(current, options), lambda: client)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_was_changed_is_never_planned_from(s3: S3UnderTest, file_format: str) -> None:
    there = report(s3, [Line("photos", f"{number}.jpg") for number in range(4)], file_format)
    suffix = there.key("-1." + {"CSV": "csv.gz", "Parquet": "parquet", "ORC": "orc"}[file_format])
    items = there.list()
    there.overwrite(suffix, b"something else")
    with pytest.raises(RunError, match=r"-1\..* is not what the inventory's manifest says \(MD5\)"):
        there.list()
    assert [item.cursor["file"] for item in items] == [0, 0, 1, 1]


def test_an_inventory_that_is_not_whole_or_none_is_refused_at_once(s3: S3UnderTest) -> None:
    there = report(s3, [Line("photos", "a.jpg")], files=1)
    there.overwrite(".csv.gz", b"something else")
    with pytest.raises(ConfigError, match="MD5"):
        there.list()
    s3.client().delete_object(Bucket=there.bucket, Key=there.key(".csv.gz"))
    with pytest.raises(ConfigError, match=r"\.csv\.gz, named by the inventory's manifest, is gone"):
        there.list()
    there.overwrite("manifest.checksum", b"0" * 32)
    with pytest.raises(ConfigError, match=r"is not what its manifest\.checksum says"):
        there.list()
    s3.client().delete_object(Bucket=there.bucket, Key=there.key("manifest.checksum"))
    with pytest.raises(NotFoundError, match="not whole yet"):
        there.list()
    with pytest.raises(NotFoundError, match="no S3 Inventory there"):
        replace(there, uri=there.uri.replace("/all/", "/none/")).list()


def test_a_row_that_its_manifest_does_not_describe_stops_the_listing(s3: S3UnderTest) -> None:
    client, bucket = s3.client(), s3.bucket()
    lines = [Line("photos", "a.jpg", size="many")]  # type: ignore[arg-type]  # as no report should have it
    uri = publish(client, bucket, "photos", lines)
    with pytest.raises(ConfigError, match="is no file of the inventory that its manifest describes"):
        Report(s3, uri).list()


def test_the_bucket_is_the_one_that_the_report_is_about(s3: S3UnderTest) -> None:
    spec = parse_source(report(s3, [Line("photos", "a.jpg")]).uri)
    spec = located(spec, s3.client)
    assert (spec.bucket, spec.prefix) == ("photos", "")
    assert type(spec).from_json(spec.to_json()) == spec
    for wrong in (
        "inventory+s3://b/report.csv",
        "inventory+s3://b",
        "inventory+s3:///manifest.json",
        "inventory+s3:///",
    ):
        with pytest.raises(ConfigError, match="name the manifest of an inventory"):
            parse_source(wrong)


def test_editions_of_a_report_are_one_source() -> None:
    one = parse_source("inventory+s3://b/photos/all/2026-11-24T01-00Z/manifest.json")
    other = dataclasses.replace(one, uri=one.uri.replace("11-24", "11-25"), of_bucket="photos")
    assert state_name(one, "filestack") == state_name(other, "filestack")
    assert state_name(one, "filestack") != state_name(parse_source("s3://b"), "filestack")
    folder = replace(one, uri="inventory+s3://b/photos/all/")
    assert state_name(one, "filestack") == state_name(folder, "filestack")


def test_of_a_configurations_folder_the_newest_whole_report_is_taken(s3: S3UnderTest) -> None:
    client, where = s3.client(), s3.bucket()
    editions = ["2026-11-22T01-00Z", "2026-11-23T01-00Z", "2026-11-24T01-00Z", "2026-99-99T01-00Z"]
    uris = [
        publish(client, where, "photos", [Line("photos", "a.jpg")], files=1, edition=edition)
        for edition in editions
    ]
    folder = parse_source(f"inventory+s3://{where}/reports/photos/all/")
    client.delete_object(Bucket=where, Key=f"reports/photos/all/{editions[2]}/manifest.checksum")
    for hours, said in ((47, "inventory_report_taken"), (49, "inventory_report_old")):
        now = datetime(2026, 11, 23, 1, tzinfo=UTC) + timedelta(hours=hours)
        with capture_logs() as logs:
            spec = located(folder, s3.client, lambda: now)  # noqa: B023 - called at once
        assert (spec.uri, spec.bucket) == (uris[1], "photos")
        assert [(log["event"], log["age_hours"]) for log in logs] == [(said, hours)]
    with pytest.raises(NotFoundError, match="no whole report of an S3 Inventory in"):
        located(replace(folder, uri=f"inventory+s3://{where}/reports/"), s3.client)
