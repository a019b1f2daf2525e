"""`tagmill listen`: what is refused at its start, and its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
from tagmill.producer.sources.spec import Kind, SourceSpec
from tagmill.producer.state_dir import announce, refuse_second, state_dir
from tagmill.worker.errors import ConfigError
from tagmill.worker.own_writes import OwnWrites
from tagmill.worker.s3 import s3_client
from tagmill.worker.state.board import Board
from tagmill.worker.store.base import Files
from tagmill.worker.store.event_runs import EVENTS, EventRuns
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
    queues = _queues(options)
    spec, probes = clear(settings, prepare(settings, source, run), source, dialogue, listed=False)
    template = dataclasses.replace(spec, lane=options.lane, dedupe="off")
    store = open_runs(settings)
    files = store.files
    runs = EventRuns(files, template, options.name, prepare=lambda run_id: keep_probes(files, run_id, probes))
    with _servers(settings, template, print_line) as (board, embedded):
        feed = _open_feed(settings, source, options, template, files, *queues)

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


def _queues(options: ListenOptions) -> list[Queue]:
    """The one to listen to, and one for dead letters. Raise `NotFoundError` before the first message."""
    queues = [open_queue(url) for url in (options.queue, options.dead_letter_queue) if url is not None]
    for queue in queues:
        queue.check()
    return queues


def _open_feed(
    settings: Settings,
    source: SourceSpec,
    options: ListenOptions,
    template: RunSpec,
    files: Files,
    inbox: Queue | None = None,
    dead_letters: Queue | None = None,
) -> Feed:
    if inbox is None:
        return WebhookFeed(files, options.name)

    def new_reader() -> Callable[[str], Delivery]:
        client = s3_client(settings.s3_endpoint_url, connections=1, retries=HEAD_RETRIES)
        own = OwnWrites(client, template)
        return S3Reader(source, is_own=own.tells_of, own_principal=options.own_principal).read

    feed = SqsFeed(inbox, dead_letters, new_reader)
    feed.start()
    return feed
