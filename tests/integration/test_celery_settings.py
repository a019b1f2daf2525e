"""Celery as it is set up: each setting was measured or is forced by a fact, and a message holds no secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from servers.redis import RedisUnderTest, running_redis

from tagmill.config.celery import HARD_LIMIT_SECONDS, QUEUE, TAG_CHUNK, broker_url, celery_settings
from tagmill.config.settings import load_settings
from tagmill.worker.app import create_app
from tagmill.worker.errors import ConfigError
from tagmill.worker.models import Chunk
from tagmill.worker.publisher import Publisher

CHUNK = Chunk("run-with-a-name-as-long-as-names-may-be-0123456789-0123456789-xyz", 12, 99_999_999, 99_000, 99)
PASSWORD = "canary-password"


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisUnderTest]:
    with running_redis(0) as server:
        with server.sync_client() as client:
            client.config_set("requirepass", PASSWORD)
        yield server


def with_password(server: RedisUnderTest) -> str:
    return server.url.replace("redis://", f"redis://:{PASSWORD}@")


@pytest.fixture
def conf() -> Any:
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_settings("redis://localhost/0", "mine"))
    return app.conf


def test_a_message_survives_its_worker_and_is_never_the_brokers_to_repeat(conf: Any) -> None:
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost) == (True, False)
    assert conf.task_acks_on_failure_or_timeout
    transport = conf.broker_transport_options
    assert transport["visibility_timeout"] >= 3 * HARD_LIMIT_SECONDS
    assert (conf.task_time_limit, conf.task_soft_time_limit) == (HARD_LIMIT_SECONDS, None)


def test_a_dead_connection_is_noticed_and_the_broker_waited_for(conf: Any) -> None:
    transport = conf.broker_transport_options
    assert transport["socket_timeout"] <= 15
    assert (transport["retry_on_timeout"], transport["socket_keepalive"]) == (True, True)
    assert transport["health_check_interval"] == 10
    assert conf.broker_connection_retry_on_startup
    assert conf.broker_connection_max_retries is None
    assert not conf.worker_enable_remote_control


def test_nothing_is_kept_in_redis_beside_the_queue(conf: Any) -> None:
    assert conf.task_ignore_result
    assert conf.result_backend is None
    assert not conf.worker_send_task_events
    assert conf.broker_transport_options["global_keyprefix"] == "mine:"


def test_only_json_is_accepted_and_only_the_lanes_have_queues(conf: Any) -> None:
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert not conf.task_create_missing_queues
    assert [queue.name for queue in conf.task_queues] == ["events", "nightly", "backfill"]
    assert conf.task_default_queue == QUEUE
    assert conf.broker_transport_options["queue_order_strategy"] == "priority"


def test_a_worker_takes_a_chunk_only_when_it_can_work_on_it(conf: Any) -> None:
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_disable_prefetch
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss


@pytest.mark.parametrize(
    ("ours", "kombus"),
    [
        ("redis://user:p%40ss@host:6379/2", "redis://user:p%40ss@host:6379/2"),
        ("rediss://host/0", "rediss://host/0"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_addresses_are_spelt_as_kombu_reads_them(ours: str, kombus: str) -> None:
    assert broker_url(ours) == kombus


def published(server: RedisUnderTest) -> tuple[bytes, Any]:
    """The one message, as it stands in Redis, and what its task will be given."""
    with redis.Redis.from_url(with_password(server)) as client:
        client.flushall()
        publisher = Publisher(with_password(server), "mine")
        publisher(CHUNK)
        publisher.close()
        (raw,) = client.lrange(f"mine:{QUEUE}", 0, -1)
        everything = b"".join(client.keys("*"))
    body = json.loads(base64.b64decode(json.loads(raw)["body"]))
    return raw + everything, body


def test_a_message_is_small_and_says_where_the_chunk_is(broker: RedisUnderTest) -> None:
    raw, body = published(broker)
    (message,), kwargs, _ = body
    assert Chunk.from_message(message) == CHUNK
    assert set(message) == {"v", "run", "pass", "shard", "offset", "count"}
    assert kwargs == {}
    assert len(raw) <= 1_300  # 1.2 KB for a name of ordinary length
    headers = json.loads(raw[: raw.rindex(b"}") + 1])["headers"]
    assert (headers["task"], headers["argsrepr"], headers["kwargsrepr"]) == (TAG_CHUNK, "-", "-")


def test_a_message_holds_no_secret(broker: RedisUnderTest) -> None:
    raw, _ = published(broker)
    assert PASSWORD.encode() not in raw
    assert b"redis://" not in raw


def test_a_worker_knows_one_task_and_ignores_what_it_does_not_understand() -> None:
    app = create_app(load_settings({"redis_url": "redis://localhost/0"}), processes=1)
    ours = [name for name in app.tasks if not name.startswith("celery.")]
    assert ours == [TAG_CHUNK]
    for message in ({"v": 2}, {}, {"v": 1, "run": "r"}, {**CHUNK.to_message(), "count": None}):
        app.tasks[TAG_CHUNK](message)


def test_a_worker_without_a_redis_is_refused() -> None:
    with pytest.raises(ConfigError, match="TAGMILL_REDIS_URL"):
        create_app(load_settings(), processes=1)
