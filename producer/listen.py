"""`tagmill listen`: what is refused at its start, and its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from tagmill.config.settings import Settings
from tagmill.producer.display import Print, no_worker
from tagmill.producer.embedded import FOR_EVENTS, Embedded, embedded_servers
from tagmill.producer.launch import open_runs
from tagmill.producer.listeners.base import Delivery, Feed
from tagmill.producer.listeners.listener import Listener
from tagmill.producer.listeners.s3_reader import S3Reader
from tagmill.producer.listeners.sqs import Queue, SqsFeed, open_queue
from tagmill.producer.listeners.webhook_feed import WebhookFeed
from tagmill.producer.preparation import RunOptions, clear, prepare
from tagmill.producer.reach import open_board
from tagmill.producer.safety import Dialogue
from tagmill.producer.sources.s3_errors import translated
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.producer.state_dir import announce, refuse_second, state_dir
from tagmill.worker.errors import ConfigError, NotFoundError, TaggingError
from tagmill.worker.own_writes import OwnWrites
from tagmill.worker.s3 import s3_client
from tagmill.worker.state.board import Board
from tagmill.worker.store.event_runs import EVENTS, EventRuns
from tagmill.worker.store.probes import keep_probes
from tagmill.worker.store.runs import RunSpec

HEAD_RETRIES = 2
WEBHOOKS = SourceSpec(Kind.HANDLES, "webhooks")  #: images that the webhook receiver hears of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What is said for one listener."""

    name: str
    lane: str
    queue: str | None = None
    dead_letter_queue: str | None = None
    own_principal: str | None = None


@contextmanager
def listening(
    settings: Settings,
    source: SourceSpec,
    options: ListenOptions,
    run: RunOptions,
    dialogue: Dialogue,
    *,
    stopped: Callable[[], bool],
    print_line: Print,
) -> Iterator[Listener]:
    """Raise `ConfigError`, `NotFoundError` or `RedisUnavailableError` before anything is taken in."""
    if source.kind is Kind.FOLDER or source.input is not None:
        raise ConfigError("events are about a bucket: name s3://bucket/prefix, or say --webhooks")
    if settings.redis_url is None:
        refuse_second(state_dir(settings.state_dir))
    if source is not WEBHOOKS:
        _find_bucket(settings, source.bucket)
    inbox, dead_letters = _find_queue(options.queue), _find_queue(options.dead_letter_queue)
    spec, probes = clear(settings, prepare(settings, source, run), source, dialogue, listed=False)
    template = dataclasses.replace(spec, lane=options.lane, dedupe="off")
    store = open_runs(settings)
    files = store.files
    runs = EventRuns(files, template, options.name, prepare=lambda run_id: keep_probes(files, run_id, probes))
    with _servers(settings, template, print_line) as (board, embedded):
        new_reader = partial(_new_reader, settings, source, options.own_principal)
        feed = _open_feed(inbox, dead_letters, new_reader) or WebhookFeed(files, options.name)

        def over() -> bool:
            if embedded is not None:
                embedded.supervise()
            return stopped()

        yield Listener(feed, runs, nudge=board.nudge, stopped=over)
        if embedded is not None:
            embedded.stop_worker()
            if runs.made:
                embedded.settle_budget(store.read(runs.made), store)


@contextmanager
def _servers(
    settings: Settings, template: RunSpec, print_line: Print
) -> Iterator[tuple[Board, Embedded | None]]:
    """Yield the fleet's, or our own: a Redis, and a worker for that lane alone."""
    if settings.redis_url is not None:
        board = open_board(settings, settings.redis_url)
        if not board.workers(template.lane):
            print_line(no_worker(template.lane))
        yield board, None
        return
    of_worker = settings.model_copy(update={"lanes": template.lane})
    with embedded_servers(of_worker, template, print_line) as embedded:
        announce(state_dir(settings.state_dir), EVENTS, embedded.redis_url)
        board = open_board(settings, embedded.redis_url)
        board.drop_queue()  # its workers are gone
        embedded.start_worker(FOR_EVENTS)
        yield board, embedded


def _find_bucket(settings: Settings, bucket: str) -> None:
    """Raise `NotFoundError` for one that is not there, unless that cannot be told."""
    try:
        with translated(bucket, started=False):
            client = s3_client(settings.s3_endpoint_url, connections=1, retries=HEAD_RETRIES)
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except NotFoundError:
        raise
    except TaggingError as error:
        log.debug("bucket_not_checked", bucket=bucket, error=str(error))


def _find_queue(url: str | None) -> Queue | None:
    """Raise `NotFoundError` before the first message needs it."""
    if url is None:
        return None
    queue = open_queue(url)
    queue.check()
    return queue


def _open_feed(
    inbox: Queue | None, dead_letters: Queue | None, new_reader: Callable[[], Callable[[str], Delivery]]
) -> Feed | None:
    if inbox is None:
        return None
    feed = SqsFeed(inbox, dead_letters, new_reader)
    feed.start()
    return feed


def _new_reader(
    settings: Settings, source: SourceSpec, own_principal: str | None
) -> Callable[[str], Delivery]:
    """For one thread."""
    client = s3_client(settings.s3_endpoint_url, connections=1, retries=HEAD_RETRIES)
    return S3Reader(source, is_own=OwnWrites(client).tells_of, own_principal=own_principal).read
