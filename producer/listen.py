"""`tagmill listen`: what is refused at its start, and its parts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tagmill.config.settings import Settings
from tagmill.producer.display import no_worker
from tagmill.producer.launch import open_runs
from tagmill.producer.listeners.base import Delivery, Feed
from tagmill.producer.listeners.listener import Listener
from tagmill.producer.listeners.s3_reader import S3Reader
from tagmill.producer.listeners.sqs import Queue, SqsFeed, open_queue
from tagmill.producer.listeners.webhook_feed import WebhookFeed
from tagmill.producer.preparation import RunOptions, clear, prepare
from tagmill.producer.reach import open_board
from tagmill.producer.safety import Dialogue
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.worker.errors import ConfigError
from tagmill.worker.own_writes import OwnWrites
from tagmill.worker.s3 import s3_client
from tagmill.worker.store.base import Files
from tagmill.worker.store.event_runs import EventRuns
from tagmill.worker.store.probes import keep_probes
from tagmill.worker.store.runs import RunSpec

HEAD_RETRIES = 2
WEBHOOKS = SourceSpec(Kind.HANDLES, "webhooks")  #: images that the webhook receiver hears of


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What is said for one listener."""

    name: str
    lane: str
    queue: str | None = None
    dead_letter_queue: str | None = None
    own_principal: str | None = None


def open_listener(
    settings: Settings,
    source: SourceSpec,
    options: ListenOptions,
    run: RunOptions,
    dialogue: Dialogue,
    stopped: Callable[[], bool],
) -> Listener:
    """Raise `ConfigError`, `NotFoundError` or `RedisUnavailableError` before anything is taken in."""
    if settings.redis_url is None:
        raise ConfigError("listening needs a fleet: set TAGMILL_REDIS_URL and start workers")
    if source.kind is Kind.FOLDER or source.input is not None:
        raise ConfigError("events are about a bucket: name s3://bucket/prefix, or say --webhooks")
    spec, probes = clear(settings, prepare(settings, source, run), source, dialogue)
    template = dataclasses.replace(spec, lane=options.lane, dedupe="off")
    board, files = open_board(settings, settings.redis_url), open_runs(settings).files
    if not board.workers(options.lane):
        print(no_worker(options.lane), file=sys.stderr)  # noqa: T201 - for the user, beside the log
    runs = EventRuns(files, template, options.name, prepare=lambda run_id: keep_probes(files, run_id, probes))
    feed = _open_feed(settings, source, options, template, files)
    return Listener(feed, runs, nudge=board.nudge, stopped=stopped)


def _open_feed(
    settings: Settings, source: SourceSpec, options: ListenOptions, template: RunSpec, files: Files
) -> Feed:
    if options.queue is None:
        return WebhookFeed(files, options.name)

    def new_reader() -> Callable[[str], Delivery]:
        client = s3_client(settings.s3_endpoint_url, connections=1, retries=HEAD_RETRIES)
        own = OwnWrites(client, template)
        return S3Reader(source, is_own=own.tells_of, own_principal=options.own_principal).read

    feed = SqsFeed(open_queue(options.queue), _open_dead_letters(options), new_reader)
    feed.start()
    return feed


def _open_dead_letters(options: ListenOptions) -> Queue | None:
    """Raise `NotFoundError` before the first message needs it."""
    if options.dead_letter_queue is None:
        return None
    dead_letters = open_queue(options.dead_letter_queue)
    dead_letters.check()
    return dead_letters
