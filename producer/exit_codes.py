"""What `tagmill` says to the shell; documented in the README."""

from __future__ import annotations

from enum import IntEnum

from tagmill.worker import errors


class ExitCode(IntEnum):
    DONE = 0
    FAILED_IMAGES = 1  #: done, with failed images or write-backs
    USAGE = 2  #: usage or configuration
    NOT_FOUND = 3
    TEMPORARY = 5  #: stopped on temporary errors
    WRITE_BACK_SAFETY = 6
    CREDENTIALS = 7  #: credentials or quota
    BUDGET = 8
    TIME_LIMIT = 10
    FAILURE_RATE = 11
    PAUSED_ELSEWHERE = 12  #: paused or cancelled from elsewhere
    INTERRUPTED = 130


#: Why a run is paused, to what its follower answers.
PAUSE_REASONS = {
    "credentials": ExitCode.CREDENTIALS,
    "quota": ExitCode.CREDENTIALS,
    "outage": ExitCode.TEMPORARY,
    "run_store": ExitCode.TEMPORARY,
    "budget": ExitCode.BUDGET,
    "failure_rate": ExitCode.FAILURE_RATE,
    "time_limit": ExitCode.TIME_LIMIT,
    "write_back_safety": ExitCode.WRITE_BACK_SAFETY,
    "interrupted": ExitCode.INTERRUPTED,
}


def exit_code(error: errors.TaggingError) -> ExitCode:
    match error:
        case errors.NotFoundError():
            return ExitCode.NOT_FOUND
        case errors.ConfigError():
            return ExitCode.USAGE
        case _:
            return PAUSE_REASONS.get(error.code, ExitCode.TEMPORARY)
