"""Every failure httpx knows has its class here."""

from __future__ import annotations

import asyncio
import traceback

import httpx
import pytest

from tagmill.worker.engines.failures import AMBIGUOUS, UNSENDABLE, UNSENT, translated
from tagmill.worker.errors import (
    EngineUnavailableError,
    EngineUnreachableError,
    ImageRejectedError,
    ItemError,
)


def leaves(error_class: type[Exception]) -> set[type[Exception]]:
    """The classes that are raised: those without subclasses of their own."""
    subclasses = error_class.__subclasses__()
    return set().union(*map(leaves, subclasses)) if subclasses else {error_class}


def failing(error: Exception, *, billable: bool = True) -> ItemError:
    with pytest.raises(ItemError) as raised, translated(billable=billable):
        raise error
    assert raised.value.latency_ms is not None
    return raised.value


def test_every_failure_of_a_request_is_decided_on() -> None:
    decided = {*UNSENT, *UNSENDABLE, *AMBIGUOUS}
    assert leaves(httpx.RequestError) - decided == {httpx.TooManyRedirects}  # nothing follows any
    assert len(decided) == len(UNSENT) + len(UNSENDABLE) + len(AMBIGUOUS)


@pytest.mark.parametrize("error_class", UNSENT)
def test_a_request_that_never_left_costs_nothing(error_class: type[httpx.RequestError]) -> None:
    error = failing(error_class("no route to cdn.example"))
    assert type(error) is EngineUnreachableError
    assert (error.calls, error.maybe_charged) == (0, 0)
    assert "no route to cdn.example" in str(error)


@pytest.mark.parametrize("error_class", [*AMBIGUOUS, httpx.TooManyRedirects, TimeoutError])
def test_a_request_without_a_whole_answer_may_have_been_charged(error_class: type[Exception]) -> None:
    error = failing(error_class("/security=p:SECRET"))
    assert type(error) is EngineUnavailableError
    assert (error.calls, error.maybe_charged) == (1, 1)
    assert "SECRET" not in "".join(traceback.format_exception(error))


def test_a_request_that_costs_nothing_leaves_nothing_in_doubt() -> None:
    error = failing(httpx.ReadError(""), billable=False)
    assert (error.calls, error.maybe_charged) == (0, 0)


def test_an_impossible_request_is_the_images_fault() -> None:
    error = failing(httpx.LocalProtocolError("cannot be sent"))
    assert type(error) is ImageRejectedError
    assert error.calls == 0


def test_cancelling_is_no_failure() -> None:
    with pytest.raises(asyncio.CancelledError), translated(billable=True):
        raise asyncio.CancelledError
