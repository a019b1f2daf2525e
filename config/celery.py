"""Celery's settings, each measured or forced by a fact; see docs/operations.md."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

TAG_CHUNK = "tagmill.tag_chunk"  #: task name
LANES = ("events", "nightly", "backfill")  #: a queue each; the first are served first
QUEUE = LANES[-1]
VISIBILITY_SECONDS = 1800  #: three hard time limits; recovery never waits for it, leases do that work
HARD_LIMIT_SECONDS = 600  #: for hangs only: a chunk parks itself long before


def celery_settings(redis_url: str, redis_prefix: str) -> dict[str, Any]:
    return {
        "broker_url": broker_url(redis_url),
        "broker_transport_options": _transport(redis_prefix),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # an outage of Redis ends, a worker that gave up does not
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_queue": QUEUE,
        "task_create_missing_queues": False,  # a typo must not become a silent queue
        "task_queues": _queues(),
        "task_acks_late": True,
        # A lost child's message is acknowledged: refill publishes the chunk again once its lease is over,
        # and quarantine bounds a poison image, so Celery's own requeue would be a second, unbounded path.
        "task_reject_on_worker_lost": False,
        "task_acks_on_failure_or_timeout": True,
        "task_time_limit": HARD_LIMIT_SECONDS,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # a message waits where every worker can reach it
        "worker_eta_task_limit": 200,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # the lease makes it needless
        "worker_max_tasks_per_child": 200,
        "worker_max_memory_per_child": 400_000,  # KiB
        "worker_send_task_events": False,
        # Nobody asks for it, and kombu 5.7 ends a worker whose broadcast connection is the first to notice
        # that Redis is gone: `Channel.close` fails half-way, and for good when it is called again.
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _queues() -> list[Any]:
    from kombu import Queue  # noqa: PLC0415 - kombu costs 80 ms that `tagmill --help` need not pay

    return [Queue(lane) for lane in LANES]


def broker_url(redis_url: str) -> str:
    """Kombu's spelling of a redis-py URL."""
    parts = urlsplit(redis_url)
    return f"redis+socket://{parts.path}" if parts.scheme == "unix" else redis_url


def _transport(redis_prefix: str) -> dict[str, Any]:
    """The one combination that came back from a dead connection without losing a message (kombu 5.7)."""
    return {
        "queue_order_strategy": "priority",  # as a worker names its queues
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 3,
        "socket_timeout": 15,
        "retry_on_timeout": True,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": f"{redis_prefix}:",
    }
