from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakes.files import MemoryFiles
from fakes.webhook_receiver import ReceiverUnderTest


@pytest.fixture
async def receiver() -> AsyncIterator[ReceiverUnderTest]:
    under_test = ReceiverUnderTest(MemoryFiles())
    async with under_test.client:
        yield under_test
