"""What Tagmill is measured against: one Celery task per image, one `httpx.Client` per process.

Celery's settings are its defaults. A task signs, calls and reads the answer as the engine does, and keeps
nothing. The worker is `celery --app benchmarks.plain worker`; `python -m benchmarks.plain IMAGES` enqueues.
"""

from __future__ import annotations

import functools
import os
import sys

import httpx
from celery import Celery

from benchmarks.handles import made_up_handles
from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack_answers import parse_tags
from tagmill.worker.engines.filestack_policy import Policies
from tagmill.worker.engines.filestack_urls import TaskTarget

app = Celery("plain", broker=os.environ.get("BENCHMARK_BROKER_URL"))
app.conf.update(task_ignore_result=True, task_default_queue="plain")


@functools.cache
def client() -> httpx.Client:
    return httpx.Client(base_url=os.environ["BENCHMARK_CDN_URL"], timeout=60.0)


@functools.cache
def policies() -> Policies:
    return Policies(os.environ["BENCHMARK_SECRET"])


@app.task(name="benchmarks.tag_image")  # one name, however this file is imported
def tag_image(handle: str) -> None:
    security = policies().allowing("convert", "read").task
    target = TaskTarget(os.environ["BENCHMARK_KEY"]).of(Locator(Transfer.HANDLE, handle), security)
    response = client().get(target)
    response.raise_for_status()
    parse_tags(response.content)


if __name__ == "__main__":
    for name in made_up_handles(int(sys.argv[1])):
        tag_image.delay(name)
