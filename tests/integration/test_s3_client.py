from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from servers.strict_s3 import StrictS3UnderTest, running_strict_s3
from servers.strict_s3_http import Fault

from tagmill.worker.s3 import s3_client


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3UnderTest]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with running_strict_s3() as server:
        yield server


def test_without_retries_a_request_is_sent_once(server: StrictS3UnderTest) -> None:
    client = s3_client(server.url, connections=1, retries=0)
    server.faults.once("PutObject", Fault(503, "SlowDown"))
    with pytest.raises(ClientError, match="SlowDown"):
        client.put_object(Bucket=server.new_bucket(), Key="key", Body=b"body")
    assert server.store.requests == ["PutObject"]


def test_with_retries_a_bad_moment_passes(server: StrictS3UnderTest) -> None:
    client = s3_client(server.url, connections=1, retries=1)
    server.faults.once("PutObject", Fault(500, "InternalError"))
    client.put_object(Bucket=server.new_bucket(), Key="key", Body=b"body")
    assert server.store.requests == ["PutObject", "PutObject"]


def test_other_servers_get_no_checksums_they_may_not_know(server: StrictS3UnderTest) -> None:
    client, bucket = s3_client(server.url, connections=1, retries=0), server.new_bucket()
    client.put_object(Bucket=bucket, Key="key", Body=b"body")
    assert server.store.current(bucket, "key").checksum is None
