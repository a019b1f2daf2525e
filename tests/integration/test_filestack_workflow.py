"""The engine of Workflows against the sandbox, over HTTP: which failures have started a job."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from PIL import Image
from servers.sandbox import SandboxUnderTest, running_sandbox

from tagmill.worker.engines.base import Locator, Transfer
from tagmill.worker.engines.filestack_service import FilestackOptions
from tagmill.worker.engines.filestack_urls import UrlForm
from tagmill.worker.engines.filestack_workflow import FilestackWorkflowEngine
from tagmill.worker.errors import (
    AccessDeniedError,
    AnswerLostError,
    CredentialsError,
    ImageNotFoundError,
    ImageRejectedError,
    TaggingError,
    ThrottledError,
    WorkflowFailedError,
)
from tagmill.worker.models import Answer, Pending

WORKFLOW = "11111111-2222-4333-8444-555555555555"
ALIAS = Locator(Transfer.ALIAS, "src://lib/ä b?.png")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUnderTest]:
    library: Path = tmp_path_factory.mktemp("library")
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "skyblue").save(picture, "PNG")
    (library / "ä b?.png").write_bytes(picture.getvalue())
    workflows = library / "workflows.toml"
    workflows.write_text(f'[workflows.people]\nid = "{WORKFLOW}"\n[workflows.people.tasks.tags]\n')
    with running_sandbox(aliases={"lib": str(library)}, workflows=str(workflows)) as server:
        yield server


def engine(
    sandbox: SandboxUnderTest, form: UrlForm = UrlForm.PERCENT, timeout_seconds: float = 10.0
) -> FilestackWorkflowEngine:
    return FilestackWorkflowEngine(
        FilestackOptions(
            sandbox.key,
            sandbox.secret,
            cdn_url=sandbox.url,
            api_url=sandbox.api_url,
            url_form=form,
            call_timeout_seconds=timeout_seconds,
            config={"workflow_id": WORKFLOW},
        )
    )


async def ended(asked: FilestackWorkflowEngine, job_id: str) -> Answer:
    while not isinstance(found := await asked.collect(job_id), Answer):  # noqa: ASYNC110 - a service gives no sign
        await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize("form", [UrlForm.PERCENT, UrlForm.B64])
async def test_a_job_is_started_and_collected_in_every_form(sandbox: SandboxUnderTest, form: UrlForm) -> None:
    sandbox.faults()
    async with aclosing(engine(sandbox, form)) as asked:
        pending = await asked.start(ALIAS)
        assert isinstance(pending, Pending)
        assert pending.job_id is not None
        answer = await ended(asked, pending.job_id)
    assert answer.tags["auto"]
    assert (list(answer.results), answer.calls) == (["tags"], 0)


@pytest.mark.parametrize(
    ("fault", "error_class", "jobs"),
    [
        ("400", ImageRejectedError, 0),
        ("401", CredentialsError, 0),
        ("403", AccessDeniedError, 0),
        ("404", ImageNotFoundError, 0),
        ("429", ThrottledError, 0),
        ("503", ThrottledError, 0),
        ("unsupported", ImageRejectedError, 0),
        ("500", AnswerLostError, 0),
        ("text_200", AnswerLostError, 0),
        ("html", AnswerLostError, 0),
        ("empty_body", AnswerLostError, 0),
        ("gzip_bomb", AnswerLostError, 0),
        ("reset_before", AnswerLostError, 0),
        ("hang", AnswerLostError, 0),
        ("reset_after", AnswerLostError, 1),
        ("truncated", AnswerLostError, 1),
        ("drip", AnswerLostError, 1),
    ],
)
async def test_only_what_is_clear_may_be_started_again(
    sandbox: SandboxUnderTest, fault: str, error_class: type[TaggingError], jobs: int
) -> None:
    sandbox.reset()
    before = sum(sandbox.stats()["jobs"].values())
    sandbox.faults({"operation": "run_workflow", "fault": fault, "times": 1, "seconds": 60.0})
    async with aclosing(engine(sandbox, timeout_seconds=0.5 if fault in ("hang", "drip") else 10.0)) as asked:
        with pytest.raises(error_class) as raised:
            await asked.start(ALIAS)
    assert type(raised.value) is error_class
    assert sum(sandbox.stats()["jobs"].values()) - before == jobs


async def test_a_failed_job_and_one_that_nobody_knows(sandbox: SandboxUnderTest) -> None:
    sandbox.reset()
    sandbox.faults({"operation": "run_workflow", "fault": "job_failed", "times": 1})
    async with aclosing(engine(sandbox)) as asked:
        pending = await asked.start(ALIAS)
        assert isinstance(pending, Pending)
        assert pending.job_id is not None
        with pytest.raises(WorkflowFailedError):
            await ended(asked, pending.job_id)
        with pytest.raises(ImageNotFoundError) as raised:
            await asked.collect("66666666-7777-4888-9999-000000000000")
    assert raised.value.calls == 0
